// Blocks on their way from a source into a block file: verified, then visible all at once, then stored in one go.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "block-file.h"

namespace orca {

class VerifiedRun : public std::enable_shared_from_this<VerifiedRun> {
 public:
  /// `wrong`: blocks that do not match, in order; `failure`: of the disk, for one of the others.
  using Done = std::function<void(std::vector<uint64_t> wrong, const Failure& failure)>;

  /// `bytes` are whole blocks from `first` on, valid until `done` was called; `digests` the SHA-256 of each.
  VerifiedRun(std::shared_ptr<BlockFile> file, uint64_t first, std::span<const std::byte> bytes,
              std::vector<std::byte> digests, Done done)
      : file_(std::move(file)), first_(first), bytes_(bytes), digests_(std::move(digests)), done_(std::move(done)) {}

  /// Verifies, and answers who waits. True if store() must follow, after which `bytes` are no longer needed.
  bool accept();
  /// Puts what was accepted on the disk.
  void store();

 private:
  BlockFile::Block block(size_t index) const;
  void settle(const Failure& failure);

  const std::shared_ptr<BlockFile> file_;
  const uint64_t first_;
  const std::span<const std::byte> bytes_;
  const std::vector<std::byte> digests_;
  const Done done_;
  std::vector<BlockFile::Block> accepted_;
  std::mutex mutex_;
  std::vector<uint64_t> wrong_;
  Failure failure_;
  /// Blocks whose outcome is open, and one for accept() itself.
  size_t open_ = 1;
};

}  // namespace orca
