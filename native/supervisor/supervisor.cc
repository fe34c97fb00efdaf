// orca-supervisor: starts the host daemon as its child, and holds what must outlive it: the descriptors of its mounts
// and the listening control socket. A daemon that dies is started again and finds them as LISTEN_FDS.
//
//   orca-supervisor --socket PATH -- COMMAND [ARGUMENT...]
//
// Towards the daemon it speaks systemd's protocol (sd_notify(3), sd_listen_fds(3), "File Descriptor Store"), so the
// daemon does not care which of the two it has:
//
//   FDSTORE=1, FDNAME=NAME + descriptors   keep them       FDSTOREREMOVE=1, FDNAME=NAME   forget them
//   READY=1    it serves                                   BARRIER=1 + descriptor         closed when we got so far
//   MAINPID=N  N, a child of ours, is the daemon now       X_ORCA_ARGUMENT=...            command of the next start
//
// Stored descriptors are not polled for their end (FDPOLL=0): the kernel would wake us at every request of a mount.
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "state.h"

namespace orca {
namespace {

/// Pauses before a daemon that died without getting READY is started again, in milliseconds.
constexpr int kFirstPause = 100;
constexpr int kLongestPause = 5000;
/// Nice value of supervisor and daemon.
constexpr int kPriority = -10;
constexpr std::array kRelayed{SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

/// Everything the daemon left behind is in `state`; the rest is about the process that runs now.
class Supervisor {
 public:
  Supervisor(State state, Descriptor notify, std::string notifyName, Descriptor signals, sigset_t inherited)
      : state_(std::move(state)),
        notify_(std::move(notify)),
        notifyName_(std::move(notifyName)),
        signals_(std::move(signals)),
        inherited_(inherited),
        everReady_(!state_.empty()) {}

  /// Returns the exit code.
  int run() {
    start();
    while (!ended_) {
      std::array<pollfd, 2> sources{{{notify_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}}};
      const int ready = poll(sources.data(), sources.size(), pause_);
      if (ready < 0 && errno != EINTR) return complain("poll");
      if (ready == 0) start();
      // Before the signals: what a daemon said before it died counts.
      if (ready > 0 && sources[0].revents != 0) receive();
      if (ready > 0 && sources[1].revents != 0) signalled();
    }
    return exitCode_;
  }

 private:
  static int complain(const char* what) {
    perror((std::string("orca-supervisor: ") + what).c_str());
    return 1;
  }

  void start() {
    pause_ = -1;
    ready_ = false;
    daemon_ = fork();
    if (daemon_ < 0) {
      complain("fork");
      pauseBeforeStart();
    } else if (daemon_ == 0) {
      sigprocmask(SIG_SETMASK, &inherited_, nullptr);
      state_.execute(notifyName_);
      _exit(complain(state_.command.front().c_str()) + 126);
    }
  }

  void pauseBeforeStart() {
    pause_ = failures_ == 0 ? kFirstPause : std::min(kLongestPause, kFirstPause << std::min(failures_, 6));
    ++failures_;
  }

  void receive() {
    Message message;
    while (receiveMessage(notify_.get(), message)) {
      if (message.sender.pid != daemon_ || message.sender.uid != geteuid()) {
        fprintf(stderr, "orca-supervisor: a message of process %d is ignored\n", message.sender.pid);
        continue;
      }
      if (message.has("FDSTORE", "1")) state_.store(std::move(message));
      else if (message.has("FDSTOREREMOVE", "1")) state_.forget(message.value("FDNAME"));
      if (message.has("READY", "1")) {
        ready_ = everReady_ = true;
        failures_ = 0;
      }
      if (auto command = message.values("X_ORCA_ARGUMENT"); !command.empty()) state_.command = std::move(command);
      if (const auto pid = message.value("MAINPID"); !pid.empty()) adopt(atoi(pid.c_str()));
      // A barrier's descriptor is closed with the message.
    }
  }

  /// Only a child, since of another process we would not learn the end.
  void adopt(pid_t pid) {
    siginfo_t info;
    if (pid > 1 && waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0) daemon_ = pid;
  }

  void signalled() {
    signalfd_siginfo info;
    while (read(signals_.get(), &info, sizeof info) == sizeof info) {
      const int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGCHLD) reap();
      else if (daemon_ > 0) kill(daemon_, signal);
      else if ((signal == SIGTERM || signal == SIGINT) && state_.empty()) end(0);
    }
  }

  void reap() {
    int status = 0;
    for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG)) {
      if (pid != daemon_) continue;
      receive();
      daemon_ = 0;
      died(pid, status);
    }
  }

  void died(pid_t pid, int status) {
    const bool orderly = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (orderly && state_.empty()) return end(0);
    if (WIFEXITED(status)) fprintf(stderr, "orca-supervisor: daemon %d ended with %d", pid, WEXITSTATUS(status));
    else fprintf(stderr, "orca-supervisor: daemon %d was killed by signal %d", pid, WTERMSIG(status));
    // What has never worked will not work the next time either.
    if (!everReady_ && WIFEXITED(status)) {
      fprintf(stderr, " at its first start\n");
      return end(orderly ? 1 : WEXITSTATUS(status));
    }
    fprintf(stderr, "; %zu mount%s for the next\n", state_.mounts(), state_.mounts() == 1 ? "" : "s");
    if (ready_ || failures_ == 0) {
      if (!ready_) ++failures_;
      start();
    } else {
      pauseBeforeStart();
    }
  }

  void end(int exitCode) {
    ended_ = true;
    exitCode_ = exitCode;
  }

  State state_;
  Descriptor notify_;
  std::string notifyName_;
  Descriptor signals_;
  sigset_t inherited_;
  /// What works already may be tried again and again.
  bool everReady_;
  pid_t daemon_ = 0;
  bool ready_ = false;
  bool ended_ = false;
  int failures_ = 0;
  int pause_ = -1;
  int exitCode_ = 0;
};

int usage() {
  fprintf(stderr, "usage: orca-supervisor --socket PATH -- COMMAND [ARGUMENT...]\n");
  return 2;
}

int supervise(int count, char** arguments) {
  if (count < 5 || std::string(arguments[1]) != "--socket" || std::string(arguments[3]) != "--") return usage();
  const std::string path = arguments[2];
  State state;
  state.path = path;
  state.command.assign(arguments + 4, arguments + count);

  // One supervisor for a socket; the lock ends with us. A daemon that outlived another supervisor still answers, unless
  // it is that daemon which has started us and is about to end.
  state.inherit();
  const Descriptor lock(open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return perror(("orca-supervisor: " + path + ".lock").c_str()), 1;
  if (flock(lock.get(), LOCK_EX | LOCK_NB) < 0 || (!state.control && answers(path))) {
    fprintf(stderr, "orca-supervisor: a daemon answers at %s already\n", path.c_str());
    return kExitTaken;
  }
  if (!state.control) state.control = listenAt(path);
  if (!state.control) return perror(("orca-supervisor: " + path).c_str()), 1;
  std::string notifyName;
  Descriptor notify = openNotifySocket(notifyName);
  if (!notify) return perror("orca-supervisor: notification socket"), 1;

  sigset_t handled, inherited;
  sigemptyset(&handled);
  sigaddset(&handled, SIGCHLD);
  for (const int signal : kRelayed) sigaddset(&handled, signal);
  sigprocmask(SIG_BLOCK, &handled, &inherited);
  Descriptor signals(signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return perror("orca-supervisor: signalfd"), 1;
  // So that the end of a daemon that a daemon started (MAINPID) reaches us.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  // Whoever reads from a mount waits for the daemon. Without privilege it stays as it is.
  (void)setpriority(PRIO_PROCESS, 0, kPriority);
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }

  const int code = Supervisor(std::move(state), std::move(notify), notifyName, std::move(signals), inherited).run();
  unlink(path.c_str());
  return code;
}

}  // namespace
}  // namespace orca

int main(int count, char** arguments) { return orca::supervise(count, arguments); }
