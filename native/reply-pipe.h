// A reply to READ on its way from a cache file to /dev/fuse by reference: the pipe holds pages of the page cache, which
// the kernel copies once, into the pages of whoever reads the mount.
//
// pread(2) and writev(2) would copy twice, and the buffer between them is larger than a core's cache.
#pragma once

#include <cstdint>

#include "descriptor.h"
#include "protocol.h"

namespace orca {

/// Belongs to one thread.
class ReplyPipe {
 public:
  /// The longest reply that it takes. A pipe of 1 MiB, which every user may have (fs.pipe-max-size), holds 256 pieces
  /// of a page or less; the header is one, and data that begin in the middle of a page touch one page more.
  static constexpr size_t kMaxBytes = 512 << 10;

  /// Puts in the header of a reply with `length` bytes of data. False when no pipe is to be had. What is begun and not
  /// sent must be discarded.
  bool begin(uint64_t unique, size_t length);
  /// Puts in bytes of a file; false when the file has less.
  bool add(int file, uint64_t offset, size_t length);
  /// Sends what is in it; 0 or an errno, and the pipe is empty in either case.
  int send(int device);
  /// Empties the pipe.
  void discard();

 private:
  bool open();

  Descriptor in_;
  Descriptor out_;
  /// Of the reply that is begun; 0 when there is none.
  size_t length_ = 0;
  /// The user has no more pipes of that size: not tried again.
  bool refused_ = false;
};

}  // namespace orca
