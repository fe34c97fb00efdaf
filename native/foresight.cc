// What is likely to be read next, told by where a READ that has to wait stands in the layout of the image. Measured:
// docs/BENCHMARKS.md, "Without a profile".
#include <algorithm>

#include "server.h"

namespace orca {
namespace {

/// A file of up to so many bytes is read whole by nearly everybody who reads it.
constexpr uint64_t kWholeFromFront = 512 << 10;
/// So is one that is read anywhere but at its front, as programs and libraries are that a process maps; whoever only
/// looks at what a file is reads its front.
constexpr uint64_t kWhole = 5 << 20;
/// Files that are as small as this lie side by side with others of their directory, which are read after one another.
constexpr uint64_t kSmall = 128 << 10;
constexpr uint64_t kNeighbours = 2;
/// Of one file: more than a layer has of it, unless somebody has made it so.
constexpr size_t kMostRuns = 8;

}  // namespace

uint64_t Server::endOf(const Inode& inode, uint64_t offset) const {
  if (inode.size <= kSmall) return 0;
  const auto run = index_.map(inode, offset, inode.size - offset);
  if (!run || run->length == 0 || run->where != Run::Where::device) return 0;
  return (run->position + run->length - 1) / files_[run->device]->blockSize() + 1;
}

void Server::foresee(const Inode& inode, uint64_t offset, const std::vector<Piece>& absent) {
  if (!onLikely_) return;
  size_t runs = 0;
  const auto wanted = [&](uint32_t device, uint64_t block) {
    if (files_[device]->has(block)) return false;
    return std::ranges::none_of(absent,
                                [&](const Piece& piece) { return piece.device == device && piece.block == block; });
  };
  const auto tell = [&](uint32_t device, uint64_t first, uint64_t end) {
    end = std::min(end, files_[device]->blocks());
    while (first < end && !wanted(device, first)) ++first;
    while (first < end && !wanted(device, end - 1)) --end;
    if (first < end && runs++ < kMostRuns) onLikely_(device, first, end - first);
  };
  if (inode.size <= (offset == 0 ? kWholeFromFront : kWhole)) {
    for (uint64_t done = 0; done < inode.size;) {
      const auto run = index_.map(inode, done, inode.size - done);
      if (!run || run->length == 0) break;
      if (run->where == Run::Where::device) {
        const uint64_t blockSize = files_[run->device]->blockSize();
        tell(run->device, run->position / blockSize, (run->position + run->length - 1) / blockSize + 1);
      }
      done += run->length;
    }
  }
  if (inode.size <= kSmall) {
    const Piece& last = absent.back();
    tell(last.device, last.block + 1, last.block + 1 + kNeighbours);
  }
}

}  // namespace orca
