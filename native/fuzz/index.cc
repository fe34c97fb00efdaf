// The image index reader on any bytes. Input: the image itself.
#include <cstdint>

#include "walk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::optional<orca::ErofsIndex> index;
  if (orca::ErofsIndex::open(std::as_bytes(std::span(data, size)), index) == nullptr) orca::fuzz::walk(*index);
  return 0;
}
