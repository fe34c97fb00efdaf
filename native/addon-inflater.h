// JavaScript's view of Inflater. Arguments were validated in src/native, which also allows one call at a time.
#pragma once

#include "addon.h"
#include "inflater.h"

namespace orca {

class InflaterObject : public Napi::ObjectWrap<InflaterObject> {
 public:
  explicit InflaterObject(const Napi::CallbackInfo& info);

 private:
  friend void defineInflater(Napi::Env env, Napi::Object exports);

  Napi::Value run(const Napi::CallbackInfo& info);

  std::shared_ptr<Inflater> inflater_;
};

}  // namespace orca
