// Which blocks, or files, the READs of one session have touched, in the order of their first touch: what a startup
// profile is made of. A touch that is not the first costs one load.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace orca {

struct Touch {
  uint32_t device;
  uint32_t block;
  /// Milliseconds since the log was begun.
  uint32_t time;
};
static_assert(sizeof(Touch) == 12);

class TouchLog {
 public:
  /// 8 GiB of blocks of 128 KiB; what is touched later is not logged.
  static constexpr size_t kCapacity = 1 << 16;

  /// The number of blocks of each device.
  explicit TouchLog(std::span<const uint64_t> blocks);

  void touch(uint32_t device, uint64_t first, uint64_t count);
  std::vector<Touch> entries();

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::vector<std::unique_ptr<std::atomic<uint64_t>[]>> seen_;
  std::mutex mutex_;
  std::vector<Touch> entries_;
};

}  // namespace orca
