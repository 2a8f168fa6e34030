// Hands a GGUF header to JavaScript.
#pragma once

#include "binding/call.h"

namespace streamserve::binding {

// readMetadata(path) -> { version, entries: [key, value][], tensors: [name, format, shape, bytes][] }.
// Numbers beyond 2^53 become BigInt; arrays of numbers become typed arrays (booleans a Uint8Array), arrays of
// strings become arrays.
napi_value read_metadata(Call& call);

}  // namespace streamserve::binding
