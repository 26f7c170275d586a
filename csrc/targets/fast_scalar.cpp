// The kernels of the tier `fast` for the instruction set "scalar". What scalar.cpp says of flags, headers and regions holds here too.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../kernels/fast.h"
#include "../kernels/kernels.h"

#include "../simd/scalar_int8.h"

#include "fast_table.h"

const fastsr::FastKernels* fastsr::fast_kernels_scalar(bool quick) { return quick ? &fastsr::scalar::kQuickTable : &fastsr::scalar::kFastTable; }
