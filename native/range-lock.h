// An open-file-description lock (fcntl(2) F_OFD_SETLK) on a range of a file, released with its scope.
//
// Such locks belong to the open description: they exclude other processes and other openers of this process, not
// other threads that use the same descriptor.
#pragma once

#include <fcntl.h>

#include <cstdint>

#include "error.h"

namespace orca {

class RangeLock {
 public:
  RangeLock(int file, uint64_t first, uint64_t count) : file_(file), first_(first), count_(count) {}
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;
  ~RangeLock() {
    if (held_) release();
  }

  bool tryShared() { return held_ = apply(F_RDLCK, F_OFD_SETLK); }
  /// Also turns a shared lock of this description into an exclusive one; on failure that one stays.
  bool tryExclusive() {
    const bool granted = apply(F_WRLCK, F_OFD_SETLK);
    held_ |= granted;
    return granted;
  }
  /// Whether another description holds a lock on a part of the range; false when that cannot be known.
  bool held(bool& result) const {
    struct flock range = of(F_WRLCK);
    if (fcntl(file_, F_OFD_GETLK, &range) != 0) return false;
    result = range.l_type != F_UNLCK;
    return true;
  }
  /// Waits for an exclusive lock.
  Failure wait() {
    while (!(held_ = apply(F_WRLCK, F_OFD_SETLKW)))
      if (errno != EINTR) return failed("fcntl");
    return {};
  }
  /// Lets the lock outlive this object, until the description is closed or the range unlocked.
  void keep() { held_ = false; }
  void release() {
    held_ = false;
    apply(F_UNLCK, F_OFD_SETLK);
  }

 private:
  struct flock of(short type) const {
    struct flock range {};
    range.l_type = type;
    range.l_whence = SEEK_SET;
    range.l_start = static_cast<off_t>(first_);
    range.l_len = static_cast<off_t>(count_);
    return range;
  }
  bool apply(short type, int command) {
    struct flock range = of(type);
    return fcntl(file_, command, &range) == 0;
  }

  int file_;
  uint64_t first_;
  uint64_t count_;
  bool held_ = false;
};

}  // namespace orca
