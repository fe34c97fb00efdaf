// JavaScript's view of Session.
#pragma once

#include "addon.h"
#include "session.h"

namespace orca {

class SessionObject : public Napi::ObjectWrap<SessionObject> {
 public:
  explicit SessionObject(const Napi::CallbackInfo& info);
  ~SessionObject() override;
  /// The environment ends: stops the threads, and forgets the environment.
  void shutDown();

 private:
  friend void defineSession(Napi::Env env, Napi::Object exports);

  /// Calls, on the thread of JavaScript, one of the functions below.
  auto teller(Napi::FunctionReference SessionObject::* function);

  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value touched(const Napi::CallbackInfo& info);
  Napi::Value accesses(const Napi::CallbackInfo& info);
  void preload(const Napi::CallbackInfo& info);
  Napi::Value locate(const Napi::CallbackInfo& info);
  void stopPreload(const Napi::CallbackInfo& info);
  Napi::Value filesRead(const Napi::CallbackInfo& info);
  /// Only asks; onEnd tells when the threads have ended.
  void close(const Napi::CallbackInfo& info);
  void ended(Napi::Env env, EndReason reason, const std::string& message);

  std::unique_ptr<Session> session_;
  Napi::FunctionReference onMiss_;
  Napi::FunctionReference onLikely_;
  Napi::FunctionReference onEnd_;
  /// Null once the environment has ended.
  Addon* addon_;
  /// Closures on their way to this thread find the object through it; null when it has ended.
  std::shared_ptr<SessionObject*> self_ = std::make_shared<SessionObject*>(this);
};

}  // namespace orca
