#include "access-log.h"

#include <unordered_set>

namespace orca {
namespace {

/// PATH_MAX: what is deeper nobody can name.
constexpr size_t kMaxPath = 4096;

}  // namespace

void AccessLog::name(uint64_t directory, std::string_view name, uint64_t nid) {
  if (over_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  add({AccessKind::name, directory, 0, 1, 0, std::string(name)});
  places_.try_emplace(nid, Place{directory, std::string(name)});
}

void AccessLog::absent(uint64_t directory, std::string_view name) {
  if (over_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  add({AccessKind::absent, directory, 0, 1, 0, std::string(name)});
}

void AccessLog::content(AccessKind kind, uint64_t nid, uint64_t first, uint64_t count) {
  if (over_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  add({kind, nid, first, count, 0, {}});
}

void AccessLog::add(Entry entry) {
  using namespace std::chrono;
  entry.time = static_cast<uint32_t>(duration_cast<milliseconds>(steady_clock::now() - begin_).count());
  if (entries_.empty()) firstTime_ = entry.time;
  nameBytes_ += entry.name.size();
  const bool late = milliseconds(entry.time - firstTime_) > kStart;
  if (late || entries_.size() >= kCapacity || nameBytes_ > kMaxNameBytes) {
    over_ = true;
    return;
  }
  entries_.push_back(std::move(entry));
}

void AccessLog::resolve(const ErofsIndex& index) {
  const std::lock_guard lock(mutex_);
  std::unordered_set<uint64_t> unknown;
  std::vector<uint64_t> listed;
  const auto want = [&](uint64_t nid) {
    if (nid != rootNid_ && !places_.contains(nid)) unknown.insert(nid);
  };
  for (const Entry& entry : entries_) {
    want(entry.nid);
    if (entry.kind == AccessKind::listing) listed.push_back(entry.nid);
  }
  // A directory that is found in a listing may have been found by a listing itself.
  for (size_t i = listed.size(); i-- > 0 && !unknown.empty();) {
    Inode directory;
    if (!index.inode(listed[i], directory) || !directory.isDirectory()) continue;
    (void)index.readdir(directory, 0, [&](const orca::Entry& entry, uint64_t) {
      if (entry.name == "." || entry.name == ".." || unknown.erase(entry.nid) == 0) return true;
      places_.try_emplace(entry.nid, Place{listed[i], std::string(entry.name)});
      return !unknown.empty();
    });
  }
}

bool AccessLog::pathOf(uint64_t nid, std::string& path) const {
  path.clear();
  while (nid != rootNid_) {
    const auto place = places_.find(nid);
    // Bounded as well where an odd index has a directory within itself.
    if (place == places_.end() || path.size() + place->second.name.size() + 1 > kMaxPath) return false;
    path.insert(0, path.empty() ? place->second.name : place->second.name + "/");
    nid = place->second.directory;
  }
  return true;
}

std::vector<Access> AccessLog::entries() {
  const std::lock_guard lock(mutex_);
  std::vector<Access> accesses;
  std::string path;
  // Neighbours lie in one directory.
  uint64_t directory = rootNid_;
  std::string directoryPath;
  for (const Entry& entry : entries_) {
    const bool named = entry.kind == AccessKind::name || entry.kind == AccessKind::absent;
    if (named) {
      if (entry.nid != directory && !pathOf(entry.nid, directoryPath)) {
        directory = rootNid_;
        directoryPath.clear();
        continue;
      }
      directory = entry.nid;
      path = directoryPath.empty() ? entry.name : directoryPath + "/" + entry.name;
    } else if (!pathOf(entry.nid, path)) {
      continue;
    }
    if (path.size() < kMaxPath) accesses.push_back({entry.kind, path, entry.first, entry.count, entry.time});
  }
  return accesses;
}

}  // namespace orca
