#include "engine/int8.h"

#include <algorithm>
#include <cmath>

namespace fastsr {
namespace {

constexpr double kMostSum = 2147483648.0;

size_t idx(int i) { return static_cast<size_t>(i); }

bool whole(const Numbers& numbers, double least, double most) {
  return std::all_of(numbers.begin(), numbers.end(), [&](float v) { return static_cast<double>(v) >= least && static_cast<double>(v) <= most && v == std::floor(v); });
}

Levels behind_epilogue(const Step& step, Levels levels) {
  for (const Epilogue& e : step.epilogue) {
    if (e.code == kCodeQuantize) levels = {true, e.a, e.b};
    else if (e.code == kCodeRelu) levels = {levels.known, std::max(levels.low, 0.0), std::max(levels.high, 0.0)};
    else if (e.code != kCodeDepthToSpace) levels = {};
  }
  return levels;
}

bool is_integer_conv(const Program& program, const Step& step, const Levels& levels) {
  if (step.kind != Kind::kConv || !levels.fit_bytes()) return false;
  const Numbers& w = program.tensors[idx(step.weight)].data;
  const Numbers* b = step.bias < 0 ? nullptr : &program.tensors[idx(step.bias)].data;
  constexpr double most_float = 3.4028235e38;
  if (!whole(w, -128, 127) || (b && !whole(*b, -most_float, most_float))) return false;
  const size_t terms = w.size() / idx(step.channels);
  for (size_t k = 0; k < idx(step.channels); ++k) {
    double sum = 0;
    for (size_t i = 0; i < terms; ++i) sum += std::abs(static_cast<double>(w[k * terms + i]));
    sum = sum * std::max(-levels.low, levels.high) + (b ? std::abs(static_cast<double>((*b)[k])) : 0);
    if (!(sum < kMostSum)) return false;
  }
  return true;
}

std::vector<float> spread(const RowOp& op, int channels) { return op.per_channel.empty() ? std::vector<float>(idx(channels), op.a) : op.per_channel; }

}  // namespace

std::vector<Levels> value_levels(const Program& program) {
  std::vector<Levels> found(program.values.size());
  for (const Step& step : program.steps) {
    Levels levels;
    const bool moves = step.kind == Kind::kPointwise || step.kind == Kind::kConcat || step.kind == Kind::kDepthToSpace || step.kind == Kind::kSpaceToDepth;
    if (moves) {
      levels = found[idx(step.in[0])];
      for (int v : step.in) {
        const Levels& in = found[idx(v)];
        levels = {levels.known && in.known, std::min(levels.low, in.low), std::max(levels.high, in.high)};
      }
    }
    found[idx(step.out)] = behind_epilogue(step, levels);
  }
  return found;
}

std::vector<char> integer_convs(const Program& program, const std::vector<Levels>& levels) {
  std::vector<char> found;
  for (const Step& step : program.steps) found.push_back(is_integer_conv(program, step, levels[idx(step.in[0])]));
  return found;
}

bool is_quantised(const Program& program) {
  const std::vector<char> convs = integer_convs(program, value_levels(program));
  return std::find(convs.begin(), convs.end(), 1) != convs.end();
}

size_t conv8_bytes(const Plan& plan, size_t i) {
  const Step& step = plan.program.steps[i];
  return plan.fast->int8.conv8_pack_size(step.channels, plan.program.values[idx(step.in[0])].channels, plan.steps[i].n_taps);
}

void pack_conv8(const Plan& plan, size_t i, void* packed, const float* w) {
  const Step& step = plan.program.steps[i];
  const StepPlan& s = plan.steps[i];
  const float least = plan.least[idx(step.in[0])];
  const float* const bias = step.bias < 0 ? nullptr : plan.program.tensors[idx(step.bias)].data.data();
  const int cin = s.cin * step.conv.group;
  if (step.conv.group == 1) return plan.fast->int8.conv8_pack(packed, w, step.channels, cin, s.n_taps, bias, least);
  const size_t terms = idx(s.cin) * idx(s.n_taps), row = terms * idx(step.conv.group);
  std::vector<float> dense(row * idx(step.channels), 0.0f);
  for (size_t k = 0; k < idx(step.channels); ++k)
    std::copy_n(w + k * terms, terms, dense.begin() + static_cast<ptrdiff_t>(k * row + k / idx(s.cout) * terms));
  plan.fast->int8.conv8_pack(packed, dense.data(), step.channels, cin, s.n_taps, bias, least);
}

void fuse_finish8(StepPlan& plan, int channels) {
  size_t taken = 0;
  const auto next = [&](int code, bool one_number) {
    if (taken >= plan.before.size()) return false;
    const RowOp& op = plan.before[taken];
    return op.code == code && op.value < 0 && (op.per_channel.empty() || !one_number);
  };
  if (next(static_cast<int>(Pointwise::kMul), false)) plan.scale = spread(plan.before[taken++], channels);
  if (next(static_cast<int>(Pointwise::kAdd), false)) plan.shift = spread(plan.before[taken++], channels);
  if (next(static_cast<int>(Pointwise::kRelu), false)) plan.act = Act::kRelu, ++taken;
  else if (next(static_cast<int>(Pointwise::kLeakyRelu), false)) plan.act = Act::kLeakyRelu, plan.a = plan.before[taken++].a;
  else if (next(static_cast<int>(Pointwise::kPRelu), false)) plan.act = Act::kPRelu, plan.slope = spread(plan.before[taken++], channels);
  else if (next(static_cast<int>(Pointwise::kClip), false)) plan.act = Act::kClip, plan.a = plan.before[taken].a, plan.b = plan.before[taken].b, ++taken;
  if (next(kCodeQuantize, false)) {
    plan.quantize = true;
    plan.low = plan.before[taken].a, plan.high = plan.before[taken].b;
    ++taken;
    if (next(static_cast<int>(Pointwise::kMul), true)) plan.times = plan.before[taken++].a;
  }
  plan.before.erase(plan.before.begin(), plan.before.begin() + static_cast<ptrdiff_t>(taken));
}

void choose_bytes(Plan& plan) {
  const Program& p = plan.program;
  const std::vector<Levels> levels = value_levels(p);
  std::vector<char> wanted(p.values.size(), 0);
  plan.least.assign(p.values.size(), 0);
  for (size_t i = 0; i < p.steps.size(); ++i)
    if (plan.steps[i].algorithm == Algorithm::kConv8) {
      wanted[idx(p.steps[i].in[0])] = 1;
      plan.least[idx(p.steps[i].in[0])] = static_cast<float>(levels[idx(p.steps[i].in[0])].low);
    }
  const auto forbid = [&](int v) {
    if (v >= 0) wanted[idx(v)] = 0;
  };
  for (const OutputInfo& o : p.outputs) forbid(o.value);
  for (size_t i = 0; i < p.steps.size(); ++i) {
    if (p.steps[i].kind == Kind::kConcat) forbid(p.steps[i].out);
    forbid(plan.steps[i].residual);
    if (plan.steps[i].algorithm == Algorithm::kConv8 || p.steps[i].kind == Kind::kPointwise) continue;
    for (int v : p.steps[i].in) forbid(v);
  }
  for (size_t v = 0; v < wanted.size(); ++v)
    if (wanted[v]) plan.elements[v] = Element::kBytes;
}

}  // namespace fastsr
