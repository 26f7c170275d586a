#include "engine/plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "engine/elements.h"
#include "engine/int8.h"
#include "engine/phases.h"
#include "targets/fast.h"

namespace fastsr {

namespace {

RowOp row_op(const Epilogue& e, const Program& program) {
  RowOp op;
  op.code = e.code;
  op.value = e.value;
  op.a = static_cast<float>(e.a);
  op.b = static_cast<float>(e.b);
  if (e.tensor >= 0) {
    const Numbers& t = program.tensors[static_cast<size_t>(e.tensor)].data;
    if (t.size() == 1) op.a = t[0];
    else op.per_channel.assign(t.begin(), t.end());
  }
  return op;
}

Act act_of(int code) {
  switch (code) {
    case 1: return Act::kRelu;
    case 2: return Act::kLeakyRelu;
    case 3: return Act::kPRelu;
    case 4: return Act::kClip;
    default: return Act::kNone;
  }
}

// How many columns, about, of all the rows that are kept while a network slides down a picture fit into the room. A step's results come `row_group` rows
// after what it reads, and a value's rows are kept until their last reader comes.
double columns_in_room(const Plan& plan, double weights) {
  const Program& p = plan.program;
  std::vector<double> scale(p.values.size(), 1), delay(p.values.size(), 0), kept(p.values.size(), 0);  // delay: in rows of the input
  const auto readings = [&](size_t s, const auto& read) {
    for (int v : p.steps[s].in) read(static_cast<size_t>(v));
    if (plan.steps[s].residual >= 0) read(static_cast<size_t>(plan.steps[s].residual));
    for (const auto* ops : {&plan.steps[s].before, &plan.steps[s].after})
      for (const RowOp& op : *ops)
        if (op.value >= 0) read(static_cast<size_t>(op.value));
  };
  for (size_t s = 0; s < p.steps.size(); ++s) {
    const Step& step = p.steps[s];
    const auto in = static_cast<size_t>(step.in[0]), out = static_cast<size_t>(step.out);
    const double result = scale[in] * (step.kind == Kind::kResize ? step.resize.scale_h : step.kind == Kind::kDepthToSpace ? step.shuffle.block : 1);
    scale[out] = result * plan.steps[s].block;
    readings(s, [&](size_t v) { delay[out] = std::max(delay[out], delay[v] + plan.steps[s].row_group / result); });
    readings(s, [&](size_t v) { kept[v] = std::max(kept[v], delay[out] - delay[v]); });
  }
  double floats = 0;
  for (size_t v = 0; v < kept.size(); ++v) floats += p.values[v].channels * kept[v] * scale[v] * scale[v];
  return room_floats(weights) / std::max(floats, 1.0);
}

// Takes from the front of `ops` what the convolution kernel does itself: an activation, a residual, or both in either order.
void fuse(StepPlan& plan, const Program& program, int channels) {
  size_t taken = 0;
  for (; taken < plan.before.size(); ++taken) {
    const RowOp& op = plan.before[taken];
    if (act_of(op.code) != Act::kNone && plan.act == Act::kNone) {
      plan.residual_first = plan.residual >= 0;
      plan.act = act_of(op.code);
      plan.a = op.a, plan.b = op.b;
      if (op.code == kCodePRelu) plan.slope = op.per_channel.empty() ? std::vector<float>(static_cast<size_t>(channels), op.a) : op.per_channel;
    } else if (op.code == kCodeAdd && op.value >= 0 && plan.residual < 0 && program.values[static_cast<size_t>(op.value)].channels == channels) {
      plan.residual = op.value;
    } else {
      break;
    }
  }
  plan.before.erase(plan.before.begin(), plan.before.begin() + static_cast<ptrdiff_t>(taken));
}

bool suits_winograd(const Step& step, int size) {
  const ConvParams& p = step.conv;
  return step.kind == Kind::kConv && p.kh == size && p.kw == size && p.sh == 1 && p.sw == 1 && p.dh == 1 && p.dw == 1 && p.group == 1;
}

Algorithm choose_algorithm(const Step& step, int cin, int cout, const PlanOptions& options) {
  if (suits_winograd(step, 5)) {
    const bool open = !options.algorithm || *options.algorithm == Algorithm::kConv16;
    return (open ? winograd_pays(cin, cout, 5) : *options.algorithm == Algorithm::kWinograd) ? Algorithm::kWinograd : Algorithm::kDirect;
  }
  if (!suits_winograd(step, 3)) return Algorithm::kDirect;
  if (options.algorithm && tile16(*options.algorithm)) return Algorithm::kWinograd2d;
  if (options.algorithm && !is_fast(*options.algorithm)) return *options.algorithm;
  if (winograd6x6_pays(cin, cout)) return Algorithm::kWinograd6x6;
  if (winograd2d_pays(cin, cout)) return Algorithm::kWinograd2d;
  return winograd_pays(cin, cout, 3) ? Algorithm::kWinograd : Algorithm::kDirect;
}

bool suits_conv16(const Step& step) {
  const ConvParams& p = step.conv;
  return step.kind == Kind::kConv && p.sh == 1 && p.sw == 1 && p.group == 1;
}

bool suits_conv16_rows(const Step& step) {
  const ConvParams& p = step.conv;
  return suits_conv16(step) && p.kh > 1 && p.dh == 1 && static_cast<int64_t>(p.kw) * p.dw <= kConv16RowsReach;
}

void set_algorithm(StepPlan& s, Algorithm algorithm) {
  s.algorithm = algorithm;
  s.row_group = s.col_group = 1;
  switch (algorithm) {
    case Algorithm::kWinograd: s.row_group = kWinogradRows; break;
    case Algorithm::kWinograd2d: s.row_group = s.col_group = 4; break;
    case Algorithm::kWinograd6x6: s.row_group = s.col_group = 6; break;
    case Algorithm::kWinograd16: case Algorithm::kWinograd16x6x4: case Algorithm::kWinograd16x6:
      s.row_group = tile16(algorithm).rows, s.col_group = tile16(algorithm).columns;
      break;
    case Algorithm::kConv16Rows: s.row_group = 2; break;
    default: break;
  }
}

size_t packed_floats(const Plan& plan, const StepPlan& s, const ConvParams& conv) {
  const Kernels& k = *plan.kernels;
  switch (s.algorithm) {
    case Algorithm::kWinograd16: case Algorithm::kWinograd16x6x4: case Algorithm::kWinograd16x6:
      return winograd16_of(*plan.fast, tile16(s.algorithm)).pack_size(s.cout, s.cin) / sizeof(float);
    case Algorithm::kConv16: return plan.fast->conv16_pack_size(s.cout, s.cin, conv.kh, conv.kw) / sizeof(float);
    case Algorithm::kConv16Rows: return plan.fast->conv16_rows_pack_size(s.cout, s.cin, conv.kh, conv.kw) / sizeof(float);
    case Algorithm::kWinograd: return k.winograd_pack_size(s.cout, s.cin, conv.kh);
    case Algorithm::kWinograd2d:
    case Algorithm::kWinograd6x6: return k.winograd2d_pack_size(s.row_group, s.cout, s.cin);
    default: return k.conv_pack_size(s.cout, s.cin, s.n_taps);
  }
}

// Tiles of 6x6 have more rows kept. A network that can then have only narrow strips takes 4x4 instead, unless these would have to be as narrow.
void spare_memory(Plan& plan) {
  constexpr double kColumns = 600;
  const auto columns = [&] {
    double weights = 0;
    for (size_t s = 0; s < plan.steps.size(); ++s)
      if (plan.steps[s].kind == Kind::kConv) weights += static_cast<double>(packed_floats(plan, plan.steps[s], plan.program.steps[s].conv));
    return columns_in_room(plan, weights);
  };
  std::vector<StepPlan> large = plan.steps;
  const double with = columns();
  if (with >= kColumns) return;
  for (StepPlan& s : plan.steps)
    if (s.algorithm == Algorithm::kWinograd6x6) set_algorithm(s, Algorithm::kWinograd2d);
  if (columns() <= with) plan.steps = std::move(large);
}

// Steps whose input cannot be kept as pairs do not read any. Then residuals of theirs cannot be either.
void spare_pairs(Plan& plan, const PlanOptions& options) {
  for (bool changed = true; changed;) {
    changed = false;
    const std::vector<char> possible = possible_pairs(plan);
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      StepPlan& s = plan.steps[i];
      if (!reads_pairs(s.algorithm) || possible[static_cast<size_t>(plan.program.steps[i].in[0])]) continue;
      set_algorithm(s, choose_algorithm(plan.program.steps[i], s.cin, s.cout, options));
      changed = true;
    }
  }
}

}  // namespace

double StepPlan::cost_per_pixel() const {
  // Multiplications saved, against transforms of each input and output channel.
  const double transforms = 1.0 / cin + 1.0 / cout;
  switch (algorithm) {
    case Algorithm::kWinograd: return flops_per_pixel * (n_taps == 9 ? 0.5 + 1.5 * transforms : 0.4 + 0.25 * transforms);
    case Algorithm::kWinograd2d: return flops_per_pixel * (0.25 + 2.8 * transforms);
    case Algorithm::kWinograd6x6: return flops_per_pixel * (0.2 + 3.3 * transforms);
    case Algorithm::kWinograd16: return flops_per_pixel * (0.125 + 2.5 * transforms);
    case Algorithm::kWinograd16x6x4: return flops_per_pixel * (0.11 + 2.4 * transforms);
    case Algorithm::kWinograd16x6: return flops_per_pixel * (0.1 + 2.5 * transforms);
    case Algorithm::kConv16: return flops_per_pixel * 0.5;
    case Algorithm::kConv16Rows: return flops_per_pixel * 0.4;
    case Algorithm::kConv8: return flops_per_pixel * 0.25;
    default: return flops_per_pixel;
  }
}

std::string StepPlan::kernel(const Step& step) const {
  std::string s = kind_name(kind);
  if (kind == Kind::kConv) {
    const ConvParams& p = step.conv;
    s += " " + std::to_string(p.kh) + "x" + std::to_string(p.kw) + " " + std::to_string(cin * p.group) + "->" + std::to_string(cout * p.group);
    static const char* const algorithms[] = {"", " winograd", " winograd2d", " winograd6x6", " winograd16", " winograd16x6x4", " winograd16x6", " conv16", " conv16rows", " conv8"};
    s += algorithms[static_cast<int>(algorithm)];
    if (p.group > 1) s += " groups " + std::to_string(p.group);
    if (p.sh > 1 || p.sw > 1) s += " stride " + std::to_string(p.sh) + "x" + std::to_string(p.sw);
    if (p.dh > 1 || p.dw > 1) s += " dilation " + std::to_string(p.dh) + "x" + std::to_string(p.dw);
    static const char* const acts[] = {"", " +relu", " +leakyrelu", " +prelu", " +clip"};
    if (residual >= 0 && residual_first) s += " +residual";
    s += acts[static_cast<int>(act)];
    if (residual >= 0 && !residual_first) s += " +residual";
    if (quantize) s += " +quantize";
  }
  if (!before.empty()) s += ", " + std::to_string(before.size()) + " row passes";
  if (block > 1) s += ", shuffle " + std::to_string(block);
  if (!after.empty()) s += ", " + std::to_string(after.size()) + " row passes";
  if (element != Element::kFloat) s += element == Element::kHalf ? ", half floats" : element == Element::kPairs ? ", pairs" : ", bytes";
  return s;
}

std::vector<Algorithm> fast_algorithms(const Step& step, const StepPlan& plan, const PlanOptions& options) {
  if (options.precision != Precision::kFast) return {};
  const auto takes = [&](Algorithm algorithm, bool pays) { return options.algorithm ? *options.algorithm == algorithm : pays; };
  if (suits_winograd(step, 3)) {
    const bool winograd_pays = winograd16_pays(plan.cin, plan.cout);
    std::vector<Algorithm> tiles;
    if (takes(Algorithm::kWinograd16x6, winograd_pays && winograd16x6_pays(plan.cin, plan.cout))) tiles.push_back(Algorithm::kWinograd16x6);
    for (Algorithm a : {Algorithm::kWinograd16x6x4, Algorithm::kWinograd16})
      if (takes(a, winograd_pays)) tiles.push_back(a);
    if (!tiles.empty()) return tiles;
  }
  const ConvParams& p = step.conv;
  const bool pays = suits_conv16(step) && conv16_pays(plan.cin, plan.cout, p.kh, p.kw);
  if (suits_conv16_rows(step) && takes(Algorithm::kConv16Rows, pays && conv16_rows_pays(plan.cin, plan.cout, p.kh, p.kw))) return {Algorithm::kConv16Rows};
  if (suits_conv16(step) && takes(Algorithm::kConv16, pays)) return {Algorithm::kConv16};
  return {};
}

std::unique_ptr<Plan> make_plan(Program program, const Kernels* kernels, const PlanOptions& options, const std::vector<InputRange>& ranges) {
  auto plan = std::make_unique<Plan>();
  plan->kernels = kernels;
  const bool int8 = options.precision == Precision::kInt8;
  if (!ranges.empty() || int8) plan->fast = fast_kernels(*kernels);
  plan->program = std::move(program);
  const Program& p = plan->program;
  plan->steps.resize(p.steps.size());

  // Steps that share a weight tensor, grouping and algorithm share the packed weights, unless these depend on the step's inputs.
  const auto key = [&](size_t i) {
    const StepPlan& s = plan->steps[i];
    return std::make_tuple(p.steps[i].weight, p.steps[i].conv.group, s.algorithm, is_fast(s.algorithm) || s.algorithm == Algorithm::kConv8 ? i : 0);
  };
  std::map<std::tuple<int, int, Algorithm, size_t>, size_t> places;
  size_t total = 0;
  std::vector<size_t> to_pack;
  double grouped = 0;  // bytes of the packed weights of 8-bit convolutions in groups
  std::vector<char> integers(p.steps.size(), 0);
  if (int8) integers = integer_convs(p, value_levels(p));
  for (size_t i = 0; i < p.steps.size(); ++i) {
    const Step& step = p.steps[i];
    StepPlan& s = plan->steps[i];
    s.kind = step.kind;
    bool shuffled = false;
    for (const Epilogue& e : step.epilogue) {
      if (e.code == kCodeDepthToSpace) {
        s.block = static_cast<int>(e.a), s.mode = static_cast<int>(e.b);
        shuffled = s.block > 1;
      } else {
        (shuffled ? s.after : s.before).push_back(row_op(e, p));
      }
    }
    if (step.kind != Kind::kConv) continue;
    const Tensor& w = p.tensors[static_cast<size_t>(step.weight)];
    s.n_taps = step.conv.kh * step.conv.kw;
    s.cin = w.dims[1], s.cout = w.dims[0] / step.conv.group;
    const bool fast = plan->fast && !ranges.empty() && ranges[i].seen > 0;
    s.flops_per_pixel = 2.0 * s.n_taps * s.cin * s.cout * step.conv.group;
    // Groups become one, full of zeros: that is only for few of them.
    const double bytes = s.flops_per_pixel * step.conv.group;
    if (integers[i] && plan->fast && (step.conv.group == 1 || grouped + bytes < kMostConv8Bytes)) {
      if (step.conv.group > 1) grouped += bytes;
      set_algorithm(s, Algorithm::kConv8);
      fuse_finish8(s, step.channels);
      continue;
    }
    // Sums of integers are exact in floats too, up to 2^24, but not with Winograd's algorithms.
    if (!integers[i]) set_algorithm(s, fast ? ranges[i].algorithm : choose_algorithm(step, s.cin, s.cout, options));
    fuse(s, p, step.channels);
  }
  if (!options.algorithm) spare_memory(*plan);
  spare_pairs(*plan, options);
  for (size_t i = 0; i < p.steps.size(); ++i) {
    const Step& step = p.steps[i];
    StepPlan& s = plan->steps[i];
    if (step.kind != Kind::kConv) continue;
    if (options.groups > 1 && !integers[i]) {
      const std::vector<Algorithm> ways = fast_algorithms(step, s, options);
      if (!ways.empty() && tile16(ways.front())) set_algorithm(s, Algorithm::kWinograd2d);
    }
    if (s.algorithm == Algorithm::kWinograd2d) s.row_group = s.col_group = std::lcm(s.row_group, options.groups);
    const bool conv8 = s.algorithm == Algorithm::kConv8;
    s.packed_group = conv8 ? conv8_bytes(*plan, i) / sizeof(float) : (packed_floats(*plan, s, step.conv) + 15) / 16 * 16;
    const auto [place, first] = places.emplace(key(i), total);
    s.packed_at = place->second;
    if (!first) continue;
    to_pack.push_back(i);
    total += s.packed_group * static_cast<size_t>(conv8 ? 1 : step.conv.group);
  }
  choose_elements(*plan, ranges);
  set_phases(*plan);
  std::vector<PackedWeights::Item> items;
  for (size_t i : to_pack) {
    const bool fast = is_fast(plan->steps[i].algorithm);
    items.push_back({i, p.tensors[static_cast<size_t>(p.steps[i].weight)].data, fast ? ranges[i] : InputRange()});
  }
  plan->weights.set(std::move(items), total + 16);
  // The packed form is all that runs need.
  for (size_t i = 0; i < p.steps.size(); ++i) {
    const Step& step = p.steps[i];
    if (step.bias >= 0) plan->steps[i].bias = p.tensors[static_cast<size_t>(step.bias)].data.data();
    if (step.weight >= 0) plan->program.tensors[static_cast<size_t>(step.weight)].data = Numbers();
  }
  return plan;
}

}  // namespace fastsr
