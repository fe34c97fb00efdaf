// The cached blocks of one layer VHD: a sparse data file, the map of what it holds, and the READs that wait.
//
// There are two ways to read. Bytes are copied without a lock: check the bits, pread(2), check the bits and the
// generation again. Pages of the page cache are handed on under a lock, since nobody can look again afterwards, and an
// eviction zeroes pages that are on their way (when it cuts a large folio). Nothing is ever read through a mapping of
// the data file, so a data file that somebody truncates is a short read, not a SIGBUS.
//
// Locks are open-file-description locks on the map file, which the kernel drops when a process dies: byte 0 is held
// while the pair is opened or closed, byte 1 (shared) by every user, byte 8 + n by who writes block n or hands on its
// pages (shared), or evicts it (exclusive). Nobody waits for a block's lock: a writer that loses against an eviction is
// as if evicted right after, a reader copies, and an eviction leaves the block.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "block-map.h"
#include "memory-blocks.h"
#include "range-lock.h"

namespace orca {

/// Bytes for position `at` of a reply.
struct Filling {
  size_t at;
  std::span<const std::byte> bytes;
};

/// A READ that waits for blocks. Called from any thread, and only until it has what it asked for.
class BlockWaiter {
 public:
  virtual ~BlockWaiter() = default;
  /// Some of the pieces that it asked for; their bytes are there during the call only.
  virtual void fill(std::span<const Filling> pieces) = 0;
  virtual void fail(int code) = 0;
};

/// Whom to tell that blocks are wanted; `device` is the asker's own number of this block file.
class MissSink {
 public:
  virtual ~MissSink() = default;
  virtual void miss(uint32_t device, uint64_t firstBlock, uint64_t count) = 0;
};

/// A piece of one block, wanted at position `at` of a reply.
struct Want {
  std::shared_ptr<BlockWaiter> waiter;
  std::shared_ptr<MissSink> sink;
  uint32_t device;
  size_t at;
  size_t offset;
  size_t length;
};

struct BlockFileOptions {
  std::string dataPath;
  std::string mapPath;
  uint64_t size;
  uint32_t blockSize;
};

class BlockFile {
 public:
  static Failure open(const BlockFileOptions& options, std::shared_ptr<MemoryBlocks> memory,
                      std::shared_ptr<BlockFile>& out);
  ~BlockFile();
  /// Lets other processes see that the layer is in use, which takes a file and therefore a while.
  void claim();
  /// Whether anybody, in whatever process, has the pair with this map file open.
  static Failure inUse(const std::string& mapPath, bool& used);
  /// Removes a pair that nobody has open; `removed` is false when somebody has.
  static Failure remove(const std::string& dataPath, const std::string& mapPath, bool& removed);

  uint64_t size() const { return size_; }
  uint32_t blockSize() const { return blockSize_; }
  uint64_t blocks() const { return map().blocks(); }
  size_t lengthOf(uint64_t block) const;
  bool suspect() const { return suspect_; }
  bool has(uint64_t block);
  bool wasPresent(uint64_t block);
  uint64_t count();
  Failure bytesOnDisk(uint64_t& bytes);

  /// Reads `into.size()` bytes at `offset`; false, with `into` undefined, unless every block there is present. Calls
  /// `beforeWaiting` before a read that the disk may hold up.
  bool read(uint64_t offset, std::span<std::byte> into, const std::function<void()>& beforeWaiting = [] {});
  /// Tells onTouch, once, when a READ next asks for a part of the block, present or not.
  void watch(uint64_t block);
  /// Whom to tell, from any thread. Before the first watch().
  void onTouch(std::function<void(uint64_t block)> tell) { onTouch_ = std::move(tell); }
  /// Calls `take` with the data file, then `use`, while nobody can evict the blocks of that range. False when not all of
  /// them are present, one is being evicted, what was taken is not to be used, or one of the two says so.
  bool hold(uint64_t offset, size_t length, const std::function<bool(int data)>& take,
            const std::function<bool()>& use);
  /// The data file's bytes of a block, present or not; what lies past the end of the file is zero.
  Failure readRaw(uint64_t block, std::span<std::byte> into) const;

  using Done = std::function<void(const Failure&)>;
  struct Block {
    uint64_t number;
    std::span<const std::byte> bytes;
  };
  enum class Answer {
    filled,   ///< The waiter has the piece.
    asked,    ///< The waiter waits, and nobody else did: the caller must tell the sink.
    joined,   ///< The waiter waits for a block that was asked for already.
    present,  ///< The block has become present: read it.
    closed,
  };
  Answer want(uint64_t block, Want want);
  /// The sink goes away: what it asked for and others wait for is asked again through one of those.
  void abandon(const MissSink* sink);

  /// Answers who waits for the blocks, and from now on who asks for them. Each is whole and verified, and they are in
  /// order. Gives those that store() must follow for, and whose bytes stay valid until it returns; the others are on
  /// their way already, or the file is closed. `done` is called once for each, by whatever thread knows the outcome.
  std::vector<Block> accept(std::span<const Block> blocks, const Done& done);
  /// Puts accepted blocks on the disk, those that follow one another in one go. What fails is kept in memory for a while.
  void store(std::span<const Block> blocks);
  void fail(uint64_t block, int code);
  /// Whether a READ waits for the block.
  bool awaited(uint64_t block);
  /// Skips blocks that are being put or handed on at this moment. Fails when the file system cannot punch holes.
  Failure evict(uint64_t first, uint64_t count);
  void trust(uint64_t block);
  /// Nothing is accepted any more, and waiting READs get EIO. True when flush() is now the caller's to call; false when
  /// blocks are on their way still: the thread that stores the last of them flushes, and tells `closed` of the outcome.
  bool close(Done closed);
  /// Once closed. Waits for the disk; when no other process uses the pair, it is clean afterwards.
  Failure flush();

 private:
  struct Writing {
    std::span<const std::byte> bytes;
    /// Of every put of the block since.
    std::vector<Done> done;
  };
  struct Asked {
    const MissSink* asker;
    std::vector<Want> wants;
  };

  BlockFile(const BlockFileOptions& options, std::shared_ptr<MemoryBlocks> memory);
  struct Blocks {
    uint64_t first;
    uint64_t count;
  };
  /// Bytes of the map file that are locked.
  static constexpr uint64_t kOpening = 0;
  static constexpr uint64_t kUsers = 1;
  static constexpr uint64_t kFirstBlock = 8;

  /// `length` is not 0; nullopt when the range is not in the layer VHD.
  std::optional<Blocks> blocksOf(uint64_t offset, uint64_t length) const;
  /// An open description of the map file that nobody else uses; invalid when there is none to be had.
  Descriptor takeLocker();
  /// What is made if it is not there; what is there is opened in any case.
  enum class Extent {
    existing,  ///< Nothing.
    map,       ///< An empty map, which says that the layer is in use.
    pair,
  };
  Failure openFiles(Extent extent);
  /// From now on, unless it fails, the blocks have a place.
  Failure makeFiles();
  BlockMap& map() const { return *map_; }
  /// Opens what another opener has made meanwhile.
  void lookAgain();
  bool isOnDisk() const { return map_ != nothing_.get(); }
  Failure openLocked(int mapFile, int data, bool isNew);
  /// Forgets blocks that a truncated data file has lost, and gives it its length back.
  Failure repair(int data, BlockMap& map) const;
  void forget(uint64_t first, uint64_t count);
  /// Stores blocks that follow one another, as many as are given in one go or one by one.
  void storeRun(std::span<const Block> run);
  Failure write(uint64_t first, uint64_t count, std::span<const std::byte> bytes);
  void touched(uint64_t first, uint64_t count);
  Failure markInUse();
  Failure evictRun(uint64_t first, uint64_t count);
  Failure punch(uint64_t first, uint64_t count);
  Failure settle(RangeLock& users);
  Failure markClean();

  const BlockFileOptions options_;
  const uint64_t size_;
  const uint32_t blockSize_;
  const std::shared_ptr<MemoryBlocks> memory_;
  Descriptor data_;
  Descriptor mapFile_;
  /// The one that counts: until the first READ of the layer, none, since most images have layers that nobody reads.
  std::atomic<BlockMap*> map_ = nullptr;
  std::unique_ptr<BlockMap> nothing_;
  std::unique_ptr<BlockMap> onDisk_;
  bool suspect_ = false;

  /// Idle open descriptions of the map file, for hold(): the locks of one description do not exclude each other.
  std::mutex lockersMutex_;
  std::vector<Descriptor> lockers_;

  std::mutex mutex_;
  std::atomic<bool> closed_ = false;
  std::mutex useMutex_;
  bool inUse_ = false;
  /// Blocks asked for and not yet put.
  std::unordered_map<uint64_t, Asked> asked_;
  /// Blocks on their way to the disk; the bytes stay valid while they are here.
  std::unordered_map<uint64_t, Writing> writing_;
  /// Set while a closed file still waits for the last of them.
  Done whenWritten_;

  std::function<void(uint64_t block)> onTouch_;
  std::mutex watchMutex_;
  std::unordered_set<uint64_t> watched_;
  /// As many as are in `watched_`.
  std::atomic<size_t> watches_ = 0;
};

}  // namespace orca
