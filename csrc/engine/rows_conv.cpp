// The convolutions of a tile: from a step's plan and the rings to a call of a kernel.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "engine/rows.h"
#include "targets/fast.h"

namespace fastsr {
namespace {

size_t idx(int i) { return static_cast<size_t>(i); }

}  // namespace

// What all convolution kernels are told of step s, of its first group of channels. in_stride: of rows as the ring has them.
ConvCommon TileRunner::common(size_t s, ptrdiff_t out_stride, Span cols) const {
  const StepPlan& plan = net_.plan.steps[s];
  ConvCommon common;
  common.in_stride = ring(net_.step(s).in[0]).stride;
  common.cin = plan.cin;
  common.cout = plan.cout;
  common.width = cols.size();
  common.weights = net_.plan.weights.at(plan.packed_at);
  common.bias = plan.bias;
  common.act = plan.act;
  common.a = plan.a;
  common.b = plan.b;
  common.slope = plan.slope.empty() ? nullptr : plan.slope.data();
  common.residual_stride = plan.residual >= 0 ? ring(plan.residual).stride : 0;
  common.residual_first = plan.residual_first;
  common.out_stride = out_stride;
  return common;
}

void TileRunner::conv(size_t s, int y, float* dst, ptrdiff_t stride, Span cols, float* scratch) {
  const Step& step = net_.step(s);
  const StepPlan& plan = net_.plan.steps[s];
  const int v = step.in[0];
  const Ring& in = ring(v);
  const Size size = net_.size(v);
  const ConvAxis rows = conv_axis(step.conv, 0, size.h), columns = conv_axis(step.conv, 1, size.w);
  const auto first = static_cast<int>(columns.first(cols.lo));
  const int sw = columns.stride, n_phase = cols.size() + (columns.kernel - 1) * columns.dilation / sw;
  const ptrdiff_t phase_stride = row_stride(n_phase);
  ConvRow row{};
  static_cast<ConvCommon&>(row) = common(s, stride, cols);
  if (sw > 1) row.in_stride = phase_stride;
  taps_.resize(idx(plan.n_taps));
  const float** tap = taps_.data();
  for (int ky = 0; ky < rows.kernel; ++ky) {
    const int64_t iy = rows.first(y) + int64_t{ky} * rows.dilation;
    const bool inside = iy >= 0 && iy < size.h;
    const float* src = inside ? at(v, static_cast<int>(iy), first) : run_.zeros;
    if (sw == 1) {
      for (int kx = 0; kx < columns.kernel; ++kx) *tap++ = inside ? src + kx * columns.dilation : src;
      continue;
    }
    // Column x * sw + j of the row becomes element x of phase j; phase j of channel c is at (j * channels + c) * phase_stride.
    float* phases = scratch + static_cast<ptrdiff_t>(ky) * sw * in.channels * phase_stride;
    if (inside) {
      for (int c = 0; c < in.channels; ++c) {
        const float* from = src + c * in.stride;
        if (sw <= 4) {
          float* to[4];
          for (int j = 0; j < sw; ++j) to[j] = phases + (ptrdiff_t{j} * in.channels + c) * phase_stride;
          k_.deinterleave(to, from, n_phase, sw);
          continue;
        }
        for (int kx = 0; kx < columns.kernel; ++kx) {
          const int offset = kx * columns.dilation, j = offset % sw, shift = offset / sw;
          float* to = phases + (ptrdiff_t{j} * in.channels + c) * phase_stride + shift;
          for (int x = 0; x < cols.size(); ++x) to[x] = from[offset + ptrdiff_t{x} * sw];
        }
      }
    }
    for (int kx = 0; kx < columns.kernel; ++kx) {
      const int offset = kx * columns.dilation;
      *tap++ = inside ? phases + ptrdiff_t{offset % sw} * in.channels * phase_stride + offset / sw : src;
    }
  }
  row.n_taps = plan.n_taps;
  const float* residual = plan.residual >= 0 ? at(plan.residual, y, cols.lo) : nullptr;
  row.taps = taps_.data();
  for (int g = 0; g < step.conv.group; ++g) {
    if (g > 0)
      for (const float*& t : taps_) t += plan.cin * row.in_stride;
    row.weights = net_.plan.weights.at(plan.packed_at) + static_cast<size_t>(g) * plan.packed_group;
    row.bias = plan.bias ? plan.bias + g * plan.cout : nullptr;
    row.slope = plan.slope.empty() ? nullptr : plan.slope.data() + g * plan.cout;
    row.residual = residual ? residual + g * plan.cout * row.residual_stride : nullptr;
    row.out = dst + g * plan.cout * stride;
    k_.conv(row);
  }
}

// Rows y .. y + n - 1 of a convolution of pairs, to rows of floats or, where the step is in_place, of what its value holds. n: 1, or 2 for kConv16Rows.
void TileRunner::conv16(size_t s, int y, int n, void* const* dst, ptrdiff_t stride, Span cols, float* scratch) {
  const Step& step = net_.step(s);
  const StepPlan& plan = net_.plan.steps[s];
  const int v = step.in[0];
  const Size size = net_.size(v);
  const ConvAxis rows = conv_axis(step.conv, 0, size.h), columns = conv_axis(step.conv, 1, size.w);
  const bool two = plan.algorithm == Algorithm::kConv16Rows;
  lines_.clear();
  for (int ky = 0; ky < rows.kernel + two; ++ky) {
    const int64_t iy = rows.first(y) + int64_t{ky} * rows.dilation;
    const bool inside = iy >= 0 && iy < size.h && ky < rows.kernel + n - 1;
    lines_.push_back(inside ? element<uint32_t>(v, static_cast<int>(iy), static_cast<int>(columns.first(cols.lo))) : reinterpret_cast<const uint32_t*>(run_.zeros));
  }
  const void* residual[2] = {nullptr, nullptr};
  for (int i = 0; i < n && plan.residual >= 0; ++i) residual[i] = row(plan.residual, y + i, cols.lo);
  const auto fill = [&](auto& call) {
    static_cast<ConvCommon&>(call) = common(s, stride, cols);
    call.lines = lines_.data();
    call.kh = rows.kernel;
    call.kw = columns.kernel;
    call.dilation = columns.dilation;
    call.residual_type = plan.residual >= 0 ? ring(plan.residual).element : Element::kFloat;
    call.residual_scale = plan.residual_scale.data();
    call.out_type = plan.in_place ? plan.element : Element::kFloat;
    call.most = net_.plan.pairs[idx(step.out)].most;
    call.scratch = scratch;
  };
  if (two) {
    Conv16Rows call{};
    fill(call);
    call.rows = n;
    call.residual = residual[0] ? residual : nullptr;
    call.out = dst;
    return net_.plan.fast->conv16_rows(call);
  }
  Conv16Row call{};
  fill(call);
  call.residual = residual[0];
  call.out = dst[0];
  net_.plan.fast->conv16(call);
}

// Adds what row y of a convolution reads to the calibration, where that shall read pairs.
void TileRunner::measure(size_t s, int y, Span cols) {
  std::vector<InputRange>& ranges = run_.calibration->ranges[s];
  if (ranges.empty() || !reads_pairs(ranges.front().algorithm)) return;
  const Step& step = net_.step(s);
  const int v = step.in[0];
  const Ring& in = ring(v);
  const Size size = net_.size(v);
  const ConvAxis rows = conv_axis(step.conv, 0, size.h), columns = conv_axis(step.conv, 1, size.w);
  const auto left = static_cast<int>(std::clamp<int64_t>(columns.first(cols.lo), 0, size.w));
  const auto right = static_cast<int>(std::clamp<int64_t>(columns.last(cols.hi - 1) + 1, left, size.w));
  InputRange& range = ranges.front();
  range.largest.resize(idx(in.channels));
  range.squares.resize(idx(in.channels));
  for (int ky = 0; ky < rows.kernel; ++ky) {
    const int64_t iy = rows.first(y) + int64_t{ky} * rows.dilation;
    const bool own = ky == rows.kernel / 2 || y == 0 || y == net_.result_extent(s, 0) - 1;  // about every row once
    if (iy < 0 || iy >= size.h || !own) continue;
    for (int c = 0; c < in.channels; ++c) {
      const float* const x = at(v, static_cast<int>(iy), left) + c * in.stride;
      float largest = range.largest[idx(c)];
      double squares = 0;
      for (int i = 0; i < right - left; ++i) {
        largest = std::abs(x[i]) <= largest ? largest : std::abs(x[i]);  // NaN stays
        squares += static_cast<double>(x[i]) * x[i];
      }
      range.largest[idx(c)] = largest;
      range.squares[idx(c)] += squares;
    }
    range.seen += right - left;
  }
}

// Adds row y of a step's result, of floats, to the calibration.
void TileRunner::measure_result(size_t s, int y, Span cols) {
  const int v = net_.step(s).out, left = std::max(cols.lo, 0), right = std::min(cols.hi, net_.size(v).w);
  float& result = run_.calibration->results[s];
  uint32_t largest;  // bits of magnitudes are ordered as these are, NaN above all
  std::memcpy(&largest, &result, sizeof largest);
  for (int c = 0; c < ring(v).channels; ++c) {
    const float* const x = at(v, y, left) + c * ring(v).stride;
    for (int i = 0; i < right - left; ++i) {
      uint32_t bits;
      std::memcpy(&bits, x + i, sizeof bits);
      largest = std::max(largest, bits & 0x7fffffffu);
    }
  }
  std::memcpy(&result, &largest, sizeof largest);
}

namespace {

template <class T>
std::vector<T*> as(const std::vector<void*>& pointers) {
  std::vector<T*> typed;
  for (void* p : pointers) typed.push_back(static_cast<T*>(p));
  return typed;
}

}  // namespace

// Rows y .. y + n - 1 of a convolution by one of Winograd's algorithms, to rows dst[i] of `element`. The first rows and columns may lie before the picture.
void TileRunner::winograd(size_t s, int y, int n, void* const* dst, Element element, ptrdiff_t stride, Span cols, float* scratch) {
  const Step& step = net_.step(s);
  const StepPlan& plan = net_.plan.steps[s];
  const int v = step.in[0];
  const Size size = net_.size(v);
  const int64_t top = conv_axis(step.conv, 0, size.h).first(y);
  const auto left = static_cast<int>(conv_axis(step.conv, 1, size.w).first(cols.lo));
  std::vector<void*> lines, residuals;
  for (int i = 0; i < (n + plan.row_group - 1) / plan.row_group * plan.row_group + step.conv.kh - 1; ++i)
    lines.push_back(top + i >= 0 && top + i < size.h ? row(v, static_cast<int>(top + i), left) : const_cast<float*>(run_.zeros));
  for (int i = 0; i < n && plan.residual >= 0; ++i) residuals.push_back(row(plan.residual, std::max(y + i, 0), cols.lo));

  const bool measure = run_.calibration && !run_.calibration->ranges[s].empty() && tile16(run_.calibration->ranges[s].front().algorithm);
  if (tile16(plan.algorithm) || measure) {
    Winograd16Rows rows{};
    static_cast<ConvCommon&>(rows) = common(s, stride, cols);
    const std::vector<const void*> in(lines.begin(), lines.end()), residual(residuals.begin(), residuals.end());
    rows.in = in.data();
    rows.in_type = ring(v).element;
    rows.residual = residual.empty() ? nullptr : residual.data();
    rows.residual_type = plan.residual >= 0 ? ring(plan.residual).element : Element::kFloat;
    rows.out = dst;
    rows.out_type = element;
    rows.out_pairs = net_.plan.pairs[idx(step.out)].scales();
    rows.rows = n;
    rows.scratch = scratch;
    if (!measure) return winograd16_of(*net_.plan.fast, tile16(plan.algorithm)).run(rows);
    for (InputRange& range : run_.calibration->ranges[s]) {
      const Tile16 tile = tile16(range.algorithm);
      const Winograd16& kernel = winograd16_of(*fast_kernels(k_), tile);
      std::vector<float> room(kernel.scratch(plan.cin, plan.cout, cols.size(), n) / sizeof(float) + 1);
      rows.scratch = room.data();
      range.largest.resize(idx(tile.points()) * idx(plan.cin));
      range.squares.resize(range.largest.size());
      Winograd16Range sums{range.largest.data(), range.squares.data(), range.seen};
      kernel.measure(rows, sums);
      range.seen = sums.tiles;
    }
  }
  WinogradRows rows{};
  static_cast<ConvCommon&>(rows) = common(s, stride, cols);
  const std::vector<const float*> in = as<const float>(lines), residual = as<const float>(residuals);
  const std::vector<float*> out = as<float>({dst, dst + n});
  rows.in = in.data();
  rows.residual = residual.empty() ? nullptr : residual.data();
  rows.out = out.data();
  rows.rows = n;
  rows.size = step.conv.kh;
  rows.tile = plan.row_group;
  rows.scratch = scratch;
  (plan.algorithm == Algorithm::kWinograd ? k_.winograd : k_.winograd2d)(rows);
}

}  // namespace fastsr
