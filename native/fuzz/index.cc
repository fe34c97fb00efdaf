// The image index reader, and the steps of a startup profile in it, on any bytes. Input: the image itself.
#include <cstdint>

#include "../profile-step.h"
#include "walk.h"

namespace orca {
namespace {

constexpr uint32_t kBlock = 64 << 10;
constexpr uint64_t kBlocks = 8;

void locateAll(const ErofsIndex& index) {
  std::vector<ProfileStep> steps;
  for (const auto* path : {"", "a", "a/b", "a/b/c", "../a", "file", "link"})
    for (const auto kind : {AccessKind::name, AccessKind::absent, AccessKind::listing, AccessKind::link, AccessKind::pages})
      steps.push_back({kind, path, 0, UINT32_MAX});
  const IndexedImage image{nullptr, index, {index.devices().size(), {kBlocks * kBlock, kBlock}}};
  const auto found = locate(image, steps);
  for (const auto& [step, device, first, count] : found.blocks)
    if (step >= steps.size() || device >= index.devices().size() || first + count > kBlocks) abort();
}

}  // namespace
}  // namespace orca

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::optional<orca::ErofsIndex> index;
  if (orca::ErofsIndex::open(std::as_bytes(std::span(data, size)), index) != nullptr) return 0;
  orca::fuzz::walk(*index);
  orca::locateAll(*index);
  return 0;
}
