// Which names, directory listings, link targets and pages the requests of one session have asked for while a container
// started, in their order: the part of a startup profile that is replayed through the mount. The kernel keeps what it
// was told, so nearly nothing is asked twice.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "erofs-index.h"

namespace orca {

/// As in a startup profile (src/native/access.ts).
enum class AccessKind : uint8_t { name, absent, listing, link, pages };

/// An access by path, relative to the root; the root itself is empty.
struct Access {
  AccessKind kind;
  std::string path;
  /// Pages of 4 KiB; of the other kinds 0 and 1.
  uint64_t first;
  uint64_t count;
  /// Milliseconds since the session began.
  uint32_t time;
};

class AccessLog {
 public:
  /// What comes later than the first access by more than this is work, not start; more than so many is no start.
  static constexpr auto kStart = std::chrono::seconds(30);
  static constexpr size_t kCapacity = 1 << 16;
  /// Of all names together.
  static constexpr size_t kMaxNameBytes = 4 << 20;

  explicit AccessLog(uint64_t rootNid) : rootNid_(rootNid) {}

  void name(uint64_t directory, std::string_view name, uint64_t nid);
  void absent(uint64_t directory, std::string_view name);
  /// A listing, a link's target, or pages of a file.
  void content(AccessKind kind, uint64_t nid, uint64_t first = 0, uint64_t count = 1);

  /// Finds the names of what was asked for by number only, since a listing with attributes told the kernel of it.
  void resolve(const ErofsIndex& index);
  /// Those whose paths are known.
  std::vector<Access> entries();

 private:
  struct Entry {
    AccessKind kind;
    /// Of names and absent names that of the directory.
    uint64_t nid;
    uint64_t first;
    uint64_t count;
    uint32_t time;
    std::string name;
  };
  struct Place {
    uint64_t directory;
    std::string name;
  };

  void add(Entry entry);
  bool pathOf(uint64_t nid, std::string& path) const;

  const uint64_t rootNid_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  /// So that a session that runs on for months pays one load.
  std::atomic<bool> over_ = false;
  std::mutex mutex_;
  std::vector<Entry> entries_;
  std::unordered_map<uint64_t, Place> places_;
  size_t nameBytes_ = 0;
  uint32_t firstTime_ = 0;
};

}  // namespace orca
