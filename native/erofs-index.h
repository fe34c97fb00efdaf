// Reads an image index: the metadata of an uncompressed, possibly multi-device EROFS image in memory.
//
// Every access is checked against the bounds of the image, and every loop by the number of things that fit into it:
// a hostile image gives EIO, never a crash or a hang. Any number of threads may read at once.
#pragma once

#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "erofs-format.h"

namespace orca {

struct Inode {
  uint64_t nid;
  uint64_t size;
  int64_t mtime;
  uint32_t mtimeNsec;
  uint32_t uid;
  uint32_t gid;
  uint32_t nlink;
  /// By type: device number as the kernel's new_encode_dev() has it, first data block, or chunk format.
  uint32_t data;
  uint16_t mode;
  erofs::Layout layout;
  /// Offset in the image of the inode, and lengths of what follows it.
  uint64_t position;
  uint32_t inodeSize;
  uint32_t xattrSize;

  bool isDirectory() const { return (mode & 0170000) == 0040000; }
  bool isRegular() const { return (mode & 0170000) == 0100000; }
  bool isSymlink() const { return (mode & 0170000) == 0120000; }
  bool isDevice() const { return (mode & 0170000) == 0020000 || (mode & 0170000) == 0060000; }
};

/// Bytes of a file that lie side by side.
struct Run {
  enum class Where { hole, index, device } where;
  /// From 0; index of the device table.
  uint32_t device;
  /// Byte offset in the image index or the device.
  uint64_t position;
  uint64_t length;
};

struct Entry {
  uint64_t nid;
  /// EROFS_FT_*, which are the numbers of FS_IOC's file types: 1 regular, 2 directory, 3 char, …
  uint8_t type;
  std::string_view name;
};

struct Device {
  /// 0: not said (mkfs.erofs 1.5); whoever reads the device knows its length.
  uint64_t blocks;
  /// Where it begins in the address space of device 0; 0: nowhere.
  uint64_t mappedBlock;
};

class ErofsIndex {
 public:
  /// The largest image: its walk needs memory of 1/256 of it.
  static constexpr uint64_t kMaxBytes = uint64_t{4} << 30;

  /// Null, or why the image cannot be used. `image` must outlive the index.
  static const char* open(std::span<const std::byte> image, std::optional<ErofsIndex>& out);

  uint64_t rootNid() const { return rootNid_; }
  uint32_t blockSize() const { return 1u << blockBits_; }
  uint64_t blocks() const { return blocks_; }
  uint64_t inodes() const { return inodes_; }
  const std::vector<Device>& devices() const { return devices_; }
  /// All nids are less than this.
  uint64_t endNid() const { return (image_.size() - metaPosition_) / erofs::kSlotSize; }

  /// False when there is no valid inode.
  bool inode(uint64_t nid, Inode& out) const;

  /// The run at `offset`, which is less than the file's size, up to `length` bytes; nullopt when it is corrupt.
  std::optional<Run> map(const Inode& inode, uint64_t offset, uint64_t length) const;
  /// lseek(2) SEEK_DATA or SEEK_HOLE; 0, ENXIO or EIO.
  int seek(const Inode& inode, uint64_t offset, bool data, uint64_t& out) const;
  /// Null data when corrupt.
  std::string_view readlink(const Inode& inode) const;
  std::span<const std::byte> bytes(uint64_t position, uint64_t length) const;

  /// 0, ENOENT or EIO.
  int lookup(const Inode& directory, std::string_view name, Entry& out) const;
  /// The inode at a path below the root, which is empty itself; links are not followed. 0, ENOENT when only the last part
  /// is missing, ENOTDIR, EINVAL for what is no such path, or EIO.
  int find(std::string_view path, Inode& out) const;
  /// Calls `emit` for every entry from `cookie` on (0: the first) until it returns false. It gets the cookie of
  /// the next entry; cookies grow. 0 or EIO, which may come after some entries.
  int readdir(const Inode& directory, uint64_t cookie,
              const std::function<bool(const Entry&, uint64_t next)>& emit) const;

  /// 0, ENODATA or EIO.
  int getxattr(const Inode& inode, std::string_view name, std::string_view& value) const;
  /// Calls `emit` with the full name in two parts. 0 or EIO.
  int listxattr(const Inode& inode,
                const std::function<void(std::string_view prefix, std::string_view rest)>& emit) const;

  struct Survey {
    bool xattrs;
    bool acls;
  };
  /// Whether any inode has xattrs, and POSIX ACLs among them. True for both when the image is too odd to tell.
  Survey survey() const;

 private:
  struct DirectoryBlock {
    std::span<const std::byte> bytes;
    uint32_t entries;
  };

  ErofsIndex() = default;
  template <typename T>
  bool load(uint64_t position, T& out) const {
    if (position > image_.size() || sizeof(T) > image_.size() - position) return false;
    memcpy(&out, image_.data() + position, sizeof(T));
    return true;
  }
  std::optional<Run> locate(uint32_t device, uint64_t block, uint64_t offset, uint64_t length) const;
  /// Device (0: the image itself) and block of a chunk; kNullBlock is a hole.
  bool chunk(const Inode& inode, uint64_t number, uint32_t& device, uint32_t& block) const;
  uint32_t chunkBits(const Inode& inode) const { return blockBits_ + (inode.data & erofs::kChunkBitsMask); }
  uint64_t directoryBlocks(const Inode& directory) const;
  bool directoryBlock(const Inode& directory, uint64_t number, DirectoryBlock& out) const;
  static bool entry(const DirectoryBlock& block, uint32_t number, Entry& out);
  /// Calls `visit` until it returns false. 0 or EIO.
  int xattrs(const Inode& inode,
             const std::function<bool(uint8_t index, std::string_view name, std::string_view value)>& visit) const;
  /// Reads one xattr entry and advances `position`.
  bool xattr(uint64_t& position, uint64_t end, uint8_t& index, std::string_view& name, std::string_view& value) const;

  std::span<const std::byte> image_;
  uint32_t blockBits_ = 0;
  uint64_t rootNid_ = 0;
  uint64_t inodes_ = 0;
  uint64_t blocks_ = 0;
  uint64_t metaPosition_ = 0;
  uint64_t xattrPosition_ = 0;
  int64_t epoch_ = 0;
  uint32_t epochNsec_ = 0;
  uint32_t deviceMask_ = 0;
  bool mappedDevices_ = false;
  std::vector<Device> devices_;
};

}  // namespace orca
