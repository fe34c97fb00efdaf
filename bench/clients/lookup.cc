// Reads paths, one a line, from stdin, calls lstat(2) on each, and prints the nanoseconds that all calls took.
#include <sys/stat.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

int main() {
  std::vector<std::string> paths;
  for (std::string line; std::getline(std::cin, line);) paths.push_back(line);
  const auto began = std::chrono::steady_clock::now();
  for (const auto& path : paths) {
    struct stat status;
    if (lstat(path.c_str(), &status) != 0) {
      perror(path.c_str());
      return EXIT_FAILURE;
    }
  }
  const auto took = std::chrono::steady_clock::now() - began;
  printf("%lld\n", static_cast<long long>(std::chrono::nanoseconds(took).count()));
}
