// Drops the file's pages from the page cache, then reads it from start to end and prints the nanoseconds.
// Usage: read PATH
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int argc, char** argv) {
  const int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
  if (fd < 0) {
    perror("read PATH");
    return EXIT_FAILURE;
  }
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  std::vector<char> buffer(1 << 20);
  const auto began = std::chrono::steady_clock::now();
  ssize_t got;
  while ((got = read(fd, buffer.data(), buffer.size())) > 0) {
  }
  const auto took = std::chrono::steady_clock::now() - began;
  if (got < 0) {
    perror(argv[1]);
    return EXIT_FAILURE;
  }
  printf("%lld\n", static_cast<long long>(std::chrono::nanoseconds(took).count()));
}
