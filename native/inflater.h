// Inflates gzip, from the beginning or from a checkpoint in the middle (the technique of zlib's examples/zran.c), and
// records checkpoints on the way. One call's work is bounded by the lengths of its input and its output.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "zlib-abi.h"

namespace orca {

/// A place at which inflating can begin.
struct Checkpoint {
  /// Bytes of the blob before it, and of the output. Where `bits` is not 0, that many high bits of the last of the
  /// bytes before it belong to what follows.
  uint64_t in = 0;
  uint64_t out = 0;
  int bits = 0;
  /// A gzip member begins here: no window is needed.
  bool member = false;
  /// The output before it, at most 32 KiB.
  std::vector<std::byte> window;
};

struct InflateStep {
  size_t consumed = 0;
  size_t produced = 0;
  /// All input was used up, and there is room left in the output.
  bool needsInput = false;
  /// The stream is complete if no further input comes.
  bool mayEnd = false;
  /// At most one per call, which ends with it.
  std::optional<Checkpoint> checkpoint;
  /// What is wrong with the data; nothing can follow. Null: nothing is.
  const char* error = nullptr;
};

class Inflater {
 public:
  static constexpr size_t kMaxWindow = 32768;

  /// From the beginning of a gzip member. Null without memory.
  static std::unique_ptr<Inflater> atMember();
  /// From a checkpoint within a member: `value` holds the `bits` (0 to 7), `window` at most kMaxWindow bytes.
  static std::unique_ptr<Inflater> within(int bits, int value, std::span<const std::byte> window);
  ~Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  /// `span`: bytes of output between checkpoints that are recorded, 0 for none.
  InflateStep run(std::span<const std::byte> input, std::span<std::byte> output, uint64_t span);

 private:
  /// member: with header and trailer, which zlib checks. raw: the rest of a member. trailer: of a raw one, eight bytes.
  enum class State { member, raw, trailer, between, padding, failed };

  Inflater() = default;
  bool step(uint64_t span, InflateStep& result);
  bool beginMember(uint64_t span, InflateStep& result);
  void inflateSome(uint64_t span, InflateStep& result);
  void record(InflateStep& result);
  uint64_t in() const { return in_ + taken_ - stream_.avail_in; }
  uint64_t out() const { return out_ + room_ - stream_.avail_out; }

  z_stream stream_{};
  State state_ = State::member;
  int trailer_ = 0;
  /// Bytes of all calls before this one, and the lengths given to this one.
  uint64_t in_ = 0, out_ = 0;
  size_t taken_ = 0, room_ = 0;
  uint64_t lastCheckpoint_ = 0;
};

}  // namespace orca
