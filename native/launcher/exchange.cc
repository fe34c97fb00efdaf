#include "exchange.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "../descriptor.h"

namespace orca {
namespace {

/// The daemon's answer is a command line and some lines of text.
constexpr size_t kMaxAnswer = 1 << 20;
constexpr std::string_view kEndOfHead = "\r\n\r\n";

Descriptor connectTo(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Descriptor();
  memcpy(address.sun_path, path.data(), path.size());
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket || connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
    return Descriptor();
  return socket;
}

bool sendAll(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

std::optional<std::string> receiveAll(int socket, int wake, const std::function<bool()>& interrupted) {
  std::string text;
  for (;;) {
    std::array<pollfd, 2> sources{{{socket, POLLIN, 0}, {wake, POLLIN, 0}}};
    if (poll(sources.data(), sources.size(), -1) < 0 && errno != EINTR) return std::nullopt;
    if (sources[1].revents != 0 && interrupted()) return std::nullopt;
    if (sources[0].revents == 0) continue;
    std::array<char, 16384> part;
    const ssize_t length = recv(socket, part.data(), part.size(), 0);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 || text.size() > kMaxAnswer) return std::nullopt;
    if (length == 0) return text;
    text.append(part.data(), static_cast<size_t>(length));
  }
}

std::vector<std::string> fieldsOf(std::string_view body) {
  std::vector<std::string> fields;
  for (size_t end = body.find('\0'); end != std::string_view::npos; end = body.find('\0')) {
    fields.emplace_back(body.substr(0, end));
    body.remove_prefix(end + 1);
  }
  return fields;
}

}  // namespace

std::string Answer::next() {
  if (next_ < fields_.size()) return fields_[next_++];
  whole_ = false;
  return {};
}

uint64_t Answer::number() {
  const std::string text = next();
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) whole_ = false;
  return value;
}

std::vector<std::string> Answer::list() {
  const uint64_t count = number();
  std::vector<std::string> items;
  if (count > fields_.size() - next_) whole_ = false;
  else
    while (items.size() < count) items.push_back(next());
  return items;
}

std::optional<Answer> ask(const std::string& socket, const std::string& path, const Fields& request, int wake,
                          const std::function<bool()>& interrupted) {
  const Descriptor connection = connectTo(socket);
  if (!connection) return std::nullopt;
  const std::string head = "POST " + path +
                           " HTTP/1.0\r\nContent-Type: application/octet-stream\r\nContent-Length: " +
                           std::to_string(request.bytes().size()) + std::string(kEndOfHead);
  if (!sendAll(connection.get(), head) || !sendAll(connection.get(), request.bytes())) return std::nullopt;
  const auto answer = receiveAll(connection.get(), wake, interrupted);
  if (!answer) return std::nullopt;
  const std::string_view text = *answer;
  const size_t body = text.find(kEndOfHead);
  const size_t status = text.find(' ');
  if (body == std::string_view::npos || status > body || text.substr(status, 5) != " 200 ") return std::nullopt;
  return Answer(fieldsOf(text.substr(body + kEndOfHead.size())));
}

}  // namespace orca
