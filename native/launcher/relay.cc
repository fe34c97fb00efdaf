#include "relay.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace orca {
namespace {

constexpr std::array kEnding{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
constexpr std::array kOthers{SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};
/// This many signals that ask for the end bring it, whatever the container does with them.
constexpr int kInsistence = 3;
constexpr int kInitTries = 200;
constexpr useconds_t kInitPause = 10'000;

/// What the kernel or runc keeps in a small file; empty where there is none.
std::string contentOf(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 8192> text;
  const ssize_t length = file ? read(file.get(), text.data(), text.size()) : 0;
  return std::string(text.data(), static_cast<size_t>(std::max<ssize_t>(length, 0)));
}

/// The pid, on the host, of the container's first process; 0 before it is there.
pid_t initOf(const Foreground& container) {
  const int pid = atoi(contentOf(container.directory + "/pid").c_str());
  return pid > 1 ? pid : 0;
}

/// The same, waiting for it as long as runc lives and is about to write it: a container runs a little before that.
pid_t awaitInit(const Foreground& container, pid_t runc) {
  pid_t init = initOf(container);
  for (int tries = 0; init == 0 && tries < kInitTries; ++tries) {
    siginfo_t ended{};
    if (waitid(P_PID, static_cast<id_t>(runc), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid != 0) break;
    usleep(kInitPause);
    init = initOf(container);
  }
  return init;
}

/// True when the process neither handles nor ignores the signal (proc_pid_status(5)).
bool isDefault(pid_t pid, int signal) {
  const std::string status = contentOf("/proc/" + std::to_string(pid) + "/status");
  for (const char* mask : {"\nSigIgn:", "\nSigCgt:"}) {
    const size_t place = status.find(mask);
    if (place == std::string::npos) return false;
    if ((strtoull(status.c_str() + place + strlen(mask), nullptr, 16) >> (signal - 1) & 1) != 0) return false;
  }
  return true;
}

[[noreturn]] void become(const Foreground& container, const Signals& signals) {
  signals.restore();
  // A launcher that is killed takes runc with it; what the daemon then removes must not be in the making.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // With a terminal it stays in our process group, where it may read it; without, Ctrl-C is to reach it through us.
  if (!container.withTerminal) setsid();
  if (!container.withStdin) {
    const int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0) dup2(nothing, STDIN_FILENO);
    if (nothing > STDIN_FILENO) close(nothing);
  }
  const char* path = getenv("PATH");
  std::string environment = std::string("PATH=") + (path == nullptr ? "" : path);
  std::array<char*, 2> variables{path == nullptr ? nullptr : environment.data(), nullptr};
  std::vector<char*> arguments;
  for (const auto& argument : container.command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  if (chdir(container.directory.c_str()) == 0) execve(arguments[0], arguments.data(), variables.data());
  fprintf(stderr, "orca: %s cannot be started: %s\n", arguments[0], strerror(errno));
  _exit(125);
}

}  // namespace

Signals::Signals() {
  sigemptyset(&handled_);
  sigaddset(&handled_, SIGCHLD);
  for (const int signal : kEnding) sigaddset(&handled_, signal);
  for (const int signal : kOthers) sigaddset(&handled_, signal);
  sigprocmask(SIG_BLOCK, &handled_, &inherited_);
  descriptor_ = Descriptor(signalfd(-1, &handled_, SFD_CLOEXEC | SFD_NONBLOCK));
}

int Signals::next(bool wait) const {
  for (;;) {
    signalfd_siginfo info;
    if (read(descriptor_.get(), &info, sizeof info) == sizeof info) return static_cast<int>(info.ssi_signo);
    if (!wait) return 0;
    pollfd source{descriptor_.get(), POLLIN, 0};
    poll(&source, 1, -1);
  }
}

bool Signals::isEnding(int signal) { return std::find(kEnding.begin(), kEnding.end(), signal) != kEnding.end(); }

int runInForeground(const Foreground& container, const Signals& signals) {
  const pid_t child = fork();
  if (child < 0) {
    perror("orca: fork");
    return 125;
  }
  if (child == 0) become(container, signals);
  int asked = 0;
  int killedBy = 0;
  for (;;) {
    const int signal = signals.next(true);
    if (signal == SIGCHLD) {
      int status = 0;
      if (waitpid(child, &status, WNOHANG) != child) continue;
      if (killedBy != 0) return 128 + killedBy;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    const bool ending = Signals::isEnding(signal);
    if (ending) ++asked;
    const pid_t init = ending ? awaitInit(container, child) : 0;
    if (init != 0 && (asked >= kInsistence || isDefault(init, signal))) {
      if (killedBy == 0) killedBy = signal;
      kill(init, SIGKILL);
    } else {
      kill(child, signal);
    }
  }
}

}  // namespace orca
