// Engines and lanes as JavaScript calls them; src/engine/native-addon.ts gives the signatures.
#pragma once

#include "binding/call.h"

namespace streamserve::binding {

// Adds the calls to the addon's exports.
void export_engine_calls(napi_env env, napi_value exports);

}  // namespace streamserve::binding
