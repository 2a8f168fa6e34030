// Tells model files apart without reading all of them.
#pragma once

#include "model/digest.h"
#include "source/model_source.h"

namespace streamserve {

// Of each file: its size, its modification time, its first and last 64 KiB and 64 samples of 4 KiB between.
// See docs/decisions/packed-cache.md for what that can and cannot tell.
DigestBytes source_digest(const ModelSource& source);

}  // namespace streamserve
