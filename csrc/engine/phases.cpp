#include "engine/phases.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "engine/geometry.h"

namespace fastsr {
namespace {

size_t idx(int i) { return static_cast<size_t>(i); }

constexpr int64_t kFar = int64_t{1} << 20;
constexpr int kNarrow = 192;                      // columns: fewer are never cut
constexpr double kLongRows = double{3 << 18};    // floats of one row of all values that are made in groups

// How many rows (columns) of a step's result the first `n` of its input are enough for.
int64_t reached(const Step& step, int axis, int64_t n) {
  const bool vertical = axis == 0;
  switch (step.kind) {
    case Kind::kConv: {
      const ConvAxis a = conv_axis(step.conv, axis, 1 << 12);
      return (n - 1 + a.pad - int64_t{a.kernel - 1} * a.dilation) / a.stride + 1;
    }
    case Kind::kPad: return n + (vertical ? step.pad.pt : step.pad.pl);
    case Kind::kDepthToSpace: return n * step.shuffle.block;
    case Kind::kSpaceToDepth: return n / step.shuffle.block;
    case Kind::kResize: return static_cast<int64_t>(static_cast<double>(n) * (vertical ? step.resize.scale_h : step.resize.scale_w));
    default: return n;
  }
}

}  // namespace

void set_phases(Plan& plan) {
  const Program& p = plan.program;
  for (int axis : {0, 1}) {
    std::vector<int64_t> made(p.values.size(), kFar + 1);  // of each value, once an input has kFar + 1: a first convolution makes kFar
    for (size_t s = 0; s < p.steps.size(); ++s) {
      StepPlan& step = plan.steps[s];
      int64_t n = INT64_MAX;
      for (int v : p.steps[s].in) n = std::min(n, reached(p.steps[s], axis, made[idx(v)]));
      if (step.residual >= 0) n = std::min(n, made[idx(step.residual)]);
      n = std::clamp<int64_t>(n, 4, int64_t{1} << 40);
      // Rows that go on from scratch begin with the picture.
      if (axis == 1 && !step.in_place) n = n / step.col_group * step.col_group;
      (axis == 0 ? step.row_phase : step.col_phase) = static_cast<int>(n % step.group(axis));
      made[idx(p.steps[s].out)] = n * step.block;
    }
  }
}

bool wants_phases(const Plan& plan, const std::vector<Size>& sizes, int width) {
  double floats = 0;
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    const int v = plan.program.steps[s].out;
    if (plan.steps[s].col_group > 1) floats += static_cast<double>(plan.program.values[idx(v)].channels) * sizes[idx(v)].w;
  }
  return width >= kNarrow && floats > kLongRows;
}

}  // namespace fastsr
