// Calls on tokenizers.
#pragma once

#include "binding/call.h"

namespace streamserve::binding {

void export_text_calls(napi_env env, napi_value exports);

}  // namespace streamserve::binding
