#include "addon-inflater.h"

#include <cerrno>
#include <cstring>

namespace orca {
namespace {

std::span<std::byte> bytesOf(const Napi::Value& value) {
  auto array = value.As<Napi::Uint8Array>();
  return {reinterpret_cast<std::byte*>(array.Data()), array.ByteLength()};
}

Napi::Value objectOf(Napi::Env env, const Checkpoint& checkpoint) {
  auto object = Napi::Object::New(env);
  object.Set("in", Napi::Number::New(env, static_cast<double>(checkpoint.in)));
  object.Set("out", Napi::Number::New(env, static_cast<double>(checkpoint.out)));
  object.Set("bits", Napi::Number::New(env, checkpoint.bits));
  object.Set("member", Napi::Boolean::New(env, checkpoint.member));
  auto window = Napi::Uint8Array::New(env, checkpoint.window.size());
  if (!checkpoint.window.empty()) memcpy(window.Data(), checkpoint.window.data(), checkpoint.window.size());
  object.Set("window", window);
  return object;
}

Napi::Value objectOf(Napi::Env env, const InflateStep& step) {
  auto object = Napi::Object::New(env);
  object.Set("consumed", Napi::Number::New(env, static_cast<double>(step.consumed)));
  object.Set("produced", Napi::Number::New(env, static_cast<double>(step.produced)));
  object.Set("needsInput", Napi::Boolean::New(env, step.needsInput));
  object.Set("mayEnd", Napi::Boolean::New(env, step.mayEnd));
  if (step.checkpoint) object.Set("checkpoint", objectOf(env, *step.checkpoint));
  if (step.error != nullptr) object.Set("error", Napi::String::New(env, step.error));
  return object;
}

}  // namespace

InflaterObject::InflaterObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<InflaterObject>(info) {
  if (info.Length() == 0)
    inflater_ = Inflater::atMember();
  else
    inflater_ = Inflater::within(info[0].As<Napi::Number>().Int32Value(), info[1].As<Napi::Number>().Int32Value(),
                                 bytesOf(info[2]));
  if (!inflater_) errorOf(info.Env(), {ENOMEM, "inflate", {}}).ThrowAsJavaScriptException();
}

Napi::Value InflaterObject::run(const Napi::CallbackInfo& info) {
  auto kept = Napi::Array::New(info.Env(), 2);
  kept.Set(0u, info[0]);
  kept.Set(1u, info[1]);
  Addon& addon = Addon::of(info.Env());
  Napi::Value promise;
  const uint64_t call = addon.begin(kept, promise);
  const uint64_t span = static_cast<uint64_t>(info[2].As<Napi::Number>().Int64Value());
  addon.inflating.run([&addon, call, inflater = inflater_, input = bytesOf(info[0]), output = bytesOf(info[1]), span] {
    auto step = std::make_shared<InflateStep>(inflater->run(input, output, span));
    addon.settle(call, {}, [step](Napi::Env env) { return objectOf(env, *step); });
  });
  return promise;
}

void defineInflater(Napi::Env env, Napi::Object exports) {
  using Self = InflaterObject;
  exports.Set("Inflater", Self::DefineClass(env, "Inflater", {Self::InstanceMethod<&Self::run>("run")}));
}

}  // namespace orca
