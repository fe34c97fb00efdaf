// The last blocks that a disk refused to hold, so that a full cache disk makes reads slower, not wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace orca {

/// Least recently used blocks go first. Shared by the block files of one environment; safe from any thread.
class MemoryBlocks {
 public:
  explicit MemoryBlocks(size_t capacity) : capacity_(capacity) {}

  void add(const void* owner, uint64_t block, std::span<const std::byte> bytes);
  /// Calls `use` with the block's bytes, under the lock; false when the block is not here.
  bool find(const void* owner, uint64_t block, const std::function<void(std::span<const std::byte>)>& use);
  void remove(const void* owner, uint64_t block);
  void removeAll(const void* owner);

 private:
  using Key = std::pair<const void*, uint64_t>;
  struct Entry {
    Key key;
    std::vector<std::byte> bytes;
  };
  using Entries = std::list<Entry>;

  void erase(std::map<Key, Entries::iterator>::iterator found);

  const size_t capacity_;
  std::mutex mutex_;
  size_t held_ = 0;
  /// Most recently used first.
  Entries entries_;
  std::map<Key, Entries::iterator> index_;
};

}  // namespace orca
