// 8-bit integers for scalar_int16.h; the contract of the functions is in avx2_int8.h.
#pragma once
#include "scalar_int16.h"

namespace fastsr {
namespace scalar {
namespace {

constexpr int kBytesChannels = 4;
constexpr int kBytesVectors[] = {0, 2, 1, 1, 1};

FASTSR_INLINE I nearest(V a) {
  I r;
  for (int i = 0; i < W; i++) r.v[i] = static_cast<int32_t>(a.v[i] + 12582912.0f - 12582912.0f);
  return r;
}
FASTSR_INLINE I set_ints(int32_t a) { return I{{a, a, a, a}}; }
FASTSR_INLINE I up8(I a) {
  for (int i = 0; i < W; i++) a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << 8);
  return a;
}
FASTSR_INLINE I byte_of(I a, int n) {
  for (int i = 0; i < W; i++) a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> 8 * n & 255);
  return a;
}
FASTSR_INLINE Pairs two_bytes(I a, int first) {
  Pairs r;
  const I lo = byte_of(a, first), hi = byte_of(a, first + 2);
  for (int i = 0; i < W; i++) {
    r.v[2 * i] = static_cast<int16_t>(lo.v[i]);
    r.v[2 * i + 1] = static_cast<int16_t>(hi.v[i]);
  }
  return r;
}
FASTSR_INLINE Pairs even_bytes(I a) { return two_bytes(a, 0); }
FASTSR_INLINE Pairs odd_bytes(I a) { return two_bytes(a, 1); }

}  // namespace
}  // namespace scalar
}  // namespace fastsr
