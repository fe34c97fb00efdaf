// How the addon's own functions report failure: as values, since nothing here throws.
#pragma once

#include <cerrno>
#include <string>

namespace orca {

/// A failed system call: its errno (0 means success), its name, and the path that it was about, if any.
struct [[nodiscard]] Failure {
  int code = 0;
  const char* call = "";
  std::string subject;

  explicit operator bool() const { return code != 0; }
};

inline Failure failed(const char* call, std::string subject = {}) { return {errno, call, std::move(subject)}; }

/// `ENOSPC` for 28; `EUNKNOWN` for a number that has no name here.
const char* errnoName(int code);

}  // namespace orca
