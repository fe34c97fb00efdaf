// The few system calls that Node lacks: mount, umount, flock, and mounting FUSE with or without privilege.
#pragma once

#include <string>

#include "descriptor.h"
#include "error.h"

namespace orca {

enum class LockKind { shared, exclusive, unlock };

struct FuseMount {
  std::string target;
  /// What /proc/mounts shows as the device.
  std::string source;
  bool allowOther = false;
  /// Honour setuid bits and file capabilities of the image.
  bool allowSuid = false;
};

Failure mountAt(const std::string& source, const std::string& target, const std::string& type,
                unsigned long flags, const std::string& data);

/// umount2(2); where that is not permitted, fusermount3, which lets users unmount what they mounted with it.
Failure unmount(const std::string& target, int flags);

/// flock(2) without waiting. `granted` is false when another holder is in the way.
Failure tryLock(int fd, LockKind kind, bool& granted);

/// Mounts read-only at `mount.target`: by mount(2) when permitted, otherwise by fusermount3.
Failure mountFuse(const FuseMount& mount, Descriptor& device);

/// Two connected SOCK_SEQPACKET sockets, each able to carry the largest FUSE message: a /dev/fuse for tests.
Failure socketPair(Descriptor& one, Descriptor& other);

}  // namespace orca
