// The life of a sequence as JavaScript calls it.
#pragma once

#include "binding/call.h"

namespace streamserve::binding {

void export_sequence_calls(napi_env env, napi_value exports);

}  // namespace streamserve::binding
