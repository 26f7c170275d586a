// The kernels of the tier `fast` for the instruction set "avx2". What avx2.cpp says of flags, headers and regions holds here too.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../kernels/fast.h"
#include "../kernels/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#include "../simd/avx2_int8.h"

#include "fast_table.h"

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const fastsr::FastKernels* fastsr::fast_kernels_avx2(bool quick) { return quick ? &fastsr::avx2::kQuickTable : &fastsr::avx2::kFastTable; }
#else
const fastsr::FastKernels* fastsr::fast_kernels_avx2(bool) { return nullptr; }
#endif
