// Drops the file's pages from the page cache, then reads COUNT pieces of SIZE bytes at places that a fixed seed
// chooses, each once, and prints the nanoseconds.
// Usage: random-read PATH COUNT SIZE
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

int main(int argc, char** argv) {
  const int fd = argc == 4 ? open(argv[1], O_RDONLY) : -1;
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0) {
    perror("random-read PATH COUNT SIZE");
    return EXIT_FAILURE;
  }
  const auto count = static_cast<size_t>(std::atol(argv[2]));
  const auto size = static_cast<size_t>(std::atol(argv[3]));
  std::vector<off_t> pieces(static_cast<size_t>(status.st_size) / size);
  if (count > pieces.size()) {
    std::fprintf(stderr, "%s is too small\n", argv[1]);
    return EXIT_FAILURE;
  }
  std::iota(pieces.begin(), pieces.end(), 0);
  std::shuffle(pieces.begin(), pieces.end(), std::mt19937_64(1));
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  const std::unique_ptr<void, decltype(&free)> buffer(aligned_alloc(4096, size), free);
  const auto began = std::chrono::steady_clock::now();
  for (size_t i = 0; i < count; i++) {
    if (pread(fd, buffer.get(), size, pieces[i] * static_cast<off_t>(size)) != static_cast<ssize_t>(size)) {
      perror(argv[1]);
      return EXIT_FAILURE;
    }
  }
  const auto took = std::chrono::steady_clock::now() - began;
  printf("%lld\n", static_cast<long long>(std::chrono::nanoseconds(took).count()));
}
