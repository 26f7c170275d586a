// The kernels of the tier `fast` for this processor.
#pragma once
#include <vector>

#include "../kernels/fast.h"
#include "../kernels/kernels.h"

namespace fastsr {

// The table that goes with another one of the same instruction set, for this processor; null where it cannot run (AVX2 without F16C).
const FastKernels* fast_kernels(const Kernels& kernels);

// All tables that run here, with several for an instruction set where it has several ways to add products.
std::vector<const FastKernels*> available_fast_kernels();

}  // namespace fastsr
