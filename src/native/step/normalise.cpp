#include "step/normalise.h"

#include <cmath>
#include <cstring>

// Compiled for several instruction sets where the loader can choose among them. Contraction is off, so all
// give the same bits. Sanitizers start before the loader has chosen.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define STREAMSERVE_VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define STREAMSERVE_VECTOR_CLONES
#endif

namespace streamserve {
namespace {

// Sixteen floats that the compiler keeps in as many registers as the instruction set needs.
using Wide = float __attribute__((vector_size(64)));
constexpr uint32_t kColumns = sizeof(Wide) / sizeof(float);

// By reference: passing wide vectors by value differs between instruction sets.
inline void load(const float* from, Wide& to) { std::memcpy(&to, from, sizeof to); }
inline void store(const Wide& from, float* to) { std::memcpy(to, &from, sizeof from); }

}  // namespace

STREAMSERVE_VECTOR_CLONES
void normalise(const float* x, const float* weight, float epsilon, uint32_t cols, float* out) {
  Wide sums = {};
  Wide values;
  Wide factors;
  uint32_t k = 0;
  for (; k + kColumns <= cols; k += kColumns) {
    load(x + k, values);
    sums += values * values;
  }
  for (uint32_t c = 0; k + c < cols; ++c) sums[c] += x[k + c] * x[k + c];
  float total = 0;
  for (uint32_t c = 0; c < kColumns; ++c) total += sums[c];
  const float inverse = 1.0F / std::sqrt(total / static_cast<float>(cols) + epsilon);
  for (k = 0; k + kColumns <= cols; k += kColumns) {
    load(x + k, values);
    load(weight + k, factors);
    store(values * inverse * factors, out + k);
  }
  for (; k < cols; ++k) out[k] = x[k] * inverse * weight[k];
}

}  // namespace streamserve
