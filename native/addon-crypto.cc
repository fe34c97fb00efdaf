// JavaScript's view of crypto.h. Arguments were validated in src/native.
#include "addon.h"
#include "crypto.h"

namespace orca {
namespace {

std::span<std::byte> bytesOf(const Napi::Value& value) {
  auto array = value.As<Napi::Uint8Array>();
  return {reinterpret_cast<std::byte*>(array.Data()), array.ByteLength()};
}

/// Arguments: key, nonce, additional data, tag, data.
Napi::Value openGcmCall(const Napi::CallbackInfo& info) {
  const GcmMessage message{bytesOf(info[0]), bytesOf(info[1]), bytesOf(info[2]),
                           std::span<const std::byte>(bytesOf(info[3])).first<kGcmTagSize>()};
  return Napi::Boolean::New(info.Env(), openGcm(message, bytesOf(info[4])));
}

}  // namespace

void defineCrypto(Napi::Env env, Napi::Object exports) {
  if (!cryptoAvailable())
    Napi::Error::New(env, "this Node does not export its OpenSSL; use an official build or Debian's")
        .ThrowAsJavaScriptException();
  exports.Set("openGcm", Napi::Function::New(env, openGcmCall, "openGcm"));
}

}  // namespace orca
