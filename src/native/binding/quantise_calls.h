// Models opened to have their tensors rounded to other formats.
#pragma once

#include "binding/call.h"

namespace streamserve::binding {

void export_quantise_calls(napi_env env, napi_value exports);

}  // namespace streamserve::binding
