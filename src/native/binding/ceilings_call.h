// What the machine can do at best, as JavaScript asks for it.
#pragma once

#include "binding/call.h"

namespace streamserve::binding {

// measureCeilings(instructionSet, threads, readBytes, out: Float64Array(3)): int8 and f32 multiply-adds and
// bytes read, per second over all threads, as kernels/ceilings.h says. Blocks for about half a second.
napi_value measure_ceilings(Call& call);

}  // namespace streamserve::binding
