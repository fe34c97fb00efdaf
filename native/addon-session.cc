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

/// The fields of structures that are nothing but numbers of 32 bits, one after the other.
template <typename T>
Napi::Value arrayOf(Napi::Env env, const std::vector<T>& all) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(uint32_t) == 0);
  auto array = Napi::Uint32Array::New(env, all.size() * (sizeof(T) / sizeof(uint32_t)));
  if (!all.empty()) memcpy(array.Data(), all.data(), all.size() * sizeof(T));
  return array;
}

std::span<const uint32_t> numbersOf(const Napi::Value& value) {
  const auto array = value.As<Napi::Uint32Array>();
  return {array.Data(), array.ElementLength()};
}

std::string_view textOf(const Napi::Value& value) {
  const auto array = value.As<Napi::Uint8Array>();
  return {reinterpret_cast<const char*>(array.Data()), array.ByteLength()};
}

/// `numbers`: kind, bytes of the path, first page and pages of each; `paths`: one after the other.
std::vector<ProfileStep> stepsOf(std::span<const uint32_t> numbers, std::string_view paths) {
  std::vector<ProfileStep> steps;
  steps.reserve(numbers.size() / 4);
  for (; numbers.size() >= 4; numbers = numbers.subspan(4)) {
    if (numbers[0] > static_cast<uint32_t>(AccessKind::pages) || numbers[1] > paths.size()) break;
    steps.push_back({static_cast<AccessKind>(numbers[0]), std::string(paths.substr(0, numbers[1])), numbers[2],
                     numbers[3]});
    paths.remove_prefix(numbers[1]);
  }
  return steps;
}

}  // namespace

auto SessionObject::teller(Napi::FunctionReference SessionObject::* function) {
  return [self = self_, &main = addon_->main, function](auto... numbers) {
    main.post([self, function, numbers...](Napi::Env env) {
      if (*self == nullptr) return;
      const Napi::HandleScope scope(env);
      ((*self)->*function).Call({numberOf(env, numbers)...});
    });
  };
}

/// Arguments: fd, indexPath, blockFiles, threads, adopt, poll, splice, onMiss, onEnd, onLikely or undefined.
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
  const auto blockFiles = options.files;
  options.threads = info[3].As<Napi::Number>().Uint32Value();
  options.adopt = info[4].ToBoolean();
  options.poll = std::chrono::microseconds(info[5].As<Napi::Number>().Uint32Value());
  options.splice = info[6].ToBoolean();
  onMiss_ = Napi::Persistent(info[7].As<Napi::Function>());
  onEnd_ = Napi::Persistent(info[8].As<Napi::Function>());
  if (info[9].IsFunction()) onLikely_ = Napi::Persistent(info[9].As<Napi::Function>());
  MainThread& main = addon_->main;
  options.onMiss = teller(&SessionObject::onMiss_);
  if (info[9].IsFunction()) options.onLikely = teller(&SessionObject::onLikely_);
  options.onEnd = [self = self_, &main](EndReason reason, std::string message) {
    main.post([self, reason, message = std::move(message)](Napi::Env env) {
      if (*self != nullptr) (*self)->ended(env, reason, message);
    });
  };
  if (auto failure = Session::start(std::move(descriptor), std::move(options), session_)) {
    errorOf(env, failure).ThrowAsJavaScriptException();
    return;
  }
  // Many layers, few of which are read: nobody waits for their files.
  addon_->blocks.runSlow([blockFiles] {
    for (const auto& file : blockFiles) file->claim();
  });
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

void SessionObject::ended(Napi::Env env, EndReason reason, const std::string& message) {
  const Napi::HandleScope scope(env);
  session_->stop();
  *self_ = nullptr;
  addon_->main.unref();
  const auto onEnd = std::move(onEnd_);
  onMiss_.Reset();
  onLikely_.Reset();
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

/// Device, block and milliseconds of each.
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

/// Arguments: mount point, and what stepsOf() takes.
void SessionObject::preload(const Napi::CallbackInfo& info) {
  session_->preload(info[0].As<Napi::String>().Utf8Value(), stepsOf(numbersOf(info[1]), textOf(info[2])));
}

/// Arguments: those of stepsOf(). `steps`: position and count of each; `blocks`: step, device, first and count of each.
Napi::Value SessionObject::locate(const Napi::CallbackInfo& info) {
  auto kept = Napi::Array::New(info.Env(), 2);
  kept.Set(0u, info[0]);
  kept.Set(1u, info[1]);
  Napi::Value promise;
  const uint64_t call = addon_->begin(kept, promise);
  // The index may have to come from the disk.
  addon_->blocks.runSlow([addon = addon_, call, image = session_->image(), numbers = numbersOf(info[0]),
                          paths = textOf(info[1])] {
    const auto found =
        std::make_shared<LocatedSteps>(image ? orca::locate(*image, stepsOf(numbers, paths)) : LocatedSteps{});
    addon->settle(call, {}, [found](Napi::Env env) -> Napi::Value {
      auto result = Napi::Object::New(env);
      result.Set("steps", arrayOf(env, found->steps));
      result.Set("blocks", arrayOf(env, found->blocks));
      return result;
    });
  });
  return promise;
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
                                               Self::InstanceMethod<&Self::locate>("locate"),
                                               Self::InstanceMethod<&Self::stopPreload>("stopPreload"),
                                               Self::InstanceMethod<&Self::filesRead>("filesRead"),
                                               Self::InstanceMethod<&Self::close>("close"),
                                           }));
}

}  // namespace orca
