// JavaScript's view of notify.h. Arguments were validated in src/native.
#include "addon.h"
#include "notify.h"

namespace orca {
namespace {

std::string text(const Napi::Value& value) { return value.As<Napi::String>().Utf8Value(); }

std::vector<std::string> texts(const Napi::Value& value) {
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> found;
  for (uint32_t i = 0; i < array.Length(); ++i) found.push_back(text(array.Get(i)));
  return found;
}

Napi::Value done(Napi::Env env, const Failure& failure) {
  if (failure) errorOf(env, failure).ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Value notifyCall(const Napi::CallbackInfo& info) {
  const auto array = info[2].As<Napi::Array>();
  std::vector<int> descriptors;
  for (uint32_t i = 0; i < array.Length(); ++i)
    descriptors.push_back(array.Get(i).As<Napi::Number>().Int32Value());
  return done(info.Env(), notify(text(info[0]), text(info[1]), descriptors));
}

Napi::Value notifyBarrierCall(const Napi::CallbackInfo& info) {
  return done(info.Env(), notifyBarrier(text(info[0]), info[1].As<Napi::Number>().Int32Value()));
}

Napi::Value duplicateCall(const Napi::CallbackInfo& info) {
  int copy = -1;
  if (auto failure = duplicate(info[0].As<Napi::Number>().Int32Value(), copy)) return done(info.Env(), failure);
  return Napi::Number::New(info.Env(), copy);
}

Napi::Value closeOnExecCall(const Napi::CallbackInfo& info) {
  return done(info.Env(), setCloseOnExec(info[0].As<Napi::Number>().Int32Value(), info[1].ToBoolean()));
}

Napi::Value exitAtOnceCall(const Napi::CallbackInfo& info) {
  exitAtOnce(info[0].As<Napi::Number>().Int32Value());
}

Napi::Value executeCall(const Napi::CallbackInfo& info) {
  return done(info.Env(), execute(text(info[0]), texts(info[1]), texts(info[2])));
}

}  // namespace

void defineNotify(Napi::Env env, Napi::Object exports) {
  exports.Set("notify", Napi::Function::New(env, notifyCall, "notify"));
  exports.Set("notifyBarrier", Napi::Function::New(env, notifyBarrierCall, "notifyBarrier"));
  exports.Set("duplicate", Napi::Function::New(env, duplicateCall, "duplicate"));
  exports.Set("setCloseOnExec", Napi::Function::New(env, closeOnExecCall, "setCloseOnExec"));
  exports.Set("exitAtOnce", Napi::Function::New(env, exitAtOnceCall, "exitAtOnce"));
  exports.Set("execute", Napi::Function::New(env, executeCall, "execute"));
}

}  // namespace orca
