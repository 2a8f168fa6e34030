// Steps as JavaScript calls them. Batches and results travel as flat arrays: no object is walked on the token
// path.
#pragma once

#include "binding/call.h"

namespace streamserve::binding {

void export_step_calls(napi_env env, napi_value exports);

}  // namespace streamserve::binding
