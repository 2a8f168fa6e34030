#include "model/crew.h"

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace streamserve {

void with_crew(size_t threads, const std::function<void()>& work) {
  std::mutex lock;
  std::exception_ptr failure;
  const auto guarded = [&] {
    try {
      work();
    } catch (...) {
      const std::lock_guard guard(lock);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  try {
    others.reserve(threads);
    for (size_t t = 1; t < threads; ++t) others.emplace_back(guarded);
  } catch (const std::exception&) {
    // Fewer do the same work.
  }
  guarded();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace streamserve
