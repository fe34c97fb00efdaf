#include "verified-run.h"

#include "crypto.h"

namespace orca {

BlockFile::Block VerifiedRun::block(size_t index) const {
  const uint64_t number = first_ + index;
  return {number, bytes_.subspan(index * file_->blockSize(), file_->lengthOf(number))};
}

bool VerifiedRun::accept() {
  const auto digest = [&](size_t index) {
    return Digest(std::span(digests_).subspan(index * kDigestSize).first<kDigestSize>());
  };
  const size_t count = digests_.size() / kDigestSize;
  std::vector<BlockFile::Block> right;
  const auto sort = [&](size_t index, bool matches) {
    if (matches)
      right.push_back(block(index));
    else
      wrong_.push_back(first_ + index);
  };
  for (size_t index = 0; index < count; index += 2) {
    if (index + 1 == count) {
      sort(index, hasDigest(block(index).bytes, digest(index)));
      continue;
    }
    const auto match = haveDigests({block(index).bytes, block(index + 1).bytes}, {digest(index), digest(index + 1)});
    sort(index, match[0]);
    sort(index + 1, match[1]);
  }
  open_ += right.size();
  accepted_ = file_->accept(right, [run = shared_from_this()](const Failure& failure) { run->settle(failure); });
  const bool any = !accepted_.empty();
  settle({});
  return any;
}

void VerifiedRun::store() { file_->store(accepted_); }

void VerifiedRun::settle(const Failure& failure) {
  {
    const std::lock_guard lock(mutex_);
    if (failure) failure_ = failure;
    if (--open_ > 0) return;
  }
  done_(std::move(wrong_), failure_);
}

}  // namespace orca
