// Extended attributes: those of an inode follow it, those that many inodes have lie apart and are shared.
#include <array>

#include "erofs-index.h"

namespace orca {
namespace {

/// EROFS_XATTR_INDEX_*: what an entry's name lacks at its front.
constexpr std::array<std::string_view, 7> kPrefixes{
    "", "user.", "system.posix_acl_access", "system.posix_acl_default", "trusted.", "lustre.", "security."};

constexpr uint64_t align4(uint64_t value) { return (value + 3) / 4 * 4; }

}  // namespace

bool ErofsIndex::xattr(uint64_t& position, uint64_t end, uint8_t& index, std::string_view& name,
                       std::string_view& value) const {
  erofs::XattrEntry entry;
  if (position > end || sizeof entry > end - position || !load(position, entry)) return false;
  const uint64_t size = sizeof entry + entry.nameLength + entry.valueSize;
  if (size > end - position || bytes(position, size).size() != size) return false;
  const auto* text = reinterpret_cast<const char*>(image_.data() + position + sizeof entry);
  index = entry.nameIndex;
  name = {text, entry.nameLength};
  value = {text + entry.nameLength, entry.valueSize};
  position += align4(size);
  return true;
}

int ErofsIndex::xattrs(
    const Inode& inode,
    const std::function<bool(uint8_t index, std::string_view name, std::string_view value)>& visit) const {
  if (inode.xattrSize == 0) return 0;
  const uint64_t start = inode.position + inode.inodeSize;
  const uint64_t end = start + inode.xattrSize;
  erofs::XattrHeader header;
  if (!load(start, header)) return EIO;
  uint64_t position = start + sizeof header + 4u * header.sharedCount;
  if (position > end) return EIO;
  uint8_t index;
  std::string_view name, value;
  while (position < end) {
    if (!xattr(position, end, index, name, value)) return EIO;
    if (!visit(index, name, value)) return 0;
  }
  for (uint32_t i = 0; i < header.sharedCount; ++i) {
    uint32_t id;
    if (!load(start + sizeof header + 4u * i, id)) return EIO;
    uint64_t shared = xattrPosition_ + 4u * uint64_t{id};
    if (!xattr(shared, image_.size(), index, name, value)) return EIO;
    if (!visit(index, name, value)) return 0;
  }
  return 0;
}

int ErofsIndex::getxattr(const Inode& inode, std::string_view name, std::string_view& value) const {
  bool found = false;
  const int error = xattrs(inode, [&](uint8_t index, std::string_view rest, std::string_view bytes) {
    if (index == 0 || index >= kPrefixes.size()) return true;
    const auto prefix = kPrefixes[index];
    found = name.size() == prefix.size() + rest.size() && name.starts_with(prefix) && name.ends_with(rest);
    if (found) value = bytes;
    return !found;
  });
  return error != 0 ? error : found ? 0 : ENODATA;
}

int ErofsIndex::listxattr(const Inode& inode,
                          const std::function<void(std::string_view prefix, std::string_view rest)>& emit) const {
  return xattrs(inode, [&](uint8_t index, std::string_view rest, std::string_view) {
    if (index != 0 && index < kPrefixes.size()) emit(kPrefixes[index], rest);
    return true;
  });
}

}  // namespace orca
