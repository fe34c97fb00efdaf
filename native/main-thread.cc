#include "main-thread.h"

#include <memory>

namespace orca {
namespace {

/// False in a worker that was terminated: its loop still runs for a while, but no call that could run JavaScript works.
bool runsJavaScript(Napi::Env env) {
  const Napi::HandleScope scope(env);
  napi_value result;
  return napi_coerce_to_bool(env, Napi::Boolean::New(env, true), &result) == napi_ok;
}

}  // namespace

MainThread::MainThread(Napi::Env env) : env_(env) {
  napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "orca"), 0, 1, nullptr, nullptr,
                                  nullptr, call, &function_);
  napi_unref_threadsafe_function(env, function_);
}

void MainThread::post(std::function<void(Napi::Env)> closure) {
  auto owned = std::make_unique<std::function<void(Napi::Env)>>(std::move(closure));
  if (napi_call_threadsafe_function(function_, owned.get(), napi_tsfn_nonblocking) == napi_ok)
    (void)owned.release();
}

void MainThread::ref() {
  if (references_++ == 0) napi_ref_threadsafe_function(env_, function_);
}

void MainThread::unref() {
  if (--references_ == 0) napi_unref_threadsafe_function(env_, function_);
}

void MainThread::call(napi_env env, napi_value, void*, void* closure) {
  const std::unique_ptr<std::function<void(Napi::Env)>> owned(static_cast<std::function<void(Napi::Env)>*>(closure));
  // Without an environment it is being torn down.
  if (env != nullptr && runsJavaScript(env)) (*owned)(env);
}

}  // namespace orca
