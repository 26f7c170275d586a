// Collects the bodies of the tier `fast` that a target unit has included into its tables.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar_int8.h"
#endif
#include "../kernels/conv16.h"
#include "../kernels/conv16_rows.h"
#include "../kernels/conv8.h"
#include "../kernels/half.h"
#include "../kernels/winograd16.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

template <int TY, int TX, class Dot>
constexpr Winograd16 winograd16_table() {
  return {{TY, TX}, winograd16_pack_size<TY, TX>, winograd16_pack<TY, TX>, winograd16_scratch<TY, TX>, winograd16<TY, TX, Dot>, winograd16_measure<TY, TX>};
}

template <class Dot, class Bytes>
constexpr FastKernels fast_table() {
  return {FASTSR_TARGET_NAME, Dot::kName, half_to_float, float_to_half,
          {winograd16_table<4, 4, Dot>(), winograd16_table<6, 4, Dot>(), winograd16_table<6, 6, Dot>()}, float_to_pairs, pairs_to_float,
          conv16_pack_size, conv16_pack, conv16_most, conv16_scratch, conv16<Dot>, conv16_rows_pack_size, conv16_rows_pack,
          conv16_rows_most, conv16_rows_scratch, conv16_rows<Dot>,
          {float_to_bytes, bytes_to_float, conv8_pack_size<Bytes>, conv8_pack<Bytes>, conv8<Bytes>}};
}

constexpr FastKernels kFastTable = fast_table<PlainDot, PlainBytes>(), kQuickTable = fast_table<QuickDot, QuickBytes>();

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
