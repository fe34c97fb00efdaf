#include "operations.h"

#include <unistd.h>

#include <algorithm>

namespace orca {

namespace {

/// READs in flight that nobody waits for (read-ahead): enough to keep a share busy at 512 KiB each.
constexpr uint16_t kMaxBackground = 64;

/// Copying so much takes longer than waking another thread to receive meanwhile, and copying it twice longer than
/// sending pages.
constexpr size_t kLongRead = 64 << 10;

/// Of the access log.
constexpr uint64_t kPage = 4096;

/// The NUL-terminated name at the front of `bytes`; empty when there is none.
std::string_view nameIn(Bytes bytes) {
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  const size_t length = strnlen(text, bytes.size());
  return length == bytes.size() ? std::string_view() : std::string_view(text, length);
}

}  // namespace

struct Operations {
  static void init(Server& server, const Request& request) {
    const auto in = request.argument<fuse::InitIn>();
    using namespace fuse;
    InitOut out{};
    out.major = kMajor;
    if (in.major > kMajor) {
      // The kernel then sends another INIT with our version.
      return server.connection_->reply(request.header.unique, {bytesOf(out)});
    }
    const uint64_t offered = in.flags | ((in.flags & INIT_EXT) != 0 ? uint64_t{in.flags2} << 32 : 0);
    constexpr uint64_t needed = NO_OPEN_SUPPORT | NO_OPENDIR_SUPPORT;
    if (in.major < kMajor || in.minor < kOldestMinor || (offered & needed) != needed)
      return server.error(request, EPROTO);
    // FUSE_READDIRPLUS_AUTO: measured on 30,000 files, `ls -lR` took 0.35 s, without READDIRPLUS 0.73 s; `find` took
    // 70 ms, with READDIRPLUS always 140 ms. Not FUSE_ASYNC_DIO: whoever waits for such a read cannot be killed.
    uint64_t wanted = needed | ASYNC_READ | EXPORT_SUPPORT | DO_READDIRPLUS | READDIRPLUS_AUTO | PARALLEL_DIROPS |
                      MAX_PAGES | CACHE_SYMLINKS | EXPLICIT_INVAL_DATA | INIT_EXT | HAS_RESEND | ALLOW_IDMAP;
    if (server.survey_.acls) wanted |= POSIX_ACL;
    const uint64_t flags = offered & wanted;
    out.minor = std::min(in.minor, kMinor);
    out.maxReadahead = std::min(in.maxReadahead, Server::kMaxRead);
    out.flags = static_cast<uint32_t>(flags);
    out.flags2 = static_cast<uint32_t>(flags >> 32);
    out.maxBackground = kMaxBackground;
    out.congestionThreshold = kMaxBackground * 3 / 4;
    out.maxWrite = 4096;
    out.timeGran = 1;
    out.maxPages = Server::kMaxRead / 4096;
    server.connection_->reply(request.header.unique, {bytesOf(out)});
  }

  static void lookup(Server& server, const Request& request) {
    const auto name = nameIn(request.body);
    if (name.empty()) return server.error(request, EINVAL);
    if (name.size() > 255) return server.error(request, ENAMETOOLONG);
    Inode inode;
    if (!server.inodeOf(request.header.nodeid, inode)) return server.error(request, ESTALE);
    fuse::EntryOut out{};
    if (name != ".") {
      if (!inode.isDirectory()) return server.error(request, ENOTDIR);
      Entry entry;
      const int code = server.index_.lookup(inode, name, entry);
      if (code == ENOENT) {
        // A nodeid of 0 says that the name does not exist, and lets the kernel remember that.
        if (server.logs(request)) server.accesses_->absent(inode.nid, name);
        out.entryValid = Server::kForever;
        return server.connection_->reply(request.header.unique, {bytesOf(out)});
      }
      if (code != 0) return server.error(request, EIO);
      if (server.logs(request)) server.accesses_->name(inode.nid, name, entry.nid);
      if (!server.index_.inode(entry.nid, inode)) return server.error(request, EIO);
    }
    out = server.entryOf(inode);
    server.connection_->reply(request.header.unique, {bytesOf(out)});
  }

  static void getattr(Server& server, const Request& request) {
    Inode inode;
    if (!server.inodeOf(request.header.nodeid, inode)) return server.error(request, ESTALE);
    fuse::AttrOut out{};
    out.attrValid = Server::kForever;
    out.attr = server.attributesOf(inode);
    server.connection_->reply(request.header.unique, {bytesOf(out)});
  }

  static void readlink(Server& server, const Request& request) {
    Inode inode;
    if (!server.inodeOf(request.header.nodeid, inode)) return server.error(request, ESTALE);
    if (!inode.isSymlink()) return server.error(request, EINVAL);
    if (server.logs(request)) server.accesses_->content(AccessKind::link, inode.nid);
    const auto target = server.index_.readlink(inode);
    if (target.empty()) return server.error(request, EIO);
    server.connection_->reply(request.header.unique, {std::as_bytes(std::span(target))});
  }

  static void readdir(Server& server, const Request& request) { server.directory(request, false); }
  static void readdirplus(Server& server, const Request& request) { server.directory(request, true); }

  static void read(Server& server, const Request& request) {
    const auto in = request.argument<fuse::ReadIn>();
    Inode inode;
    if (!server.inodeOf(request.header.nodeid, inode)) return server.error(request, ESTALE);
    if (!inode.isRegular()) return server.error(request, EINVAL);
    if (server.logs(request)) server.filesRead_->touch(0, inode.nid, 1);
    if (in.offset >= inode.size) return server.connection_->reply(request.header.unique);
    const auto length =
        static_cast<size_t>(std::min({uint64_t{in.size}, uint64_t{Server::kMaxRead}, inode.size - in.offset}));
    if (server.logs(request)) {
      const uint64_t first = in.offset / kPage;
      server.accesses_->content(AccessKind::pages, inode.nid, first, (in.offset + length - 1) / kPage - first + 1);
    }
    const auto reply = request.worker.buffer.span().first(length);
    std::vector<Server::Piece> absent;
    if (length >= kLongRead) {
      request.worker.handOver();
      if (server.sendPages(request, inode, in.offset, length)) return;
    }
    if (!server.gather(request, inode, in.offset, reply, absent)) return server.error(request, EIO);
    auto& counters = server.connection_->counters;
    if (!absent.empty()) {
      ++counters.readMisses;
      server.park(request, reply, absent, server.endOf(inode, in.offset + absent.back().at));
      return server.foresee(inode, in.offset, absent);
    }
    ++counters.readHits;
    counters.bytesRead += length;
    server.connection_->reply(request.header.unique, {Bytes(reply)});
  }

  static void lseek(Server& server, const Request& request) {
    const auto in = request.argument<fuse::LseekIn>();
    Inode inode;
    if (!server.inodeOf(request.header.nodeid, inode)) return server.error(request, ESTALE);
    if (!inode.isRegular() || (in.whence != SEEK_DATA && in.whence != SEEK_HOLE)) return server.error(request, EINVAL);
    fuse::LseekOut out{};
    if (const int code = server.index_.seek(inode, in.offset, in.whence == SEEK_DATA, out.offset); code != 0)
      return server.error(request, code);
    server.connection_->reply(request.header.unique, {bytesOf(out)});
  }

  static void getxattr(Server& server, const Request& request) {
    if (!server.survey_.xattrs) return server.error(request, ENOSYS);
    const auto in = request.argument<fuse::GetxattrIn>();
    const auto name = nameIn(request.body.subspan(sizeof in));
    if (name.empty()) return server.error(request, EINVAL);
    Inode inode;
    if (!server.inodeOf(request.header.nodeid, inode)) return server.error(request, ESTALE);
    std::string_view value;
    if (const int code = server.index_.getxattr(inode, name, value); code != 0) return server.error(request, code);
    sized(server, request, in.size, std::as_bytes(std::span(value)));
  }

  static void listxattr(Server& server, const Request& request) {
    if (!server.survey_.xattrs) return server.error(request, ENOSYS);
    Inode inode;
    if (!server.inodeOf(request.header.nodeid, inode)) return server.error(request, ESTALE);
    std::string names;
    const int code = server.index_.listxattr(inode, [&](std::string_view prefix, std::string_view rest) {
      // The names of trusted.* too, though other file systems show them to the superuser only: with FUSE_ALLOW_IDMAP
      // the kernel does not say who asks. It does keep the values from everybody else.
      names.append(prefix).append(rest).push_back('\0');
    });
    if (code != 0) return server.error(request, code);
    sized(server, request, request.argument<fuse::GetxattrIn>().size, std::as_bytes(std::span(names)));
  }

  /// The two ways of getxattr(2): with size 0 how long the value is, otherwise the value.
  static void sized(Server& server, const Request& request, uint32_t size, Bytes value) {
    if (size == 0) {
      const fuse::GetxattrOut out{static_cast<uint32_t>(value.size()), 0};
      return server.connection_->reply(request.header.unique, {bytesOf(out)});
    }
    if (value.size() > size) return server.error(request, ERANGE);
    server.connection_->reply(request.header.unique, {value});
  }

  static void statfs(Server& server, const Request& request) {
    fuse::StatfsOut out{};
    out.blocks = server.index_.blocks();
    for (const auto& device : server.index_.devices()) out.blocks += device.blocks;
    out.files = server.index_.inodes();
    out.bsize = out.frsize = server.index_.blockSize();
    out.namelen = 255;
    server.connection_->reply(request.header.unique, {bytesOf(out)});
  }

  static void interrupt(Server& server, const Request& request) {
    const auto in = request.argument<fuse::InterruptIn>();
    if (const auto read = server.connection_->find(in.unique)) return read->fail(EINTR);
    // Another thread has it in hand, or it was answered: EAGAIN makes the kernel look again, and forget it then.
    server.connection_->replyError(request.header.unique, EAGAIN);
  }

  static void nothing(Server&, const Request&) {}
  static void success(Server& server, const Request& request) { server.connection_->reply(request.header.unique); }
  static void unsupported(Server& server, const Request& request) { server.error(request, ENOSYS); }
  static void readOnly(Server& server, const Request& request) { server.error(request, EROFS); }
};

const Operation* operationOf(uint32_t opcode) {
  using namespace fuse;
  using O = Operations;
  struct Row {
    uint32_t opcode;
    Operation operation;
  };
  // ENOSYS makes the kernel stop asking: it then treats OPEN, OPENDIR, FLUSH and FSYNC as successful, and ACCESS and
  // STATX as answered by what it knows.
  static constexpr Row rows[]{
      {LOOKUP, {"LOOKUP", 1, O::lookup}},
      {FORGET, {"FORGET", 8, O::nothing, false}},
      {GETATTR, {"GETATTR", sizeof(GetattrIn), O::getattr}},
      {SETATTR, {"SETATTR", 0, O::readOnly}},
      {READLINK, {"READLINK", 0, O::readlink}},
      {SYMLINK, {"SYMLINK", 0, O::readOnly}},
      {MKNOD, {"MKNOD", 0, O::readOnly}},
      {MKDIR, {"MKDIR", 0, O::readOnly}},
      {UNLINK, {"UNLINK", 0, O::readOnly}},
      {RMDIR, {"RMDIR", 0, O::readOnly}},
      {RENAME, {"RENAME", 0, O::readOnly}},
      {LINK, {"LINK", 0, O::readOnly}},
      {OPEN, {"OPEN", 0, O::unsupported}},
      {READ, {"READ", sizeof(ReadIn), O::read}},
      {WRITE, {"WRITE", 0, O::readOnly}},
      {STATFS, {"STATFS", 0, O::statfs}},
      {RELEASE, {"RELEASE", 0, O::success}},
      {FSYNC, {"FSYNC", 0, O::unsupported}},
      {SETXATTR, {"SETXATTR", 0, O::readOnly}},
      {GETXATTR, {"GETXATTR", sizeof(GetxattrIn) + 1, O::getxattr}},
      {LISTXATTR, {"LISTXATTR", sizeof(GetxattrIn), O::listxattr}},
      {REMOVEXATTR, {"REMOVEXATTR", 0, O::readOnly}},
      {FLUSH, {"FLUSH", 0, O::unsupported}},
      {INIT, {"INIT", kInitInOldSize, O::init}},
      {OPENDIR, {"OPENDIR", 0, O::unsupported}},
      {READDIR, {"READDIR", sizeof(ReadIn), O::readdir}},
      {RELEASEDIR, {"RELEASEDIR", 0, O::success}},
      {FSYNCDIR, {"FSYNCDIR", 0, O::unsupported}},
      {GETLK, {"GETLK", 0, O::unsupported}},
      {SETLK, {"SETLK", 0, O::unsupported}},
      {SETLKW, {"SETLKW", 0, O::unsupported}},
      {ACCESS, {"ACCESS", 0, O::unsupported}},
      {CREATE, {"CREATE", 0, O::readOnly}},
      {INTERRUPT, {"INTERRUPT", sizeof(InterruptIn), O::interrupt, false}},
      {BMAP, {"BMAP", 0, O::unsupported}},
      {DESTROY, {"DESTROY", 0, O::success}},
      {IOCTL, {"IOCTL", 0, O::unsupported}},
      {POLL, {"POLL", 0, O::unsupported}},
      {NOTIFY_REPLY, {"NOTIFY_REPLY", 0, O::nothing, false}},
      {BATCH_FORGET, {"BATCH_FORGET", 8, O::nothing, false}},
      {FALLOCATE, {"FALLOCATE", 0, O::readOnly}},
      {READDIRPLUS, {"READDIRPLUS", sizeof(ReadIn), O::readdirplus}},
      {RENAME2, {"RENAME2", 0, O::readOnly}},
      {LSEEK, {"LSEEK", sizeof(LseekIn), O::lseek}},
      {COPY_FILE_RANGE, {"COPY_FILE_RANGE", 0, O::readOnly}},
      {SETUPMAPPING, {"SETUPMAPPING", 0, O::unsupported}},
      {REMOVEMAPPING, {"REMOVEMAPPING", 0, O::unsupported}},
      {SYNCFS, {"SYNCFS", 0, O::unsupported}},
      {TMPFILE, {"TMPFILE", 0, O::readOnly}},
      {STATX, {"STATX", 0, O::unsupported}},
      {COPY_FILE_RANGE_64, {"COPY_FILE_RANGE_64", 0, O::readOnly}},
  };
  static constexpr auto table = [] {
    std::array<const Operation*, kOpcodes> byOpcode{};
    for (const Row& row : rows) byOpcode[row.opcode] = &row.operation;
    return byOpcode;
  }();
  return opcode < table.size() ? table[opcode] : nullptr;
}

}  // namespace orca
