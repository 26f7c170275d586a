// The kernel table of the target unit that includes this: the bodies of csrc/kernels with the vectors of csrc/simd that the unit included before.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "../kernels/colour_rows.h"
#include "../kernels/conv.h"
#include "../kernels/kernels.h"
#include "../kernels/pointwise.h"
#include "../kernels/resize.h"
#include "../kernels/shuffle.h"
#include "../kernels/winograd.h"
#include "../kernels/winograd2d.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr Kernels kTable = {FASTSR_TARGET_NAME, conv_pack_size, conv_pack, conv, winograd_pack_size, winograd_pack, winograd_scratch, winograd,
                            winograd2d_pack_size, winograd2d_pack, winograd2d_scratch, winograd2d, unary, binary, interleave, deinterleave, resize_h, resize_v};

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
