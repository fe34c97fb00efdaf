#include "memory-blocks.h"

namespace orca {

void MemoryBlocks::add(const void* owner, uint64_t block, std::span<const std::byte> bytes) {
  if (bytes.size() > capacity_) return;
  const std::lock_guard lock(mutex_);
  if (const auto found = index_.find({owner, block}); found != index_.end()) erase(found);
  while (held_ + bytes.size() > capacity_) erase(index_.find(entries_.back().key));
  entries_.push_front({{owner, block}, {bytes.begin(), bytes.end()}});
  index_.emplace(entries_.front().key, entries_.begin());
  held_ += bytes.size();
}

bool MemoryBlocks::find(const void* owner, uint64_t block,
                        const std::function<void(std::span<const std::byte>)>& use) {
  const std::lock_guard lock(mutex_);
  const auto found = index_.find({owner, block});
  if (found == index_.end()) return false;
  use(found->second->bytes);
  entries_.splice(entries_.begin(), entries_, found->second);
  return true;
}

void MemoryBlocks::remove(const void* owner, uint64_t block) {
  const std::lock_guard lock(mutex_);
  if (const auto found = index_.find({owner, block}); found != index_.end()) erase(found);
}

void MemoryBlocks::removeAll(const void* owner) {
  const std::lock_guard lock(mutex_);
  for (auto found = index_.lower_bound({owner, 0}); found != index_.end() && found->first.first == owner;)
    erase(found++);
}

void MemoryBlocks::erase(std::map<Key, Entries::iterator>::iterator found) {
  held_ -= found->second->bytes.size();
  entries_.erase(found->second);
  index_.erase(found);
}

}  // namespace orca
