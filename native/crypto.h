// SHA-256 and AES-GCM by the OpenSSL that is part of Node: its symbols are looked up in the process, since Node-API has
// no headers for them. Safe from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace orca {

constexpr size_t kDigestSize = 32;
constexpr size_t kGcmTagSize = 16;

/// Whether the process has what the functions below need; without it they always fail.
bool cryptoAvailable();

using Digest = std::span<const std::byte, kDigestSize>;

/// True when `bytes` have this SHA-256.
bool hasDigest(std::span<const std::byte> bytes, Digest digest);
/// The same of two, which costs much less than one after the other where the processor helps (sha256-pair.h).
std::array<bool, 2> haveDigests(const std::array<std::span<const std::byte>, 2>& bytes,
                                const std::array<Digest, 2>& digests);

struct GcmMessage {
  /// 16 or 32 bytes.
  std::span<const std::byte> key;
  /// 12 bytes.
  std::span<const std::byte> nonce;
  /// Authenticated, not encrypted.
  std::span<const std::byte> additional;
  std::span<const std::byte, kGcmTagSize> tag;
};

/// Decrypts `data` in place. False when it is not authentic: what `data` holds then must not be used.
bool openGcm(const GcmMessage& message, std::span<std::byte> data);

}  // namespace orca
