// Entry point of the addon: registers what the other files of this folder export.
#include <napi.h>

static Napi::Object Init(Napi::Env, Napi::Object exports) { return exports; }

NODE_API_MODULE(orca, Init)
