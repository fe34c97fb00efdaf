#include "addon.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "addon-block-file.h"
#include "addon-session.h"

namespace orca {
namespace {

/// pwrite(2) into the page cache is quick: two threads keep one slow disk from holding up the other, and the third
/// answers READs meanwhile.
constexpr size_t kBlockThreads = 3;
/// More streams than this are seldom inflated at once; a thread is started when it is first needed.
constexpr unsigned kMaxInflatingThreads = 8;
/// Blocks that the disk refused: enough for the READs of a few processes at 1 MiB of read-ahead each.
constexpr size_t kMemoryBytes = 16 << 20;

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Addon(env));
  // Added after the thread-safe function's own hook, so it runs before that one is gone.
  env.AddCleanupHook([](Addon* addon) { addon->shutDown(); }, &Addon::of(env));
  defineCrypto(env, exports);
  defineSys(env, exports);
  defineNotify(env, exports);
  defineBlockFile(env, exports);
  defineInflater(env, exports);
  defineSession(env, exports);
  return exports;
}

}  // namespace

Addon::Addon(Napi::Env env)
    : env(env),
      main(env),
      blocks(kBlockThreads),
      inflating(std::clamp(std::thread::hardware_concurrency(), 1u, kMaxInflatingThreads)),
      memory(std::make_shared<MemoryBlocks>(kMemoryBytes)) {}

uint64_t Addon::begin(Napi::Object kept, Napi::Value& promise) {
  const uint64_t id = nextCall_++;
  Call call{Napi::Promise::Deferred::New(env), {}};
  if (!kept.IsEmpty()) call.kept = Napi::Persistent(kept);
  promise = call.deferred.Promise();
  calls_.emplace(id, std::move(call));
  main.ref();
  return id;
}

void Addon::settle(uint64_t call, Failure failure, std::function<Napi::Value(Napi::Env)> result) {
  main.post([this, call, failure = std::move(failure), result = std::move(result)](Napi::Env env) {
    const Napi::HandleScope scope(env);
    const auto ended = calls_.extract(call);
    main.unref();
    const auto& deferred = ended.mapped().deferred;
    if (failure)
      deferred.Reject(errorOf(env, failure).Value());
    else
      deferred.Resolve(result(env));
  });
}

void Addon::shutDown() {
  for (auto* session : sessions) session->shutDown();
  blocks.stop();
  inflating.stop();
  for (auto* file : blockFiles) file->shutDown();
}

Napi::Error errorOf(Napi::Env env, const Failure& failure) {
  const std::string code = errnoName(failure.code);
  std::string message = code + ": " + strerror(failure.code) + ", " + failure.call;
  if (!failure.subject.empty()) message += " '" + failure.subject + "'";
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", code);
  error.Set("errno", Napi::Number::New(env, failure.code));
  error.Set("syscall", Napi::String::New(env, failure.call));
  return error;
}

}  // namespace orca

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return orca::init(env, exports); }

NODE_API_MODULE(orca, Init)
