// On-disk structures of EROFS (fs/erofs/erofs_fs.h, Documentation/filesystems/erofs.rst), as far as an image
// without compression uses them. Integers are little-endian, and so must the host be.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace orca::erofs {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kSuperblockOffset = 1024;
constexpr uint32_t kMagic = 0xe0f5e1e2;
/// A nid counts slots of this many bytes from the metadata's first block.
constexpr uint64_t kSlotSize = 32;
constexpr uint32_t kNullBlock = 0xffffffff;

enum Incompatible : uint32_t {
  /// Set by mkfs.erofs even where nothing is compressed.
  ZERO_PADDING = 1 << 0,
  CHUNKED_FILE = 1 << 2,
  DEVICE_TABLE = 1 << 3,
};

struct Superblock {
  uint32_t magic;
  uint32_t checksum;
  uint32_t featureCompat;
  uint8_t blockBits;
  uint8_t extraSlots;
  uint16_t rootNid;
  uint64_t inodes;
  uint64_t epoch;
  uint32_t fixedNsec;
  uint32_t blocks;
  uint32_t metaBlock;
  uint32_t xattrBlock;
  uint8_t uuid[16];
  uint8_t volumeName[16];
  uint32_t featureIncompat;
  uint16_t compression;
  uint16_t extraDevices;
  uint16_t deviceSlot;
  uint8_t directoryBlockBits;
  uint8_t xattrPrefixCount;
  uint32_t xattrPrefixStart;
  uint64_t packedNid;
  uint8_t reserved[24];
};
static_assert(sizeof(Superblock) == 128);

struct DeviceSlot {
  uint8_t tag[64];
  uint32_t blocks;
  /// Where the device begins in the address space of device 0; 0: nowhere.
  uint32_t mappedBlock;
  uint8_t reserved[56];
};
static_assert(sizeof(DeviceSlot) == 128);

enum class Layout : uint8_t { flatPlain = 0, compressedFull = 1, flatInline = 2, compressedCompact = 3, chunked = 4 };

struct CompactInode {
  uint16_t format;
  uint16_t xattrCount;
  uint16_t mode;
  uint16_t nlink;
  uint32_t size;
  uint32_t reserved;
  uint32_t data;
  uint32_t ino;
  uint16_t uid;
  uint16_t gid;
  uint32_t reserved2;
};
static_assert(sizeof(CompactInode) == 32);

struct ExtendedInode {
  uint16_t format;
  uint16_t xattrCount;
  uint16_t mode;
  uint16_t reserved;
  uint64_t size;
  uint32_t data;
  uint32_t ino;
  uint32_t uid;
  uint32_t gid;
  int64_t mtime;
  uint32_t mtimeNsec;
  uint32_t nlink;
  uint8_t reserved2[16];
};
static_assert(sizeof(ExtendedInode) == 64);

/// Chunk format, the low half of `data` of a chunked inode.
constexpr uint32_t kChunkBitsMask = 0x1f;
constexpr uint32_t kChunkIndexes = 0x20;

struct ChunkIndex {
  uint16_t advise;
  uint16_t device;
  uint32_t block;
};
static_assert(sizeof(ChunkIndex) == 8);

struct DirectoryEntry {
  uint64_t nid;
  uint16_t nameOffset;
  uint8_t type;
  uint8_t reserved;
} __attribute__((packed));
static_assert(sizeof(DirectoryEntry) == 12);

struct XattrHeader {
  uint32_t nameFilter;
  uint8_t sharedCount;
  uint8_t reserved[7];
};
static_assert(sizeof(XattrHeader) == 12);

struct XattrEntry {
  uint8_t nameLength;
  uint8_t nameIndex;
  uint16_t valueSize;
};
static_assert(sizeof(XattrEntry) == 4);

}  // namespace orca::erofs
