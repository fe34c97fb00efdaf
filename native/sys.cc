#include "sys.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "fusermount.h"

namespace orca {
namespace {

/// fusermount3 splits its options at commas; a backslash makes one part of the name.
std::string escapeOption(const std::string& value) {
  std::string escaped;
  for (const char c : value) {
    if (c == ',' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

Failure mountByKernel(const FuseMount& mount, Descriptor& device) {
  Descriptor fd(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fd) return failed("open", "/dev/fuse");
  std::string options = "fd=" + std::to_string(fd.get()) + ",rootmode=40000,user_id=0,group_id=0,default_permissions";
  if (mount.allowOther) options += ",allow_other";
  // What lies in an image is foreign: its device nodes never work on the host, its setuid bits only when asked.
  // A container's overlay over this mount does not inherit these flags.
  unsigned long flags = MS_RDONLY | MS_NODEV | MS_NOATIME;
  if (!mount.allowSuid) flags |= MS_NOSUID;
  if (auto failure = mountAt(mount.source, mount.target, "fuse.orca", flags, options)) return failure;
  device = std::move(fd);
  return {};
}

}  // namespace

Failure mountAt(const std::string& source, const std::string& target, const std::string& type,
                unsigned long flags, const std::string& data) {
  if (mount(source.c_str(), target.c_str(), type.c_str(), flags, data.empty() ? nullptr : data.c_str()) < 0)
    return failed("mount", target);
  return {};
}

Failure unmount(const std::string& target, int flags) {
  if (umount2(target.c_str(), flags) == 0) return {};
  if (errno != EPERM || geteuid() == 0) return failed("umount", target);
  return unmountByFusermount(target, (flags & MNT_DETACH) != 0);
}

Failure tryLock(int fd, LockKind kind, bool& granted) {
  const int operation = kind == LockKind::shared ? LOCK_SH : kind == LockKind::exclusive ? LOCK_EX : LOCK_UN;
  int result;
  do result = flock(fd, operation | LOCK_NB);
  while (result < 0 && errno == EINTR);
  granted = result == 0;
  if (result < 0 && errno != EWOULDBLOCK) return failed("flock");
  return {};
}

Failure mountFuse(const FuseMount& mount, Descriptor& device) {
  if (geteuid() == 0) return mountByKernel(mount, device);
  std::string options = "ro,nodev,nosuid,noatime,default_permissions,subtype=orca,fsname=" + escapeOption(mount.source);
  if (mount.allowOther) options += ",allow_other";
  return mountByFusermount(options, mount.target, device);
}

Failure socketPair(Descriptor& one, Descriptor& other) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return failed("socketpair");
  one = Descriptor(ends[0]);
  other = Descriptor(ends[1]);
  const int bytes = 4 << 20;
  for (const int end : ends)
    if (setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
      setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  return {};
}

}  // namespace orca
