#include "fusermount.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cstring>
#include <string_view>

extern char** environ;

namespace orca {
namespace {

constexpr const char* kProgram = "fusermount3";
/// How its message ends when what it was to unmount is in use: strerror(3), which it does not translate.
constexpr std::string_view kBusy = "Device or resource busy";
/// Where the child finds its end of the socket (any number past stderr) and what tells it so.
constexpr int kChildSocket = 3;
constexpr const char* kSocketVariable = "_FUSE_COMMFD=3";

struct Child {
  pid_t pid = 0;
  Descriptor errors;
};

Failure start(const std::vector<std::string>& arguments, int socket, Child& child) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return failed("pipe2");
  child.errors = Descriptor(ends[0]);
  const Descriptor stderrEnd(ends[1]);

  std::vector<char*> argv{const_cast<char*>(kProgram)};
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> environment{const_cast<char*>(kSocketVariable)};
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (strncmp(*entry, "_FUSE_COMMFD=", 13) != 0) environment.push_back(*entry);
  environment.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, stderrEnd.get(), STDERR_FILENO);
  // dup2 to the same number would leave close-on-exec set; glibc clears it then (POSIX 2008 TC2).
  if (socket >= 0) posix_spawn_file_actions_adddup2(&actions, socket, kChildSocket);
  const int code = posix_spawnp(&child.pid, kProgram, &actions, nullptr, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (code != 0) return {code, "spawn", kProgram};
  return {};
}

/// Waits for the child; what it wrote to stderr becomes the subject of the failure.
Failure finish(Child& child) {
  std::string message;
  std::array<char, 512> chunk;
  for (;;) {
    const ssize_t count = read(child.errors.get(), chunk.data(), chunk.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    if (message.size() < 4096) message.append(chunk.data(), static_cast<size_t>(count));
  }
  int status = 0;
  while (waitpid(child.pid, &status, 0) < 0)
    if (errno != EINTR) return failed("waitpid");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  while (!message.empty() && message.back() == '\n') message.pop_back();
  return {message.ends_with(kBusy) ? EBUSY : EPERM, kProgram, message.empty() ? "it failed without a message" : message};
}

Failure receive(int socket, Descriptor& device) {
  char byte;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t count;
  do count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (count < 0 && errno == EINTR);
  if (count < 0) return failed("recvmsg");
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (count == 0 || header == nullptr || header->cmsg_type != SCM_RIGHTS)
    return {EPROTO, kProgram, "it sent no descriptor"};
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  device = Descriptor(fd);
  return {};
}

}  // namespace

Failure mountByFusermount(const std::string& options, const std::string& target, Descriptor& device) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return failed("socketpair");
  const Descriptor ours(ends[0]);
  Descriptor theirs(ends[1]);
  Child child;
  if (auto failure = start({"-o", options, "--", target}, theirs.get(), child)) return failure;
  theirs.reset();
  const Failure received = receive(ours.get(), device);
  if (auto failure = finish(child)) return failure;
  return received;
}

Failure unmountByFusermount(const std::string& target, bool lazy) {
  std::vector<std::string> arguments{"-u"};
  if (lazy) arguments.push_back("-z");
  arguments.insert(arguments.end(), {"--", target});
  Child child;
  if (auto failure = start(arguments, -1, child)) return failure;
  return finish(child);
}

}  // namespace orca
