// Drops the file's pages from the page cache, then reads it from start to end and prints the nanoseconds.
// The buffer begins on a page, as those of cat, cp and dd do: the kernel's copy into one that is 16 bytes off, as
// malloc(3) gives it, takes several times as long (AMD Zen, `rep movsb`), whatever the file system.
// Usage: read PATH
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

int main(int argc, char** argv) {
  const int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
  if (fd < 0) {
    perror("read PATH");
    return EXIT_FAILURE;
  }
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  constexpr size_t size = 1 << 20;
  const std::unique_ptr<void, decltype(&free)> buffer(aligned_alloc(4096, size), free);
  const auto began = std::chrono::steady_clock::now();
  ssize_t got;
  while ((got = read(fd, buffer.get(), size)) > 0) {
  }
  const auto took = std::chrono::steady_clock::now() - began;
  if (got < 0) {
    perror(argv[1]);
    return EXIT_FAILURE;
  }
  printf("%lld\n", static_cast<long long>(std::chrono::nanoseconds(took).count()));
}
