#include "reply-pipe.h"

#include <fcntl.h>

#include <cerrno>

namespace orca {
namespace {

constexpr int kPipeBytes = 1 << 20;

}  // namespace

bool ReplyPipe::open() {
  if (in_) return true;
  if (refused_) return false;
  int ends[2];
  // Non-blocking: a reply that does not fit is a reply that is copied, not a thread that hangs.
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
    refused_ = true;
    return false;
  }
  out_ = Descriptor(ends[0]);
  in_ = Descriptor(ends[1]);
  if (fcntl(in_.get(), F_SETPIPE_SZ, kPipeBytes) >= kPipeBytes) return true;
  in_.reset();
  out_.reset();
  refused_ = true;
  return false;
}

bool ReplyPipe::begin(uint64_t unique, size_t length) {
  if (length > kMaxBytes || !open()) return false;
  const fuse::OutHeader header{static_cast<uint32_t>(sizeof(fuse::OutHeader) + length), 0, unique};
  length_ = header.len;
  return write(in_.get(), &header, sizeof header) == sizeof header;
}

bool ReplyPipe::add(int file, uint64_t offset, size_t length) {
  auto position = static_cast<off_t>(offset);
  while (length > 0) {
    const ssize_t count = splice(file, &position, in_.get(), nullptr, length, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    length -= static_cast<size_t>(count);
  }
  return true;
}

int ReplyPipe::send(int device) {
  // Without SPLICE_F_MOVE, which would take the pages away from the cache file: measured slower, and the next
  // reader would find them on the disk only.
  for (;;) {
    const ssize_t count = splice(out_.get(), nullptr, device, nullptr, length_, 0);
    if (count == static_cast<ssize_t>(length_)) {
      length_ = 0;
      return 0;
    }
    const int code = count < 0 ? errno : EIO;
    if (code == EINTR) continue;
    // Whether the kernel has emptied it depends on what went wrong.
    discard();
    return code;
  }
}

void ReplyPipe::discard() {
  if (length_ == 0) return;
  length_ = 0;
  in_.reset();
  out_.reset();
}

}  // namespace orca
