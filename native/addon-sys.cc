// JavaScript's view of sys.h. Arguments were validated in src/native.
#include <ctime>

#include "addon.h"
#include "sys.h"

namespace orca {
namespace {

std::string text(const Napi::Value& value) { return value.As<Napi::String>().Utf8Value(); }

Napi::Value done(Napi::Env env, const Failure& failure) {
  if (failure) errorOf(env, failure).ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Value mountCall(const Napi::CallbackInfo& info) {
  return done(info.Env(), mountAt(text(info[0]), text(info[1]), text(info[2]),
                                  static_cast<unsigned long>(info[3].As<Napi::Number>().Int64Value()), text(info[4])));
}

Napi::Value umountCall(const Napi::CallbackInfo& info) {
  return done(info.Env(), unmount(text(info[0]), info[1].As<Napi::Number>().Int32Value()));
}

Napi::Value mountFuseCall(const Napi::CallbackInfo& info) {
  Descriptor device;
  const FuseMount mount{text(info[0]), text(info[1]), info[2].ToBoolean(), info[3].ToBoolean()};
  if (const auto failure = mountFuse(mount, device)) return done(info.Env(), failure);
  return Napi::Number::New(info.Env(), device.release());
}

Napi::Value tryLockCall(const Napi::CallbackInfo& info) {
  const std::string kind = text(info[1]);
  bool granted = false;
  const auto wanted = kind == "shared"      ? LockKind::shared
                      : kind == "exclusive" ? LockKind::exclusive
                                            : LockKind::unlock;
  if (const auto failure = tryLock(info[0].As<Napi::Number>().Int32Value(), wanted, granted))
    return done(info.Env(), failure);
  return Napi::Boolean::New(info.Env(), granted);
}

Napi::Value socketPairCall(const Napi::CallbackInfo& info) {
  Descriptor one, other;
  if (const auto failure = socketPair(one, other)) return done(info.Env(), failure);
  auto pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, Napi::Number::New(info.Env(), one.release()));
  pair.Set(1u, Napi::Number::New(info.Env(), other.release()));
  return pair;
}

Napi::Value realTimeCall(const Napi::CallbackInfo& info) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return Napi::BigInt::New(info.Env(), int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec);
}

}  // namespace

void defineSys(Napi::Env env, Napi::Object exports) {
  exports.Set("mount", Napi::Function::New(env, mountCall, "mount"));
  exports.Set("umount", Napi::Function::New(env, umountCall, "umount"));
  exports.Set("mountFuse", Napi::Function::New(env, mountFuseCall, "mountFuse"));
  exports.Set("tryLock", Napi::Function::New(env, tryLockCall, "tryLock"));
  exports.Set("socketPair", Napi::Function::New(env, socketPairCall, "socketPair"));
  exports.Set("realTime", Napi::Function::New(env, realTimeCall, "realTime"));
}

}  // namespace orca
