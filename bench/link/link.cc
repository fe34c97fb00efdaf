// A TCP proxy that is as slow as a network link: half of the round trip time in each direction, and one bandwidth per
// direction that all connections share.
//
//   link TARGET_ADDRESS TARGET_PORT RTT_MICROSECONDS MBIT_PER_SECOND
//
// Listens on a free port of 127.0.0.1, prints it, and serves until stdin ends. For every line on stdin it prints how many
// bytes have come from both sides since it was started. Every chunk that is read leaves when
// the link has sent what came before it and it has travelled for half the round trip time. The handshake itself is
// not slowed down, so a new connection costs its first round trip when it first speaks.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <memory>
#include <vector>

namespace {

constexpr size_t kChunk = 128 << 10;
// What one direction of one connection may hold; at least the product of bandwidth and delay.
constexpr size_t kLeastBuffer = 4 << 20;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

int64_t nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

struct Chunk {
  int64_t due;
  std::vector<char> bytes;
  size_t sent = 0;
};

// One direction of the link: when it will have sent everything that it was given.
struct Wire {
  int64_t free_at = 0;
  int64_t bytes = 0;
};

struct Settings {
  sockaddr_in target{};
  int64_t delay = 0;             // nanoseconds, one way
  double nanoseconds_per_byte = 0;
  size_t buffer = kLeastBuffer;  // bytes
};

// From one socket to the other.
struct Flow {
  int from = -1;
  int to = -1;
  Wire* wire = nullptr;
  std::deque<Chunk> chunks;
  size_t held = 0;
  bool ended = false;   // `from` has said that no more comes
  bool passed_on = false;
  bool blocked = false; // `to` takes no more at the moment
};

struct Connection {
  Flow up, down;
  bool broken = false;
};

// Reads until the socket is empty or the flow is full.
void read_from(Flow& flow, const Settings& settings, bool& broken) {
  while (!flow.ended && flow.held < settings.buffer) {
    std::vector<char> bytes(kChunk);
    const ssize_t count = read(flow.from, bytes.data(), bytes.size());
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count < 0) {
      broken = true;
      return;
    }
    if (count == 0) {
      flow.ended = true;
      return;
    }
    bytes.resize(static_cast<size_t>(count));
    const int64_t start = std::max(nanoseconds(), flow.wire->free_at);
    flow.wire->free_at = start + static_cast<int64_t>(static_cast<double>(count) * settings.nanoseconds_per_byte);
    flow.wire->bytes += count;
    flow.held += bytes.size();
    flow.chunks.push_back({flow.wire->free_at + settings.delay, std::move(bytes)});
  }
}

// Sends what is due. Returns when the next chunk is, or 0 when there is none to wait for.
int64_t send_due(Flow& flow, bool& broken) {
  while (!flow.chunks.empty() && !flow.blocked) {
    Chunk& chunk = flow.chunks.front();
    if (chunk.due > nanoseconds()) return chunk.due;
    const ssize_t count = send(flow.to, chunk.bytes.data() + chunk.sent, chunk.bytes.size() - chunk.sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EAGAIN) {
      flow.blocked = true;
      return 0;
    }
    if (count < 0) {
      broken = true;
      return 0;
    }
    chunk.sent += static_cast<size_t>(count);
    if (chunk.sent < chunk.bytes.size()) continue;
    flow.held -= chunk.bytes.size();
    flow.chunks.pop_front();
  }
  if (flow.chunks.empty() && flow.ended && !flow.passed_on) {
    shutdown(flow.to, SHUT_WR);
    flow.passed_on = true;
  }
  return 0;
}

int watch(int epoll, int descriptor, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = descriptor;
  return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
}

std::unique_ptr<Connection> open_connection(int epoll, int client, Wire& up, Wire& down, const Settings& settings) {
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (server < 0 || connect(server, reinterpret_cast<const sockaddr*>(&settings.target), sizeof settings.target) < 0) {
    close(client);
    if (server >= 0) close(server);
    return nullptr;
  }
  const int on = 1;
  for (const int descriptor : {client, server}) {
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
    if (watch(epoll, descriptor, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) < 0) die("epoll_ctl");
  }
  auto connection = std::make_unique<Connection>();
  connection->up.from = connection->down.to = client;
  connection->up.to = connection->down.from = server;
  connection->up.wire = &up;
  connection->down.wire = &down;
  return connection;
}

void serve(int listener, const Settings& settings) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (epoll < 0 || timer < 0) die("epoll");
  if (watch(epoll, listener, EPOLLIN) < 0 || watch(epoll, timer, EPOLLIN) < 0 || watch(epoll, 0, EPOLLIN) < 0) {
    die("epoll_ctl");
  }
  Wire up, down;
  std::vector<std::unique_ptr<Connection>> connections;
  for (;;) {
    epoll_event events[64];
    const int count = epoll_wait(epoll, events, 64, -1);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < count; i++) {
      const int descriptor = events[i].data.fd;
      if (descriptor == 0) {
        char asked[64];
        const ssize_t size = read(0, asked, sizeof asked);
        if (size <= 0) return;
        for (ssize_t line = std::count(asked, asked + size, '\n'); line > 0; line--) {
          std::printf("%lld\n", static_cast<long long>(up.bytes + down.bytes));
        }
        std::fflush(stdout);
      } else if (descriptor == listener) {
        const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (client < 0) continue;
        if (auto opened = open_connection(epoll, client, up, down, settings)) connections.push_back(std::move(opened));
      } else if (descriptor == timer) {
        uint64_t expirations;
        [[maybe_unused]] const ssize_t size = read(timer, &expirations, sizeof expirations);
      } else if ((events[i].events & EPOLLOUT) != 0) {
        for (auto& connection : connections) {
          for (Flow* flow : {&connection->up, &connection->down}) {
            if (flow->to == descriptor) flow->blocked = false;
          }
        }
      }
    }
    int64_t next = 0;
    for (auto& connection : connections) {
      for (Flow* flow : {&connection->up, &connection->down}) {
        read_from(*flow, settings, connection->broken);
        const int64_t due = send_due(*flow, connection->broken);
        if (due != 0 && (next == 0 || due < next)) next = due;
      }
      if (connection->broken || (connection->up.passed_on && connection->down.passed_on)) {
        close(connection->up.from);
        close(connection->up.to);
        connection.reset();
      }
    }
    std::erase(connections, nullptr);
    itimerspec spec{};
    spec.it_value.tv_sec = next / 1'000'000'000;
    spec.it_value.tv_nsec = next % 1'000'000'000;
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, nullptr);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: link TARGET_ADDRESS TARGET_PORT RTT_MICROSECONDS MBIT_PER_SECOND\n");
    return 2;
  }
  Settings settings;
  settings.target.sin_family = AF_INET;
  settings.target.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[2])));
  if (inet_pton(AF_INET, argv[1], &settings.target.sin_addr) != 1) die("TARGET_ADDRESS");
  const double rtt = std::atof(argv[3]) * 1000;
  settings.delay = static_cast<int64_t>(rtt / 2);
  settings.nanoseconds_per_byte = 8000 / std::atof(argv[4]);
  settings.buffer = std::max(kLeastBuffer, static_cast<size_t>(2 * rtt / settings.nanoseconds_per_byte));

  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 ||
      listen(listener, 128) < 0 || getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) < 0) {
    die("listen");
  }
  std::printf("%u\n", ntohs(address.sin_port));
  std::fflush(stdout);
  serve(listener, settings);
  return 0;
}
