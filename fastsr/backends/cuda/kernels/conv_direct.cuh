// Convolutions of any kernel, stride, dilation and grouping in float32 arithmetic: what tensor cores do not pay for, and the precision f32.
//
// A thread makes Outputs channels of one pixel; the threads of a warp have neighbouring pixels and the same channels, so a weight is read once for all.
// Weights: float (group, kh, kw, cin, couts), couts the group's output channels rounded up to Outputs. Sum in the order bias, tap, input channel.
#pragma once

#include "epilogue.cuh"

namespace fastsr {

constexpr int DIRECT_THREADS = 128;

// Grid: (pixels / DIRECT_THREADS, groups * blocks of Outputs channels, batch).
template <class T, int Outputs, class Before, class Moved, class After>
FASTSR_KERNEL FASTSR_BOUNDS(DIRECT_THREADS, 4) conv_direct(const Args args) {
  const int width = args.x1 - args.x0;
  const long long pixel = static_cast<long long>(blockIdx.x) * DIRECT_THREADS + threadIdx.x;
  if (pixel >= static_cast<long long>(args.y1 - args.y0) * width) return;
  const int y = args.y0 + static_cast<int>(pixel / width), x = args.x0 + static_cast<int>(pixel % width), n = blockIdx.z;
  const int each = args.cout / args.group, blocks = (each + Outputs - 1) / Outputs, couts = blocks * Outputs;
  const int group = blockIdx.y / blocks, begin = blockIdx.y % blocks * Outputs;
  const float* weight = static_cast<const float*>(args.weight) + static_cast<long long>(group) * args.kh * args.kw * args.cin * couts + begin;

  float sum[Outputs];
  for (int k = 0; k < Outputs; ++k) sum[k] = begin + k < each && args.bias ? args.bias[group * each + begin + k] : 0.0f;
  for (int ky = 0; ky < args.kh; ++ky) {
    const int sy = y * args.sh - args.pt + ky * args.dh;
    if (sy < 0 || sy >= args.in.height) continue;
    for (int kx = 0; kx < args.kw; ++kx) {
      const int sx = x * args.sw - args.pl + kx * args.dw;
      if (sx < 0 || sx >= args.in.width) continue;
      const T* from = at<T>(args.in, n, sy, sx) + group * args.cin;
      const float* w = weight + static_cast<long long>(ky * args.kw + kx) * args.cin * couts;
      for (int c = 0; c < args.cin; ++c, w += couts) {
        const float v = to_float(from[c]);
#pragma unroll
        for (int k = 0; k < Outputs; ++k) sum[k] = fmaf(v, w[k], sum[k]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < Outputs; ++k)
    if (begin + k < each) store<T, Before, Moved, After>(sum[k], args, {n, group * each + begin + k, y, x});
}

}  // namespace fastsr
