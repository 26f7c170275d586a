// The integer convolutions of a tile: from a step's plan and the rings to a call of a kernel.
#include <algorithm>

#include "engine/rows.h"

namespace fastsr {
namespace {

size_t idx(int i) { return static_cast<size_t>(i); }

uint32_t all_bytes(float byte) { return static_cast<uint32_t>(byte) * 0x01010101u; }

}  // namespace

// Lines of row iy of a convolution's input in memory of their own, as bytes: n columns from `first` on. For rows that are kept as floats.
void TileRunner::lines_of_bytes(int v, int iy, int first, int n, uint32_t* to, ptrdiff_t stride) {
  const Ring& in = ring(v);
  const float* const from = at(v, iy, first);
  for (int c = 0; c < in.channels; c += 4, to += stride) {
    const float* four[4];
    for (int j = 0; j < 4; ++j) four[j] = c + j < in.channels ? from + (c + j) * in.stride : nullptr;
    net_.plan.fast->int8.float_to_bytes(to, four, n, net_.plan.least[idx(v)]);
  }
}

// Row y of an integer convolution, to rows of floats or, where the step is in_place, of what its value holds.
void TileRunner::conv8(size_t s, int y, void* dst, ptrdiff_t stride, Span cols, float* scratch) {
  const Step& step = net_.step(s);
  const StepPlan& plan = net_.plan.steps[s];
  const int v = step.in[0];
  const Ring& in = ring(v);
  const Size size = net_.size(v);
  const ConvAxis rows = conv_axis(step.conv, 0, size.h), columns = conv_axis(step.conv, 1, size.w);
  const Conv8Lines shape = conv8_lines(net_, s, cols.size(), in.stride);
  const auto first = static_cast<int>(columns.first(cols.lo));
  auto* const made = reinterpret_cast<uint32_t*>(scratch);
  uint32_t* const phases = made + shape.source_words;
  lines_.clear();
  for (int ky = 0; ky < rows.kernel; ++ky) {
    const int64_t iy = rows.first(y) + int64_t{ky} * rows.dilation;
    const bool inside = iy >= 0 && iy < size.h;
    // Where the lines of this row are: in the ring, made of floats, or of zeros.
    const uint32_t* lines = made;
    if (!inside) {
      uint32_t* to = made + (shape.strided ? 0 : ky * shape.row_words);
      lines = to;
      for (int l = 0; l < shape.lines; ++l) std::fill_n(to + l * shape.source_stride, shape.columns, all_bytes(-net_.plan.least[idx(v)]));
    } else if (in.element == Element::kBytes) {
      lines = element<uint32_t>(v, static_cast<int>(iy), first);
    } else {
      uint32_t* const to = made + (shape.strided ? 0 : ky * shape.row_words);
      lines = to;
      lines_of_bytes(v, static_cast<int>(iy), first, shape.columns, to, shape.source_stride);
    }
    if (!shape.strided) {
      for (int kx = 0; kx < columns.kernel; ++kx) lines_.push_back(lines + kx * columns.dilation);
      continue;
    }
    // A line for each tap, of every sw-th pixel.
    for (int kx = 0; kx < columns.kernel; ++kx) {
      uint32_t* const to = phases + (ptrdiff_t{ky} * columns.kernel + kx) * shape.lines * shape.stride;
      lines_.push_back(to);
      for (int l = 0; l < shape.lines; ++l) {
        const uint32_t* const from = lines + l * shape.source_stride + kx * columns.dilation;
        for (int x = 0; x < cols.size(); ++x) to[l * shape.stride + x] = from[ptrdiff_t{x} * columns.stride];
      }
    }
  }
  Conv8Row row{};
  row.taps = lines_.data();
  row.in_stride = shape.stride;
  row.n_taps = plan.n_taps;
  row.cin = in.channels, row.cout = step.channels, row.width = cols.size();
  row.weights = net_.plan.weights.at(plan.packed_at);
  row.finish.scale = plan.scale.empty() ? nullptr : plan.scale.data();
  row.finish.shift = plan.shift.empty() ? nullptr : plan.shift.data();
  row.finish.act = plan.act;
  row.finish.a = plan.a, row.finish.b = plan.b;
  row.finish.slope = plan.slope.empty() ? nullptr : plan.slope.data();
  row.finish.quantize = plan.quantize;
  row.finish.low = plan.low, row.finish.high = plan.high;
  row.finish.times = plan.times;
  row.out = dst;
  row.bytes = plan.in_place && plan.element == Element::kBytes;
  row.least = net_.plan.least[idx(step.out)];
  row.out_stride = stride;
  net_.plan.fast->int8.conv8(row);
}

}  // namespace fastsr
