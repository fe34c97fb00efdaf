// The threads that serve one FUSE descriptor.
//
// One thread at a time receives; the others sleep. What takes a microsecond (LOOKUP, GETATTR) it answers itself,
// before something longer (READ) it hands the receiving over. So a second thread is woken only for work that is worth
// it. While requests keep coming the receiver polls for a moment before it sleeps.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "mapped-file.h"
#include "preloader.h"
#include "server.h"

namespace orca {

enum class EndReason { unmounted, closed, failed };

struct SessionOptions {
  std::string indexPath;
  std::vector<std::shared_ptr<BlockFile>> files;
  size_t threads;
  bool adopt;
  /// How long the receiver polls after an answer, and how soon after it the last request must have come for that.
  std::chrono::microseconds poll;
  bool splice;
  Server::MissFunction onMiss;
  /// Empty: nothing is foreseen.
  Server::LikelyFunction onLikely;
  /// Called once, by the last thread to end; stop() or the destructor then no longer wait.
  std::function<void(EndReason, std::string message)> onEnd;
};

class Session {
 public:
  /// Takes `descriptor`, which is closed on failure too.
  static Failure start(Descriptor descriptor, SessionOptions options, std::unique_ptr<Session>& out);
  ~Session() { stop(); }

  /// Asks the threads to end; onEnd tells when they have.
  void requestStop();
  /// Asks, and waits.
  void stop();
  Connection& connection() { return *connection_; }
  /// In the order of their first touch; also when the session has ended.
  std::vector<Touch> touched() { return touches_->entries(); }
  std::vector<Access> accesses();
  /// Walks these steps through the mount, on a thread of its own. Once.
  void preload(std::string mountpoint, std::vector<ProfileStep> steps);
  /// What it serves, to be looked at by another thread; nothing once it has ended.
  std::optional<IndexedImage> image();
  void stopPreload();
  /// Null before preload().
  std::shared_ptr<Preloader> preloader();
  /// The same of files: nids as the blocks of device 0.
  std::vector<Touch> filesRead() { return filesRead_->entries(); }

 private:
  class Receiver;
  Session() = default;
  void serve();
  void finish();

  std::shared_ptr<Connection> connection_;
  std::shared_ptr<TouchLog> touches_;
  std::shared_ptr<AccessLog> accesses_;
  /// Guards the three below against the end of the threads, which releases the first two.
  std::mutex alive_;
  std::shared_ptr<MappedFile> index_;
  std::shared_ptr<TouchLog> filesRead_;
  std::shared_ptr<Server> server_;
  std::shared_ptr<Preloader> preloader_;
  std::function<void(EndReason, std::string)> onEnd_;
  bool adopt_ = false;
  std::chrono::microseconds poll_{};
  Descriptor wake_;
  std::vector<std::thread> threads_;

  /// Held by the thread that receives; guards what follows.
  std::mutex receiving_;
  bool prepared_ = false;
  bool ended_ = false;
  EndReason reason_ = EndReason::closed;
  std::string message_;
  std::atomic<size_t> running_ = 0;
  std::atomic<bool> stopping_ = false;
};

}  // namespace orca
