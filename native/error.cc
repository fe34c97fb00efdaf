#include "error.h"

#include <array>
#include <utility>

namespace orca {

const char* errnoName(int code) {
  // Not strerrorname_np(3), which glibc has only since 2.32 and musl has not at all.
  static constexpr std::array names{
      std::pair{EPERM, "EPERM"},         std::pair{ENOENT, "ENOENT"},       std::pair{EINTR, "EINTR"},
      std::pair{EIO, "EIO"},             std::pair{ENXIO, "ENXIO"},         std::pair{E2BIG, "E2BIG"},
      std::pair{EBADF, "EBADF"},         std::pair{EAGAIN, "EAGAIN"},       std::pair{ENOMEM, "ENOMEM"},
      std::pair{EACCES, "EACCES"},       std::pair{EFAULT, "EFAULT"},       std::pair{ENOTBLK, "ENOTBLK"},
      std::pair{EBUSY, "EBUSY"},         std::pair{EEXIST, "EEXIST"},       std::pair{EXDEV, "EXDEV"},
      std::pair{ENODEV, "ENODEV"},       std::pair{ENOTDIR, "ENOTDIR"},     std::pair{EISDIR, "EISDIR"},
      std::pair{EINVAL, "EINVAL"},       std::pair{ENFILE, "ENFILE"},       std::pair{EMFILE, "EMFILE"},
      std::pair{ENOTTY, "ENOTTY"},       std::pair{EFBIG, "EFBIG"},         std::pair{ENOSPC, "ENOSPC"},
      std::pair{ESPIPE, "ESPIPE"},       std::pair{EROFS, "EROFS"},         std::pair{EMLINK, "EMLINK"},
      std::pair{EPIPE, "EPIPE"},         std::pair{ERANGE, "ERANGE"},       std::pair{ENAMETOOLONG, "ENAMETOOLONG"},
      std::pair{ENOLCK, "ENOLCK"},       std::pair{ENOSYS, "ENOSYS"},       std::pair{ENOTEMPTY, "ENOTEMPTY"},
      std::pair{ELOOP, "ELOOP"},         std::pair{ENODATA, "ENODATA"},     std::pair{EPROTO, "EPROTO"},
      std::pair{EBADMSG, "EBADMSG"},     std::pair{EOVERFLOW, "EOVERFLOW"}, std::pair{EMSGSIZE, "EMSGSIZE"},
      std::pair{ENOTSUP, "ENOTSUP"},     std::pair{ENOTCONN, "ENOTCONN"},   std::pair{ETIMEDOUT, "ETIMEDOUT"},
      std::pair{ESTALE, "ESTALE"},       std::pair{EDQUOT, "EDQUOT"},       std::pair{ECANCELED, "ECANCELED"},
      std::pair{ECONNABORTED, "ECONNABORTED"}, std::pair{ECONNRESET, "ECONNRESET"},
  };
  for (const auto& [number, name] : names)
    if (number == code) return name;
  return "EUNKNOWN";
}

}  // namespace orca
