#include "session.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "worker-pool.h"

namespace orca {
namespace {

using Clock = std::chrono::steady_clock;

/// Long requests are names and BATCH_FORGETs; the kernel insists on at least 8 KiB.
constexpr size_t kRequestBytes = 64 << 10;

}  // namespace

/// One thread's turn at receiving.
class Session::Receiver {
 public:
  explicit Receiver(Session& session) : session_(session), turn_(session.receiving_) {
    worker_.handOver = [this] {
      if (turn_.owns_lock()) turn_.unlock();
    };
  }

  Worker& worker() { return worker_; }

  /// The next message; empty when the session has ended.
  Bytes next() {
    if (!turn_.owns_lock()) turn_.lock();
    const int device = session_.connection_->descriptor();
    const auto idleSince = Clock::now();
    bool slept = false;
    while (!session_.ended_) {
      if (session_.stopping_) return end(EndReason::closed, "closed");
      const ssize_t count = read(device, request_.span().data(), request_.span().size());
      if (count > 0) {
        busy_ = !slept || Clock::now() - idleSince < session_.poll_;
        return Bytes(request_.span()).first(static_cast<size_t>(count));
      }
      if (count == 0 || errno == ENODEV) return end(EndReason::unmounted, "unmounted");
      // ENOENT: the request was interrupted while it was read.
      if (errno == EINTR || errno == ENOENT) continue;
      if (errno != EAGAIN) return end(EndReason::failed, std::string("cannot read requests: ") + strerror(errno));
      if (busy_ && Clock::now() - idleSince < session_.poll_) {
        // Who asks may well be waiting for this processor.
        sched_yield();
        continue;
      }
      std::array<pollfd, 2> sources{{{device, POLLIN, 0}, {session_.wake_.get(), POLLIN, 0}}};
      (void)poll(sources.data(), sources.size(), -1);
      slept = true;
    }
    return {};
  }

 private:
  Bytes end(EndReason reason, std::string message) {
    session_.ended_ = true;
    session_.reason_ = reason;
    session_.message_ = std::move(message);
    return {};
  }

  Session& session_;
  std::unique_lock<std::mutex> turn_;
  PageBuffer request_{kRequestBytes};
  Worker worker_;
  bool busy_ = false;
};

Failure Session::start(Descriptor descriptor, SessionOptions options, std::unique_ptr<Session>& out) {
  std::unique_ptr<Session> session(new Session);
  session->index_ = std::make_shared<MappedFile>();
  if (auto failure = MappedFile::open(options.indexPath, *session->index_)) return failure;
  std::optional<ErofsIndex> index;
  if (const char* problem = ErofsIndex::open(session->index_->bytes(), index))
    return {EBADMSG, "read", options.indexPath + ": " + problem};
  const auto& devices = index->devices();
  if (devices.size() != options.files.size())
    return {EINVAL, "read",
            options.indexPath + ": it has " + std::to_string(devices.size()) + " devices, but " +
                std::to_string(options.files.size()) + " block files are given"};
  for (size_t i = 0; i < devices.size(); ++i)
    if (devices[i].blocks * index->blockSize() > options.files[i]->size())
      return {EINVAL, "read", options.indexPath + ": device " + std::to_string(i + 1) + " is longer than its layer"};
  session->wake_ = Descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!session->wake_) return failed("eventfd");
  // Receivers poll; the flag belongs to the open description, so whoever adopts it finds it set.
  const int flags = fcntl(descriptor.get(), F_GETFL);
  if (flags < 0 || fcntl(descriptor.get(), F_SETFL, flags | O_NONBLOCK) < 0) return failed("fcntl");

  session->connection_ = std::make_shared<Connection>(std::move(descriptor), options.splice);
  session->server_ = std::make_shared<Server>(std::move(*index), std::move(options.files), session->connection_,
                                              std::move(options.onMiss), std::move(options.onLikely));
  session->touches_ = session->server_->touches();
  session->accesses_ = session->server_->accesses();
  session->filesRead_ = session->server_->filesRead();
  session->onEnd_ = std::move(options.onEnd);
  session->adopt_ = options.adopt;
  session->poll_ = options.poll;
  session->running_ = options.threads;
  for (size_t i = 0; i < options.threads; ++i) session->threads_.emplace_back([raw = session.get()] { raw->serve(); });
  out = std::move(session);
  return {};
}

void Session::serve() {
  blockSignals();
  pthread_setname_np(pthread_self(), "orca-fuse");
  {
    Receiver receiver(*this);
    if (!prepared_) {
      prepared_ = true;
      server_->survey();
      // An older kernel refuses, and what the last server had in hand stays unanswered until it is interrupted.
      if (adopt_) (void)connection_->notify(fuse::NOTIFY_RESEND, {});
    }
    for (Bytes message = receiver.next(); !message.empty(); message = receiver.next())
      server_->handle(message, receiver.worker());
  }
  if (--running_ == 0) finish();
}

void Session::finish() {
  stopPreload();
  connection_->end(EIO);
  server_->abandon();
  {
    const std::lock_guard lock(alive_);
    accesses_->resolve(server_->index());
    server_.reset();
    index_.reset();
  }
  onEnd_(reason_, message_);
}

std::vector<Access> Session::accesses() {
  {
    const std::lock_guard lock(alive_);
    if (server_) accesses_->resolve(server_->index());
  }
  return accesses_->entries();
}

std::optional<IndexedImage> Session::image() {
  const std::lock_guard lock(alive_);
  if (!server_) return std::nullopt;
  std::vector<IndexedImage::Layer> layers;
  for (const auto& file : server_->files()) layers.push_back({file->size(), file->blockSize()});
  return IndexedImage{index_, server_->index(), std::move(layers)};
}

void Session::preload(std::string mountpoint, std::vector<ProfileStep> steps) {
  auto image = this->image();
  const std::lock_guard lock(alive_);
  if (!image || !server_ || preloader_) return;
  preloader_ = std::make_shared<Preloader>(
      PreloadTarget{std::move(*image), server_->files(), connection_, std::move(mountpoint)}, std::move(steps));
  preloader_->start([server = server_](uint32_t thread) { server->preloadedBy(thread); });
}

std::shared_ptr<Preloader> Session::preloader() {
  const std::lock_guard lock(alive_);
  return preloader_;
}

void Session::stopPreload() {
  if (const auto preloader = this->preloader()) preloader->requestStop();
}

void Session::requestStop() {
  stopPreload();
  stopping_ = true;
  const uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof one);
}

void Session::stop() {
  requestStop();
  for (auto& thread : threads_)
    if (thread.joinable()) thread.join();
}

}  // namespace orca
