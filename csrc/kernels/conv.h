// One output row of a convolution:
//   out[k][x] = store(bias[k] + sum over c, t of w[k][c][t] * taps[t][c * in_stride + x])
//
// Blocking: a register block holds KB output channels times NV vectors along x. For every input channel and tap it loads NV vectors, broadcasts KB
// weights and does KB * NV fused multiply-adds. The width is cut into nearly equal blocks of at most kConvVectors[KB] vectors, the channels into
// nearly equal blocks of at most kConvChannels. Rows are read and written in whole vectors: over-write is below W floats past `width` and over-read
// below 2 W (plus the taps' own shifts). Rows need no alignment, but are fastest when out, residual and the middle tap start on cache lines.
//
// Packed weights: [channel block][c][t][channel in block], so a block streams through them once, front to back.
//
// Every output element is one chain of fused multiply-adds that starts at the bias and runs over c, then t, whatever block it falls into: results do
// not depend on position, width or blocking, nor on the instruction set (scalar apart).
//
// Body file: included once by each target unit, after a header of csrc/simd; alone it takes the scalar one.
#pragma once
#ifndef FASTSR_TARGET
#include "../simd/scalar.h"
#endif
#include "blocks.h"
#include "kernels.h"

namespace fastsr {
namespace FASTSR_TARGET {
namespace {

constexpr int kLineVectors = 16 / W;  // vectors of a cache line

// Channel blocks of `cout` channels: the first `larger` of `count` have `size` channels, the others size - 1.
struct ChannelBlocks {
  int count, size, larger;
};

FASTSR_INLINE ChannelBlocks channel_blocks(int cout) {
  const int count = cout % kConvPreferred == 0 ? cout / kConvPreferred : (cout + kConvChannels - 1) / kConvChannels;
  const int size = (cout + count - 1) / count;
  return {count, size, cout - count * (size - 1)};
}

size_t conv_pack_size(int cout, int cin, int n_taps) { return static_cast<size_t>(cout) * cin * n_taps; }

void conv_pack(float* packed, const float* w, int cout, int cin, int n_taps) {
  const ChannelBlocks blocks = channel_blocks(cout);
  const size_t terms = static_cast<size_t>(cin) * n_taps;
  for (int i = 0; i < blocks.count; i++) {
    const int kb = i < blocks.larger ? blocks.size : blocks.size - 1;
    for (size_t term = 0; term < terms; term++)
      for (int k = 0; k < kb; k++) *packed++ = w[k * terms + term];
    w += kb * terms;
  }
}

// Activation, residual and store of a block whose first element is out[0]. What the next pixels will need is fetched: channels lie far apart.
template <int KB, int NV>
FASTSR_INLINE void conv_store(const ConvRow& r, V (&acc)[KB][NV], int k0, int x) {
  const float* residual = r.residual ? r.residual + k0 * r.residual_stride + x : nullptr;
  if (residual) {
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      FASTSR_UNROLL for (int v = NV; v < 2 * NV; v += kLineVectors) FASTSR_PREFETCH_NEAR(residual + k * r.residual_stride + v * W);
    }
  }
  if (residual && r.residual_first) {
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[k][v] = add(acc[k][v], load(residual + k * r.residual_stride + v * W));
    }
  }
  if (r.act == Act::kRelu) {
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[k][v] = max(set1(0.0f), acc[k][v]);
    }
  } else if (r.act == Act::kClip) {
    const V low = set1(r.a), high = set1(r.b);
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[k][v] = min(high, max(low, acc[k][v]));
    }
  } else if (r.act == Act::kLeakyRelu && r.a > 0.0f && r.a <= 1.0f) {  // then it is the same as max, and faster, for infinities and NaN too
    const V slope = set1(r.a);
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[k][v] = max(mul(acc[k][v], slope), acc[k][v]);
    }
  } else if (r.act != Act::kNone) {
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      const V slope = set1(r.act == Act::kPRelu ? r.slope[k0 + k] : r.a);
      FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[k][v] = select(lt(acc[k][v], set1(0.0f)), mul(acc[k][v], slope), acc[k][v]);
    }
  }
  if (residual && !r.residual_first) {
    FASTSR_UNROLL for (int k = 0; k < KB; k++) {
      FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[k][v] = add(acc[k][v], load(residual + k * r.residual_stride + v * W));
    }
  }
  float* out = r.out + k0 * r.out_stride + x;
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int v = NV; v < 2 * NV; v += kLineVectors) FASTSR_PREFETCH_STORE(out + k * r.out_stride + v * W);
  }
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    FASTSR_UNROLL for (int v = 0; v < NV; v++) store(out + k * r.out_stride + v * W, acc[k][v]);
  }
}

// A row with what a channel's taps read, each line at the first tap in it: to be fetched before its turn.
constexpr int kFetching = -1;
struct ConvFetchingRow : ConvRow {
  static constexpr int kMost = 16;
  int n_lines;
  const float* lines[kMost];
};

#if FASTSR_SHIFT
// Three neighbouring taps of one output channel. With a single channel every multiply-add would need a load of its own, mostly across cache lines:
// the second and third tap are shifted out of the first one's registers instead.
template <int NV>
FASTSR_INLINE void conv_three_taps(V (&acc)[NV], const float* p, const float* w) {
  V in[NV + 1];
  FASTSR_UNROLL for (int v = 0; v <= NV; v++) in[v] = load(p + v * W);
  const V w0 = set1(w[0]), w1 = set1(w[1]), w2 = set1(w[2]);
  FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[v] = fma(w0, in[v], acc[v]);
  FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[v] = fma(w1, shift<1>(in[v], in[v + 1]), acc[v]);
  FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[v] = fma(w2, shift<2>(in[v], in[v + 1]), acc[v]);
}
#endif

// Output channels k0 .. k0 + KB - 1, pixels x .. x + NV * W - 1; w: their packed weights. NT: the number of taps, 0 when only known at run time,
// kFetching when lines of r, then a ConvFetchingRow, are to be fetched too.
template <int KB, int NV, int NT>
FASTSR_NOINLINE void conv_block(const ConvRow& r, const float* w, int k0, int x) {
  V acc[KB][NV];
  FASTSR_UNROLL for (int k = 0; k < KB; k++) {
    const V bias = set1(r.bias ? r.bias[k0 + k] : 0.0f);
    FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[k][v] = bias;
  }
  const float* const* taps = r.taps;
  const int n_taps = NT > 0 ? NT : r.n_taps;
  ptrdiff_t offset = x;
  for (int c = r.cin; c > 0; c--) {
    if constexpr (NT == kFetching) {
      const auto& row = static_cast<const ConvFetchingRow&>(r);
      const ptrdiff_t next = c > 1 ? offset + r.in_stride : x + NV * W;
      for (int i = 0; i < row.n_lines; i++) {
        FASTSR_UNROLL for (int v = 0; v <= NV; v += kLineVectors) FASTSR_PREFETCH_NEAR(row.lines[i] + next + v * W);
      }
    }
    FASTSR_NO_UNROLL for (int t = 0; t < n_taps; t++) {
#if FASTSR_SHIFT
      if constexpr (KB == 1 && NT <= 0) {
        if (t + 2 < n_taps && taps[t + 1] == taps[t] + 1 && taps[t + 2] == taps[t] + 2) {
          conv_three_taps<NV>(acc[0], taps[t] + offset, w);
          w += 3;
          t += 2;
          continue;
        }
      }
#endif
      const float* p = taps[t] + offset;
      V in[NV];
      if (NT == 1 && k0 == 0) {
        FASTSR_UNROLL for (int v = 0; v < NV; v += kLineVectors) FASTSR_PREFETCH_NEAR(p + (NV + v) * W);
      }
      FASTSR_UNROLL for (int v = 0; v < NV; v++) in[v] = load(p + v * W);
      FASTSR_UNROLL for (int k = 0; k < KB; k++) {
        const V weight = set1(w[k]);
        FASTSR_UNROLL for (int v = 0; v < NV; v++) acc[k][v] = fma(weight, in[v], acc[k][v]);
      }
      w += KB;
    }
    offset += r.in_stride;
  }
  conv_store<KB, NV>(r, acc, k0, x);
}

template <int NT>
struct ConvBlocks {
  using Block = void (*)(const ConvRow&, const float*, int, int);
  static constexpr int kChannels = kConvChannels, kVectorsMost = 12;
  static constexpr int vectors(int kb) { return kConvVectors[kb]; }
  template <int KB, int NV>
  static constexpr Block make() { return conv_block<KB, NV, NT>; }
};

// Every input line is new to a block of all output channels, and a processor does not foresee the jump to the next channel: that one's lines are fetched
// beforehand, unless the block has too little to do meanwhile (one tap: then those of the next pixels are, conv_block) or lines come back for other output channels.
ConvFetchingRow conv_fetching(const ConvRow& row) {
  ConvFetchingRow r;
  static_cast<ConvRow&>(r) = row;
  r.n_lines = 0;
  for (int t = 0; t < r.n_taps && r.n_lines < r.kMost; t++) {
    const ptrdiff_t step = t ? r.taps[t] - r.taps[t - 1] : -1;
    if (step < 0 || step > 16) r.lines[r.n_lines++] = r.taps[t];
  }
  return r;
}

template <int NT>
FASTSR_INLINE void conv_row(const ConvRow& r, const ChannelBlocks& blocks) {
  static constexpr BlockTable<ConvBlocks<NT>> kBlocks;
  const size_t terms = static_cast<size_t>(r.cin) * r.n_taps;
  const int vectors = (r.width + W - 1) / W, most = kConvVectors[blocks.size];
  const int n_x = (vectors + most - 1) / most;
  for (int i = 0, v0 = 0; i < n_x; i++) {
    const int v1 = static_cast<int>(static_cast<int64_t>(vectors) * (i + 1) / n_x), nv = v1 - v0;
    const float* w = r.weights;
    for (int b = 0, k = 0; b < blocks.count; b++) {
      const int kb = b < blocks.larger ? blocks.size : blocks.size - 1;
      kBlocks.block[kb][nv](r, w, k, v0 * W);
      w += kb * terms;
      k += kb;
    }
    v0 = v1;
  }
}

void conv(const ConvRow& r) {
  const ChannelBlocks blocks = channel_blocks(r.cout);
  if (r.n_taps == 1) {
    conv_row<1>(r, blocks);
  } else if (blocks.count == 1 && r.cin >= 16) {
    conv_row<kFetching>(conv_fetching(r), blocks);
  } else {
    conv_row<0>(r, blocks);
  }
}

}  // namespace
}  // namespace FASTSR_TARGET
}  // namespace fastsr
