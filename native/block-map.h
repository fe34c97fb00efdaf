// Which blocks of a layer VHD the data file holds: a small file mapped shared by every process that uses the pair.
//
// offset  width  meaning (little-endian)
//      0      8  "ORCAMAP" and NUL
//      8      4  version, 1
//     12      4  block size in bytes
//     16      8  length of the layer VHD in bytes
//     24     40  boot id of the kernel under which it was last written, NUL-padded
//     64      4  1: closed properly, everything it claims is on the disk; 0: in use, or not closed
//     72      8  generation: raised after bits are cleared and before their bytes go
//   4096    8×w  present: bit n of word n/64 says that block n may be served; w = ⌈blocks ÷ 64⌉
//      …    8×w  claimed: blocks that were present when the machine went down, to be verified before use
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "descriptor.h"
#include "error.h"

namespace orca {

struct BlockMapHeader {
  char magic[8];
  uint32_t version;
  uint32_t blockSize;
  uint64_t size;
  char bootId[40];
  uint32_t clean;
  uint32_t reserved;
  uint64_t generation;
};
static_assert(sizeof(BlockMapHeader) == 80);
static_assert(offsetof(BlockMapHeader, clean) == 64 && offsetof(BlockMapHeader, generation) == 72);

/// Bits are read and changed without locks, by any thread of any process.
class BlockMap {
 public:
  static constexpr size_t kBitsOffset = 4096;

  /// Maps `file`, which must hold a map of this geometry (see `matches`).
  static Failure map(int file, uint64_t size, uint32_t blockSize, std::unique_ptr<BlockMap>& out);
  /// Whether `file` holds a map for a layer VHD of this size with blocks of this size.
  static bool matches(int file, uint64_t size, uint32_t blockSize);
  /// Makes `file` an empty, clean map.
  static Failure create(int file, uint64_t size, uint32_t blockSize);
  /// One that holds nothing and is no file.
  static Failure none(uint64_t size, uint32_t blockSize, std::unique_ptr<BlockMap>& out);
  ~BlockMap();

  uint64_t blocks() const { return blocks_; }
  bool present(uint64_t block) const { return test(present_, block); }
  bool claimed(uint64_t block) const { return test(claimed_, block); }
  bool presentAll(uint64_t first, uint64_t count) const;
  void setPresent(uint64_t block);
  /// Forgets the block, claim included. The caller raises the generation before the bytes go.
  void clear(uint64_t block);
  /// Forgets blocks `first` and up.
  void clearFrom(uint64_t first);
  uint64_t countPresent() const;
  bool anyClaimed() const;
  /// Turns every present block into a claimed one.
  void doubt();

  uint64_t generation() const;
  void raiseGeneration();

  bool clean() const;
  /// Writes the header through to the disk.
  Failure setClean(bool clean);
  Failure flush();
  bool ofThisBoot() const;
  void setBoot();

 private:
  BlockMap(void* base, size_t length, uint64_t blocks);
  static Failure mapPages(int file, int flags, uint64_t blocks, std::unique_ptr<BlockMap>& out);
  static bool test(const uint64_t* words, uint64_t block);
  BlockMapHeader& header() const { return *static_cast<BlockMapHeader*>(base_); }

  void* base_;
  size_t length_;
  uint64_t blocks_;
  uint64_t words_;
  uint64_t* present_;
  uint64_t* claimed_;
};

}  // namespace orca
