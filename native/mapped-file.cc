#include "mapped-file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "descriptor.h"

namespace orca {

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Failure MappedFile::open(const std::string& path, MappedFile& out) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return failed("open", path);
  struct stat status;
  if (fstat(file.get(), &status) < 0) return failed("fstat", path);
  if (!S_ISREG(status.st_mode)) return {EINVAL, "open", path + ": it is not a regular file"};
  const auto length = static_cast<size_t>(status.st_size);
  if (length == 0) return {EBADMSG, "open", path + ": it is empty"};
  void* base = mmap(nullptr, length, PROT_READ, MAP_SHARED, file.get(), 0);
  if (base == MAP_FAILED) return failed("mmap", path);
  madvise(base, length, MADV_WILLNEED);
  out.bytes_ = {static_cast<const std::byte*>(base), length};
  return {};
}

}  // namespace orca
