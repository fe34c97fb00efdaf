// The blocks of a block file that are on their way: asked for, accepted, being written.
#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include <unistd.h>

#include "block-file.h"

namespace orca {
namespace {

Failure writeFully(int file, std::span<const std::byte> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t count = pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed("write");
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return {};
}

}  // namespace

BlockFile::Answer BlockFile::want(uint64_t block, Want want) {
  // A disk that has no room for them is no reason not to read: store() says what becomes of the blocks.
  if (!closed_) (void)makeFiles();
  const std::lock_guard lock(mutex_);
  if (closed_) return Answer::closed;
  if (map().present(block)) return Answer::present;
  const auto fill = [&](std::span<const std::byte> bytes) {
    const Filling piece{want.at, bytes.subspan(want.offset, want.length)};
    want.waiter->fill({&piece, 1});
  };
  if (const auto found = writing_.find(block); found != writing_.end()) {
    fill(found->second.bytes);
    return Answer::filled;
  }
  if (memory_->find(this, block, fill)) return Answer::filled;
  const auto [found, first] = asked_.try_emplace(block, Asked{want.sink.get(), {}});
  found->second.wants.push_back(std::move(want));
  return first ? Answer::asked : Answer::joined;
}

void BlockFile::abandon(const MissSink* sink) {
  std::vector<std::pair<uint64_t, Want>> again;
  {
    const std::lock_guard lock(mutex_);
    for (auto entry = asked_.begin(); entry != asked_.end();) {
      auto& [block, asked] = *entry;
      std::erase_if(asked.wants, [&](const Want& want) { return want.sink.get() == sink; });
      if (asked.asker == sink && !asked.wants.empty()) {
        asked.asker = asked.wants.front().sink.get();
        again.emplace_back(block, asked.wants.front());
      }
      entry = asked.asker == sink ? asked_.erase(entry) : std::next(entry);
    }
  }
  for (const auto& [block, want] : again) want.sink->miss(want.device, block, 1);
}

std::vector<BlockFile::Block> BlockFile::accept(std::span<const Block> blocks, const Done& done) {
  std::vector<Block> accepted;
  std::map<std::shared_ptr<BlockWaiter>, std::vector<Filling>> waiting;
  {
    std::unique_lock lock(mutex_);
    if (closed_) {
      lock.unlock();
      for (size_t i = 0; i < blocks.size(); ++i) done({EBADF, "write", {}});
      return {};
    }
    for (const Block& block : blocks) {
      const auto [writing, first] = writing_.try_emplace(block.number, Writing{block.bytes, {}});
      writing->second.done.push_back(done);
      // While a block is on its way nobody has to wait for it.
      if (!first) continue;
      accepted.push_back(block);
      const auto found = asked_.find(block.number);
      if (found == asked_.end()) continue;
      for (const Want& want : found->second.wants)
        waiting[want.waiter].push_back({want.at, block.bytes.subspan(want.offset, want.length)});
      asked_.erase(found);
    }
  }
  for (const auto& [waiter, pieces] : waiting) waiter->fill(pieces);
  return accepted;
}

void BlockFile::store(std::span<const Block> blocks) {
  while (!blocks.empty()) {
    size_t count = 1;
    while (count < blocks.size() && blocks[count].number == blocks[0].number + count &&
           blocks[count].bytes.data() == blocks[count - 1].bytes.data() + blockSize_)
      ++count;
    storeRun(blocks.first(count));
    blocks = blocks.subspan(count);
  }
}

void BlockFile::storeRun(std::span<const Block> run) {
  const std::span bytes(run.front().bytes.data(), run.back().bytes.data() + run.back().bytes.size());
  const Failure failure = write(run.front().number, run.size(), bytes);
  // A disk may have room for some of them.
  if (failure && run.size() > 1) {
    for (size_t i = 0; i < run.size(); ++i) storeRun(run.subspan(i, 1));
    return;
  }
  std::vector<Done> done;
  Done whenWritten;
  {
    const std::lock_guard lock(mutex_);
    for (const Block& block : run) {
      auto waiting = std::move(writing_.extract(block.number).mapped().done);
      done.insert(done.end(), std::move_iterator(waiting.begin()), std::move_iterator(waiting.end()));
      if (failure)
        memory_->add(this, block.number, block.bytes);
      else
        memory_->remove(this, block.number);
    }
    if (writing_.empty()) whenWritten = std::exchange(whenWritten_, nullptr);
  }
  for (const auto& call : done) call(failure);
  if (whenWritten) whenWritten(flush());
}

Failure BlockFile::write(uint64_t first, uint64_t count, std::span<const std::byte> bytes) {
  if (map().presentAll(first, count)) return {};
  if (auto failure = markInUse()) return failure;
  RangeLock lock(mapFile_.get(), kFirstBlock + first, count);
  if (!lock.tryShared()) {
    if (count == 1) return {};
    // Only some of them are being evicted.
    const uint64_t low = count / 2;
    if (auto failure = write(first, low, bytes.first(low * blockSize_))) return failure;
    return write(first + low, count - low, bytes.subspan(low * blockSize_));
  }
  if (auto failure = repair(data_.get(), *onDisk_)) return failure;
  if (auto failure = writeFully(data_.get(), bytes, first * blockSize_)) {
    // Unless another process has written one of them meanwhile.
    if (lock.tryExclusive())
      for (uint64_t block = first; block < first + count; ++block)
        if (!map().present(block)) (void)punch(block, 1);
    return failure;
  }
  for (uint64_t block = first; block < first + count; ++block) map().setPresent(block);
  return {};
}

Failure BlockFile::markInUse() {
  if (auto failure = makeFiles()) return failure;
  const std::lock_guard lock(useMutex_);
  if (inUse_ && !map().clean()) return {};
  // The disk must know that the map is not clean before a block or a bit can reach it.
  RangeLock opening(mapFile_.get(), kOpening, 1);
  if (auto failure = opening.wait()) return failure;
  if (map().clean()) {
    map().setBoot();
    if (auto failure = map().setClean(false)) return failure;
  }
  inUse_ = true;
  return {};
}

void BlockFile::fail(uint64_t block, int code) {
  std::vector<Want> wants;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = asked_.find(block); found != asked_.end()) {
      wants = std::move(found->second.wants);
      asked_.erase(found);
    }
  }
  for (const Want& want : wants) want.waiter->fail(code);
}

bool BlockFile::awaited(uint64_t block) {
  const std::lock_guard lock(mutex_);
  return asked_.contains(block);
}

}  // namespace orca
