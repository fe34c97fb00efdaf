// What the launcher and the daemon say to each other (src/daemon/launch-format.ts): HTTP/1.0 over the control socket,
// with bodies of fields that end with a NUL each.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace orca {

/// Fields of a request, in their order.
class Fields {
 public:
  Fields& add(const std::string& text) {
    bytes_.append(text.c_str(), text.size() + 1);
    return *this;
  }
  Fields& add(uint64_t number) { return add(std::to_string(number)); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// Fields of an answer; what is missing reads as empty, and `whole` is false then.
class Answer {
 public:
  explicit Answer(std::vector<std::string> fields) : fields_(std::move(fields)) {}
  std::string next();
  uint64_t number();
  bool flag() { return next() == "1"; }
  /// Their count, and so many.
  std::vector<std::string> list();
  /// Whether everything was there, up to the last field, which is a dot.
  bool whole() const { return whole_ && next_ + 1 == fields_.size() && fields_.back() == "."; }

 private:
  std::vector<std::string> fields_;
  size_t next_ = 0;
  bool whole_ = true;
};

/// Nothing when nobody answers, or with another status than 200. `interrupted` is asked when `wake` can be read, and
/// ends the wait when it says so.
std::optional<Answer> ask(const std::string& socket, const std::string& path, const Fields& request, int wake,
                          const std::function<bool()>& interrupted);

}  // namespace orca
