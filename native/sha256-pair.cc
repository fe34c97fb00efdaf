#include "sha256-pair.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

namespace orca {
namespace {

constexpr size_t kLanes = 2;
constexpr size_t kChunk = 64;

/// FIPS 180-4 § 4.2.2 and 5.3.3.
alignas(16) constexpr uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
constexpr uint32_t kInitial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

struct Lanes {
  /// State words A, B, E, F and C, D, G, H of each, from the highest to the lowest, as the instructions take them.
  __m128i abef[kLanes];
  __m128i cdgh[kLanes];
};

__m128i load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }

__attribute__((target("sha,sse4.1,ssse3"))) void absorb(Lanes& state, const std::byte* const* data, size_t chunks) {
  const __m128i bigEndian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i abef[kLanes], cdgh[kLanes];
  for (size_t lane = 0; lane < kLanes; ++lane) {
    abef[lane] = state.abef[lane];
    cdgh[lane] = state.cdgh[lane];
  }
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    __m128i before[kLanes][2], words[kLanes][4];
    for (size_t lane = 0; lane < kLanes; ++lane) {
      before[lane][0] = abef[lane];
      before[lane][1] = cdgh[lane];
      for (size_t i = 0; i < 4; ++i)
        words[lane][i] = _mm_shuffle_epi8(load(data[lane] + chunk * kChunk + i * 16), bigEndian);
    }
#pragma GCC unroll 16
    for (size_t group = 0; group < 16; ++group) {
      const __m128i constants = _mm_load_si128(reinterpret_cast<const __m128i*>(kRound + group * 4));
#pragma GCC unroll 2
      for (size_t lane = 0; lane < kLanes; ++lane) {
        auto* w = words[lane];
        const __m128i sum = _mm_add_epi32(w[group % 4], constants);
        cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sum);
        abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], _mm_shuffle_epi32(sum, 0x0e));
        if (group >= 12) continue;
        const __m128i mixed = _mm_add_epi32(_mm_sha256msg1_epu32(w[group % 4], w[(group + 1) % 4]),
                                            _mm_alignr_epi8(w[(group + 3) % 4], w[(group + 2) % 4], 4));
        w[group % 4] = _mm_sha256msg2_epu32(mixed, w[(group + 3) % 4]);
      }
    }
    for (size_t lane = 0; lane < kLanes; ++lane) {
      abef[lane] = _mm_add_epi32(abef[lane], before[lane][0]);
      cdgh[lane] = _mm_add_epi32(cdgh[lane], before[lane][1]);
    }
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    state.abef[lane] = abef[lane];
    state.cdgh[lane] = cdgh[lane];
  }
}

__attribute__((target("ssse3"))) Sha256 digestOf(__m128i abef, __m128i cdgh) {
  // Sixteen bytes backwards are four words in the other order, each big-endian.
  const __m128i backwards = _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f);
  Sha256 digest;
  auto* out = reinterpret_cast<__m128i*>(digest.data());
  _mm_storeu_si128(out, _mm_shuffle_epi8(_mm_unpackhi_epi64(cdgh, abef), backwards));
  _mm_storeu_si128(out + 1, _mm_shuffle_epi8(_mm_unpacklo_epi64(cdgh, abef), backwards));
  return digest;
}

}  // namespace

bool hasSha256Pair() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool sha = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_SHA) != 0;
  return sha && __builtin_cpu_supports("sse4.1") != 0 && __builtin_cpu_supports("ssse3") != 0;
}

std::array<Sha256, 2> sha256Pair(std::span<const std::byte> first, std::span<const std::byte> second) {
  const auto word = [](size_t i) { return static_cast<int>(kInitial[i]); };
  const __m128i abef = _mm_set_epi32(word(0), word(1), word(4), word(5));
  const __m128i cdgh = _mm_set_epi32(word(2), word(3), word(6), word(7));
  Lanes state{{abef, abef}, {cdgh, cdgh}};
  const std::byte* data[kLanes]{first.data(), second.data()};
  absorb(state, data, first.size() / kChunk);
  // The padding is a chunk of its own: a one bit, zeros, and the length in bits.
  std::byte padding[kChunk]{std::byte{0x80}};
  const uint64_t bits = __builtin_bswap64(first.size() * 8);
  memcpy(padding + kChunk - sizeof bits, &bits, sizeof bits);
  const std::byte* last[kLanes]{padding, padding};
  absorb(state, last, 1);
  return {digestOf(state.abef[0], state.cdgh[0]), digestOf(state.abef[1], state.cdgh[1])};
}

}  // namespace orca

#else

namespace orca {

bool hasSha256Pair() { return false; }
std::array<Sha256, 2> sha256Pair(std::span<const std::byte>, std::span<const std::byte>) { __builtin_trap(); }

}  // namespace orca

#endif
