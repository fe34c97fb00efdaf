// A few threads for jobs of two parts: one that somebody waits for, and one that may wait for a disk.
//
// A job is not handed from thread to thread: who has done the first part goes on with the second, since the bytes are in
// its processor's cache and waking a thread costs more than most parts do. But one thread is always kept for first parts.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace orca {

/// Signals are for the environment's thread; every other thread starts with this.
void blockSignals();

class WorkerPool {
 public:
  /// What is left of a job; empty when nothing is.
  using Rest = std::function<void()>;

  /// `threads`: at least 2. They are started when the others are busy, not before.
  explicit WorkerPool(size_t threads) : size_(threads) {}
  ~WorkerPool() { stop(); }

  /// Jobs are begun in order of arrival. After stop() a job is dropped.
  void run(std::function<void()> job);
  void runInTwo(std::function<Rest()> job);
  /// A job that is nothing but its second part.
  void runSlow(Rest job);
  /// Waits until every job is done.
  void stop();

 private:
  void wakeOne(std::unique_lock<std::mutex> lock);
  void work();
  bool mayRunRest() const { return !rests_.empty() && slow_ + 1 < size_; }

  const size_t size_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<Rest()>> jobs_;
  std::deque<Rest> rests_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  /// Threads that run a second part.
  size_t slow_ = 0;
  bool stopped_ = false;
};

}  // namespace orca
