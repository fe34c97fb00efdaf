#include "block-file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace orca {
namespace {

/// Reads `into` when all of it is in the page cache.
bool readCached(int file, std::span<std::byte> into, uint64_t offset) {
  const iovec part{into.data(), into.size()};
  return preadv2(file, &part, 1, static_cast<off_t>(offset), RWF_NOWAIT) == static_cast<ssize_t>(into.size());
}

std::string folderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

bool isFolder(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// Reads until `into` is full or the file ends; the number of bytes read, or -1.
ssize_t readFully(int file, std::span<std::byte> into, uint64_t offset) {
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t count = pread(file, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  return static_cast<ssize_t>(done);
}

}  // namespace

BlockFile::BlockFile(const BlockFileOptions& options, std::shared_ptr<MemoryBlocks> memory)
    : options_(options), size_(options.size), blockSize_(options.blockSize), memory_(std::move(memory)) {}

BlockFile::~BlockFile() { memory_->removeAll(this); }

Failure BlockFile::open(const BlockFileOptions& options, std::shared_ptr<MemoryBlocks> memory,
                        std::shared_ptr<BlockFile>& out) {
  std::shared_ptr<BlockFile> file(new BlockFile(options, std::move(memory)));
  if (auto failure = BlockMap::none(options.size, options.blockSize, file->nothing_)) return failure;
  file->map_ = file->nothing_.get();
  if (auto failure = file->openFiles(Extent::existing)) return failure;
  out = std::move(file);
  return {};
}

Failure BlockFile::openFiles(Extent extent) {
  const int create = extent == Extent::existing ? 0 : O_CREAT;
  for (;;) {
    Descriptor mapFile(::open(options_.mapPath.c_str(), O_RDWR | O_CLOEXEC | create, 0600));
    if (!mapFile) {
      const Failure failure = failed("open", options_.mapPath);
      return failure.code == ENOENT && create == 0 && isFolder(folderOf(options_.mapPath)) ? Failure{} : failure;
    }
    RangeLock opening(mapFile.get(), kOpening, 1);
    if (auto failure = opening.wait()) return failure;
    struct stat status;
    if (fstat(mapFile.get(), &status) < 0) return failed("fstat", options_.mapPath);
    // Removed since it was opened.
    if (status.st_nlink == 0) continue;
    if (status.st_size > 0 || extent == Extent::pair) {
      Descriptor data(::open(options_.dataPath.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      if (!data) return failed("open", options_.dataPath);
      auto failure = openLocked(mapFile.get(), data.get(), status.st_size == 0);
      if (failure && failure.subject.empty()) failure.subject = options_.mapPath;
      if (failure) return failure;
      data_ = std::move(data);
    } else if (RangeLock user(mapFile.get(), kUsers, 1); user.tryShared()) {
      user.keep();
    } else {
      return {EBUSY, "open", options_.mapPath};
    }
    // The file lives, and the locks with it, however often the descriptor moves.
    opening.release();
    mapFile_ = std::move(mapFile);
    if (onDisk_) map_ = onDisk_.get();
    return {};
  }
}

Failure BlockFile::makeFiles() {
  if (isOnDisk()) return {};
  const std::lock_guard lock(useMutex_);
  return isOnDisk() ? Failure{} : openFiles(Extent::pair);
}

void BlockFile::claim() {
  const std::lock_guard lock(useMutex_);
  // Without it, all that is lost is that other processes take the layer for one that nobody uses.
  if (!closed_ && !mapFile_) (void)openFiles(Extent::map);
}

Failure BlockFile::remove(const std::string& dataPath, const std::string& mapPath, bool& removed) {
  removed = false;
  for (;;) {
    // A map that is missing is made: without its locks somebody may be about to open the data.
    const Descriptor file(::open(mapPath.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file) return failed("open", mapPath);
    RangeLock opening(file.get(), kOpening, 1);
    if (auto failure = opening.wait()) return failure;
    struct stat status;
    if (fstat(file.get(), &status) < 0) return failed("fstat", mapPath);
    if (status.st_nlink == 0) continue;
    // Who opens the pair sees under the first lock that the map is gone, and who has it open holds the second.
    RangeLock alone(file.get(), kUsers, 1);
    if (!alone.tryExclusive()) return {};
    if (unlink(dataPath.c_str()) < 0 && errno != ENOENT) return failed("unlink", dataPath);
    if (unlink(mapPath.c_str()) < 0 && errno != ENOENT) return failed("unlink", mapPath);
    removed = true;
    return {};
  }
}

Failure BlockFile::inUse(const std::string& mapPath, bool& used) {
  used = false;
  const Descriptor file(::open(mapPath.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return errno == ENOENT ? Failure{} : failed("open", mapPath);
  if (!RangeLock(file.get(), kUsers, 1).held(used)) return failed("fcntl", mapPath);
  return {};
}

Failure BlockFile::openLocked(int mapFile, int data, bool isNew) {
  if (!BlockMap::matches(mapFile, size_, blockSize_)) {
    RangeLock alone(mapFile, kUsers, 1);
    // Those who have an empty map open have not looked at it yet.
    if (!isNew && !alone.tryExclusive()) return {EBUSY, "open", {}};
    if (auto failure = BlockMap::create(mapFile, size_, blockSize_)) return failure;
    if (ftruncate(data, 0) < 0) return failed("ftruncate");
  }
  RangeLock user(mapFile, kUsers, 1);
  if (!user.tryShared()) return {EBUSY, "open", {}};
  user.keep();
  std::unique_ptr<BlockMap> map;
  if (auto failure = BlockMap::map(mapFile, size_, blockSize_, map)) return failure;
  if (auto failure = repair(data, *map)) return failure;
  if (!map->clean() && !map->ofThisBoot()) {
    map->doubt();
    map->raiseGeneration();
    map->setBoot();
  }
  suspect_ = map->anyClaimed();
  onDisk_ = std::move(map);
  return {};
}

size_t BlockFile::lengthOf(uint64_t block) const {
  return static_cast<size_t>(std::min<uint64_t>(blockSize_, size_ - block * blockSize_));
}

void BlockFile::lookAgain() {
  if (isOnDisk()) return;
  {
    const std::lock_guard lock(useMutex_);
    struct stat status;
    if (mapFile_ ? fstat(mapFile_.get(), &status) < 0 : stat(options_.mapPath.c_str(), &status) < 0) return;
    if (status.st_size == 0) return;
  }
  (void)makeFiles();
}

bool BlockFile::has(uint64_t block) {
  lookAgain();
  return map().present(block);
}

bool BlockFile::wasPresent(uint64_t block) {
  lookAgain();
  return map().present(block) || map().claimed(block);
}

uint64_t BlockFile::count() {
  lookAgain();
  return map().countPresent();
}

Failure BlockFile::bytesOnDisk(uint64_t& bytes) {
  bytes = 0;
  lookAgain();
  if (!isOnDisk()) return {};
  struct stat status;
  if (fstat(data_.get(), &status) < 0) return failed("fstat");
  bytes = static_cast<uint64_t>(status.st_blocks) * 512;
  return {};
}

bool BlockFile::read(uint64_t offset, std::span<std::byte> into, const std::function<void()>& beforeWaiting) {
  if (into.empty()) return true;
  const auto blocks = blocksOf(offset, into.size());
  if (!blocks) return false;
  const auto [first, count] = *blocks;
  if (watches_ > 0) touched(first, count);
  for (;;) {
    if (closed_) return false;
    const uint64_t generation = map().generation();
    if (!map().presentAll(first, count)) return false;
    auto got = static_cast<ssize_t>(into.size());
    if (!readCached(data_.get(), into, offset)) {
      beforeWaiting();
      got = readFully(data_.get(), into, offset);
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (map().generation() != generation) continue;
    if (got == static_cast<ssize_t>(into.size())) return true;
    // Truncated by somebody, or a bad disk: what cannot be read is absent.
    if (got < 0 || repair(data_.get(), *onDisk_) || map().generation() == generation) forget(first, count);
    return false;
  }
}

void BlockFile::watch(uint64_t block) {
  const std::lock_guard lock(watchMutex_);
  watched_.insert(block);
  watches_ = watched_.size();
}

void BlockFile::touched(uint64_t first, uint64_t count) {
  const std::lock_guard lock(watchMutex_);
  for (uint64_t block = first; block < first + count; ++block)
    if (watched_.erase(block) > 0) onTouch_(block);
  watches_ = watched_.size();
}

std::optional<BlockFile::Blocks> BlockFile::blocksOf(uint64_t offset, uint64_t length) const {
  if (offset > size_ || length > size_ - offset) return std::nullopt;
  const uint64_t first = offset / blockSize_;
  return Blocks{first, (offset + length - 1) / blockSize_ - first + 1};
}

bool BlockFile::hold(uint64_t offset, size_t length, const std::function<bool(int data)>& take,
                     const std::function<bool()>& use) {
  const auto blocks = blocksOf(offset, length);
  if (!blocks || closed_) return false;
  if (watches_ > 0) touched(blocks->first, blocks->count);
  if (!map().presentAll(blocks->first, blocks->count)) return false;
  Descriptor locker = takeLocker();
  if (!locker) return false;
  bool used = false;
  {
    RangeLock lock(locker.get(), kFirstBlock + blocks->first, blocks->count);
    const uint64_t generation = map().generation();
    used = lock.tryShared() && map().presentAll(blocks->first, blocks->count) && take(data_.get());
    std::atomic_thread_fence(std::memory_order_seq_cst);
    // repair() takes no locks: it clears bits, raises the generation, and only then gives the file zeros to take.
    used = used && map().generation() == generation && use();
  }
  const std::lock_guard lock(lockersMutex_);
  lockers_.push_back(std::move(locker));
  return used;
}

Descriptor BlockFile::takeLocker() {
  {
    const std::lock_guard lock(lockersMutex_);
    if (!lockers_.empty()) {
      Descriptor locker = std::move(lockers_.back());
      lockers_.pop_back();
      return locker;
    }
  }
  // Not by its name, which may be another file's by now.
  return Descriptor(::open(("/proc/self/fd/" + std::to_string(mapFile_.get())).c_str(), O_RDONLY | O_CLOEXEC));
}

Failure BlockFile::readRaw(uint64_t block, std::span<std::byte> into) const {
  const ssize_t got = readFully(data_.get(), into, block * blockSize_);
  if (got < 0) return failed("read");
  memset(into.data() + got, 0, into.size() - static_cast<size_t>(got));
  return {};
}

Failure BlockFile::repair(int data, BlockMap& map) const {
  struct stat status;
  if (fstat(data, &status) < 0) return failed("fstat");
  if (static_cast<uint64_t>(status.st_size) >= size_) return {};
  map.clearFrom(static_cast<uint64_t>(status.st_size) / blockSize_);
  map.raiseGeneration();
  if (ftruncate(data, static_cast<off_t>(size_)) < 0) return failed("ftruncate");
  return {};
}

void BlockFile::forget(uint64_t first, uint64_t count) {
  for (uint64_t block = first; block < first + count; ++block) map().clear(block);
  map().raiseGeneration();
}

Failure BlockFile::evict(uint64_t first, uint64_t count) {
  if (!isOnDisk()) return {};
  const std::lock_guard lock(mutex_);
  Failure result;
  const uint64_t end = first + count;
  for (uint64_t block = first; block < end;) {
    uint64_t next = block;
    while (next < end && !writing_.contains(next)) ++next;
    if (next > block)
      if (auto failure = evictRun(block, next - block)) result = failure;
    block = next + 1;
  }
  return result;
}

Failure BlockFile::evictRun(uint64_t first, uint64_t count) {
  RangeLock lock(mapFile_.get(), kFirstBlock + first, count);
  if (!lock.tryExclusive()) {
    // Somebody writes one of them, or hands on its pages.
    if (count == 1) return {};
    const Failure low = evictRun(first, count / 2);
    const Failure high = evictRun(first + count / 2, count - count / 2);
    return low ? low : high;
  }
  for (uint64_t block = first; block < first + count; ++block) memory_->remove(this, block);
  forget(first, count);
  return punch(first, count);
}

Failure BlockFile::punch(uint64_t first, uint64_t count) {
  if (fallocate(data_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first * blockSize_),
                static_cast<off_t>(count * blockSize_)) < 0)
    return failed("fallocate");
  return {};
}

void BlockFile::trust(uint64_t block) {
  const std::lock_guard guard(mutex_);
  if (!isOnDisk() || writing_.contains(block)) return;
  RangeLock lock(mapFile_.get(), kFirstBlock + block, 1);
  if (lock.tryShared() && map().claimed(block)) map().setPresent(block);
}

bool BlockFile::close(Done closed) {
  std::unordered_map<uint64_t, Asked> asked;
  bool written = true;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    closed_ = true;
    asked.swap(asked_);
    written = writing_.empty();
    if (!written) whenWritten_ = std::move(closed);
  }
  for (const auto& [block, entry] : asked)
    for (const Want& want : entry.wants) want.waiter->fail(EIO);
  return written;
}

Failure BlockFile::flush() {
  memory_->removeAll(this);
  const std::lock_guard lock(useMutex_);
  RangeLock users(mapFile_.get(), kUsers, 1);
  Failure failure = settle(users);
  users.release();
  return failure;
}

Failure BlockFile::settle(RangeLock& users) {
  if (!isOnDisk() || map().clean()) return {};
  // The bulk of the flushing is done before anybody who opens the pair has to wait for it.
  if (fdatasync(data_.get()) < 0) return failed("fdatasync");
  RangeLock opening(mapFile_.get(), kOpening, 1);
  if (auto failure = opening.wait()) return failure;
  // The last user marks it.
  if (!users.tryExclusive()) return {};
  const Failure failure = markClean();
  // Before the other lock: who waits for that to open the pair must not find anybody here.
  users.release();
  return failure;
}

Failure BlockFile::markClean() {
  if (fdatasync(data_.get()) < 0) return failed("fdatasync");
  if (auto failure = map().flush()) return failure;
  return map().setClean(true);
}

}  // namespace orca
