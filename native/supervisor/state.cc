#include "state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace orca {
namespace {

/// The kernel passes at most this many with one message (SCM_MAX_FD).
constexpr size_t kMaxPassed = 253;
/// More mounts than a host has; each is one descriptor.
constexpr size_t kMaxStored = 4096;
constexpr size_t kMaxMessage = 16 << 10;
constexpr int kFirstListenFd = 3;
/// The name of the listening control socket.
constexpr const char* kControl = "control";

sockaddr_un addressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  return address;
}

/// As systemd has it: ASCII without control characters and colons, up to 255 characters.
bool isName(const std::string& name) {
  return !name.empty() && name.size() <= 255 &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f && c != ':'; });
}

void parse(std::string_view text, Message& message) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t equals = line.find('=');
    if (equals != std::string_view::npos)
      message.assignments.emplace_back(line.substr(0, equals), line.substr(equals + 1));
  }
}

}  // namespace

std::string Message::value(const std::string& name) const {
  for (const auto& [key, value] : assignments)
    if (key == name) return value;
  return {};
}

std::vector<std::string> Message::values(const std::string& name) const {
  std::vector<std::string> found;
  for (const auto& [key, value] : assignments)
    if (key == name) found.push_back(value);
  return found;
}

void State::store(Message message) {
  std::string name = message.value("FDNAME");
  if (name.empty()) name = "stored";
  if (!isName(name)) return;
  for (auto& descriptor : message.descriptors)
    if (stored.size() < kMaxStored) stored.emplace_back(name, std::move(descriptor));
}

void State::forget(const std::string& name) {
  std::erase_if(stored, [&](const auto& entry) { return entry.first == name; });
}

void State::inherit() {
  const char* variable = getenv("ORCA_KEPT");
  std::string_view text = variable == nullptr ? "" : variable;
  while (!text.empty()) {
    const std::string part(text.substr(0, text.find(':')));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    const size_t equals = part.find('=');
    const int fd = atoi(part.c_str());
    if (equals == std::string::npos || fd < kFirstListenFd || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) continue;
    std::string name = part.substr(equals + 1);
    if (name == kControl) control = Descriptor(fd);
    else if (isName(name) && stored.size() < kMaxStored) stored.emplace_back(std::move(name), Descriptor(fd));
  }
  unsetenv("ORCA_KEPT");
}

void State::execute(const std::string& notifyName) {
  std::string names = kControl;
  std::vector<int> descriptors{control.get()};
  for (const auto& [name, descriptor] : stored) {
    names += ":" + name;
    descriptors.push_back(descriptor.get());
  }
  // First out of the way of the places that they are to have.
  const int free = kFirstListenFd + static_cast<int>(descriptors.size());
  for (int& descriptor : descriptors)
    if ((descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, free)) < 0) return;
  for (size_t i = 0; i < descriptors.size(); ++i)
    if (dup2(descriptors[i], kFirstListenFd + static_cast<int>(i)) < 0) return;
  setenv("LISTEN_FDS", std::to_string(descriptors.size()).c_str(), 1);
  setenv("LISTEN_FDNAMES", names.c_str(), 1);
  setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
  setenv("NOTIFY_SOCKET", notifyName.c_str(), 1);
  setenv("ORCA_CONTROL", path.c_str(), 1);
  setenv("ORCA_SUPERVISOR", std::to_string(getppid()).c_str(), 1);
  std::vector<char*> arguments;
  for (auto& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
}

bool receiveMessage(int socket, Message& message) {
  message = {};
  char text[kMaxMessage];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(kMaxPassed * sizeof(int))];
  iovec content{text, sizeof text};
  msghdr header{};
  header.msg_iov = &content;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t length;
  do length = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (length < 0 && errno == EINTR);
  if (length < 0) return false;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET) continue;
    if (part->cmsg_type == SCM_CREDENTIALS) {
      memcpy(&message.sender, CMSG_DATA(part), sizeof message.sender);
    } else if (part->cmsg_type == SCM_RIGHTS) {
      const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd;
        memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
        message.descriptors.emplace_back(fd);
      }
    }
  }
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0) parse({text, static_cast<size_t>(length)}, message);
  return true;
}

Descriptor openNotifySocket(std::string& name) {
  Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int yes = 1;
  // Bound to nothing, the kernel chooses an abstract name (unix(7), autobind).
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t size = sizeof(sa_family_t);
  if (!socket || setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) < 0 ||
      bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size) < 0)
    return Descriptor();
  size = sizeof address;
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) < 0) return Descriptor();
  name = "@" + std::string(address.sun_path + 1, size - offsetof(sockaddr_un, sun_path) - 1);
  return socket;
}

Descriptor listenAt(const std::string& path) {
  if (path.size() >= sizeof sockaddr_un{}.sun_path) {
    errno = ENAMETOOLONG;
    return Descriptor();
  }
  const sockaddr_un address = addressOf(path);
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  unlink(path.c_str());
  const mode_t mask = umask(0177);
  const bool bound = socket && bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  umask(mask);
  if (!bound || listen(socket.get(), SOMAXCONN) < 0) return Descriptor();
  return socket;
}

bool answers(const std::string& path) {
  const sockaddr_un address = addressOf(path);
  const Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return socket && connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace orca
