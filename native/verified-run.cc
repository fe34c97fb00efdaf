#include "verified-run.h"

#include "crypto.h"

namespace orca {

bool VerifiedRun::accept() {
  const size_t blockSize = file_->blockSize();
  for (size_t at = 0; at < bytes_.size(); at += blockSize) {
    const uint64_t block = first_ + at / blockSize;
    const auto bytes = bytes_.subspan(at, file_->lengthOf(block));
    const std::span digest(digests_.data() + at / blockSize * kDigestSize, kDigestSize);
    if (!hasDigest(bytes, digest.first<kDigestSize>())) {
      const std::lock_guard lock(mutex_);
      wrong_.push_back(block);
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      ++open_;
    }
    if (file_->accept(block, bytes, [run = shared_from_this()](const Failure& failure) { run->settle(failure); }))
      accepted_.push_back(block);
  }
  const bool any = !accepted_.empty();
  settle({});
  return any;
}

void VerifiedRun::store() {
  for (const uint64_t block : accepted_) file_->store(block);
}

void VerifiedRun::settle(const Failure& failure) {
  {
    const std::lock_guard lock(mutex_);
    if (failure) failure_ = failure;
    if (--open_ > 0) return;
  }
  done_(std::move(wrong_), failure_);
}

}  // namespace orca
