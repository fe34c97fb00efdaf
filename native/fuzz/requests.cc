// Parsing and dispatch of FUSE requests. Input: a sequence of messages, each after its length in two bytes
// (little-endian). Served from the index that ORCA_FUZZ_INDEX names, over one block file of which half is present.
#include <fcntl.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "../mapped-file.h"
#include "../server.h"

namespace {

using namespace orca;

/// Made once: block files and the index do not change what a request may do to the server.
struct World {
  World() {
    const char* path = getenv("ORCA_FUZZ_INDEX");
    if (path == nullptr || MappedFile::open(path, file) || ErofsIndex::open(file.bytes(), index) != nullptr) {
      fprintf(stderr, "ORCA_FUZZ_INDEX must name an image index\n");
      exit(1);
    }
    char folder[] = "/tmp/orca-fuzz-XXXXXX";
    if (mkdtemp(folder) == nullptr) abort();
    const std::string data = std::string(folder) + "/data";
    const std::string map = std::string(folder) + "/map";
    for (const auto& device : index->devices()) {
      const uint64_t size = device.blocks == 0 ? 1 << 20 : device.blocks * index->blockSize();
      std::shared_ptr<BlockFile> blocks;
      if (BlockFile::open({data + std::to_string(files.size()), map + std::to_string(files.size()), size, kBlock},
                          std::make_shared<MemoryBlocks>(1 << 20), blocks))
        abort();
      for (uint64_t block = 0; block < blocks->blocks(); block += 2) put(*blocks, block);
      files.push_back(std::move(blocks));
    }
    (void)!system(("rm -r " + std::string(folder)).c_str());
  }

  static void put(BlockFile& file, uint64_t block) {
    const std::vector<std::byte> bytes(file.lengthOf(block));
    file.store(file.accept(std::array{BlockFile::Block{block, bytes}}, [](const Failure&) {}));
  }

  static constexpr uint32_t kBlock = 65536;
  MappedFile file;
  std::optional<ErofsIndex> index;
  std::vector<std::shared_ptr<BlockFile>> files;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  static Worker worker;
  const auto connection = std::make_shared<Connection>(Descriptor(open("/dev/null", O_WRONLY | O_CLOEXEC)));
  size_t missed = 0;
  const auto check = [](uint32_t device, uint64_t first, uint64_t count) {
    if (device >= world.files.size()) abort();
    if (first + count > world.files[device]->blocks()) abort();
  };
  const auto server = std::make_shared<Server>(
      *world.index, world.files, connection,
      [&](uint32_t device, uint64_t first, uint64_t count, uint64_t) {
        check(device, first, count);
        missed += count;
      },
      check);
  Bytes input = std::as_bytes(std::span(data, size));
  while (input.size() >= 2) {
    const size_t length = std::min(std::to_integer<size_t>(input[0]) | std::to_integer<size_t>(input[1]) << 8,
                                   input.size() - 2);
    // A copy of its own, so that a read past its end is seen.
    const std::vector<std::byte> message(input.begin() + 2, input.begin() + 2 + static_cast<ptrdiff_t>(length));
    server->handle(message, worker);
    input = input.subspan(2 + length);
  }
  if ((missed == 0) != (connection->waiting() == 0) && missed == 0) abort();
  connection->end(EIO);
  if (connection->waiting() != 0) abort();
  server->abandon();
  return 0;
}
