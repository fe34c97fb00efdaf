// Walks a startup profile through the mount itself, so that the kernel has dentries, inodes, listings, link targets and
// pages before the process asks for them.
//
// One thread, which is no session thread. It asks for pages only when their blocks are in the cache, so that no READ of
// its own waits for a source, and not while many wait. It goes in by a private clone of the mount, where the caller may
// make one, so that the mount point can be unmounted at any time; and it ends when that happens.
//
// Paths are those of a profile, which anybody may have written: each is looked up in the image index first, and only
// what is there is opened, without following links and without leaving the mount.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "block-file.h"
#include "connection.h"
#include "descriptor.h"
#include "profile-step.h"

namespace orca {

struct PreloadTarget {
  IndexedImage image;
  /// One per layer.
  std::vector<std::shared_ptr<BlockFile>> files;
  std::shared_ptr<Connection> connection;
  std::string mountpoint;
};

class Preloader : public std::enable_shared_from_this<Preloader> {
 public:
  Preloader(PreloadTarget target, std::vector<ProfileStep> steps)
      : target_(std::move(target)), steps_(steps.begin(), steps.end()) {}

  /// `onBegin` gets the thread's id, as requests name it, before the first of them.
  void start(std::function<void(uint32_t thread)> onBegin);
  /// When it returns, the block files are not used any more; the thread ends when the kernel lets it.
  void requestStop();
  /// False when the thread has not ended in time.
  bool waitFor(std::chrono::milliseconds time);

  /// Steps taken, pages asked for, and steps that the image or the mount did not allow.
  std::atomic<uint64_t> taken = 0;
  std::atomic<uint64_t> pages = 0;
  std::atomic<uint64_t> passedOver = 0;

 private:
  enum class Outcome { taken, passedOver, notYet };
  using Clock = std::chrono::steady_clock;

  void walk();
  bool enter();
  bool over();
  Outcome take(ProfileStep& step);
  Outcome askForPages(ProfileStep& step, const Inode& inode);
  bool present(const Inode& inode, uint64_t offset, uint64_t length);
  Descriptor openAt(const std::string& path, uint64_t flags) const;

  const PreloadTarget target_;
  std::list<ProfileStep> steps_;
  Descriptor root_;
  uint64_t mountId_ = 0;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point looked_ = begin_;

  /// Held while the block files are looked at; guards what follows.
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool ended_ = false;
};

}  // namespace orca
