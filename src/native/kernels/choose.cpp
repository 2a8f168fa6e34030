// Chooses a family for the processor at hand.
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

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
#elif defined(__aarch64__)
    &kNeonI8mmKernels,
    &kNeonDotprodKernels,
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
#elif defined(__aarch64__) && defined(__linux__)
// The bits are the kernel's interface; older C libraries lack names for them.
bool has_neon_dotprod() {
  constexpr unsigned long dotprod = 1UL << 20;  // HWCAP_ASIMDDP
  return (::getauxval(AT_HWCAP) & dotprod) != 0;
}

bool has_neon_i8mm() {
  constexpr unsigned long i8mm = 1UL << 13;  // HWCAP2_I8MM
  return has_neon_dotprod() && (::getauxval(AT_HWCAP2) & i8mm) != 0;
}
#elif defined(__aarch64__) && defined(__APPLE__)
static bool has_feature(const char* name) {
  int has = 0;
  size_t size = sizeof(has);
  return ::sysctlbyname(name, &has, &size, nullptr, 0) == 0 && has != 0;
}

bool has_neon_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }

bool has_neon_i8mm() { return has_neon_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__aarch64__)
// Nothing to ask on other systems: the portable family runs.
bool has_neon_dotprod() { return false; }

bool has_neon_i8mm() { return false; }
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
