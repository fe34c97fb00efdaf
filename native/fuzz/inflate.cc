// Inflating from any place with any window. Input: a byte with the bits (bit 3: from the beginning of a member), the
// byte that they are of, the length of the window in two bytes (little-endian), the window, and the blob.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "../inflater.h"

namespace {

constexpr size_t kHead = 4;
constexpr size_t kOutput = 4096;
constexpr uint64_t kSpan = 512;
/// Deflate makes at most 1032 bytes of one.
constexpr uint64_t kMostOutput = 1032;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kHead) return 0;
  auto rest = std::as_bytes(std::span(data, size)).subspan(kHead);
  const auto window = rest.first(std::min<size_t>({rest.size(), size_t(data[2] | data[3] << 8), orca::Inflater::kMaxWindow}));
  rest = rest.subspan(window.size());
  const int bits = data[0] & 7;
  const auto inflater = (data[0] & 8) != 0 ? orca::Inflater::atMember()
                                           : orca::Inflater::within(bits, data[1] >> (8 - bits), window);
  if (!inflater) abort();
  const uint64_t total = rest.size();
  uint64_t out = 0;
  for (size_t piece = 1;; piece = piece % 97 + 1) {
    // Copies of their own length, so that a step beyond their ends is seen.
    const std::vector<std::byte> input(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(std::min(piece, rest.size())));
    std::vector<std::byte> output(kOutput / piece);
    const auto step = inflater->run(input, output, kSpan);
    if (step.consumed > input.size() || step.produced > output.size()) abort();
    if (step.checkpoint && (step.checkpoint->bits > 7 || step.checkpoint->window.size() > orca::Inflater::kMaxWindow)) abort();
    rest = rest.subspan(step.consumed);
    out += step.produced;
    if (out > (total + 1) * kMostOutput) abort();
    if (step.error != nullptr || (step.needsInput && rest.empty())) return 0;
    if (step.consumed == 0 && step.produced == 0 && !step.needsInput && !step.checkpoint) abort();
  }
}
