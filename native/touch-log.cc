#include "touch-log.h"

namespace orca {

TouchLog::TouchLog(std::span<const uint64_t> blocks) {
  for (const uint64_t count : blocks) seen_.push_back(std::make_unique<std::atomic<uint64_t>[]>((count + 63) / 64));
}

void TouchLog::touch(uint32_t device, uint64_t first, uint64_t count) {
  auto& words = seen_[device];
  for (uint64_t block = first; block < first + count; ++block) {
    const uint64_t bit = uint64_t{1} << (block % 64);
    auto& word = words[block / 64];
    if ((word.load(std::memory_order_relaxed) & bit) != 0) continue;
    if ((word.fetch_or(bit, std::memory_order_relaxed) & bit) != 0) continue;
    const auto time = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin_);
    const std::lock_guard lock(mutex_);
    if (entries_.size() < kCapacity)
      entries_.push_back({device, static_cast<uint32_t>(block), static_cast<uint32_t>(time.count())});
  }
}

std::vector<Touch> TouchLog::entries() {
  const std::lock_guard lock(mutex_);
  return entries_;
}

}  // namespace orca
