#include "engine/elements.h"

#include <algorithm>
#include <cmath>

#include "engine/int8.h"

namespace fastsr {
namespace {

constexpr float kLeast = 0.5f;
constexpr double kOvershoot = 0.14;  // of the bicubic enlargement before the network, on either side of the range

size_t idx(int i) { return static_cast<size_t>(i); }

// Whether float rows could be half floats: those of values that winograd16 makes or reads, that half floats can hold, and that nothing reads which needs
// floats.
void choose_halves(Plan& plan, const std::vector<InputRange>& ranges) {
  const Program& p = plan.program;
  const size_t n = p.values.size();
  std::vector<char> half(n, 0), wanted(n, 0);
  const auto forbid = [&](int v) { half[idx(v)] = 0; };
  for (size_t i = 0; i < p.steps.size(); ++i)
    if (plan.steps[i].block == 1 && (p.steps[i].kind == Kind::kConv || p.steps[i].kind == Kind::kPointwise || p.steps[i].kind == Kind::kConcat))
      half[idx(p.steps[i].out)] = 1;
  for (const OutputInfo& o : p.outputs) forbid(o.value);
  for (size_t i = 0; i < ranges.size(); ++i)
    if (!(ranges[i].result * kMargin <= kMostHalf)) forbid(p.steps[i].out);
  for (size_t i = 0; i < p.steps.size(); ++i) {
    const Step& step = p.steps[i];
    const StepPlan& s = plan.steps[i];
    for (int v : step.in) {
      if (tile16(s.algorithm)) wanted[idx(v)] = 1;
      if (!is_fast(s.algorithm) && step.kind != Kind::kPointwise && step.kind != Kind::kConcat) forbid(v);
    }
    if (s.residual >= 0 && !is_fast(s.algorithm)) forbid(s.residual);
  }
  for (bool changed = true; changed;) {
    changed = false;
    const auto set = [&](char& flag, char value) {
      changed |= flag != value;
      flag = value;
    };
    for (size_t i = p.steps.size(); i-- > 0;) {
      if (p.steps[i].kind != Kind::kConcat) continue;
      const auto out = idx(p.steps[i].out);
      char all = half[out] && plan.steps[i].before.empty();
      for (int v : p.steps[i].in) all = all && half[idx(v)];
      set(half[out], all);
      for (int v : p.steps[i].in) {
        set(half[idx(v)], half[idx(v)] && all);
        set(wanted[idx(v)], wanted[idx(v)] || wanted[out]);
      }
    }
  }
  for (size_t v = 0; v < n; ++v)
    if (half[v] && wanted[v]) plan.elements[v] = Element::kHalf;
}

// The largest magnitude of each channel that a value's pairs hold. seen: what calibration saw of it.
std::vector<float> pair_limits(const Program& program, int v, std::vector<float> seen) {
  const Feed& feed = program.feed;
  if (feed.colour == Colour::kRaw || std::find(program.inputs.begin(), program.inputs.end(), v) == program.inputs.end()) {
    widen(seen.data(), seen.size());
    for (float& limit : seen) limit *= kMargin;
    return seen;
  }
  const double over = feed.pre_scale > 1 ? kOvershoot * std::abs(feed.range) : 0;
  const double least = std::min(0.0, feed.range) - over, most = std::max(0.0, feed.range) + over;
  for (size_t c = 0; c < seen.size(); ++c) {
    const double mean = feed.mean.empty() ? 0 : feed.mean[c % feed.mean.size()];
    seen[c] = static_cast<float>(std::max(std::abs(least - mean), std::abs(most - mean)));
  }
  return seen;
}

Pairs pairs_of(const Plan& plan, int v, const std::vector<InputRange>& ranges) {
  const Program& p = plan.program;
  const size_t channels = idx(p.values[idx(v)].channels);
  std::vector<float> largest(channels, 0.0f);
  std::vector<double> powers(channels, 0.0);
  std::vector<size_t> readers;
  for (size_t i = 0; i < p.steps.size(); ++i) {
    if (!reads_pairs(plan.steps[i].algorithm) || p.steps[i].in[0] != v) continue;
    readers.push_back(i);
    for (size_t c = 0; c < channels; ++c) {
      largest[c] = std::max(largest[c], ranges[i].largest[c]);
      powers[c] = std::max(powers[c], ranges[i].squares[c] / ranges[i].seen);
    }
  }
  Pairs pairs;
  const std::vector<float> limits = pair_limits(p, v, largest);
  pairs.most = 32767;
  for (size_t i : readers) {
    const ConvParams& conv = p.steps[i].conv;
    const float* w = p.tensors[idx(p.steps[i].weight)].data.data();
    const auto most = plan.steps[i].algorithm == Algorithm::kConv16 ? plan.fast->conv16_most : plan.fast->conv16_rows_most;
    pairs.most = std::min(pairs.most, most(w, plan.steps[i].cout, plan.steps[i].cin, conv.kh, conv.kw, limits.data(), powers.data()));
  }
  for (float limit : limits) pairs.scale.push_back(pairs.most / limit);
  return pairs;
}

// Of a step that reads pairs and has a residual: Conv16Row's.
std::vector<float> residual_scale(const Plan& plan, const StepPlan& s, int out) {
  std::vector<float> scale(idx(s.cout), 1.0f);
  const Pairs &from = plan.pairs[idx(s.residual)], &to = plan.pairs[idx(out)];
  for (size_t k = 0; k < scale.size(); ++k) {
    if (from.most > 0) scale[k] /= from.scale[k];
    if (to.most > 0 && s.in_place) scale[k] *= to.scale[k];
  }
  return scale;
}

// Whether the step's kernel stores what its value holds.
bool stores_elements(const StepPlan& s) {
  if (s.block > 1) return false;
  if (s.element == Element::kFloat) return true;
  if (s.element == Element::kBytes) return s.algorithm == Algorithm::kConv8 && s.before.empty() && s.quantize && s.times == 1;
  if (!is_fast(s.algorithm) || !s.before.empty()) return false;
  return s.element == Element::kHalf || s.act != Act::kClip;
}

}  // namespace

void widen(float* largest, size_t channels) {
  const float least = kLeast * *std::max_element(largest, largest + channels);
  for (size_t c = 0; c < channels; ++c) largest[c] = std::max(largest[c], least);
}

std::vector<char> possible_pairs(const Plan& plan) {
  const Program& p = plan.program;
  std::vector<char> possible(p.values.size(), 0);
  for (size_t i = 0; i < p.steps.size(); ++i)
    if (reads_pairs(plan.steps[i].algorithm)) possible[idx(p.steps[i].in[0])] = 1;
  const auto forbid = [&](int v) {
    if (v >= 0) possible[idx(v)] = 0;
  };
  for (const OutputInfo& o : p.outputs) forbid(o.value);
  for (size_t i = 0; i < p.steps.size(); ++i) {
    if (!is_fast(plan.steps[i].algorithm))
      for (int v : p.steps[i].in) forbid(v);
    if (p.steps[i].kind == Kind::kConcat) forbid(p.steps[i].out);
    if (!reads_pairs(plan.steps[i].algorithm)) forbid(plan.steps[i].residual);
    for (const std::vector<RowOp>* ops : {&plan.steps[i].before, &plan.steps[i].after})
      for (const RowOp& op : *ops) forbid(op.value);
  }
  return possible;
}

void choose_elements(Plan& plan, const std::vector<InputRange>& ranges) {
  const Program& p = plan.program;
  plan.elements.assign(p.values.size(), Element::kFloat);
  plan.pairs.resize(p.values.size());
  if (plan.fast) {
    choose_halves(plan, ranges);
    const std::vector<char> pairs = possible_pairs(plan);
    for (size_t v = 0; v < pairs.size(); ++v) {
      if (!pairs[v]) continue;
      plan.elements[v] = Element::kPairs;
      plan.pairs[v] = pairs_of(plan, static_cast<int>(v), ranges);
    }
  }
  choose_bytes(plan);
  for (size_t i = 0; i < p.steps.size(); ++i) {
    StepPlan& s = plan.steps[i];
    s.element = plan.elements[idx(p.steps[i].out)];
    s.in_place = stores_elements(s);
    if (reads_pairs(s.algorithm) && s.residual >= 0) s.residual_scale = residual_scale(plan, s, p.steps[i].out);
  }
}

}  // namespace fastsr
