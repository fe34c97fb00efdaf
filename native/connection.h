// The answering side of one FUSE descriptor: replies, counters, and the READs that wait.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "block-file.h"
#include "descriptor.h"
#include "protocol.h"

namespace orca {

using Bytes = std::span<const std::byte>;

template <typename T>
Bytes bytesOf(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

/// Room for every opcode of the protocol; higher numbers count as 0, which is none of them.
constexpr size_t kOpcodes = 64;

struct Counters {
  std::array<std::atomic<uint64_t>, kOpcodes> requests{};
  std::atomic<uint64_t> bytesRead = 0;
  std::atomic<uint64_t> readHits = 0;
  std::atomic<uint64_t> readMisses = 0;
};

class PendingRead;

/// Safe from any thread.
class Connection {
 public:
  /// `splice`: replies may be made of pages of a cache file.
  explicit Connection(Descriptor descriptor, bool splice = true);

  int descriptor() const { return descriptor_.get(); }
  /// Whether a pipe can be spliced into it as one message, and may: /dev/fuse, not the socket of a test.
  bool takesPages() const { return takesPages_; }
  void reply(uint64_t unique, std::span<const Bytes> payload);
  void reply(uint64_t unique, std::initializer_list<Bytes> payload = {}) {
    reply(unique, std::span(payload.begin(), payload.size()));
  }
  void replyError(uint64_t unique, int code);
  /// A message of ours (FUSE_NOTIFY_*); 0 or an errno.
  int notify(fuse::Notify code, Bytes payload);

  void add(std::shared_ptr<PendingRead> read);
  void remove(uint64_t unique);
  /// Null when no such READ waits.
  std::shared_ptr<PendingRead> find(uint64_t unique);
  size_t waiting();
  /// Answers every READ that waits, and closes the descriptor. No thread may still serve it.
  void end(int code);

  Counters counters;
  std::map<int, uint64_t> errors();

 private:
  int send(uint64_t unique, int error, std::span<const Bytes> payload);

  Descriptor descriptor_;
  bool takesPages_;
  std::mutex mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<PendingRead>> reads_;
  std::mutex errorsMutex_;
  std::map<int, uint64_t> errors_;
};

/// A READ that waits for blocks. What comes at once and is all of the reply is sent from where it lies; what comes in
/// parts is collected.
class PendingRead : public BlockWaiter {
 public:
  PendingRead(std::shared_ptr<Connection> connection, uint64_t unique, size_t length)
      : unique(unique), connection_(std::move(connection)), length_(length) {}

  /// The part of the reply that is there already: as long as the reply, but for what is expected. Before release().
  void begin(Bytes reply);
  /// One more piece to come. The reply goes out when as many have come as were expected, and release() was called.
  void expect();
  void release();
  void fill(std::span<const Filling> pieces) override;
  void fail(int code) override;

  const uint64_t unique;

 private:
  /// Whether the pieces are all of the reply, one after the other from its beginning.
  bool isWhole(std::span<const Filling> pieces) const;
  void collect(std::span<const Filling> pieces);
  void answer(std::span<const Bytes> payload);

  const std::shared_ptr<Connection> connection_;
  const size_t length_;
  std::mutex mutex_;
  /// Of `length_` bytes once anything is collected.
  std::unique_ptr<std::byte[]> reply_;
  size_t missing_ = 1;
  bool answered_ = false;
};

}  // namespace orca
