#include "addon-block-file.h"

#include <cstring>

#include "crypto.h"
#include "verified-run.h"

namespace orca {
namespace {

constexpr napi_type_tag kTag{0x6f7263612d626c6b, 0x8d6a2f10c4e57b93};

uint64_t number(const Napi::Value& value) { return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value()); }

void throwIf(Napi::Env env, const Failure& failure) {
  if (failure) errorOf(env, failure).ThrowAsJavaScriptException();
}

}  // namespace

BlockFileObject::BlockFileObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<BlockFileObject>(info), addon_(&Addon::of(info.Env())) {
  const BlockFileOptions options{info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::String>().Utf8Value(),
                                 number(info[2]), static_cast<uint32_t>(number(info[3]))};
  addon_->blockFiles.insert(this);
  if (auto failure = BlockFile::open(options, addon_->memory, file_)) {
    errorOf(info.Env(), failure).ThrowAsJavaScriptException();
    return;
  }
  onTouch_ = Napi::Persistent(info[4].As<Napi::Function>());
  file_->onTouch([self = self_, &main = addon_->main](uint64_t block) {
    main.post([self, block](Napi::Env env) {
      if (*self == nullptr) return;
      const Napi::HandleScope scope(env);
      (*self)->onTouch_.Call({Napi::Number::New(env, static_cast<double>(block))});
    });
  });
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

BlockFileObject::~BlockFileObject() {
  *self_ = nullptr;
  if (addon_ != nullptr) addon_->blockFiles.erase(this);
}

std::shared_ptr<BlockFile> BlockFileObject::of(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) return nullptr;
  return Unwrap(value.As<Napi::Object>())->file_;
}

void BlockFileObject::shutDown() {
  // Nobody is left to tell of a failure; unless marked clean, its blocks are verified again after a reboot.
  if (file_ && file_->close({})) (void)file_->flush();
  addon_ = nullptr;
}

Napi::Value BlockFileObject::blocks(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(file_->blocks()));
}

Napi::Value BlockFileObject::suspect(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), file_->suspect());
}

Napi::Value BlockFileObject::has(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), file_->has(number(info[0])));
}

Napi::Value BlockFileObject::wasPresent(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), file_->wasPresent(number(info[0])));
}

void BlockFileObject::trust(const Napi::CallbackInfo& info) { file_->trust(number(info[0])); }

Napi::Value BlockFileObject::count(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(file_->count()));
}

Napi::Value BlockFileObject::bytesOnDisk(const Napi::CallbackInfo& info) {
  uint64_t bytes = 0;
  throwIf(info.Env(), file_->bytesOnDisk(bytes));
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

Napi::Value BlockFileObject::read(const Napi::CallbackInfo& info) {
  Napi::Value promise;
  addon_->blocks.runSlow([addon = addon_, call = addon_->begin({}, promise), file = file_, block = number(info[0])] {
    auto bytes = std::make_shared<std::vector<std::byte>>(file->lengthOf(block));
    addon->settle(call, file->readRaw(block, *bytes), [bytes](Napi::Env env) -> Napi::Value {
      auto array = Napi::Uint8Array::New(env, bytes->size());
      memcpy(array.Data(), bytes->data(), bytes->size());
      return array;
    });
  });
  return promise;
}

Napi::Value BlockFileObject::put(const Napi::CallbackInfo& info) {
  const auto array = info[1].As<Napi::Uint8Array>();
  const std::span bytes(reinterpret_cast<const std::byte*>(array.Data()), array.ByteLength());
  Napi::Value promise;
  const uint64_t call = addon_->begin(array, promise);
  auto done = [addon = addon_, call](const Failure& failure) {
    addon->settle(call, failure, [](Napi::Env env) { return env.Undefined(); });
  };
  addon_->blocks.runInTwo([file = file_, block = number(info[0]), bytes, done]() -> WorkerPool::Rest {
    auto accepted = file->accept(std::array{BlockFile::Block{block, bytes}}, done);
    if (accepted.empty()) return {};
    return [file, accepted = std::move(accepted)] { file->store(accepted); };
  });
  return promise;
}

/// Arguments: first block, bytes, digests. Resolves with the blocks that do not match and, if there was one, the error
/// of the disk.
Napi::Value BlockFileObject::putRun(const Napi::CallbackInfo& info) {
  const auto array = info[1].As<Napi::Uint8Array>();
  const std::span bytes(reinterpret_cast<const std::byte*>(array.Data()), array.ByteLength());
  const auto digests = info[2].As<Napi::Uint8Array>();
  const auto* digest = reinterpret_cast<const std::byte*>(digests.Data());
  Napi::Value promise;
  const uint64_t call = addon_->begin(array, promise);
  auto done = [addon = addon_, call](std::vector<uint64_t> wrong, const Failure& failure) {
    addon->settle(call, {}, [wrong = std::move(wrong), failure](Napi::Env env) {
      auto blocks = Napi::Array::New(env, wrong.size());
      for (uint32_t i = 0; i < wrong.size(); ++i)
        blocks.Set(i, Napi::Number::New(env, static_cast<double>(wrong[i])));
      auto result = Napi::Object::New(env);
      result.Set("wrong", blocks);
      if (failure) result.Set("error", errorOf(env, failure).Value());
      return result;
    });
  };
  const auto run = std::make_shared<VerifiedRun>(
      file_, number(info[0]), bytes, std::vector<std::byte>(digest, digest + digests.ByteLength()), std::move(done));
  addon_->blocks.runInTwo([run]() -> WorkerPool::Rest {
    if (!run->accept()) return {};
    return [run] { run->store(); };
  });
  return promise;
}

void BlockFileObject::watch(const Napi::CallbackInfo& info) { file_->watch(number(info[0])); }

Napi::Value BlockFileObject::awaited(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), file_->awaited(number(info[0])));
}

void BlockFileObject::fail(const Napi::CallbackInfo& info) {
  file_->fail(number(info[0]), static_cast<int>(number(info[1])));
}

void BlockFileObject::evict(const Napi::CallbackInfo& info) {
  throwIf(info.Env(), file_->evict(number(info[0]), number(info[1])));
}

Napi::Value BlockFileObject::close(const Napi::CallbackInfo&) {
  // Descriptors and mappings go with the last session that still has the file.
  auto file = std::move(file_);
  Napi::Value promise;
  auto closed = [addon = addon_, call = addon_->begin({}, promise)](const Failure& failure) {
    addon->settle(call, failure, [](Napi::Env env) { return env.Undefined(); });
  };
  if (file->close(closed)) {
    addon_->blocks.runSlow([file = std::move(file), closed]() mutable {
      const Failure failure = file->flush();
      // First: who waits may unmount what it lies on.
      file.reset();
      closed(failure);
    });
  }
  return promise;
}

static Napi::Value blockFileInUse(const Napi::CallbackInfo& info) {
  bool used = false;
  throwIf(info.Env(), BlockFile::inUse(info[0].As<Napi::String>().Utf8Value(), used));
  return Napi::Boolean::New(info.Env(), used);
}

/// Arguments: dataPath, mapPath.
static Napi::Value removeBlockFile(const Napi::CallbackInfo& info) {
  bool removed = false;
  throwIf(info.Env(), BlockFile::remove(info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::String>().Utf8Value(),
                                        removed));
  return Napi::Boolean::New(info.Env(), removed);
}

void defineBlockFile(Napi::Env env, Napi::Object exports) {
  exports.Set("blockFileInUse", Napi::Function::New(env, blockFileInUse, "blockFileInUse"));
  exports.Set("removeBlockFile", Napi::Function::New(env, removeBlockFile, "removeBlockFile"));
  using Self = BlockFileObject;
  exports.Set("BlockFile",
              Self::DefineClass(env, "BlockFile",
                                {
                                    Self::InstanceAccessor<&Self::blocks>("blocks"),
                                    Self::InstanceAccessor<&Self::suspect>("suspect"),
                                    Self::InstanceMethod<&Self::has>("has"),
                                    Self::InstanceMethod<&Self::wasPresent>("wasPresent"),
                                    Self::InstanceMethod<&Self::trust>("trust"),
                                    Self::InstanceMethod<&Self::count>("count"),
                                    Self::InstanceMethod<&Self::bytesOnDisk>("bytesOnDisk"),
                                    Self::InstanceMethod<&Self::read>("read"),
                                    Self::InstanceMethod<&Self::put>("put"),
                                    Self::InstanceMethod<&Self::putRun>("putRun"),
                                    Self::InstanceMethod<&Self::watch>("watch"),
                                    Self::InstanceMethod<&Self::awaited>("awaited"),
                                    Self::InstanceMethod<&Self::fail>("fail"),
                                    Self::InstanceMethod<&Self::evict>("evict"),
                                    Self::InstanceMethod<&Self::close>("close"),
                                }));
}

}  // namespace orca
