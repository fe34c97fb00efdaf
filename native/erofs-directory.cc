// Directories: blocks of entries sorted by name, each block with its entries first and their names after them.
#include "erofs-index.h"

#include <algorithm>

namespace orca {

namespace {
constexpr uint32_t kEntrySize = sizeof(erofs::DirectoryEntry);
}

uint64_t ErofsIndex::directoryBlocks(const Inode& directory) const {
  return (directory.size >> blockBits_) + ((directory.size & (blockSize() - 1)) != 0);
}

bool ErofsIndex::directoryBlock(const Inode& directory, uint64_t number, DirectoryBlock& out) const {
  const uint64_t offset = number << blockBits_;
  const auto run = map(directory, offset, blockSize());
  if (!run || run->where != Run::Where::index) return false;
  if (run->length != std::min<uint64_t>(blockSize(), directory.size - offset)) return false;
  out.bytes = image_.subspan(run->position, run->length);
  erofs::DirectoryEntry first;
  if (out.bytes.size() < kEntrySize) return false;
  memcpy(&first, out.bytes.data(), kEntrySize);
  // The first name begins where the entries end.
  if (first.nameOffset < kEntrySize || first.nameOffset % kEntrySize != 0 || first.nameOffset >= out.bytes.size())
    return false;
  out.entries = first.nameOffset / kEntrySize;
  return true;
}

bool ErofsIndex::entry(const DirectoryBlock& block, uint32_t number, Entry& out) {
  erofs::DirectoryEntry raw;
  memcpy(&raw, block.bytes.data() + number * kEntrySize, kEntrySize);
  size_t end = block.bytes.size();
  const bool last = number + 1 == block.entries;
  if (!last) {
    erofs::DirectoryEntry next;
    memcpy(&next, block.bytes.data() + (number + 1) * kEntrySize, kEntrySize);
    end = next.nameOffset;
  }
  if (raw.nameOffset < block.entries * kEntrySize || end > block.bytes.size() || raw.nameOffset >= end) return false;
  const auto* text = reinterpret_cast<const char*>(block.bytes.data()) + raw.nameOffset;
  const size_t length = strnlen(text, end - raw.nameOffset);
  // Only the last name may be followed by zeros.
  if (length == 0 || length > 255 || (!last && length != end - raw.nameOffset)) return false;
  if (memchr(text, '/', length) != nullptr) return false;
  out = {raw.nid, raw.type, {text, length}};
  return true;
}

int ErofsIndex::lookup(const Inode& directory, std::string_view name, Entry& out) const {
  DirectoryBlock block;
  uint64_t low = 0;
  uint64_t high = directoryBlocks(directory);
  // The last block whose first name is not after `name`.
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (!directoryBlock(directory, middle, block) || !entry(block, 0, out)) return EIO;
    const int order = out.name.compare(name);
    if (order == 0) return 0;
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0) return ENOENT;
  if (!directoryBlock(directory, low - 1, block)) return EIO;
  uint32_t from = 1;
  uint32_t to = block.entries;
  while (from < to) {
    const uint32_t middle = from + (to - from) / 2;
    if (!entry(block, middle, out)) return EIO;
    const int order = out.name.compare(name);
    if (order == 0) return 0;
    if (order < 0)
      from = middle + 1;
    else
      to = middle;
  }
  return ENOENT;
}

int ErofsIndex::find(std::string_view path, Inode& out) const {
  if (!inode(rootNid_, out)) return EIO;
  if (path.empty()) return 0;
  for (size_t at = 0;;) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const auto name = path.substr(at, slash - at);
    if (name.empty() || name == "." || name == ".." || name.size() > 255) return EINVAL;
    if (!out.isDirectory()) return ENOTDIR;
    Entry entry;
    const int code = lookup(out, name, entry);
    if (code != 0) return code == ENOENT && slash < path.size() ? ENOTDIR : code;
    if (!inode(entry.nid, out)) return EIO;
    if (slash == path.size()) return 0;
    at = slash + 1;
  }
}

int ErofsIndex::readdir(const Inode& directory, uint64_t cookie,
                        const std::function<bool(const Entry&, uint64_t next)>& emit) const {
  const uint64_t blocks = directoryBlocks(directory);
  auto number = static_cast<uint32_t>((cookie & (blockSize() - 1)) / kEntrySize);
  for (uint64_t at = cookie >> blockBits_; at < blocks; ++at, number = 0) {
    DirectoryBlock block;
    if (!directoryBlock(directory, at, block)) return EIO;
    for (; number < block.entries; ++number) {
      Entry found;
      if (!entry(block, number, found)) return EIO;
      const uint64_t next =
          number + 1 < block.entries ? (at << blockBits_) + (number + 1) * kEntrySize : (at + 1) << blockBits_;
      if (!emit(found, next)) return 0;
    }
  }
  return 0;
}

}  // namespace orca
