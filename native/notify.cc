#include "notify.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "descriptor.h"

namespace orca {
namespace {

/// A supervisor that does not read for so long is stuck; what it was to be told is then lost.
constexpr timeval kSendTimeout{5, 0};

std::vector<char*> pointersTo(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (auto& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Failure notify(const std::string& name, const std::string& text, std::span<const int> descriptors) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.empty() || name.size() > sizeof address.sun_path || descriptors.size() > kMaxPassed)
    return {EINVAL, "sendmsg", name};
  memcpy(address.sun_path, name.data(), name.size());
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return failed("socket");
  (void)setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kSendTimeout, sizeof kSendTimeout);
  iovec content{const_cast<char*>(text.data()), text.size()};
  msghdr header{};
  header.msg_name = &address;
  header.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  header.msg_iov = &content;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPassed * sizeof(int))] = {};
  if (!descriptors.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    memcpy(CMSG_DATA(part), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t sent;
  do sent = sendmsg(socket.get(), &header, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) return failed("sendmsg", name);
  return {};
}

Failure notifyBarrier(const std::string& name, int timeout) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return failed("pipe2");
  const Descriptor ours(ends[0]);
  Descriptor theirs(ends[1]);
  const int passed[] = {theirs.get()};
  if (auto failure = notify(name, "BARRIER=1", passed)) return failure;
  theirs.reset();
  pollfd closed{ours.get(), 0, 0};
  const int ready = poll(&closed, 1, timeout);
  if (ready < 0) return failed("poll");
  if (ready == 0) return {ETIMEDOUT, "poll", name};
  return {};
}

Failure duplicate(int descriptor, int& copy) {
  copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
  return copy < 0 ? failed("fcntl") : Failure{};
}

Failure setCloseOnExec(int descriptor, bool close) {
  if (fcntl(descriptor, F_SETFD, close ? FD_CLOEXEC : 0) < 0) return failed("fcntl");
  return {};
}

void exitAtOnce(int code) { _exit(code); }

Failure execute(const std::string& file, std::vector<std::string> arguments, std::vector<std::string> environment) {
  sigset_t none, before;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, &before);
  // Node has marked them at its start, so that what it spawns does not inherit them unasked.
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) fcntl(standard, F_SETFD, 0);
  execve(file.c_str(), pointersTo(arguments).data(), pointersTo(environment).data());
  const Failure failure = failed("execve", file);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return failure;
}

}  // namespace orca
