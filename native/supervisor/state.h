// What the supervisor keeps for the daemon, and the sockets by which they talk.
#pragma once

#include <sys/socket.h>

#include <string>
#include <utility>
#include <vector>

#include "../descriptor.h"

namespace orca {

/// Exit code when another supervisor or daemon has the socket.
constexpr int kExitTaken = 3;

/// One datagram of the daemon: assignments, one in a line, and descriptors.
struct Message {
  ucred sender{};
  std::vector<std::pair<std::string, std::string>> assignments;
  std::vector<Descriptor> descriptors;

  /// Of the first assignment to `name`, or empty.
  std::string value(const std::string& name) const;
  std::vector<std::string> values(const std::string& name) const;
  bool has(const std::string& name, const std::string& value) const { return this->value(name) == value; }
};

struct State {
  /// Of the control socket.
  std::string path;
  std::vector<std::string> command;
  Descriptor control;
  std::vector<std::pair<std::string, Descriptor>> stored;

  /// Keeps the descriptors of a message that has FDSTORE=1.
  void store(Message message);
  void forget(const std::string& name);
  /// Takes what a daemon without a supervisor left us, as ORCA_KEPT=FD=NAME:FD=NAME, out of the environment.
  void inherit();
  bool empty() const { return stored.empty(); }
  size_t mounts() const { return stored.size(); }
  /// In the child: becomes the daemon, with everything that is kept as its descriptors from 3 on. Returns on failure.
  void execute(const std::string& notifyName);
};

/// False when there is none now. Malformed ones come without assignments.
bool receiveMessage(int socket, Message& message);

/// A datagram socket with an abstract name, which is returned as NOTIFY_SOCKET has it.
Descriptor openNotifySocket(std::string& name);
/// A stream socket, only for its owner, in place of one that a dead supervisor left.
Descriptor listenAt(const std::string& path);
/// Whether somebody accepts connections there.
bool answers(const std::string& path);

}  // namespace orca
