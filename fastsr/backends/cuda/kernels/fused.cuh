// Whole small networks, or chains of convolutions in larger ones, in one launch: a tile goes through all layers in shared memory.
//
// A block of 256 threads takes tile after tile of Rows x Columns pixels of the chain's result. Of each layer it computes what the layers behind it need
// (the halo is computed by every tile that needs it), as GEMM on tensor cores: 16 pixels after another in their region are the rows of a fragment, a tap
// a shift of their addresses. Two buffers take turns as input and output; all weights stay in shared memory. Pixels outside the picture are made zero
// after each layer: that is the next one's padding. The first layer of a picture of few channels reads its taps side by side (im2col).
//
// Kernels K x K are odd, pads K / 2, strides 1. Weights: half, layer after layer (K * K, Out, In), the first with im2col (Out, In) with taps outermost;
// bias: float, layer after layer (Out). Zeros where there are none. Grid: (blocks that fit at once, 1, batch).
#pragma once

#include "store_tile.cuh"

namespace fastsr {

// In, Out: channels rounded up to 16, with im2col In the taps times channels. Real: output channels. Wide: input channels with im2col, else 0.
template <int Kernel, int In, int Out, int Real, int Wide, class Operations>
struct Layer {
  static constexpr int K = Kernel, IN = In, OUT = Out, REAL = Real, WIDE = Wide;
  static constexpr int TAPS = Wide ? 1 : Kernel * Kernel;
  static constexpr int WEIGHTS = TAPS * Out * (In + 8);
  using Ops = Operations;
};

constexpr FASTSR_DEVICE int larger(int a, int b) { return a > b ? a : b; }

// Halfs of shared memory: of both buffers, of the weights. The layers' regions follow from the last one's.
template <int Rows, int Columns, class... Layers>
struct FusedLayout;

template <int Rows, int Columns>
struct FusedLayout<Rows, Columns> {
  static constexpr int HALO = 0, EVEN = 0, ODD = 0, WEIGHTS = 0;
};

// EVEN: the buffer that the first of these layers reads; ODD: the one that it writes.
template <int Rows, int Columns, class First, class... Rest>
struct FusedLayout<Rows, Columns, First, Rest...> {
  using Next = FusedLayout<Rows, Columns, Rest...>;
  static constexpr int AFTER = Next::HALO;               // pixels that the layers behind this one need more
  static constexpr int HALO = AFTER + First::K - 1;
  static constexpr int OUT_PIXELS = (Rows + AFTER) * (Columns + AFTER);
  static constexpr int IN_PIXELS = First::WIDE ? OUT_PIXELS : (Rows + HALO) * (Columns + HALO);
  static constexpr int EVEN = larger(IN_PIXELS * (First::IN + 8), Next::ODD);
  static constexpr int ODD = larger(OUT_PIXELS * (First::OUT + 8), Next::EVEN);
  static constexpr int WEIGHTS = First::WEIGHTS + Next::WEIGHTS;
  static constexpr int BYTES = 2 * (EVEN + ODD + WEIGHTS);
};

// One layer: Height x Width pixels of its result, whose first is at (y0, x0) of the picture, from `in`, rows of IN_WIDTH pixels, to `out`. Zero outside
// the picture, and of the last layer outside what is to be made: no further do its operands lie in memory.
template <class L, int Height, int Width, bool Last>
FASTSR_DEVICE void fused_layer(const half* in, half* out, const half* weights, const float* bias, const Args& args, int n, int y0, int x0) {
  constexpr int PIXELS = Height * Width, TILES = (PIXELS + 15) / 16, EACH = 2, WARPS = MMA_THREADS / 32;
  constexpr int IN_WIDTH = L::WIDE ? Width : Width + L::K - 1, STEP = L::IN + 8;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll 1
  for (int tile = warp * EACH; tile < TILES; tile += WARPS * EACH) {
    float sum[EACH][L::OUT / 8][4];
    const half* pixels[EACH];
#pragma unroll
    for (int r = 0; r < EACH; ++r) {
      const int k16 = (tile + r) * 16 + lane % 16, m = k16 < PIXELS ? k16 : PIXELS - 1;
      pixels[r] = in + (m / Width * IN_WIDTH + m % Width) * STEP + lane / 16 * 8;
#pragma unroll
      for (int k = 0; k < L::OUT / 8; ++k)
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[r][k][i] = 0.0f;
    }
    const half* row = weights + (lane % 8 + lane / 16 * 8) * STEP + lane / 8 % 2 * 8;
#pragma unroll 1
    for (int tap = 0; tap < L::TAPS; ++tap) {
      const int shift = L::WIDE ? 0 : (tap / L::K * IN_WIDTH + tap % L::K) * STEP;
#pragma unroll
      for (int c = 0; c < L::IN; c += 16) {
        unsigned a[EACH][4];
#pragma unroll
        for (int r = 0; r < EACH; ++r) load_matrices(a[r], pixels[r] + shift + c);
#pragma unroll
        for (int k = 0; k < L::OUT / 16; ++k) {
          unsigned b[4];
          load_matrices(b, row + (tap * L::OUT + k * 16) * STEP + c);
#pragma unroll
          for (int r = 0; r < EACH; ++r) {
            multiply_add(sum[r][2 * k], a[r], b[0], b[1]);
            multiply_add(sum[r][2 * k + 1], a[r], b[2], b[3]);
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < EACH; ++r) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int m = (tile + r) * 16 + lane / 4 + 8 * i, y = y0 + m / Width, x = x0 + m % Width;
        const bool there = m < PIXELS;
        const bool inside = y >= 0 && y < (Last ? args.y1 : args.in.height) && x >= 0 && x < (Last ? args.x1 : args.in.width);
        half* to = out + m * (L::OUT + 8) + lane % 4 * 2;
#pragma unroll
        for (int k = 0; k < L::OUT / 8; ++k) {
          const int c = k * 8 + lane % 4 * 2;
          float v[2] = {0.0f, 0.0f};
#pragma unroll
          for (int j = 0; j < 2; ++j)
            if (there && inside && c + j < L::REAL) v[j] = L::Ops::apply(sum[r][k][2 * i + j] + bias[c + j], args, {n, c + j, y, x});
          if (there) *reinterpret_cast<unsigned*>(to + k * 8) = pack_halves(v[0], v[1]);
        }
      }
    }
  }
}

template <class First, class... Rest>
struct LastOf : LastOf<Rest...> {};

template <class Only>
struct LastOf<Only> {
  static constexpr int OUT = Only::OUT;
};

template <int Rows, int Columns, class... Layers>
struct FusedLayers;

template <int Rows, int Columns>
struct FusedLayers<Rows, Columns> {
  static FASTSR_DEVICE half* run(half*, half* out, const half*, const float*, const Args&, int, int, int) { return out; }
};

// The layers one after another; returns the buffer that holds the last one's result.
template <int Rows, int Columns, class First, class... Rest>
struct FusedLayers<Rows, Columns, First, Rest...> {
  static FASTSR_DEVICE half* run(half* in, half* out, const half* weights, const float* bias, const Args& args, int n, int y0, int x0) {
    constexpr int AFTER = FusedLayout<Rows, Columns, First, Rest...>::AFTER;
    fused_layer<First, Rows + AFTER, Columns + AFTER, sizeof...(Rest) == 0>(in, out, weights, bias, args, n, y0 - AFTER / 2, x0 - AFTER / 2);
    __syncthreads();
    if constexpr (sizeof...(Rest) > 0)
      return FusedLayers<Rows, Columns, Rest...>::run(out, in, weights + First::WEIGHTS, bias + First::OUT, args, n, y0, x0);
    else
      return out;
  }
};

// Weights of all layers, padded, to shared memory.
template <class... Layers>
FASTSR_DEVICE void fused_weights(half* to, const half* from) {
  (([&] {
     for (int i = threadIdx.x; i < Layers::TAPS * Layers::OUT * (Layers::IN / 8); i += MMA_THREADS) {
       const int row = i / (Layers::IN / 8), part = i % (Layers::IN / 8);
       copy_async(to + row * (Layers::IN + 8) + part * 8, from + row * Layers::IN + part * 8, true);
     }
     to += Layers::WEIGHTS;
     from += Layers::TAPS * Layers::OUT * Layers::IN;
   }()),
   ...);
}

template <int Rows, int Columns, class Moved, class After, class First, class... Rest>
FASTSR_KERNEL FASTSR_BOUNDS(MMA_THREADS, 1) fused(const Args args) {
  using L = FusedLayout<Rows, Columns, First, Rest...>;
  constexpr int HALO = L::HALO, WIDTH = Columns + (First::WIDE ? L::AFTER : HALO), STEP = First::IN + 8;
  FASTSR_SHARED(memory);
  half* even = reinterpret_cast<half*>(memory);
  half* odd = even + L::EVEN;
  half* weights = odd + L::ODD;
  const int n = blockIdx.z;
  fused_weights<First, Rest...>(weights, static_cast<const half*>(args.weight));
  for (int tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
    const int y0 = args.y0 + tile / args.tiles_x * Rows, x0 = args.x0 + tile % args.tiles_x * Columns;
    const int y = y0 - HALO / 2, x = x0 - HALO / 2;
    if constexpr (First::WIDE > 0) {
      for (int i = threadIdx.x; i < L::IN_PIXELS * First::IN; i += MMA_THREADS) {
        const int pixel = i / First::IN, k = i % First::IN, tap = k / First::WIDE;
        const int sy = y + pixel / WIDTH + tap / First::K, sx = x + pixel % WIDTH + tap % First::K;
        const bool real = tap < First::K * First::K && sy >= args.in.y0 && sy < args.in.y1 && sx >= args.in.x0 && sx < args.in.x1;
        even[pixel * STEP + k] = real ? at<half>(args.in, n, sy, sx)[k % First::WIDE] : from_float<half>(0.0f);
      }
    } else {
      for (int i = threadIdx.x; i < L::IN_PIXELS * (First::IN / 8); i += MMA_THREADS) {
        const int pixel = i / (First::IN / 8), c = i % (First::IN / 8) * 8, sy = y + pixel / WIDTH, sx = x + pixel % WIDTH;
        const bool real = sy >= args.in.y0 && sy < args.in.y1 && sx >= args.in.x0 && sx < args.in.x1 && c < args.in.pitch;
        copy_async(even + pixel * STEP + c, real ? at<half>(args.in, n, sy, sx) + c : static_cast<const half*>(args.in.data), real);
      }
    }
    copies_commit();
    copies_wait<0>();
    __syncthreads();
    const half* made = FusedLayers<Rows, Columns, First, Rest...>::run(even, odd, weights, args.bias, args, n, y0, x0);
    constexpr int OUT = LastOf<First, Rest...>::OUT;
    store_tile<Rows, Columns, OUT, OUT + 8, Moved, After>(made, args, n, 0, y0, x0);
    __syncthreads();  // the result has left before the next tile is read here
  }
}

}  // namespace fastsr
