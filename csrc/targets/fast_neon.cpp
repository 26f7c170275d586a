// The kernels of the tier `fast` for the instruction set "neon". What neon.cpp says of flags, headers and regions holds here too.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../kernels/fast.h"
#include "../kernels/kernels.h"

#if defined(__aarch64__) || defined(_M_ARM64)
#include "../simd/neon_int8.h"

#include "fast_table.h"

const fastsr::FastKernels* fastsr::fast_kernels_neon(bool quick) { return quick ? &fastsr::neon::kQuickTable : &fastsr::neon::kFastTable; }
#else
const fastsr::FastKernels* fastsr::fast_kernels_neon(bool) { return nullptr; }
#endif
