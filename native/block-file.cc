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
    : size_(options.size), blockSize_(options.blockSize), memory_(std::move(memory)) {}

BlockFile::~BlockFile() { memory_->removeAll(this); }

Failure BlockFile::open(const BlockFileOptions& options, std::shared_ptr<MemoryBlocks> memory,
                        std::shared_ptr<BlockFile>& out) {
  std::shared_ptr<BlockFile> file(new BlockFile(options, std::move(memory)));
  file->mapFile_ = Descriptor(::open(options.mapPath.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file->mapFile_) return failed("open", options.mapPath);
  file->data_ = Descriptor(::open(options.dataPath.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file->data_) return failed("open", options.dataPath);

  RangeLock opening(file->mapFile_.get(), kOpening, 1);
  if (auto failure = opening.wait()) return failure;
  if (auto failure = file->openLocked()) {
    if (failure.subject.empty()) failure.subject = options.mapPath;
    return failure;
  }
  out = std::move(file);
  return {};
}

Failure BlockFile::inUse(const std::string& mapPath, bool& used) {
  used = false;
  const Descriptor file(::open(mapPath.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return errno == ENOENT ? Failure{} : failed("open", mapPath);
  if (!RangeLock(file.get(), kUsers, 1).held(used)) return failed("fcntl", mapPath);
  return {};
}

Failure BlockFile::openLocked() {
  if (!BlockMap::matches(mapFile_.get(), size_, blockSize_)) {
    RangeLock alone(mapFile_.get(), kUsers, 1);
    if (!alone.tryExclusive()) return {EBUSY, "open", {}};
    if (auto failure = BlockMap::create(mapFile_.get(), size_, blockSize_)) return failure;
    if (ftruncate(data_.get(), 0) < 0) return failed("ftruncate");
  }
  RangeLock user(mapFile_.get(), kUsers, 1);
  if (!user.tryShared()) return {EBUSY, "open", {}};
  user.keep();
  if (auto failure = BlockMap::map(mapFile_.get(), size_, blockSize_, map_)) return failure;
  if (auto failure = repair()) return failure;
  if (!map_->clean() && !map_->ofThisBoot()) {
    map_->doubt();
    map_->raiseGeneration();
    map_->setBoot();
  }
  suspect_ = map_->anyClaimed();
  return {};
}

size_t BlockFile::lengthOf(uint64_t block) const {
  return static_cast<size_t>(std::min<uint64_t>(blockSize_, size_ - block * blockSize_));
}

Failure BlockFile::bytesOnDisk(uint64_t& bytes) const {
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
    const uint64_t generation = map_->generation();
    if (!map_->presentAll(first, count)) return false;
    auto got = static_cast<ssize_t>(into.size());
    if (!readCached(data_.get(), into, offset)) {
      beforeWaiting();
      got = readFully(data_.get(), into, offset);
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (map_->generation() != generation) continue;
    if (got == static_cast<ssize_t>(into.size())) return true;
    // Truncated by somebody, or a bad disk: what cannot be read is absent.
    if (got < 0 || repair() || map_->generation() == generation) forget(first, count);
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
  if (!map_->presentAll(blocks->first, blocks->count)) return false;
  Descriptor locker = takeLocker();
  if (!locker) return false;
  bool used = false;
  {
    RangeLock lock(locker.get(), kFirstBlock + blocks->first, blocks->count);
    const uint64_t generation = map_->generation();
    used = lock.tryShared() && map_->presentAll(blocks->first, blocks->count) && take(data_.get());
    std::atomic_thread_fence(std::memory_order_seq_cst);
    // repair() takes no locks: it clears bits, raises the generation, and only then gives the file zeros to take.
    used = used && map_->generation() == generation && use();
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

Failure BlockFile::repair() {
  struct stat status;
  if (fstat(data_.get(), &status) < 0) return failed("fstat");
  if (static_cast<uint64_t>(status.st_size) >= size_) return {};
  map_->clearFrom(static_cast<uint64_t>(status.st_size) / blockSize_);
  map_->raiseGeneration();
  if (ftruncate(data_.get(), static_cast<off_t>(size_)) < 0) return failed("ftruncate");
  return {};
}

void BlockFile::forget(uint64_t first, uint64_t count) {
  for (uint64_t block = first; block < first + count; ++block) map_->clear(block);
  map_->raiseGeneration();
}

Failure BlockFile::evict(uint64_t first, uint64_t count) {
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
  if (writing_.contains(block)) return;
  RangeLock lock(mapFile_.get(), kFirstBlock + block, 1);
  if (lock.tryShared() && map_->claimed(block)) map_->setPresent(block);
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
  RangeLock users(mapFile_.get(), kUsers, 1);
  Failure failure = settle(users);
  users.release();
  return failure;
}

Failure BlockFile::settle(RangeLock& users) {
  if (map_->clean()) return {};
  // The bulk of the flushing is done before anybody who opens the pair has to wait for it.
  if (fdatasync(data_.get()) < 0) return failed("fdatasync");
  RangeLock opening(mapFile_.get(), kOpening, 1);
  if (auto failure = opening.wait()) return failure;
  // The last user marks it.
  if (!users.tryExclusive()) return {};
  if (fdatasync(data_.get()) < 0) return failed("fdatasync");
  if (auto failure = map_->flush()) return failure;
  return map_->setClean(true);
}

}  // namespace orca
