// A file in memory, read-only. Somebody who truncates it while it is mapped kills the process (SIGBUS): such files
// are content-addressed, complete before they get their name, and never changed.
#pragma once

#include <span>
#include <string>
#include <utility>

#include "error.h"

namespace orca {

class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    MappedFile old(std::move(*this));
    bytes_ = std::exchange(other.bytes_, {});
    return *this;
  }
  ~MappedFile();

  static Failure open(const std::string& path, MappedFile& out);
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace orca
