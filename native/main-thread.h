// Lets other threads run closures on the thread of a JavaScript environment.
#pragma once

#include <napi.h>

#include <functional>

namespace orca {

class MainThread {
 public:
  explicit MainThread(Napi::Env env);

  /// From any thread, until the environment ends; a closure that cannot run any more is dropped. Closures hold no
  /// JavaScript values: they may be destroyed on any thread.
  void post(std::function<void(Napi::Env)> closure);

  /// From the environment's thread: keeps its event loop alive until as many calls of unref().
  void ref();
  void unref();

 private:
  static void call(napi_env env, napi_value callback, void* context, void* closure);

  Napi::Env env_;
  napi_threadsafe_function function_ = nullptr;
  size_t references_ = 0;
};

}  // namespace orca
