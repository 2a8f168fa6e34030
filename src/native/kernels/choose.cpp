// Chooses a family for the processor at hand.
#include <cstring>

#include "families.h"
#include "kernels.h"

namespace streamserve {
namespace {

const Kernels* const kFamilies[] = {
#if defined(__x86_64__)
    &kAvx512VnniKernels,
    &kAvx2VnniKernels,
    &kAvx2Kernels,
#endif
    &kPortableKernels,
};

}  // namespace

#if defined(__x86_64__)
// __builtin_cpu_supports looks at CPUID and at what the operating system saves (XGETBV).
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool has_avx2_vnni() { return has_avx2() && __builtin_cpu_supports("avxvnni"); }

bool has_avx512_vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

std::span<const Kernels* const> kernel_families() { return kFamilies; }

const Kernels* choose_kernels(const char* name) {
  const bool any = name == nullptr || *name == '\0';
  for (const Kernels* family : kFamilies) {
    if ((any || std::strcmp(name, family->name) == 0) && family->supported()) return family;
  }
  return nullptr;
}

}  // namespace streamserve
