// orca: what users start. `orca run` with a daemon that is there is done here, since node alone takes longer to start
// than a container: the daemon understands the command line and prepares the container, and this process runs it, so
// that terminal, process group, limits and namespaces are its caller's. Whatever the daemon declines, and every other
// command, is left to node and dist/bin/orca.js.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "exchange.h"
#include "relay.h"

extern char** environ;

namespace orca {
namespace {

/// As MAX_LAUNCH_BYTES of src/daemon/launch-format.ts, less what is not the command line and the environment.
constexpr size_t kMaxRequest = 3 << 20;
constexpr const char* kDefaultRunDirectory = "/var/lib/orca/run";
/// A daemon that is killed when the container has ended has a successor by then.
constexpr int kEndTries = 100;
constexpr useconds_t kEndPause = 50'000;

std::string linkTarget(const char* path) {
  std::array<char, PATH_MAX> target;
  const ssize_t length = readlink(path, target.data(), target.size());
  return length < 0 ? std::string() : std::string(target.data(), static_cast<size_t>(length));
}

/// ROOT of ROOT/native/build/orca, which is this program.
std::string packageRoot() {
  std::string path = linkTarget("/proc/self/exe");
  for (int i = 0; i < 3; ++i) path.resize(std::min(path.size(), path.rfind('/')));
  return path;
}

[[noreturn]] void becomeNode(const std::string& root, char** arguments) {
  const std::string own = root + "/native/build/node";
  const std::string script = root + "/dist/bin/orca.js";
  const char* node = access(own.c_str(), X_OK) == 0 ? own.c_str() : "node";
  std::vector<char*> all{const_cast<char*>(node), const_cast<char*>(script.c_str())};
  for (char** argument = arguments + 1; *argument != nullptr; ++argument) all.push_back(*argument);
  all.push_back(nullptr);
  execvp(node, all.data());
  fprintf(stderr, "orca: node cannot be started: %s\n", strerror(errno));
  _exit(127);
}

std::string variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

/// A password in a URL would stand in the process list as long as the container runs; node overwrites its own.
bool mayHoldPassword(std::string_view argument) {
  const size_t scheme = argument.find("://");
  return scheme != std::string_view::npos && argument.find('@', scheme) != std::string_view::npos;
}

/// As fileTree() of src/daemon/order.ts.
std::string fileTree() {
  struct stat root;
  if (stat("/", &root) < 0) return {};
  return linkTarget("/proc/self/ns/mnt") + " " + std::to_string(root.st_dev) + ":" + std::to_string(root.st_ino);
}

/// A new file whose lock we hold to our end. The daemon makes it the lock of the container's directory.
class Lock {
 public:
  explicit Lock(const std::string& directory) {
    std::array<unsigned char, 16> random;
    if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) return;
    for (const unsigned char byte : random) {
      std::array<char, 3> digits;
      snprintf(digits.data(), digits.size(), "%02x", byte);
      name_ += digits.data();
    }
    path_ = directory + "/" + name_;
    file_ = Descriptor(open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (file_ && flock(file_.get(), LOCK_EX | LOCK_NB) < 0) file_.reset();
  }
  const std::string& name() const { return name_; }
  explicit operator bool() const { return static_cast<bool>(file_); }
  /// Where the daemon has not taken it.
  void remove() const { unlink(path_.c_str()); }

 private:
  std::string name_, path_;
  Descriptor file_;
};

Fields requestOf(const std::string& version, const std::string& lock, char** arguments) {
  std::array<char, PATH_MAX> directory;
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  winsize size{};
  ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
  std::string terminals;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) terminals += isatty(fd) ? '1' : '0';
  Fields request;
  request.add(version).add(fileTree()).add(getcwd(directory.data(), directory.size()) == nullptr ? "" : directory.data());
  request.add(lock).add(std::min<uint64_t>(files.rlim_max, INT_MAX)).add(terminals).add(size.ws_row).add(size.ws_col);
  for (char** list : {arguments + 1, environ}) {
    size_t count = 0;
    while (list[count] != nullptr) ++count;
    request.add(count);
    for (size_t i = 0; i < count; ++i) request.add(list[i]);
  }
  return request;
}

/// `said` is for stderr, as the daemon has worded it.
int tell(const std::string& said, uint64_t exitCode) {
  fwrite(said.data(), 1, said.size(), stderr);
  return static_cast<int>(exitCode);
}

/// The daemon removes the container and says what its end was. Without a daemon the next one removes it.
int finish(const std::string& socket, const std::string& id, int exitCode, const Signals& signals) {
  Fields request;
  request.add(static_cast<uint64_t>(exitCode));
  const auto ignore = [&] {
    while (signals.next(false) != 0) {
    }
    return false;
  };
  for (int tries = 0; tries < kEndTries; ++tries) {
    auto answer = ask(socket, "/v1/launch/" + id + "/end", request, signals.descriptor(), ignore);
    if (answer && answer->next() == "end") {
      const uint64_t code = answer->number();
      const std::string text = answer->next();
      if (answer->whole()) return tell(text, code);
    }
    usleep(kEndPause);
  }
  return exitCode;
}

/// Runs the container by the daemon; nothing when that is node's to do.
std::optional<int> launch(const std::string& version, char** arguments) {
  if (geteuid() != 0 || getenv("ORCA_NO_DAEMON") != nullptr) return std::nullopt;
  std::string runDirectory = variable("ORCA_RUN_DIR");
  if (runDirectory.empty()) runDirectory = kDefaultRunDirectory;
  std::string socket = variable("ORCA_SOCKET");
  if (socket.empty()) socket = runDirectory + "/daemon/orca.sock";
  size_t bytes = 0;
  for (char** list : {arguments, environ})
    for (char** word = list; *word != nullptr; ++word) bytes += strlen(*word) + 1;
  for (char** word = arguments; *word != nullptr; ++word)
    if (mayHoldPassword(*word)) return std::nullopt;
  if (bytes > kMaxRequest || access(socket.c_str(), W_OK) < 0) return std::nullopt;
  const Lock lock(runDirectory + "/launch");
  if (!lock) return std::nullopt;

  const Signals signals;
  int interruption = 0;
  const auto interrupted = [&] {
    for (int signal = signals.next(false); signal != 0; signal = signals.next(false))
      if (interruption == 0 && Signals::isEnding(signal)) interruption = signal;
    return interruption != 0;
  };
  auto answer = ask(socket, "/v1/launch", requestOf(version, lock.name(), arguments), signals.descriptor(), interrupted);
  if (interruption != 0) {
    lock.remove();
    return tell("orca: interrupted by SIG" + std::string(sigabbrev_np(interruption)) + "\n",
                128 + static_cast<uint64_t>(interruption));
  }
  const std::string kind = answer ? answer->next() : "";
  if (kind == "fail") {
    const uint64_t code = answer->number();
    const std::string text = answer->next();
    lock.remove();
    if (answer->whole()) return tell(text, code);
  } else if (kind == "run") {
    const std::string text = answer->next();
    const Foreground container{answer->next(), answer->next(), answer->flag(), answer->flag(), answer->list()};
    if (answer->whole() && !container.command.empty()) {
      tell(text, 0);
      return finish(socket, container.id, runInForeground(container, signals), signals);
    }
  }
  lock.remove();
  signals.restore();
  return std::nullopt;
}

}  // namespace
}  // namespace orca

int main(int count, char** arguments) {
  if (count > 1 && strcmp(arguments[1], "run") == 0)
    if (const auto code = orca::launch(ORCA_VERSION, arguments)) return *code;
  orca::becomeNode(orca::packageRoot(), arguments);
}
