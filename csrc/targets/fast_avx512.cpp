// The kernels of the tier `fast` for the instruction set "avx512". What avx512.cpp says of flags, headers and regions holds here too.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../kernels/fast.h"
#include "../kernels/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#include "../simd/avx512_int8.h"

#include "fast_table.h"

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const fastsr::FastKernels* fastsr::fast_kernels_avx512(bool quick) { return quick ? &fastsr::avx512::kQuickTable : &fastsr::avx512::kFastTable; }
#else
const fastsr::FastKernels* fastsr::fast_kernels_avx512(bool) { return nullptr; }
#endif
