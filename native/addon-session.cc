// JavaScript's view of Session. Arguments were validated in src/native.
#include "addon-session.h"

#include <cstring>

#include "addon-block-file.h"

namespace orca {
namespace {

const char* nameOf(EndReason reason) {
  switch (reason) {
    case EndReason::unmounted:
      return "unmounted";
    case EndReason::closed:
      return "closed";
    default:
      return "failed";
  }
}

Napi::Value numberOf(Napi::Env env, uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

/// Device, block and milliseconds of each touch, one after the other.
Napi::Value arrayOf(Napi::Env env, const std::vector<Touch>& touches) {
  auto array = Napi::Uint32Array::New(env, touches.size() * 3);
  if (!touches.empty()) memcpy(array.Data(), touches.data(), touches.size() * sizeof(Touch));
  return array;
}

}  // namespace

/// Arguments: fd, indexPath, blockFiles, threads, adopt, poll, splice, onMiss, onEnd.
SessionObject::SessionObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<SessionObject>(info), addon_(&Addon::of(info.Env())) {
  const Napi::Env env = info.Env();
  addon_->sessions.insert(this);
  Descriptor descriptor(info[0].As<Napi::Number>().Int32Value());
  SessionOptions options;
  options.indexPath = info[1].As<Napi::String>().Utf8Value();
  const auto files = info[2].As<Napi::Array>();
  for (uint32_t i = 0; i < files.Length(); ++i) {
    auto file = BlockFileObject::of(files.Get(i));
    if (!file) {
      Napi::TypeError::New(env, "not a BlockFile").ThrowAsJavaScriptException();
      return;
    }
    options.files.push_back(std::move(file));
  }
  options.threads = info[3].As<Napi::Number>().Uint32Value();
  options.adopt = info[4].ToBoolean();
  options.poll = std::chrono::microseconds(info[5].As<Napi::Number>().Uint32Value());
  options.splice = info[6].ToBoolean();
  onMiss_ = Napi::Persistent(info[7].As<Napi::Function>());
  onEnd_ = Napi::Persistent(info[8].As<Napi::Function>());
  MainThread& main = addon_->main;
  options.onMiss = [self = self_, &main](uint32_t device, uint64_t first, uint64_t count) {
    main.post([self, device, first, count](Napi::Env env) {
      if (*self != nullptr) (*self)->missed(env, device, first, count);
    });
  };
  options.onEnd = [self = self_, &main](EndReason reason, std::string message) {
    main.post([self, reason, message = std::move(message)](Napi::Env env) {
      if (*self != nullptr) (*self)->ended(env, reason, message);
    });
  };
  if (auto failure = Session::start(std::move(descriptor), std::move(options), session_)) {
    errorOf(env, failure).ThrowAsJavaScriptException();
    return;
  }
  // The threads refer to this object until they have ended.
  Ref();
  main.ref();
}

SessionObject::~SessionObject() {
  *self_ = nullptr;
  if (addon_ != nullptr) addon_->sessions.erase(this);
}

void SessionObject::shutDown() {
  if (session_) {
    session_->stop();
    // It may wait for an answer that another process gives, which has the same descriptor: not for ever.
    if (const auto preloader = session_->preloader()) (void)preloader->waitFor(std::chrono::seconds(1));
  }
  addon_ = nullptr;
}

void SessionObject::missed(Napi::Env env, uint32_t device, uint64_t first, uint64_t count) {
  const Napi::HandleScope scope(env);
  onMiss_.Call({Napi::Number::New(env, device), numberOf(env, first), numberOf(env, count)});
}

void SessionObject::ended(Napi::Env env, EndReason reason, const std::string& message) {
  const Napi::HandleScope scope(env);
  session_->stop();
  *self_ = nullptr;
  addon_->main.unref();
  const auto onEnd = std::move(onEnd_);
  onMiss_.Reset();
  Unref();
  onEnd.Call({Napi::String::New(env, nameOf(reason)), Napi::String::New(env, message)});
}

void SessionObject::close(const Napi::CallbackInfo&) { session_->requestStop(); }

Napi::Value SessionObject::stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto& connection = session_->connection();
  const auto& counters = connection.counters;
  auto requests = Napi::Object::New(env);
  for (size_t opcode = 0; opcode < kOpcodes; ++opcode)
    if (const uint64_t count = counters.requests[opcode]; count > 0)
      requests.Set(Server::nameOf(opcode), numberOf(env, count));
  auto errors = Napi::Object::New(env);
  for (const auto& [code, count] : connection.errors()) errors.Set(errnoName(code), numberOf(env, count));
  auto stats = Napi::Object::New(env);
  stats.Set("requests", requests);
  stats.Set("bytesRead", numberOf(env, counters.bytesRead));
  stats.Set("readHits", numberOf(env, counters.readHits));
  stats.Set("readMisses", numberOf(env, counters.readMisses));
  stats.Set("readsWaiting", numberOf(env, connection.waiting()));
  stats.Set("errors", errors);
  if (const auto preloader = session_->preloader()) {
    auto preload = Napi::Object::New(env);
    preload.Set("taken", numberOf(env, preloader->taken));
    preload.Set("pages", numberOf(env, preloader->pages));
    preload.Set("passedOver", numberOf(env, preloader->passedOver));
    stats.Set("preload", preload);
  }
  return stats;
}

Napi::Value SessionObject::touched(const Napi::CallbackInfo& info) { return arrayOf(info.Env(), session_->touched()); }

Napi::Value SessionObject::filesRead(const Napi::CallbackInfo& info) {
  return arrayOf(info.Env(), session_->filesRead());
}

/// `numbers`: kind, bytes of the path, first page, pages and milliseconds of each access; `paths`: one after the other.
Napi::Value SessionObject::accesses(const Napi::CallbackInfo& info) {
  const auto accesses = session_->accesses();
  auto numbers = Napi::Uint32Array::New(info.Env(), accesses.size() * 5);
  std::string paths;
  uint32_t* at = numbers.Data();
  for (const Access& access : accesses) {
    // What lies beyond 16 TiB of a file is of no use, and would be taken for something else.
    const bool fits = access.first <= UINT32_MAX && access.count <= UINT32_MAX;
    *at++ = static_cast<uint32_t>(access.kind);
    *at++ = static_cast<uint32_t>(access.path.size());
    *at++ = fits ? static_cast<uint32_t>(access.first) : 0;
    *at++ = fits ? static_cast<uint32_t>(access.count) : 1;
    *at++ = access.time;
    paths += access.path;
  }
  auto result = Napi::Object::New(info.Env());
  result.Set("numbers", numbers);
  result.Set("paths", Napi::Buffer<char>::Copy(info.Env(), paths.data(), paths.size()));
  return result;
}

/// Arguments: mount point; kind, bytes of the path, first page and pages of each step; the paths, one after the other.
void SessionObject::preload(const Napi::CallbackInfo& info) {
  const auto numbers = info[1].As<Napi::Uint32Array>();
  const auto paths = info[2].As<Napi::Uint8Array>();
  const uint32_t* at = numbers.Data();
  std::string_view rest(reinterpret_cast<const char*>(paths.Data()), paths.ByteLength());
  std::vector<PreloadStep> steps;
  for (size_t i = 0; i + 4 <= numbers.ElementLength(); i += 4, at += 4) {
    if (at[0] > static_cast<uint32_t>(AccessKind::pages) || at[1] > rest.size()) break;
    steps.push_back({static_cast<AccessKind>(at[0]), std::string(rest.substr(0, at[1])), at[2], at[3]});
    rest.remove_prefix(at[1]);
  }
  session_->preload(info[0].As<Napi::String>().Utf8Value(), std::move(steps));
}

void SessionObject::stopPreload(const Napi::CallbackInfo&) { session_->stopPreload(); }

void defineSession(Napi::Env env, Napi::Object exports) {
  using Self = SessionObject;
  exports.Set("Session", Self::DefineClass(env, "Session",
                                           {
                                               Self::InstanceMethod<&Self::stats>("stats"),
                                               Self::InstanceMethod<&Self::touched>("touched"),
                                               Self::InstanceMethod<&Self::accesses>("accesses"),
                                               Self::InstanceMethod<&Self::preload>("preload"),
                                               Self::InstanceMethod<&Self::stopPreload>("stopPreload"),
                                               Self::InstanceMethod<&Self::filesRead>("filesRead"),
                                               Self::InstanceMethod<&Self::close>("close"),
                                           }));
}

}  // namespace orca
