// The part of the kernel's FUSE protocol (linux/fuse.h, Documentation/filesystems/fuse) that a read-only file system
// needs. Declared here and not included, because the header of the machine that builds may be older than the kernel
// that runs. Integers are in host order.
#pragma once

#include <cstdint>

namespace orca::fuse {

constexpr uint32_t kMajor = 7;
/// What we speak: 7.40 brought FUSE_NOTIFY_RESEND (Linux 6.9).
constexpr uint32_t kMinor = 40;
/// 7.29 brought FUSE_NO_OPENDIR_SUPPORT (Linux 5.1), without which directories would need handles.
constexpr uint32_t kOldestMinor = 29;

constexpr uint64_t kRootId = 1;
/// Bit 63 of `unique`: the request was sent before, to a server that may have died. It stays in the reply.
constexpr uint64_t kUniqueResend = uint64_t{1} << 63;

enum Opcode : uint32_t {
  LOOKUP = 1,
  FORGET = 2,
  GETATTR = 3,
  SETATTR = 4,
  READLINK = 5,
  SYMLINK = 6,
  MKNOD = 8,
  MKDIR = 9,
  UNLINK = 10,
  RMDIR = 11,
  RENAME = 12,
  LINK = 13,
  OPEN = 14,
  READ = 15,
  WRITE = 16,
  STATFS = 17,
  RELEASE = 18,
  FSYNC = 20,
  SETXATTR = 21,
  GETXATTR = 22,
  LISTXATTR = 23,
  REMOVEXATTR = 24,
  FLUSH = 25,
  INIT = 26,
  OPENDIR = 27,
  READDIR = 28,
  RELEASEDIR = 29,
  FSYNCDIR = 30,
  GETLK = 31,
  SETLK = 32,
  SETLKW = 33,
  ACCESS = 34,
  CREATE = 35,
  INTERRUPT = 36,
  BMAP = 37,
  DESTROY = 38,
  IOCTL = 39,
  POLL = 40,
  NOTIFY_REPLY = 41,
  BATCH_FORGET = 42,
  FALLOCATE = 43,
  READDIRPLUS = 44,
  RENAME2 = 45,
  LSEEK = 46,
  COPY_FILE_RANGE = 47,
  SETUPMAPPING = 48,
  REMOVEMAPPING = 49,
  SYNCFS = 50,
  TMPFILE = 51,
  STATX = 52,
  COPY_FILE_RANGE_64 = 53,
};

/// Flags of INIT, both halves (`flags` and `flags2`) as one number.
enum InitFlag : uint64_t {
  ASYNC_READ = 1ull << 0,
  EXPORT_SUPPORT = 1ull << 4,
  DO_READDIRPLUS = 1ull << 13,
  READDIRPLUS_AUTO = 1ull << 14,
  NO_OPEN_SUPPORT = 1ull << 17,
  PARALLEL_DIROPS = 1ull << 18,
  POSIX_ACL = 1ull << 20,
  MAX_PAGES = 1ull << 22,
  CACHE_SYMLINKS = 1ull << 23,
  NO_OPENDIR_SUPPORT = 1ull << 24,
  EXPLICIT_INVAL_DATA = 1ull << 25,
  INIT_EXT = 1ull << 30,
  HAS_RESEND = 1ull << 39,
  ALLOW_IDMAP = 1ull << 40,
};

enum Notify : int32_t { NOTIFY_RESEND = 7 };

struct InHeader {
  uint32_t len;
  uint32_t opcode;
  uint64_t unique;
  uint64_t nodeid;
  uint32_t uid;
  uint32_t gid;
  uint32_t pid;
  uint16_t totalExtlen;
  uint16_t padding;
};
static_assert(sizeof(InHeader) == 40);

struct OutHeader {
  uint32_t len;
  int32_t error;
  uint64_t unique;
};
static_assert(sizeof(OutHeader) == 16);

struct Attr {
  uint64_t ino;
  uint64_t size;
  uint64_t blocks;
  int64_t atime;
  int64_t mtime;
  int64_t ctime;
  uint32_t atimensec;
  uint32_t mtimensec;
  uint32_t ctimensec;
  uint32_t mode;
  uint32_t nlink;
  uint32_t uid;
  uint32_t gid;
  uint32_t rdev;
  uint32_t blksize;
  uint32_t flags;
};
static_assert(sizeof(Attr) == 88);

struct EntryOut {
  uint64_t nodeid;
  uint64_t generation;
  uint64_t entryValid;
  uint64_t attrValid;
  uint32_t entryValidNsec;
  uint32_t attrValidNsec;
  Attr attr;
};
static_assert(sizeof(EntryOut) == 128);

struct AttrOut {
  uint64_t attrValid;
  uint32_t attrValidNsec;
  uint32_t dummy;
  Attr attr;
};
static_assert(sizeof(AttrOut) == 104);

struct GetattrIn {
  uint32_t getattrFlags;
  uint32_t dummy;
  uint64_t fh;
};
static_assert(sizeof(GetattrIn) == 16);

/// Up to 7.35 the kernel sends only the first four members.
struct InitIn {
  uint32_t major;
  uint32_t minor;
  uint32_t maxReadahead;
  uint32_t flags;
  uint32_t flags2;
  uint32_t unused[11];
};
static_assert(sizeof(InitIn) == 64);
constexpr uint32_t kInitInOldSize = 16;

struct InitOut {
  uint32_t major;
  uint32_t minor;
  uint32_t maxReadahead;
  uint32_t flags;
  uint16_t maxBackground;
  uint16_t congestionThreshold;
  uint32_t maxWrite;
  uint32_t timeGran;
  uint16_t maxPages;
  uint16_t mapAlignment;
  uint32_t flags2;
  uint32_t unused[7];
};
static_assert(sizeof(InitOut) == 64);

struct ReadIn {
  uint64_t fh;
  uint64_t offset;
  uint32_t size;
  uint32_t readFlags;
  uint64_t lockOwner;
  uint32_t flags;
  uint32_t padding;
};
static_assert(sizeof(ReadIn) == 40);

struct Dirent {
  uint64_t ino;
  uint64_t off;
  uint32_t namelen;
  uint32_t type;
};
static_assert(sizeof(Dirent) == 24);
constexpr uint32_t kDirentAlignment = 8;

struct GetxattrIn {
  uint32_t size;
  uint32_t padding;
};
static_assert(sizeof(GetxattrIn) == 8);

struct GetxattrOut {
  uint32_t size;
  uint32_t padding;
};
static_assert(sizeof(GetxattrOut) == 8);

struct LseekIn {
  uint64_t fh;
  uint64_t offset;
  uint32_t whence;
  uint32_t padding;
};
static_assert(sizeof(LseekIn) == 24);

struct LseekOut {
  uint64_t offset;
};
static_assert(sizeof(LseekOut) == 8);

struct InterruptIn {
  uint64_t unique;
};
static_assert(sizeof(InterruptIn) == 8);

struct StatfsOut {
  uint64_t blocks;
  uint64_t bfree;
  uint64_t bavail;
  uint64_t files;
  uint64_t ffree;
  uint32_t bsize;
  uint32_t namelen;
  uint32_t frsize;
  uint32_t padding;
  uint32_t spare[6];
};
static_assert(sizeof(StatfsOut) == 80);

}  // namespace orca::fuse
