// What one JavaScript environment (the main thread, or a worker) has of the addon. Nothing is global, so that any
// number of environments can load it.
#pragma once

#include <napi.h>

#include <memory>
#include <set>
#include <unordered_map>

#include "block-file.h"
#include "main-thread.h"
#include "worker-pool.h"

namespace orca {

class BlockFileObject;
class SessionObject;

/// A promise under way, and the value that must live as long.
struct Call {
  Napi::Promise::Deferred deferred;
  Napi::ObjectReference kept;
};

struct Addon {
  explicit Addon(Napi::Env env);
  static Addon& of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }

  /// A promise, whose call `settle` ends. `kept` lives until then, and so does the event loop.
  uint64_t begin(Napi::Object kept, Napi::Value& promise);
  /// From any thread: rejects with the failure, if there is one, or resolves with what `result` makes.
  void settle(uint64_t call, Failure failure, std::function<Napi::Value(Napi::Env)> result);
  /// Stops every thread and closes what is open, in that order. Called once, when the environment ends.
  void shutDown();

  Napi::Env env;
  MainThread main;
  /// Verifies blocks and answers the READs that wait for them; then puts them on the disk.
  WorkerPool blocks;
  WorkerPool inflating;
  std::shared_ptr<MemoryBlocks> memory;
  std::set<BlockFileObject*> blockFiles;
  std::set<SessionObject*> sessions;

 private:
  std::unordered_map<uint64_t, Call> calls_;
  uint64_t nextCall_ = 0;
};

/// An Error with `code`, `errno` and `syscall`, worded as Node words its own.
Napi::Error errorOf(Napi::Env env, const Failure& failure);

void defineCrypto(Napi::Env env, Napi::Object exports);
void defineSys(Napi::Env env, Napi::Object exports);
void defineNotify(Napi::Env env, Napi::Object exports);
void defineBlockFile(Napi::Env env, Napi::Object exports);
void defineInflater(Napi::Env env, Napi::Object exports);
void defineSession(Napi::Env env, Napi::Object exports);

}  // namespace orca
