#include "connection.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace orca {
namespace {

/// Of one reply: as many blocks as a READ asks for, for all but tiny ones.
constexpr size_t kMostParts = 16;

}  // namespace

Connection::Connection(Descriptor descriptor, bool splice) : descriptor_(std::move(descriptor)) {
  struct stat status;
  takesPages_ = splice && fstat(descriptor_.get(), &status) == 0 && S_ISCHR(status.st_mode);
}

int Connection::send(uint64_t unique, int error, std::span<const Bytes> payload) {
  fuse::OutHeader header{sizeof header, error, unique};
  std::array<iovec, kMostParts + 1> parts{{{&header, sizeof header}}};
  size_t count = 1;
  for (const Bytes part : payload) {
    parts[count++] = {const_cast<std::byte*>(part.data()), part.size()};
    header.len += static_cast<uint32_t>(part.size());
  }
  for (;;) {
    if (writev(descriptor_.get(), parts.data(), static_cast<int>(count)) >= 0) return 0;
    if (errno == EAGAIN) {
      // Only a socket is ever full.
      pollfd full{descriptor_.get(), POLLOUT, 0};
      if (poll(&full, 1, -1) >= 0 && (full.revents & (POLLERR | POLLHUP)) == 0) continue;
    } else if (errno == EINTR) {
      continue;
    }
    // ENOENT: whoever asked has gone. The rest means that the connection has ended, which the receiver sees too.
    return errno;
  }
}

void Connection::reply(uint64_t unique, std::span<const Bytes> payload) { (void)send(unique, 0, payload); }

void Connection::replyError(uint64_t unique, int code) {
  if (code != ENOSYS && code != ENOENT && code != ENODATA) {
    const std::lock_guard lock(errorsMutex_);
    ++errors_[code];
  }
  (void)send(unique, -code, {});
}

int Connection::notify(fuse::Notify code, Bytes payload) { return send(0, code, {&payload, 1}); }

void Connection::add(std::shared_ptr<PendingRead> read) {
  const std::lock_guard lock(mutex_);
  reads_[read->unique] = std::move(read);
}

void Connection::remove(uint64_t unique) {
  const std::lock_guard lock(mutex_);
  reads_.erase(unique);
}

std::shared_ptr<PendingRead> Connection::find(uint64_t unique) {
  const std::lock_guard lock(mutex_);
  const auto found = reads_.find(unique);
  return found == reads_.end() ? nullptr : found->second;
}

size_t Connection::waiting() {
  const std::lock_guard lock(mutex_);
  return reads_.size();
}

void Connection::end(int code) {
  std::unordered_map<uint64_t, std::shared_ptr<PendingRead>> reads;
  {
    const std::lock_guard lock(mutex_);
    reads = reads_;
  }
  for (const auto& [unique, read] : reads) read->fail(code);
  descriptor_.reset();
}

std::map<int, uint64_t> Connection::errors() {
  const std::lock_guard lock(errorsMutex_);
  return errors_;
}

void PendingRead::begin(Bytes reply) {
  reply_ = std::make_unique_for_overwrite<std::byte[]>(length_);
  memcpy(reply_.get(), reply.data(), reply.size());
}

void PendingRead::expect() {
  const std::lock_guard lock(mutex_);
  ++missing_;
}

void PendingRead::release() {
  const std::lock_guard lock(mutex_);
  if (answered_ || --missing_ > 0) return;
  const Bytes reply(reply_.get(), length_);
  answer({&reply, 1});
}

void PendingRead::fill(std::span<const Filling> pieces) {
  const std::lock_guard lock(mutex_);
  if (answered_) return;
  missing_ -= pieces.size();
  if (missing_ > 0 || !isWhole(pieces)) collect(pieces);
  if (missing_ > 0) return;
  if (reply_) {
    const Bytes reply(reply_.get(), length_);
    return answer({&reply, 1});
  }
  std::array<Bytes, kMostParts> parts;
  std::ranges::transform(pieces, parts.begin(), &Filling::bytes);
  answer(std::span(parts).first(pieces.size()));
}

bool PendingRead::isWhole(std::span<const Filling> pieces) const {
  if (reply_ || pieces.size() > kMostParts) return false;
  size_t at = 0;
  for (const Filling& piece : pieces) {
    if (piece.at != at) return false;
    at += piece.bytes.size();
  }
  return at == length_;
}

void PendingRead::collect(std::span<const Filling> pieces) {
  if (!reply_) reply_ = std::make_unique_for_overwrite<std::byte[]>(length_);
  for (const Filling& piece : pieces) memcpy(reply_.get() + piece.at, piece.bytes.data(), piece.bytes.size());
}

void PendingRead::fail(int code) {
  const std::lock_guard lock(mutex_);
  if (answered_) return;
  answered_ = true;
  connection_->replyError(unique, code);
  connection_->remove(unique);
  reply_.reset();
}

void PendingRead::answer(std::span<const Bytes> payload) {
  answered_ = true;
  connection_->counters.bytesRead += length_;
  connection_->reply(unique, payload);
  // Only now: whoever closes the descriptor waits for every READ that is still listed.
  connection_->remove(unique);
  reply_.reset();
}

}  // namespace orca
