// What is used of zlib, declared here: every Node exports the functions of the zlib that it is linked with (its own,
// which is faster, or the distribution's), so neither the library's headers nor a second copy of it is needed.
// The layout of z_stream has been the same since zlib 1.0; inflateInit2_ refuses another size or major version.
#pragma once

#include <cstddef>

extern "C" {

struct z_stream {
  const unsigned char* next_in;
  unsigned avail_in;
  unsigned long total_in;
  unsigned char* next_out;
  unsigned avail_out;
  unsigned long total_out;
  const char* msg;
  struct internal_state* state;
  void* (*zalloc)(void*, unsigned, unsigned);
  void (*zfree)(void*, void*);
  void* opaque;
  int data_type;
  unsigned long adler;
  unsigned long reserved;
};

int inflateInit2_(z_stream*, int windowBits, const char* version, int streamSize);
int inflate(z_stream*, int flush);
int inflateEnd(z_stream*);
int inflateReset2(z_stream*, int windowBits);
int inflatePrime(z_stream*, int bits, int value);
int inflateSetDictionary(z_stream*, const unsigned char* dictionary, unsigned length);
int inflateGetDictionary(z_stream*, unsigned char* dictionary, unsigned* length);
}

static_assert(sizeof(void*) != 8 || (sizeof(z_stream) == 112 && offsetof(z_stream, data_type) == 88));

inline constexpr int Z_NO_FLUSH = 0, Z_BLOCK = 5;
inline constexpr int Z_OK = 0, Z_STREAM_END = 1, Z_MEM_ERROR = -4, Z_BUF_ERROR = -5;
inline constexpr char kZlibVersion[] = "1";
