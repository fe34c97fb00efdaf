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

  /// Runs `work` on the pool, then `settle` here, with the promise of the result. `kept` lives until then.
  Napi::Value async(Napi::Object kept, std::function<std::function<Napi::Value(Napi::Env)>(Failure&)> work);
  /// Stops every thread and closes what is open, in that order. Called once, when the environment ends.
  void shutDown();

  Napi::Env env;
  MainThread main;
  WorkerPool pool;
  std::shared_ptr<MemoryBlocks> memory;
  std::set<BlockFileObject*> blockFiles;
  std::set<SessionObject*> sessions;

 private:
  std::unordered_map<uint64_t, Call> calls_;
  uint64_t nextCall_ = 0;
};

/// An Error with `code`, `errno` and `syscall`, worded as Node words its own.
Napi::Error errorOf(Napi::Env env, const Failure& failure);

void defineSys(Napi::Env env, Napi::Object exports);
void defineBlockFile(Napi::Env env, Napi::Object exports);
void defineSession(Napi::Env env, Napi::Object exports);

}  // namespace orca
