// The last part of kernels on tensor cores: a tile of results in shared memory, halfs, becomes part of a value in whole 16-byte vectors where channels
// stay together.
#pragma once

#include "epilogue.cuh"

namespace fastsr {

constexpr int MMA_THREADS = 256;

// staged: Rows * Columns pixels, Outputs channels from `first` on, Step halfs from pixel to pixel; y0, x0: the first pixel's place before the shuffle.
// All threads of the block call it, between barriers.
template <int Rows, int Columns, int Outputs, int Step, class Moved, class After>
FASTSR_DEVICE void store_tile(const half* staged, const Args& args, int n, int first, int y0, int x0) {
  const View& out = args.out;
  const bool whole = Moved::BLOCK == 1 ? out.pitch % 8 == 0 : !Moved::CRD && args.cout / (Moved::BLOCK * Moved::BLOCK) % 8 == 0;
  const int width = whole ? 8 : 1, parts = Outputs / width;
  for (int i = threadIdx.x; i < Rows * Columns * parts; i += MMA_THREADS) {
    const int pixel = i / parts, k = i % parts * width;
    const Where from{n, first + k, y0 + pixel / Columns, x0 + pixel % Columns};
    if (from.y >= args.y1 || from.x >= args.x1 || from.c >= (whole && Moved::BLOCK == 1 ? out.pitch : args.cout)) continue;
    const Where to = Moved::BLOCK > 1 ? Moved::moved(from, args.cout) : from;
    if (Moved::BLOCK > 1 && (to.y < out.y0 || to.y >= out.y1 || to.x < out.x0 || to.x >= out.x1)) continue;
    const half* source = staged + pixel * Step + k;
    half* target = at<half>(out, n, to.y, to.x) + to.c;
    if (whole && After::EMPTY)
      *reinterpret_cast<Vector*>(target) = *reinterpret_cast<const Vector*>(source);
    else
      for (int j = 0; j < width; ++j)
        if (from.c + j < args.cout) target[j] = from_float<half>(After::apply(to_float(source[j]), args, {n, to.c + j, to.y, to.x}));
  }
}

}  // namespace fastsr
