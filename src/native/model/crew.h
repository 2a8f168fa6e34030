// Threads for one piece of work at load time, before there are lanes to share the compute pool.
#pragma once

#include <cstdint>
#include <functional>

namespace streamserve {

// Runs `work` on up to `threads` threads at once, the caller's among them, and returns when all have ended.
// Fewer run when the system lacks threads or memory for them, so `work` must take its share from a common
// counter. Rethrows the first exception.
void with_crew(size_t threads, const std::function<void()>& work);

}  // namespace streamserve
