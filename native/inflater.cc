#include "inflater.h"

#include <algorithm>

namespace orca {
namespace {

constexpr int kGzip = 31;
constexpr int kRaw = -15;
/// CRC-32 and length (RFC 1952 §2.3).
constexpr int kTrailerSize = 8;
/// zlib counts in 32 bits; a call is given less.
constexpr size_t kMaxPiece = 1u << 30;
/// data_type: just after a block; in the last block of the stream; unused bits of the last byte.
constexpr int kBlockEnd = 128, kLastBlock = 64, kUnusedBits = 7;

}  // namespace

std::unique_ptr<Inflater> Inflater::atMember() {
  std::unique_ptr<Inflater> self(new Inflater);
  if (inflateInit2_(&self->stream_, kGzip, kZlibVersion, sizeof(z_stream)) != Z_OK) return nullptr;
  return self;
}

std::unique_ptr<Inflater> Inflater::within(int bits, int value, std::span<const std::byte> window) {
  std::unique_ptr<Inflater> self(new Inflater);
  self->state_ = State::raw;
  auto* stream = &self->stream_;
  if (inflateInit2_(stream, kRaw, kZlibVersion, sizeof(z_stream)) != Z_OK) return nullptr;
  if (bits != 0 && inflatePrime(stream, bits, value) != Z_OK) return nullptr;
  const auto* bytes = reinterpret_cast<const unsigned char*>(window.data());
  if (!window.empty() && inflateSetDictionary(stream, bytes, static_cast<unsigned>(window.size())) != Z_OK)
    return nullptr;
  return self;
}

Inflater::~Inflater() { inflateEnd(&stream_); }

InflateStep Inflater::run(std::span<const std::byte> input, std::span<std::byte> output, uint64_t span) {
  InflateStep result;
  taken_ = std::min(input.size(), kMaxPiece);
  room_ = std::min(output.size(), kMaxPiece);
  stream_.next_in = reinterpret_cast<const unsigned char*>(input.data());
  stream_.avail_in = static_cast<unsigned>(taken_);
  stream_.next_out = reinterpret_cast<unsigned char*>(output.data());
  stream_.avail_out = static_cast<unsigned>(room_);
  while (step(span, result)) {
  }
  result.consumed = taken_ - stream_.avail_in;
  result.produced = room_ - stream_.avail_out;
  result.mayEnd = state_ == State::between || state_ == State::padding;
  in_ += result.consumed;
  out_ += result.produced;
  taken_ = room_ = 0;
  stream_.avail_in = stream_.avail_out = 0;
  return result;
}

/// False when the call is to return.
bool Inflater::step(uint64_t span, InflateStep& result) {
  switch (state_) {
    case State::member:
    case State::raw:
      if (stream_.avail_out == 0) return false;
      inflateSome(span, result);
      return !result.error && !result.checkpoint && !result.needsInput;
    case State::trailer: {
      const unsigned skipped = std::min<unsigned>(static_cast<unsigned>(trailer_), stream_.avail_in);
      stream_.next_in += skipped;
      stream_.avail_in -= skipped;
      trailer_ -= static_cast<int>(skipped);
      if (trailer_ == 0) state_ = State::between;
      result.needsInput = trailer_ != 0;
      return trailer_ == 0;
    }
    case State::between:
      result.needsInput = stream_.avail_in == 0;
      return !result.needsInput && beginMember(span, result);
    case State::padding:
      stream_.avail_in = 0;
      result.needsInput = true;
      return false;
    case State::failed:
      result.error = "nothing can follow after damaged data";
      return false;
  }
  return false;
}

bool Inflater::beginMember(uint64_t span, InflateStep& result) {
  if (*stream_.next_in == 0) {
    state_ = State::padding;
    return true;
  }
  if (inflateReset2(&stream_, kGzip) != Z_OK) {
    state_ = State::failed;
    return true;
  }
  state_ = State::member;
  // A member needs no window, so it is worth a checkpoint a little early.
  if (span == 0 || out() - lastCheckpoint_ < span / 2) return true;
  result.checkpoint = Checkpoint{in(), out(), 0, true, {}};
  lastCheckpoint_ = out();
  return false;
}

void Inflater::inflateSome(uint64_t span, InflateStep& result) {
  const int status = inflate(&stream_, span == 0 ? Z_NO_FLUSH : Z_BLOCK);
  if (status == Z_STREAM_END) {
    trailer_ = kTrailerSize;
    state_ = state_ == State::raw ? State::trailer : State::between;
    return;
  }
  if (status == Z_BUF_ERROR || status == Z_OK) {
    const bool isBlockEnd = (stream_.data_type & kBlockEnd) != 0 && (stream_.data_type & kLastBlock) == 0;
    if (status == Z_OK && span != 0 && isBlockEnd && out() - lastCheckpoint_ >= span) record(result);
    // Output that zlib has ready comes out first; then it says that it cannot go on.
    result.needsInput = stream_.avail_in == 0 && stream_.avail_out != 0;
    return;
  }
  state_ = State::failed;
  result.error = status == Z_MEM_ERROR ? "out of memory" : stream_.msg != nullptr ? stream_.msg : "damaged data";
}

void Inflater::record(InflateStep& result) {
  std::vector<std::byte> window(kMaxWindow);
  unsigned length = 0;
  if (inflateGetDictionary(&stream_, reinterpret_cast<unsigned char*>(window.data()), &length) != Z_OK) return;
  window.resize(length);
  result.checkpoint = Checkpoint{in(), out(), stream_.data_type & kUnusedBits, false, std::move(window)};
  lastCheckpoint_ = out();
}

}  // namespace orca
