// Convolutions with stride 1 as implicit GEMM on tensor cores: halfs, sums in float.
//
// A block of 256 threads stays on its multiprocessor and takes tile after tile of Rows x 16 pixels, all with the same Outputs output channels. Of a tile
// it holds the pixels that its taps reach (the halo), Channels input channels at a time; a row of the GEMM is a pixel, so a tap is a shift of
// addresses. Copies of the next piece go on while this one is multiplied. With Resident, all weights stay in shared memory; else each block of channels
// brings its own. Rows of shared memory are Channels + 8 halfs apart: eight of them begin in different banks.
//
// Weights: half (output blocks, channel blocks, kh * kw, Outputs, Channels), zeros where there are none. Input: pitch a multiple of 8.
// Grid: (blocks that fit at once, output blocks, batch). Sum in the order channel block, tap, channel; then the bias.
#pragma once

#include "store_tile.cuh"

namespace fastsr {

constexpr int TILE_WIDTH = 16;

template <int Kh, int Kw, int Channels, int Outputs, int Rows, bool Resident>
struct MmaLayout {
  static constexpr int STEP = Channels + 8;                       // halfs from row to row
  static constexpr int WIDTH = TILE_WIDTH + Kw - 1;
  static constexpr int PIXELS = (Rows + Kh - 1) * WIDTH;
  static constexpr int WEIGHTS = Kh * Kw * Outputs * STEP;
  static constexpr int STAGED = Rows * TILE_WIDTH * (Outputs + 8);  // the result on its way out
  static constexpr int INPUT = PIXELS * STEP > STAGED ? PIXELS * STEP : STAGED;
  static constexpr int BYTES = 2 * (2 * INPUT + (Resident ? 1 : 2) * WEIGHTS);
};

template <int Kh, int Kw, int Channels, int Outputs, int Rows, bool Resident, class Before, class Moved, class After>
FASTSR_KERNEL FASTSR_BOUNDS(MMA_THREADS, 1) conv_mma(const Args args) {
  using L = MmaLayout<Kh, Kw, Channels, Outputs, Rows, Resident>;
  constexpr int WARPS = MMA_THREADS / 32, EACH = Rows / WARPS;  // rows of pixels that a warp makes
  static_assert(Rows % WARPS == 0 && Channels % 16 == 0 && Outputs % 16 == 0, "whole fragments");
  FASTSR_SHARED(memory);
  half* inputs = reinterpret_cast<half*>(memory);
  half* weights = inputs + 2 * L::INPUT;
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, n = blockIdx.z;
  const half* packed = static_cast<const half*>(args.weight) + static_cast<long long>(blockIdx.y) * args.chunks * Kh * Kw * Outputs * Channels;
  const int pieces = (args.tiles - static_cast<int>(blockIdx.x) + static_cast<int>(gridDim.x) - 1) / static_cast<int>(gridDim.x) * args.chunks;

  auto tile_y = [&](int piece) { return args.y0 + (static_cast<int>(blockIdx.x) + piece / args.chunks * static_cast<int>(gridDim.x)) / args.tiles_x * Rows; };
  auto tile_x = [&](int piece) { return args.x0 + (static_cast<int>(blockIdx.x) + piece / args.chunks * static_cast<int>(gridDim.x)) % args.tiles_x * TILE_WIDTH; };
  auto fetch = [&](int piece) {
    const int chunk = piece % args.chunks, y = tile_y(piece) - args.pt, x = tile_x(piece) - args.pl;
    half* to = inputs + piece % 2 * L::INPUT;
    for (int i = thread; i < L::PIXELS * (Channels / 8); i += MMA_THREADS) {
      const int pixel = i / (Channels / 8), part = i % (Channels / 8), c = chunk * Channels + part * 8;
      const int sy = y + pixel / L::WIDTH, sx = x + pixel % L::WIDTH;
      const bool real = sy >= args.in.y0 && sy < args.in.y1 && sx >= args.in.x0 && sx < args.in.x1 && c < args.in.pitch;
      copy_async(to + pixel * L::STEP + part * 8, real ? at<half>(args.in, n, sy, sx) + c : static_cast<const half*>(args.in.data), real);
    }
    if (!Resident || piece == 0) {
      const half* from = packed + static_cast<long long>(chunk) * Kh * Kw * Outputs * Channels;
      half* w = weights + (Resident ? 0 : piece % 2 * L::WEIGHTS);
      for (int i = thread; i < Kh * Kw * Outputs * (Channels / 8); i += MMA_THREADS) {
        const int row = i / (Channels / 8), part = i % (Channels / 8);
        copy_async(w + row * L::STEP + part * 8, from + row * Channels + part * 8, true);
      }
    }
    copies_commit();
  };

  float sum[EACH][Outputs / 8][4];
  if (pieces > 0) fetch(0);
  for (int piece = 0; piece < pieces; ++piece) {
    if (piece + 1 < pieces) {
      fetch(piece + 1);
      copies_wait<1>();
    } else {
      copies_wait<0>();
    }
    __syncthreads();
    half* input = inputs + piece % 2 * L::INPUT;
    const half* w = weights + (Resident ? 0 : piece % 2 * L::WEIGHTS);
    if (piece % args.chunks == 0)
#pragma unroll
      for (int r = 0; r < EACH; ++r)
#pragma unroll
        for (int k = 0; k < Outputs / 8; ++k)
#pragma unroll
          for (int i = 0; i < 4; ++i) sum[r][k][i] = 0.0f;

#pragma unroll 1
    for (int tap = 0; tap < Kh * Kw; ++tap) {
      const half* pixels = input + ((warp * EACH + tap / Kw) * L::WIDTH + tap % Kw + lane % 16) * L::STEP + lane / 16 * 8;
      const half* row = w + (tap * Outputs + lane % 8 + lane / 16 * 8) * L::STEP + lane / 8 % 2 * 8;
#pragma unroll
      for (int c = 0; c < Channels; c += 16) {
        unsigned a[EACH][4];
#pragma unroll
        for (int r = 0; r < EACH; ++r) load_matrices(a[r], pixels + r * L::WIDTH * L::STEP + c);
#pragma unroll
        for (int k = 0; k < Outputs / 16; ++k) {
          unsigned b[4];
          load_matrices(b, row + k * 16 * L::STEP + c);
#pragma unroll
          for (int r = 0; r < EACH; ++r) {
            multiply_add(sum[r][2 * k], a[r], b[0], b[1]);
            multiply_add(sum[r][2 * k + 1], a[r], b[2], b[3]);
          }
        }
      }
    }
    __syncthreads();  // all have read the piece

    if (piece % args.chunks == args.chunks - 1) {
      const int y0 = tile_y(piece), x0 = tile_x(piece), first = blockIdx.y * Outputs;
#pragma unroll
      for (int r = 0; r < EACH; ++r) {
        const int y = y0 + warp * EACH + r;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int column = lane / 4 + 8 * i, x = x0 + column;
          const bool there = y < args.y1 && x < args.x1;
          half* to = input + ((warp * EACH + r) * TILE_WIDTH + column) * (Outputs + 8) + lane % 4 * 2;
#pragma unroll
          for (int k = 0; k < Outputs / 8; ++k) {
            const int c = first + k * 8 + lane % 4 * 2;
            float v[2] = {0.0f, 0.0f};
#pragma unroll
            for (int j = 0; j < 2; ++j)
              if (there && c + j < args.cout) v[j] = Before::apply(sum[r][k][2 * i + j] + (args.bias ? args.bias[c + j] : 0.0f), args, {n, c + j, y, x});
            *reinterpret_cast<unsigned*>(to + k * 8) = pack_halves(v[0], v[1]);
          }
        }
      }
      __syncthreads();
      store_tile<Rows, TILE_WIDTH, Outputs, Outputs + 8, Moved, After>(input, args, n, first, y0, x0);
      __syncthreads();  // the result has left before the next piece is copied here
    }
  }
}

}  // namespace fastsr
