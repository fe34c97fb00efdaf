// The steps of a startup profile in an image index: whether the image has what they ask for, and where it lies.
//
// Paths and page numbers are those of a profile, which anybody may have written, and so is the index: whatever they say
// is an answer, and no step takes longer than its pages and the names of its path do.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "access-log.h"
#include "erofs-index.h"
#include "mapped-file.h"

namespace orca {

struct ProfileStep {
  static constexpr uint64_t kPage = 4096;

  AccessKind kind;
  std::string path;
  /// Pages of kPage bytes.
  uint64_t first;
  uint64_t count;
};

/// An image index, and of its devices what places bytes in blocks.
struct IndexedImage {
  struct Layer {
    /// Bytes of the layer VHD, and of its blocks.
    uint64_t size;
    uint32_t blockSize;
  };

  std::shared_ptr<MappedFile> mapping;
  /// Of `mapping`.
  ErofsIndex index;
  std::vector<Layer> layers;

  /// Whether the image has what the step asks for, or lacks what was absent. Cuts off pages behind the file's end. Gives
  /// the inode of all but absent names.
  bool has(ProfileStep& step, Inode& inode) const;
  /// Calls `visit` with the blocks that bytes of a file lie in, run by run, until it gives false. False when it did, and
  /// when the index places the file where nothing is.
  bool eachRun(const Inode& inode, uint64_t offset, uint64_t length,
               const std::function<bool(uint32_t device, uint64_t first, uint64_t count)>& visit) const;
};

/// Where the steps of another image's profile lead in this one.
struct LocatedSteps {
  struct Step {
    /// Position among the steps.
    uint32_t number;
    /// Of its pages those that are there; 1 of other kinds.
    uint32_t count;
  };
  struct Blocks {
    /// The first step that asks for them.
    uint32_t step;
    uint32_t device;
    uint32_t first;
    uint32_t count;
  };
  /// Those that the image has.
  std::vector<Step> steps;
  /// Each block once.
  std::vector<Blocks> blocks;
};

/// What comes first, as much as a startup profile may have (src/cache/profile-parts.ts).
LocatedSteps locate(const IndexedImage& image, std::vector<ProfileStep> steps);

}  // namespace orca
