// A program in the foreground, and what signals to us mean for it.
#pragma once

#include <signal.h>

#include <string>
#include <vector>

#include "../descriptor.h"

namespace orca {

/// The signals of src/runtime/signal-relay.ts, and the end of a child, as a descriptor to read them from.
class Signals {
 public:
  Signals();
  int descriptor() const { return descriptor_.get(); }
  /// 0 when there is none now; with `wait`, once there is one.
  int next(bool wait) const;
  /// As it was, for programs that are started.
  void restore() const { sigprocmask(SIG_SETMASK, &inherited_, nullptr); }
  static bool isEnding(int signal);

 private:
  sigset_t handled_, inherited_;
  Descriptor descriptor_;
};

struct Foreground {
  std::string id, directory;
  bool withStdin = false, withTerminal = false;
  /// Program and arguments of `runc run`.
  std::vector<std::string> command;
};

/// Runs it as Runc.start does (src/runtime/runc.ts) and passes signals on as SignalRelay does. Returns its exit code,
/// 128 + n after signal n, also when we killed the container for that signal.
int runInForeground(const Foreground& container, const Signals& signals);

}  // namespace orca
