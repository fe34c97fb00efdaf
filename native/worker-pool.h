// A few threads that run jobs in order of arrival: where BlockFile does what may wait for a disk.
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
  explicit WorkerPool(size_t threads) : size_(threads) {}
  ~WorkerPool() { stop(); }

  /// Threads are started by the first jobs, not before. After stop() a job is dropped.
  void run(std::function<void()> job);
  /// Waits until every job is done.
  void stop();

 private:
  void work();

  const size_t size_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  bool stopped_ = false;
};

}  // namespace orca
