// What a daemon says to the process that supervises it, systemd or orca-supervisor, and how it becomes another program
// without losing its descriptors.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "error.h"

namespace orca {

/// The kernel passes at most this many descriptors with one message (SCM_MAX_FD).
constexpr size_t kMaxPassed = 253;

/// One datagram with descriptors to NOTIFY_SOCKET (sd_notify(3)): a path, or `@` and an abstract name.
Failure notify(const std::string& socket, const std::string& text, std::span<const int> descriptors);

/// The same, and waits until everything sent before has been worked on (BARRIER=1), at most `timeout` milliseconds.
Failure notifyBarrier(const std::string& socket, int timeout);

/// Another descriptor of the same open file, closed by execve(2).
Failure duplicate(int descriptor, int& copy);

/// Marks a descriptor to be closed, or not, by execve(2).
Failure setCloseOnExec(int descriptor, bool close);

/// _exit(2): the kernel keeps what our threads had in hand for the next holder of the descriptors.
[[noreturn]] void exitAtOnce(int code);

/// execve(2), with the standard descriptors of this process; returns only on failure.
Failure execute(const std::string& file, std::vector<std::string> arguments, std::vector<std::string> environment);

}  // namespace orca
