#include "preloader.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "worker-pool.h"

namespace orca {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kPage = ProfileStep::kPage;
/// Pages asked for in one go: four READs.
constexpr uint64_t kMostPages = 512;
/// The kernel lets 64 READs of its read-ahead be under way (operations.cc) and makes whoever wants more wait where no
/// stop reaches it. So many may wait for a source before the walk waits itself.
constexpr size_t kMostWaiting = 40;
/// A listing that is longer is not read ahead.
constexpr uint64_t kMostListing = 1 << 20;
constexpr auto kFirstPause = 1ms;
constexpr auto kLongestPause = 50ms;
/// Between looks at whether the mount is still there.
constexpr auto kLook = 10ms;
/// linux/mount.h, which does not go together with sys/mount.h everywhere.
constexpr unsigned kOpenTreeClone = 1;

uint64_t mountIdOf(int directory, const char* path, int flags) {
  struct statx status {};
  const int code = statx(directory, path, flags | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_MNT_ID, &status);
  return code == 0 && (status.stx_mask & STATX_MNT_ID) != 0 ? status.stx_mnt_id : 0;
}

}  // namespace

void Preloader::start(std::function<void(uint32_t thread)> onBegin) {
  std::thread([self = shared_from_this(), onBegin = std::move(onBegin)] {
    blockSignals();
    pthread_setname_np(pthread_self(), "orca-preload");
    onBegin(static_cast<uint32_t>(gettid()));
    if (self->enter()) self->walk();
    self->root_.reset();
    const std::lock_guard lock(self->mutex_);
    self->ended_ = true;
    self->changed_.notify_all();
  }).detach();
}

void Preloader::requestStop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

bool Preloader::waitFor(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, time, [this] { return ended_; });
}

bool Preloader::enter() {
  const char* place = target_.mountpoint.c_str();
  mountId_ = mountIdOf(AT_FDCWD, place, 0);
  root_ = Descriptor(static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, place, O_CLOEXEC | kOpenTreeClone)));
  // Whoever may not clone holds the mount itself as long as the walk takes.
  if (!root_) root_ = Descriptor(open(place, O_PATH | O_DIRECTORY | O_CLOEXEC));
  return root_ && mountId_ != 0 && mountIdOf(AT_FDCWD, place, 0) == mountId_;
}

bool Preloader::over() {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return true;
  }
  const auto now = Clock::now();
  if (now - begin_ > AccessLog::kStart) return true;
  if (now - looked_ < kLook) return false;
  looked_ = now;
  return mountIdOf(AT_FDCWD, target_.mountpoint.c_str(), 0) != mountId_;
}

void Preloader::walk() {
  auto pause = std::chrono::milliseconds(kFirstPause);
  while (!steps_.empty()) {
    bool advanced = false;
    for (auto step = steps_.begin(); step != steps_.end();) {
      if (over()) return;
      const Outcome outcome = take(*step);
      if (outcome == Outcome::notYet) {
        ++step;
        continue;
      }
      ++(outcome == Outcome::taken ? taken : passedOver);
      step = steps_.erase(step);
      advanced = true;
    }
    pause = advanced ? kFirstPause : std::min<std::chrono::milliseconds>(2 * pause, kLongestPause);
    std::unique_lock lock(mutex_);
    if (!steps_.empty()) changed_.wait_for(lock, pause, [this] { return stopping_; });
  }
}

Preloader::Outcome Preloader::take(ProfileStep& step) {
  Inode inode{};
  if (!target_.image.has(step, inode)) return Outcome::passedOver;
  switch (step.kind) {
    case AccessKind::absent:
      // The kernel remembers that it is not there.
      (void)openAt(step.path, O_PATH | O_NOFOLLOW);
      return Outcome::taken;
    case AccessKind::name:
      return openAt(step.path, O_PATH | O_NOFOLLOW) ? Outcome::taken : Outcome::passedOver;
    case AccessKind::link: {
      const Descriptor link = openAt(step.path, O_PATH | O_NOFOLLOW);
      std::array<char, 1> target;
      return link && readlinkat(link.get(), "", target.data(), target.size()) > 0 ? Outcome::taken
                                                                                 : Outcome::passedOver;
    }
    case AccessKind::listing: {
      if (inode.size > kMostListing) return Outcome::passedOver;
      const Descriptor directory = openAt(step.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      alignas(8) std::array<char, 32 << 10> entries;
      while (directory && !over() && syscall(SYS_getdents64, directory.get(), entries.data(), entries.size()) > 0) {
      }
      return directory ? Outcome::taken : Outcome::passedOver;
    }
    case AccessKind::pages:
      return askForPages(step, inode);
    default:
      return Outcome::passedOver;
  }
}

Preloader::Outcome Preloader::askForPages(ProfileStep& step, const Inode& inode) {
  Descriptor file;
  while (step.count > 0) {
    const uint64_t count = std::min(step.count, kMostPages);
    const uint64_t offset = step.first * kPage;
    const uint64_t length = std::min(count * kPage, inode.size - offset);
    if (!present(inode, offset, length) || target_.connection->waiting() > kMostWaiting) return Outcome::notYet;
    // O_NONBLOCK: nothing here may wait for whatever an odd image has in place of a file.
    if (!file) file = openAt(step.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!file || posix_fadvise(file.get(), static_cast<off_t>(offset), static_cast<off_t>(length),
                               POSIX_FADV_WILLNEED) != 0)
      return Outcome::passedOver;
    pages += count;
    step.first += count;
    step.count -= count;
    if (over()) return Outcome::notYet;
  }
  return Outcome::taken;
}

bool Preloader::present(const Inode& inode, uint64_t offset, uint64_t length) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return false;
  return target_.image.eachRun(inode, offset, length, [this](uint32_t device, uint64_t first, uint64_t count) {
    for (uint64_t block = first; block < first + count; ++block)
      if (!target_.files[device]->has(block)) return false;
    return true;
  });
}

Descriptor Preloader::openAt(const std::string& path, uint64_t flags) const {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  const char* name = path.empty() ? "." : path.c_str();
  return Descriptor(static_cast<int>(syscall(SYS_openat2, root_.get(), name, &how, sizeof how)));
}

}  // namespace orca
