#include "connection.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

namespace orca {

Connection::Connection(Descriptor descriptor) : descriptor_(std::move(descriptor)) {
  struct stat status;
  takesPages_ = fstat(descriptor_.get(), &status) == 0 && S_ISCHR(status.st_mode);
}

int Connection::send(uint64_t unique, int error, std::initializer_list<Bytes> payload) {
  fuse::OutHeader header{sizeof header, error, unique};
  std::array<iovec, 4> parts{{{&header, sizeof header}}};
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

void Connection::reply(uint64_t unique, std::initializer_list<Bytes> payload) { (void)send(unique, 0, payload); }

void Connection::replyError(uint64_t unique, int code) {
  if (code != ENOSYS && code != ENOENT && code != ENODATA) {
    const std::lock_guard lock(errorsMutex_);
    ++errors_[code];
  }
  (void)send(unique, -code, {});
}

int Connection::notify(fuse::Notify code, Bytes payload) { return send(0, code, {payload}); }

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

void PendingRead::expect() {
  const std::lock_guard lock(mutex_);
  ++missing_;
}

void PendingRead::release() {
  const std::lock_guard lock(mutex_);
  arrived();
}

void PendingRead::fill(size_t at, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  if (answered_) return;
  memcpy(reply_.data() + at, bytes.data(), bytes.size());
  arrived();
}

void PendingRead::fail(int code) {
  const std::lock_guard lock(mutex_);
  if (answered_) return;
  answered_ = true;
  connection_->replyError(unique, code);
  connection_->remove(unique);
  reply_ = {};
}

void PendingRead::arrived() {
  if (answered_ || --missing_ > 0) return;
  answered_ = true;
  connection_->counters.bytesRead += reply_.size();
  connection_->reply(unique, {Bytes(reply_)});
  // Only now: whoever closes the descriptor waits for every READ that is still listed.
  connection_->remove(unique);
  reply_ = {};
}

}  // namespace orca
