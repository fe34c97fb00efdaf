#include "profile-step.h"

#include <algorithm>
#include <unordered_set>

namespace orca {
namespace {

constexpr size_t kMaxBlocks = 1 << 16;
constexpr uint64_t kMaxPages = 1 << 21;

}  // namespace

bool IndexedImage::has(ProfileStep& step, Inode& inode) const {
  const int code = index.find(step.path, inode);
  if (step.kind == AccessKind::absent) return code == ENOENT;
  if (code != 0) return false;
  switch (step.kind) {
    case AccessKind::name:
      return true;
    case AccessKind::link:
      return inode.isSymlink();
    case AccessKind::listing:
      return inode.isDirectory();
    case AccessKind::pages: {
      const uint64_t end = (inode.size + ProfileStep::kPage - 1) / ProfileStep::kPage;
      if (!inode.isRegular() || step.first >= end) return false;
      step.count = std::min(step.count, end - step.first);
      return true;
    }
    default:
      return false;
  }
}

bool IndexedImage::eachRun(const Inode& inode, uint64_t offset, uint64_t length,
                           const std::function<bool(uint32_t device, uint64_t first, uint64_t count)>& visit) const {
  length = std::min(length, inode.size - offset);
  for (uint64_t done = 0; done < length;) {
    const auto run = index.map(inode, offset + done, length - done);
    if (!run || run->length == 0) return false;
    done += run->length;
    if (run->where != Run::Where::device) continue;
    const auto [size, blockSize] = layers[run->device];
    if (run->position > size || run->length > size - run->position) return false;
    const uint64_t first = run->position / blockSize;
    const uint64_t last = (run->position + run->length - 1) / blockSize;
    if (!visit(run->device, first, last - first + 1)) return false;
  }
  return true;
}

LocatedSteps locate(const IndexedImage& image, std::vector<ProfileStep> steps) {
  LocatedSteps found;
  std::unordered_set<uint64_t> seen;
  uint64_t pages = 0;
  for (uint32_t number = 0; number < steps.size(); ++number) {
    ProfileStep& step = steps[number];
    Inode inode;
    if (!image.has(step, inode)) continue;
    if (step.kind == AccessKind::pages) {
      pages += step.count;
      if (pages > kMaxPages) break;
      const auto add = [&](uint32_t device, uint64_t first, uint64_t count) {
        for (uint64_t block = first; block < first + count && block < UINT32_MAX; ++block) {
          if (seen.size() == kMaxBlocks) return false;
          if (!seen.insert(uint64_t{device} << 32 | block).second) continue;
          const auto last = found.blocks.empty() ? nullptr : &found.blocks.back();
          if (last && last->step == number && last->device == device && last->first + last->count == block)
            ++last->count;
          else
            found.blocks.push_back({number, device, static_cast<uint32_t>(block), 1});
        }
        return true;
      };
      const bool isWhole = image.eachRun(inode, step.first * ProfileStep::kPage, step.count * ProfileStep::kPage, add);
      if (seen.size() == kMaxBlocks) break;
      if (!isWhole) continue;
    }
    found.steps.push_back({number, static_cast<uint32_t>(step.kind == AccessKind::pages ? step.count : 1)});
  }
  return found;
}

}  // namespace orca
