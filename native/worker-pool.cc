#include "worker-pool.h"

#include <pthread.h>
#include <signal.h>

namespace orca {

void blockSignals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

void WorkerPool::run(std::function<void()> job) {
  runInTwo([job = std::move(job)] {
    job();
    return Rest();
  });
}

void WorkerPool::runInTwo(std::function<Rest()> job) {
  std::unique_lock lock(mutex_);
  if (stopped_) return;
  jobs_.push_back(std::move(job));
  wakeOne(std::move(lock));
}

void WorkerPool::runSlow(Rest job) {
  std::unique_lock lock(mutex_);
  if (stopped_) return;
  rests_.push_back(std::move(job));
  wakeOne(std::move(lock));
}

void WorkerPool::wakeOne(std::unique_lock<std::mutex> lock) {
  if (idle_ == 0 && threads_.size() < size_) threads_.emplace_back([this] { work(); });
  lock.unlock();
  wake_.notify_one();
}

void WorkerPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

void WorkerPool::work() {
  blockSignals();
  pthread_setname_np(pthread_self(), "orca-cache");
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return stopped_ || !jobs_.empty() || mayRunRest(); });
    --idle_;
    Rest rest;
    if (!jobs_.empty()) {
      const auto job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      rest = job();
      lock.lock();
      if (!rest) continue;
      rests_.push_back(std::move(rest));
    }
    if (mayRunRest()) {
      rest = std::move(rests_.front());
      rests_.pop_front();
      ++slow_;
      lock.unlock();
      rest();
      rest = nullptr;
      lock.lock();
      --slow_;
    } else if (stopped_ && jobs_.empty()) {
      return;
    }
  }
}

}  // namespace orca
