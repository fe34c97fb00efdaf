#include "block-map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bit>
#include <cstring>

namespace orca {
namespace {

constexpr char kMagic[8] = "ORCAMAP";
constexpr uint32_t kVersion = 1;
constexpr const char* kUnknownBoot = "unknown";

uint64_t blocksOf(uint64_t size, uint32_t blockSize) { return size / blockSize + (size % blockSize != 0); }
uint64_t wordsOf(uint64_t blocks) { return (blocks + 63) / 64; }
size_t lengthOf(uint64_t blocks) { return BlockMap::kBitsOffset + 2 * 8 * wordsOf(blocks); }

std::atomic_ref<uint64_t> atomic(uint64_t& word) { return std::atomic_ref(word); }
uint64_t load(const uint64_t& word) {
  return std::atomic_ref(const_cast<uint64_t&>(word)).load(std::memory_order_acquire);
}

std::string bootId() {
  const Descriptor file(open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  char text[36];
  // Without /proc no boot equals another, so an unclean map is always doubted.
  if (!file || read(file.get(), text, sizeof text) != sizeof text) return kUnknownBoot;
  return {text, sizeof text};
}

}  // namespace

BlockMap::BlockMap(void* base, size_t length, uint64_t blocks)
    : base_(base),
      length_(length),
      blocks_(blocks),
      words_(wordsOf(blocks)),
      present_(reinterpret_cast<uint64_t*>(static_cast<char*>(base) + kBitsOffset)),
      claimed_(present_ + words_) {}

BlockMap::~BlockMap() { munmap(base_, length_); }

Failure BlockMap::map(int file, uint64_t size, uint32_t blockSize, std::unique_ptr<BlockMap>& out) {
  return mapPages(file, MAP_SHARED | MAP_POPULATE, blocksOf(size, blockSize), out);
}

Failure BlockMap::none(uint64_t size, uint32_t blockSize, std::unique_ptr<BlockMap>& out) {
  return mapPages(-1, MAP_PRIVATE | MAP_ANONYMOUS, blocksOf(size, blockSize), out);
}

Failure BlockMap::mapPages(int file, int flags, uint64_t blocks, std::unique_ptr<BlockMap>& out) {
  const size_t length = lengthOf(blocks);
  void* base = mmap(nullptr, length, PROT_READ | PROT_WRITE, flags, file, 0);
  if (base == MAP_FAILED) return failed("mmap");
  out.reset(new BlockMap(base, length, blocks));
  return {};
}

bool BlockMap::matches(int file, uint64_t size, uint32_t blockSize) {
  struct stat status;
  BlockMapHeader header;
  return fstat(file, &status) == 0 &&
         static_cast<uint64_t>(status.st_size) == lengthOf(blocksOf(size, blockSize)) &&
         pread(file, &header, sizeof header, 0) == sizeof header &&
         memcmp(header.magic, kMagic, sizeof kMagic) == 0 && header.version == kVersion &&
         header.blockSize == blockSize && header.size == size;
}

Failure BlockMap::create(int file, uint64_t size, uint32_t blockSize) {
  BlockMapHeader header{};
  memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.blockSize = blockSize;
  header.size = size;
  header.clean = 1;
  const auto length = static_cast<off_t>(lengthOf(blocksOf(size, blockSize)));
  // Zero it first: what another geometry left must not be taken for bits. Its blocks are allocated, since a
  // store into a mapped hole of a full disk is a SIGBUS.
  if (ftruncate(file, 0) < 0) return failed("ftruncate");
  if (const int code = posix_fallocate(file, 0, length); code != 0) return {code, "fallocate", {}};
  if (pwrite(file, &header, sizeof header, 0) != sizeof header) return failed("write");
  return {};
}

bool BlockMap::test(const uint64_t* words, uint64_t block) {
  return (load(words[block / 64]) >> (block % 64) & 1) != 0;
}

bool BlockMap::presentAll(uint64_t first, uint64_t count) const {
  for (uint64_t block = first; block < first + count; ++block)
    if (!present(block)) return false;
  return true;
}

void BlockMap::setPresent(uint64_t block) {
  const uint64_t bit = uint64_t{1} << (block % 64);
  atomic(claimed_[block / 64]).fetch_and(~bit);
  atomic(present_[block / 64]).fetch_or(bit);
}

void BlockMap::clear(uint64_t block) {
  const uint64_t bit = uint64_t{1} << (block % 64);
  atomic(present_[block / 64]).fetch_and(~bit);
  atomic(claimed_[block / 64]).fetch_and(~bit);
}

void BlockMap::clearFrom(uint64_t first) {
  for (uint64_t block = first; block < blocks_; ++block) clear(block);
}

uint64_t BlockMap::countPresent() const {
  uint64_t count = 0;
  for (uint64_t i = 0; i < words_; ++i) count += static_cast<uint64_t>(std::popcount(load(present_[i])));
  return count;
}

bool BlockMap::anyClaimed() const {
  for (uint64_t i = 0; i < words_; ++i)
    if (load(claimed_[i]) != 0) return true;
  return false;
}

void BlockMap::doubt() {
  for (uint64_t i = 0; i < words_; ++i) atomic(claimed_[i]).fetch_or(atomic(present_[i]).exchange(0));
}

uint64_t BlockMap::generation() const { return atomic(header().generation).load(); }
void BlockMap::raiseGeneration() { atomic(header().generation).fetch_add(1); }

bool BlockMap::clean() const { return std::atomic_ref(header().clean).load() != 0; }

Failure BlockMap::setClean(bool clean) {
  std::atomic_ref(header().clean).store(clean ? 1 : 0);
  if (msync(base_, kBitsOffset, MS_SYNC) < 0) return failed("msync");
  return {};
}

Failure BlockMap::flush() {
  if (msync(base_, length_, MS_SYNC) < 0) return failed("msync");
  return {};
}

bool BlockMap::ofThisBoot() const {
  const std::string id = bootId();
  return id != kUnknownBoot && id == std::string(header().bootId, strnlen(header().bootId, sizeof header().bootId));
}

void BlockMap::setBoot() {
  const std::string id = bootId();
  memset(header().bootId, 0, sizeof header().bootId);
  memcpy(header().bootId, id.data(), id.size());
}

}  // namespace orca
