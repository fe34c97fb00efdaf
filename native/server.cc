#include "server.h"

#include <array>

#include "operations.h"

namespace orca {
namespace {

std::vector<uint64_t> blocksOf(const std::vector<std::shared_ptr<BlockFile>>& files) {
  std::vector<uint64_t> blocks;
  for (const auto& file : files) blocks.push_back(file->blocks());
  return blocks;
}

}  // namespace

Server::Server(ErofsIndex index, std::vector<std::shared_ptr<BlockFile>> files, std::shared_ptr<Connection> connection,
               MissFunction onMiss, LikelyFunction onLikely)
    : index_(std::move(index)),
      files_(std::move(files)),
      connection_(std::move(connection)),
      onMiss_(std::move(onMiss)),
      onLikely_(std::move(onLikely)),
      touches_(std::make_shared<TouchLog>(blocksOf(files_))),
      accesses_(std::make_shared<AccessLog>(index_.rootNid())),
      filesRead_(std::make_shared<TouchLog>(std::array{index_.endNid()})) {}

void Server::survey() { survey_ = index_.survey(); }

void Server::handle(Bytes message, Worker& worker) {
  fuse::InHeader header;
  // Without a whole header there is nobody to answer.
  if (message.size() < sizeof header) return;
  memcpy(&header, message.data(), sizeof header);
  const Operation* operation = operationOf(header.opcode);
  ++connection_->counters.requests[operation == nullptr ? 0 : header.opcode];
  const Request request{header, message.subspan(sizeof header), worker};
  if (operation == nullptr) return error(request, ENOSYS);
  if (header.len != message.size() || request.body.size() < operation->minimum) {
    if (operation->answered) error(request, EINVAL);
    return;
  }
  operation->function(*this, request);
}

const char* Server::nameOf(size_t opcode) {
  const Operation* operation = operationOf(static_cast<uint32_t>(opcode));
  return operation == nullptr ? "UNKNOWN" : operation->name;
}

void Server::abandon() {
  for (const auto& file : files_) file->abandon(this);
}

bool Server::inodeOf(uint64_t nodeid, Inode& out) const {
  if (nodeid == fuse::kRootId) return index_.inode(index_.rootNid(), out);
  return nodeid >= 2 && index_.inode(nodeid - 2, out);
}

fuse::Attr Server::attributesOf(const Inode& inode) const {
  fuse::Attr attributes{};
  attributes.ino = nodeidOf(inode.nid);
  attributes.size = inode.isDevice() ? 0 : inode.size;
  const uint64_t blockSize = index_.blockSize();
  attributes.blocks = (attributes.size + blockSize - 1) / blockSize * (blockSize / 512);
  attributes.atime = attributes.mtime = attributes.ctime = inode.mtime;
  attributes.atimensec = attributes.mtimensec = attributes.ctimensec = inode.mtimeNsec;
  attributes.mode = inode.mode;
  attributes.nlink = inode.nlink;
  attributes.uid = inode.uid;
  attributes.gid = inode.gid;
  attributes.rdev = inode.isDevice() ? inode.data : 0;
  attributes.blksize = static_cast<uint32_t>(blockSize);
  return attributes;
}

fuse::EntryOut Server::entryOf(const Inode& inode) const {
  fuse::EntryOut entry{};
  entry.nodeid = nodeidOf(inode.nid);
  entry.entryValid = entry.attrValid = kForever;
  entry.attr = attributesOf(inode);
  return entry;
}

}  // namespace orca
