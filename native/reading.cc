// The two requests with long replies: READ, and READDIR with or without attributes.
#include <algorithm>

#include "server.h"

namespace orca {
namespace {

/// File types of EROFS directory entries as readdir(3) numbers them (DT_*).
constexpr std::array<uint8_t, 8> kDirentTypes{0, 8, 4, 2, 6, 1, 12, 10};

}  // namespace

void Server::directory(const Request& request, bool plus) {
  const auto in = request.argument<fuse::ReadIn>();
  Inode inode;
  if (!inodeOf(request.header.nodeid, inode)) return error(request, ESTALE);
  if (!inode.isDirectory()) return error(request, ENOTDIR);
  if (in.offset == 0 && logs(request)) accesses_->content(AccessKind::listing, inode.nid);
  const auto reply = request.worker.buffer.span().first(std::min(in.size, kMaxRead));
  size_t used = 0;
  const int code = index_.readdir(inode, in.offset, [&](const Entry& entry, uint64_t next) {
    const size_t head = (plus ? sizeof(fuse::EntryOut) : 0) + sizeof(fuse::Dirent);
    const size_t size =
        (head + entry.name.size() + fuse::kDirentAlignment - 1) / fuse::kDirentAlignment * fuse::kDirentAlignment;
    if (size > reply.size() - used) return false;
    std::byte* at = reply.data() + used;
    memset(at, 0, size);
    if (plus) {
      // A nodeid of 0 says that no attributes are given: the kernel wants none for these two, and a bad inode is
      // an error for whoever looks it up.
      Inode child;
      if (entry.name != "." && entry.name != ".." && index_.inode(entry.nid, child)) {
        const auto out = entryOf(child);
        memcpy(at, &out, sizeof out);
      }
      at += sizeof(fuse::EntryOut);
    }
    const fuse::Dirent dirent{nodeidOf(entry.nid), next, static_cast<uint32_t>(entry.name.size()),
                              entry.type < kDirentTypes.size() ? kDirentTypes[entry.type] : 0u};
    memcpy(at, &dirent, sizeof dirent);
    memcpy(at + sizeof dirent, entry.name.data(), entry.name.size());
    used += size;
    return true;
  });
  if (code != 0 && used == 0) return error(request, code);
  connection_->reply(request.header.unique, {Bytes(reply.first(used))});
}

bool Server::sendPages(const Request& request, const Inode& inode, uint64_t offset, size_t length) {
  if (!connection_->takesPages()) return false;
  const auto run = index_.map(inode, offset, length);
  if (!run || run->where != Run::Where::device || run->length != length) return false;
  auto& pipe = request.worker.pipe;
  auto& counters = connection_->counters;
  auto& file = *files_[run->device];
  if (run->position > file.size() || run->length > file.size() - run->position) return false;
  const uint64_t first = run->position / file.blockSize();
  if (logs(request))
    touches_->touch(run->device, first, (run->position + run->length - 1) / file.blockSize() - first + 1);
  bool sent = false;
  (void)file.hold(
      run->position, length,
      [&](int data) { return pipe.begin(request.header.unique, length) && pipe.add(data, run->position, length); },
      [&] {
        // Before the reply, since whoever asked may look at them right after it.
        ++counters.readHits;
        counters.bytesRead += length;
        const int code = pipe.send(connection_->descriptor());
        // ENOENT: whoever asked has gone.
        sent = code == 0 || code == ENOENT;
        if (sent) return true;
        --counters.readHits;
        counters.bytesRead -= length;
        return false;
      });
  // What is left of one that was not sent must not go before the next.
  if (!sent) pipe.discard();
  return sent;
}

bool Server::gather(const Request& request, const Inode& inode, uint64_t offset, std::span<std::byte> into,
                    std::vector<Piece>& absent) {
  const Worker& worker = request.worker;
  for (size_t done = 0; done < into.size();) {
    const auto run = index_.map(inode, offset + done, into.size() - done);
    if (!run || run->length == 0) return false;
    const auto part = into.subspan(done, run->length);
    switch (run->where) {
      case Run::Where::hole:
        memset(part.data(), 0, part.size());
        break;
      case Run::Where::index:
        memcpy(part.data(), index_.bytes(run->position, run->length).data(), part.size());
        break;
      case Run::Where::device: {
        auto& file = *files_[run->device];
        if (run->position > file.size() || run->length > file.size() - run->position) return false;
        const uint64_t first = run->position / file.blockSize();
        if (logs(request))
          touches_->touch(run->device, first, (run->position + run->length - 1) / file.blockSize() - first + 1);
        if (file.read(run->position, part, worker.handOver)) break;
        // Not all of it is present: block by block.
        for (size_t within = 0; within < part.size();) {
          const uint64_t position = run->position + within;
          const uint64_t block = position / file.blockSize();
          const auto from = static_cast<size_t>(position % file.blockSize());
          const size_t length = std::min<size_t>(file.blockSize() - from, part.size() - within);
          if (!file.read(position, part.subspan(within, length), worker.handOver))
            absent.push_back({run->device, block, done + within, from, length});
          within += length;
        }
      }
    }
    done += part.size();
  }
  return true;
}

void Server::park(const Request& request, Bytes reply, const std::vector<Piece>& absent, uint64_t end) {
  const auto read = std::make_shared<PendingRead>(connection_, request.header.unique, reply.size());
  size_t awaited = 0;
  for (const Piece& piece : absent) awaited += piece.length;
  if (awaited < reply.size()) read->begin(reply);
  connection_->add(read);
  std::vector<std::byte> bytes;
  struct {
    uint32_t device;
    uint64_t first;
    uint64_t count;
  } asked{0, 0, 0};
  const auto tell = [&] {
    if (asked.count > 0) onMiss_(asked.device, asked.first, asked.count, end);
    asked.count = 0;
  };
  for (const Piece& piece : absent) {
    auto& file = *files_[piece.device];
    read->expect();
    for (bool again = true; again;) {
      again = false;
      const Want want{read, shared_from_this(), piece.device, piece.at, piece.offset, piece.length};
      switch (file.want(piece.block, want)) {
        case BlockFile::Answer::filled:
        case BlockFile::Answer::joined:
          break;
        case BlockFile::Answer::asked:
          if (asked.device != piece.device || asked.first + asked.count != piece.block) tell();
          if (asked.count == 0) asked = {piece.device, piece.block, 0};
          ++asked.count;
          break;
        case BlockFile::Answer::present:
          bytes.resize(piece.length);
          if (file.read(piece.block * file.blockSize() + piece.offset, bytes))
            read->fill(std::array{Filling{piece.at, bytes}});
          else
            again = true;
          break;
        case BlockFile::Answer::closed:
          read->fail(EIO);
      }
    }
  }
  tell();
  read->release();
}

}  // namespace orca
