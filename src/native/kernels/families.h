// The tables of all families. Which are compiled in depends on the processor the build is for.
#pragma once

#include "kernels.h"

namespace streamserve {

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx2VnniKernels;
extern const Kernels kAvx512VnniKernels;

// What each family needs of the processor and the operating system. Apart from the families' own files, which
// are compiled for instructions that may be missing.
bool has_avx2();
bool has_avx2_vnni();
bool has_avx512_vnni();
#elif defined(__aarch64__)
extern const Kernels kNeonDotprodKernels;
extern const Kernels kNeonI8mmKernels;

bool has_neon_dotprod();
bool has_neon_i8mm();
#endif

}  // namespace streamserve
