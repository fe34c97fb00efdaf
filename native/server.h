// Answers FUSE requests from an image index and the block files of its devices. Knows nothing of threads or of
// JavaScript: `handle` is called by any number of threads, and never waits for a block.
#pragma once

#include <atomic>
#include <functional>

#include "access-log.h"
#include "connection.h"
#include "erofs-index.h"
#include "page-buffer.h"
#include "reply-pipe.h"
#include "touch-log.h"

namespace orca {

/// What one serving thread brings along.
struct Worker {
  /// Lets another thread receive, before something that takes long.
  std::function<void()> handOver = [] {};
  /// For replies that are put together here; as long as the longest.
  PageBuffer buffer{ReplyPipe::kMaxBytes};
  /// For those that are in one piece of a cache file.
  ReplyPipe pipe;
};

struct Request {
  const fuse::InHeader& header;
  /// What follows the header: at least the size that the opcode's table row says.
  Bytes body;
  Worker& worker;

  template <typename T>
  T argument() const {
    T value{};
    memcpy(&value, body.data(), std::min(sizeof value, body.size()));
    return value;
  }
};

class Server : public MissSink, public std::enable_shared_from_this<Server> {
 public:
  /// The longest READ. Half of the read-ahead that mounts are given, so that two are under way.
  static constexpr uint32_t kMaxRead = ReplyPipe::kMaxBytes;
  /// Seconds that the kernel may believe an answer: an image never changes.
  static constexpr uint64_t kForever = 1u << 30;
  /// `end`: the block after the last one of the file, as far as it lies there in one piece; 0 where that says nothing of
  /// how far a reader goes.
  using MissFunction = std::function<void(uint32_t device, uint64_t firstBlock, uint64_t count, uint64_t end)>;
  using LikelyFunction = std::function<void(uint32_t device, uint64_t firstBlock, uint64_t count)>;

  /// `onLikely` is told of absent blocks that nobody has asked for and somebody is likely to; it may be empty.
  Server(ErofsIndex index, std::vector<std::shared_ptr<BlockFile>> files, std::shared_ptr<Connection> connection,
         MissFunction onMiss, LikelyFunction onLikely = nullptr);

  /// Looks at the whole index, to know what need not be asked again. Before the first request.
  void survey();
  /// Handles one message, as read from the descriptor. Anything may stand in it.
  void handle(Bytes message, Worker& worker);
  void miss(uint32_t device, uint64_t firstBlock, uint64_t count) override { onMiss_(device, firstBlock, count, 0); }
  /// No READ waits any more: what was asked for others' sake is asked by them.
  void abandon();

  /// Outlives the server.
  std::shared_ptr<TouchLog> touches() const { return touches_; }
  std::shared_ptr<AccessLog> accesses() const { return accesses_; }
  const ErofsIndex& index() const { return index_; }
  const std::vector<std::shared_ptr<BlockFile>>& files() const { return files_; }
  /// What this thread asks for is asked for ahead, and not logged.
  void preloadedBy(uint32_t thread) { preloader_ = thread; }
  /// Likewise, with files as the blocks of one device: nids.
  std::shared_ptr<TouchLog> filesRead() const { return filesRead_; }

  static const char* nameOf(size_t opcode);

 private:
  friend struct Operations;

  struct Piece {
    uint32_t device;
    uint64_t block;
    size_t at;
    size_t offset;
    size_t length;
  };

  bool inodeOf(uint64_t nodeid, Inode& out) const;
  uint64_t nodeidOf(uint64_t nid) const { return nid == index_.rootNid() ? fuse::kRootId : nid + 2; }
  fuse::Attr attributesOf(const Inode& inode) const;
  fuse::EntryOut entryOf(const Inode& inode) const;
  bool logs(const Request& request) const { return request.header.pid != preloader_; }
  void error(const Request& request, int code) { connection_->replyError(request.header.unique, code); }
  void directory(const Request& request, bool plus);
  /// Answers a READ with pages of a cache file, when all of it lies there in one piece; false when nobody was answered.
  bool sendPages(const Request& request, const Inode& inode, uint64_t offset, size_t length);
  /// Fills `into` from what is here and lists what is not; false when the image is corrupt.
  bool gather(const Request& request, const Inode& inode, uint64_t offset, std::span<std::byte> into,
              std::vector<Piece>& absent);
  void park(const Request& request, Bytes reply, const std::vector<Piece>& absent, uint64_t end);
  /// The block after the last one of the file, counted in the device of the piece that lies at `offset`; 0 as in
  /// MissFunction.
  uint64_t endOf(const Inode& inode, uint64_t offset) const;
  /// After a READ that has to wait for these.
  void foresee(const Inode& inode, uint64_t offset, const std::vector<Piece>& absent);

  const ErofsIndex index_;
  const std::vector<std::shared_ptr<BlockFile>> files_;
  const std::shared_ptr<Connection> connection_;
  const MissFunction onMiss_;
  const LikelyFunction onLikely_;
  const std::shared_ptr<TouchLog> touches_;
  const std::shared_ptr<AccessLog> accesses_;
  /// At first the id of nobody; 0 is that of whoever is in a pid namespace that is not seen from here.
  std::atomic<uint32_t> preloader_ = UINT32_MAX;
  const std::shared_ptr<TouchLog> filesRead_;
  ErofsIndex::Survey survey_{true, true};
};

}  // namespace orca
