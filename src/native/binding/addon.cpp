// Entry point of the addon. It is loaded by every thread that touches the engine; all state that threads
// share lives in the process-wide registry.
#include "binding/call.h"
#include "binding/ceilings_call.h"
#include "binding/engine_calls.h"
#include "binding/environment.h"
#include "binding/metadata.h"
#include "binding/quantise_calls.h"
#include "binding/text_calls.h"

namespace streamserve::binding {
namespace {

napi_value initialise(napi_env env, napi_value exports) {
  try {
    Environment::attach(env);
    export_function(env, exports, "readMetadata", entry<read_metadata>);
    export_function(env, exports, "measureCeilings", entry<measure_ceilings>);
    export_engine_calls(env, exports);
    export_quantise_calls(env, exports);
    export_text_calls(env, exports);
  } catch (...) {
    // A Node-API failure here leaves its JavaScript exception pending, or the environment is going down.
  }
  return exports;
}

}  // namespace
}  // namespace streamserve::binding

NAPI_MODULE_INIT() { return streamserve::binding::initialise(env, exports); }
