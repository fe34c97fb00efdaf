// JavaScript's view of BlockFile. Arguments were validated in src/native, which also refuses calls after close().
#pragma once

#include "addon.h"

namespace orca {

class BlockFileObject : public Napi::ObjectWrap<BlockFileObject> {
 public:
  explicit BlockFileObject(const Napi::CallbackInfo& info);
  ~BlockFileObject() override;
  /// The block file of an object made by this class; null for any other value.
  static std::shared_ptr<BlockFile> of(const Napi::Value& value);

  const std::shared_ptr<BlockFile>& file() const { return file_; }
  /// The environment ends: closes the file, and forgets the environment.
  void shutDown();

 private:
  friend void defineBlockFile(Napi::Env env, Napi::Object exports);

  Napi::Value blocks(const Napi::CallbackInfo& info);
  Napi::Value suspect(const Napi::CallbackInfo& info);
  Napi::Value has(const Napi::CallbackInfo& info);
  Napi::Value wasPresent(const Napi::CallbackInfo& info);
  void trust(const Napi::CallbackInfo& info);
  Napi::Value count(const Napi::CallbackInfo& info);
  Napi::Value bytesOnDisk(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value put(const Napi::CallbackInfo& info);
  Napi::Value putRun(const Napi::CallbackInfo& info);
  void watch(const Napi::CallbackInfo& info);
  Napi::Value awaited(const Napi::CallbackInfo& info);
  void fail(const Napi::CallbackInfo& info);
  void evict(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<BlockFile> file_;
  Napi::FunctionReference onTouch_;
  /// Closures on their way to this thread find the object through it; null when it is gone.
  std::shared_ptr<BlockFileObject*> self_ = std::make_shared<BlockFileObject*>(this);
  /// Null once the environment has ended.
  Addon* addon_;
};

}  // namespace orca
