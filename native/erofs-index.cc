#include "erofs-index.h"

#include <algorithm>
#include <climits>

namespace orca {

using erofs::Layout;

const char* ErofsIndex::open(std::span<const std::byte> image, std::optional<ErofsIndex>& out) {
  ErofsIndex index;
  index.image_ = image;
  if (image.size() > kMaxBytes) return "it is larger than 4 GiB";
  erofs::Superblock super;
  if (!index.load(erofs::kSuperblockOffset, super)) return "it is too short for an EROFS image";
  if (super.magic != erofs::kMagic) return "it is not an EROFS image";
  if (super.blockBits < 9 || super.blockBits > 16) return "its block size is not supported";
  if (super.directoryBlockBits != 0) return "its directory block size is not supported";
  constexpr uint32_t known = erofs::ZERO_PADDING | erofs::CHUNKED_FILE | erofs::DEVICE_TABLE;
  if ((super.featureIncompat & ~known) != 0) return "it uses EROFS features that are not supported";

  index.blockBits_ = super.blockBits;
  index.rootNid_ = super.rootNid;
  index.inodes_ = super.inodes;
  index.blocks_ = super.blocks;
  index.metaPosition_ = uint64_t{super.metaBlock} << super.blockBits;
  index.xattrPosition_ = uint64_t{super.xattrBlock} << super.blockBits;
  index.epoch_ = static_cast<int64_t>(super.epoch);
  index.epochNsec_ = super.fixedNsec;
  if (index.metaPosition_ > image.size()) return "its metadata lies beyond its end";

  const uint32_t devices = (super.featureIncompat & erofs::DEVICE_TABLE) != 0 ? super.extraDevices : 0;
  for (uint32_t i = 0; i < devices; ++i) {
    erofs::DeviceSlot slot;
    if (!index.load((uint64_t{super.deviceSlot} + i) * sizeof slot, slot)) return "its device table is cut short";
    index.devices_.push_back({slot.blocks, slot.mappedBlock});
    index.mappedDevices_ |= slot.mappedBlock != 0;
  }
  index.deviceMask_ = static_cast<uint32_t>(std::bit_ceil(devices + 1)) - 1;

  Inode root;
  if (!index.inode(index.rootNid_, root) || !root.isDirectory()) return "it has no root directory";
  out = std::move(index);
  return nullptr;
}

bool ErofsIndex::inode(uint64_t nid, Inode& out) const {
  if (nid >= endNid()) return false;
  const uint64_t position = metaPosition_ + nid * erofs::kSlotSize;
  erofs::CompactInode compact;
  if (!load(position, compact)) return false;
  out.nid = nid;
  out.position = position;
  out.mode = compact.mode;
  out.layout = static_cast<Layout>(compact.format >> 1 & 7);
  if ((compact.format & 1) != 0) {
    erofs::ExtendedInode extended;
    if (!load(position, extended)) return false;
    out.size = extended.size;
    out.mtime = extended.mtime;
    out.mtimeNsec = extended.mtimeNsec;
    out.uid = extended.uid;
    out.gid = extended.gid;
    out.nlink = extended.nlink;
    out.data = extended.data;
    out.inodeSize = sizeof extended;
  } else {
    out.size = compact.size;
    out.mtime = epoch_;
    out.mtimeNsec = epochNsec_;
    out.uid = compact.uid;
    out.gid = compact.gid;
    out.nlink = compact.nlink;
    out.data = compact.data;
    out.inodeSize = sizeof compact;
  }
  out.mtimeNsec = std::min(out.mtimeNsec, 999'999'999u);
  out.xattrSize = compact.xattrCount == 0
                      ? 0
                      : static_cast<uint32_t>(sizeof(erofs::XattrHeader)) + 4u * (compact.xattrCount - 1u);
  if (out.size > LLONG_MAX) return false;
  switch (out.mode & 0170000) {
    case 0100000:
      return out.layout == Layout::flatPlain || out.layout == Layout::flatInline || out.layout == Layout::chunked;
    case 0040000:
    case 0120000:
      return out.layout == Layout::flatPlain || out.layout == Layout::flatInline;
    case 0010000:
    case 0020000:
    case 0060000:
    case 0140000:
      return true;
    default:
      return false;
  }
}

std::span<const std::byte> ErofsIndex::bytes(uint64_t position, uint64_t length) const {
  if (position > image_.size() || length > image_.size() - position) return {};
  return image_.subspan(position, length);
}

std::optional<Run> ErofsIndex::locate(uint32_t device, uint64_t block, uint64_t offset, uint64_t length) const {
  const uint64_t position = (block << blockBits_) + offset;
  if (device == 0 && mappedDevices_) {
    const uint64_t at = position >> blockBits_;
    for (uint32_t i = 0; i < devices_.size(); ++i) {
      const auto& slot = devices_[i];
      if (slot.mappedBlock != 0 && at >= slot.mappedBlock && at - slot.mappedBlock < slot.blocks)
        return locate(i + 1, 0, position - (slot.mappedBlock << blockBits_), length);
    }
  }
  if (device > devices_.size()) return std::nullopt;
  const uint64_t blocks = device == 0 ? 0 : devices_[device - 1].blocks;
  const uint64_t end = device == 0 ? image_.size() : blocks == 0 ? UINT64_MAX : blocks << blockBits_;
  if (position > end || length > end - position) return std::nullopt;
  if (device == 0) return Run{Run::Where::index, 0, position, length};
  return Run{Run::Where::device, device - 1, position, length};
}

bool ErofsIndex::chunk(const Inode& inode, uint64_t number, uint32_t& device, uint32_t& block) const {
  const uint64_t end = inode.position + inode.inodeSize + inode.xattrSize;
  if (number > image_.size()) return false;
  if ((inode.data & erofs::kChunkIndexes) != 0) {
    erofs::ChunkIndex index;
    if (!load((end + 7) / 8 * 8 + number * sizeof index, index)) return false;
    device = index.device & deviceMask_;
    block = index.block;
    return true;
  }
  device = 0;
  return load((end + 3) / 4 * 4 + number * sizeof block, block);
}

std::optional<Run> ErofsIndex::map(const Inode& inode, uint64_t offset, uint64_t length) const {
  length = std::min(length, inode.size - offset);
  if (inode.layout == Layout::flatInline) {
    // All but the last block, and nothing at all of a file within one block, lies at the data address.
    const uint64_t tail = (inode.size - 1) >> blockBits_ << blockBits_;
    if (offset >= tail)
      return locate(0, 0, inode.position + inode.inodeSize + inode.xattrSize + (offset - tail), length);
    length = std::min(length, tail - offset);
  }
  if (inode.layout != Layout::chunked) return locate(0, inode.data, offset, length);

  const uint32_t bits = chunkBits(inode);
  const uint64_t first = offset >> bits;
  uint32_t device, block;
  if (!chunk(inode, first, device, block)) return std::nullopt;
  const uint64_t within = offset - (first << bits);
  uint64_t run = std::min(length, (uint64_t{1} << bits) - within);
  for (uint64_t next = first + 1; run < length; ++next) {
    uint32_t nextDevice, nextBlock;
    if (!chunk(inode, next, nextDevice, nextBlock)) break;
    const uint64_t expected = uint64_t{block} + ((next - first) << (bits - blockBits_));
    const bool adjoins = block == erofs::kNullBlock ? nextBlock == erofs::kNullBlock
                                                    : nextDevice == device && nextBlock == expected &&
                                                          nextBlock != erofs::kNullBlock;
    if (!adjoins) break;
    run = std::min(length, run + (uint64_t{1} << bits));
  }
  if (block == erofs::kNullBlock) return Run{Run::Where::hole, 0, 0, run};
  return locate(device, block, within, run);
}

int ErofsIndex::seek(const Inode& inode, uint64_t offset, bool data, uint64_t& out) const {
  if (offset >= inode.size) return ENXIO;
  if (inode.layout != Layout::chunked) {
    out = data ? offset : inode.size;
    return 0;
  }
  const uint32_t bits = chunkBits(inode);
  for (uint64_t number = offset >> bits; number << bits < inode.size; ++number) {
    uint32_t device, block;
    if (!chunk(inode, number, device, block)) return EIO;
    if ((block == erofs::kNullBlock) != data) {
      out = std::max(offset, number << bits);
      return 0;
    }
  }
  out = inode.size;
  return data ? ENXIO : 0;
}

std::string_view ErofsIndex::readlink(const Inode& inode) const {
  // The kernel has no room for a longer target than a page, less its NUL.
  if (!inode.isSymlink() || inode.size == 0 || inode.size > 4095) return {};
  const auto run = map(inode, 0, inode.size);
  if (!run || run->where != Run::Where::index || run->length != inode.size) return {};
  return {reinterpret_cast<const char*>(image_.data() + run->position), static_cast<size_t>(run->length)};
}

ErofsIndex::Survey ErofsIndex::survey() const {
  constexpr Survey unknown{true, true};
  Survey result{};
  std::vector<bool> seen(endNid());
  std::vector<uint64_t> directories{rootNid_};
  // No two directories share bytes in an honest image; one that does could make this walk endless.
  uint64_t budget = image_.size();
  seen[rootNid_] = true;

  const auto note = [&](const Inode& inode) {
    if (inode.xattrSize == 0) return;
    result.xattrs = true;
    if (!result.acls)
      (void)xattrs(inode, [&](uint8_t index, std::string_view, std::string_view) {
        result.acls |= index == 2 || index == 3;
        return !result.acls;
      });
  };

  Inode inode;
  if (!this->inode(rootNid_, inode)) return unknown;
  note(inode);
  while (!directories.empty() && !result.acls) {
    if (!this->inode(directories.back(), inode)) return unknown;
    directories.pop_back();
    if (inode.size > budget) return unknown;
    budget -= inode.size;
    const int error = readdir(inode, 0, [&](const Entry& entry, uint64_t) {
      Inode child;
      if (entry.nid >= seen.size() || seen[entry.nid] || !this->inode(entry.nid, child)) return true;
      seen[entry.nid] = true;
      note(child);
      if (child.isDirectory()) directories.push_back(entry.nid);
      return true;
    });
    if (error != 0) return unknown;
  }
  return result;
}

}  // namespace orca
