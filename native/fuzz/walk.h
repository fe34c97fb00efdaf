// Touches everything that an index offers, as a kernel full of curious processes would.
#pragma once

#include "../erofs-index.h"

namespace orca::fuzz {

/// Walks at most `inodes` inodes below the root and at most `entries` entries of each directory.
inline void walk(const ErofsIndex& index, size_t inodes = 200, size_t entries = 500) {
  volatile char sink = 0;
  const auto touch = [&](std::string_view bytes) {
    for (const char c : bytes) sink = c;
  };
  (void)index.survey();
  std::vector<uint64_t> nids{index.rootNid()};
  for (size_t at = 0; at < nids.size() && at < inodes; ++at) {
    Inode inode;
    if (!index.inode(nids[at], inode)) continue;
    std::string_view value;
    for (const auto* name : {"user.a", "security.capability", "system.posix_acl_access", ""})
      if (index.getxattr(inode, name, value) == 0) touch(value);
    (void)index.listxattr(inode, [&](std::string_view prefix, std::string_view rest) {
      touch(prefix);
      touch(rest);
    });
    if (inode.isDirectory()) {
      size_t left = entries;
      uint64_t last = 0;
      (void)index.readdir(inode, 0, [&](const Entry& entry, uint64_t next) {
        touch(entry.name);
        if (next <= last) abort();
        last = next;
        nids.push_back(entry.nid);
        Entry found;
        if (index.lookup(inode, entry.name, found) == 0) touch(found.name);
        return --left > 0;
      });
      Entry found;
      for (const auto* name : {"a", "zzzz", "."}) (void)index.lookup(inode, name, found);
    } else if (inode.isSymlink()) {
      touch(index.readlink(inode));
    } else if (inode.isRegular() && inode.size > 0) {
      for (const uint64_t offset : {uint64_t{0}, inode.size / 2, inode.size - 1}) {
        const auto run = index.map(inode, offset, 1 << 20);
        if (!run) continue;
        if (run->length == 0 || run->length > inode.size - offset) abort();
        if (run->where == Run::Where::index) {
          const auto bytes = index.bytes(run->position, run->length);
          if (bytes.size() != run->length) abort();
          touch({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        } else if (run->where == Run::Where::device && run->device >= index.devices().size()) {
          abort();
        }
        uint64_t position;
        for (const bool data : {false, true})
          if (index.seek(inode, offset, data, position) == 0 && (position < offset || position > inode.size)) abort();
      }
    }
  }
}

}  // namespace orca::fuzz
