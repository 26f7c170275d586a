#include "engine/tiling.h"

#include <algorithm>
#include <climits>
#include <numeric>

#include "engine/phases.h"

namespace fastsr {
namespace {

constexpr Span kNothing{INT_MAX, INT_MIN};
constexpr int kMostGroups = 8;  // of rows in one call

bool is_nothing(Span s) { return s.lo >= s.hi; }

size_t idx(int i) { return static_cast<size_t>(i); }

}  // namespace

Net::Net(const Plan& p, int h, int w, std::vector<int> wanted)
    : plan(p), height(h), width(w), outputs(std::move(wanted)), sizes(value_sizes(p.program, h, w)), phased(wants_phases(p, sizes, w)) {
  active.assign(p.steps.size(), 0);
  used.assign(p.program.values.size(), 0);
  for (int v : outputs) used[static_cast<size_t>(v)] = 1;
  for (size_t s = p.steps.size(); s-- > 0;) {
    if (!used[static_cast<size_t>(step(s).out)]) continue;
    active[s] = 1;
    for (int v : step(s).in) used[static_cast<size_t>(v)] = 1;
    for (const Epilogue& e : step(s).epilogue)
      if (e.value >= 0) used[static_cast<size_t>(e.value)] = 1;
  }
  find_places();
}

// From the largest Concat to the smallest: in dense networks the small ones are parts of the large ones.
void Net::find_places() {
  for (size_t v = 0; v < sizes.size(); ++v) places.push_back({static_cast<int>(v), 0});
  std::vector<size_t> joins;
  for (size_t s = 0; s < active.size(); ++s)
    if (active[s] && step(s).kind == Kind::kConcat && step(s).in.size() > 1 && plan.steps[s].before.empty() && plan.steps[s].after.empty() && plan.steps[s].block == 1) joins.push_back(s);
  std::stable_sort(joins.begin(), joins.end(), [this](size_t a, size_t b) { return channels(step(a).out) > channels(step(b).out); });
  const auto is_free = [this](int v) { return place(v).root == v; };
  const auto alike = [this](int v, int w) { return plan.elements[idx(v)] == plan.elements[idx(w)]; };
  for (size_t s : joins) {
    const int out = step(s).out;
    const std::vector<int>& in = step(s).in;
    // All inputs already lie side by side inside a larger one: so does the result.
    bool side_by_side = is_free(out) && !is_free(in[0]) && alike(out, in[0]);
    int channel = place(in[0]).channel;
    for (int v : in) {
      side_by_side = side_by_side && place(v) == Place{place(in[0]).root, channel};
      channel += channels(v);
    }
    if (side_by_side) {
      places[idx(out)] = place(in[0]);
      continue;
    }
    const Place base = place(out);
    channel = base.channel;
    for (int v : in) {
      if (is_free(v) && v != base.root && alike(v, out)) places[idx(v)] = {base.root, channel};
      channel += channels(v);
    }
  }
}

bool Net::nothing_to_do(size_t s) const {
  if (step(s).kind != Kind::kConcat || !plan.steps[s].before.empty() || !plan.steps[s].after.empty() || plan.steps[s].block > 1) return false;
  int channel = 0;
  for (size_t i = 0; i < step(s).in.size(); ++i) {
    if (!in_place(s, i, channel)) return false;
    channel += channels(step(s).in[i]);
  }
  return true;
}

int Net::group_begin(size_t s, int axis, int at) const {
  const StepPlan& sp = plan.steps[s];
  const int group = sp.group(axis);
  return at - (at - (phased ? sp.phase(axis) : 0) + group) % group;
}

Span Net::groups(size_t s, int axis, Span result) const {
  return result.size() <= 0 ? result : Span{group_begin(s, axis, result.lo), group_begin(s, axis, result.hi - 1) + plan.steps[s].group(axis)};
}

bool Net::in_place(size_t s, size_t i, int channel) const {
  const Place out = place(step(s).out);
  return place(step(s).in[i]) == Place{out.root, out.channel + channel};
}

std::vector<Span> Net::output_spans(int axis, Span base) const {
  const int64_t n_in = axis == 0 ? height : width;
  std::vector<Span> spans;
  for (int v : outputs) {
    const int64_t n = size(v).along(axis);
    spans.push_back({static_cast<int>(base.lo * n / n_in), static_cast<int>(base.hi * n / n_in)});
  }
  return spans;
}

void Net::demand(int axis, const std::vector<Span>& outs, std::vector<Span>& spans, const std::vector<Span>* full) const {
  spans.assign(sizes.size(), kNothing);
  for (size_t o = 0; o < outs.size(); ++o)
    if (!is_nothing(outs[o])) {
      Span& s = spans[static_cast<size_t>(outputs[o])];
      s = hull(s, outs[o]);
    }
  const auto need = [&](int v, Span s) { spans[static_cast<size_t>(v)] = hull(spans[static_cast<size_t>(v)], s); };
  for (size_t i = active.size(); i-- > 0;) {
    if (!active[i]) continue;
    const Step& st = step(i);
    const StepPlan& sp = plan.steps[i];
    Span& out = spans[static_cast<size_t>(st.out)];
    if (is_nothing(out)) continue;
    if (full) out.lo = (*full)[static_cast<size_t>(st.out)].lo;
    out = align_out(out, sp.block);
    // Whole groups, the last one as far as the picture goes.
    Span result = groups(i, axis, {out.lo / sp.block, out.hi / sp.block});
    result = {std::max(result.lo, 0), std::min(result.hi, result_extent(i, axis))};
    out = {result.lo * sp.block, result.hi * sp.block};
    const Span shuffled = out;
    for (int v : st.in) need(v, input_span(st, axis, size(v).along(axis), result_extent(i, axis), result));
    if (sp.residual >= 0) need(sp.residual, result);
    for (const RowOp& op : sp.before)
      if (op.value >= 0) need(op.value, result);
    for (const RowOp& op : sp.after)
      if (op.value >= 0) need(op.value, shuffled);
  }
  if (full)
    for (int v : plan.program.inputs) {
      Span& s = spans[static_cast<size_t>(v)];
      if (!is_nothing(s)) s.lo = (*full)[static_cast<size_t>(v)].lo;
    }
}

void Net::still_needed(const std::vector<Span>& full, const std::vector<int>& done, const std::vector<Span>& outs, const std::vector<int>& out_done,
                       std::vector<int>& keep) const {
  keep.assign(sizes.size(), INT_MAX);
  const auto need = [&](int v, int lo) { keep[static_cast<size_t>(v)] = std::min(keep[static_cast<size_t>(v)], lo); };
  for (size_t o = 0; o < outs.size(); ++o)
    if (out_done[o] < outs[o].hi) need(outputs[o], out_done[o]);
  for (size_t i = 0; i < active.size(); ++i) {
    if (!active[i]) continue;
    const Step& st = step(i);
    const StepPlan& sp = plan.steps[i];
    const int from = done[static_cast<size_t>(st.out)], to = full[static_cast<size_t>(st.out)].hi;
    if (from >= to) continue;
    const Span result{from / sp.block, to / sp.block};
    for (int v : st.in) need(v, input_span(st, 0, size(v).h, result_extent(i, 0), result).lo);
    if (sp.residual >= 0) need(sp.residual, result.lo);
    for (const RowOp& op : sp.before)
      if (op.value >= 0) need(op.value, result.lo);
    for (const RowOp& op : sp.after)
      if (op.value >= 0) need(op.value, from);
  }
  // Rows that were joined in place are read through the result.
  for (size_t i = active.size(); i-- > 0;) {
    if (!active[i] || step(i).kind != Kind::kConcat) continue;
    int channel = 0;
    for (size_t k = 0; k < step(i).in.size(); ++k) {
      const int v = step(i).in[k];
      if (in_place(i, k, channel)) need(v, keep[idx(step(i).out)]);
      channel += channels(v);
    }
  }
}

ptrdiff_t row_stride(int width, int gap) { return ((ptrdiff_t{width} + gap + 15) / 16 | 1) * 16; }

int part_columns(const StepPlan& plan) {
  constexpr int kVector = 16, kLeast = 64;
  const int unit = std::lcm(kVector, plan.col_group);
  return (kLeast + unit - 1) / unit * unit;
}

Span part_of(Span cols, int part, int parts, int unit) {
  const int pieces = (cols.size() + unit - 1) / unit;
  const auto at = [&](int i) { return static_cast<int>(std::min<int64_t>(cols.hi, cols.lo + int64_t{unit} * (int64_t{pieces} * i / parts))); };
  return {at(part), at(part + 1)};
}

int columns_before(const Net& net, size_t s, const Strip& strip) {
  const Span out = strip.values[idx(net.step(s).out)].cols;
  const int first = out.lo / net.plan.steps[s].block;
  return out.size() > 0 ? first - net.group_begin(s, 1, first) : 0;
}

Band make_band(const Net& net, Span base) {
  Band band;
  band.base = base;
  band.outs = net.output_spans(0, base);
  net.demand(0, band.outs, band.rows);
  for (Span& s : band.rows)
    if (is_nothing(s)) s = {0, 0};
  return band;
}

namespace {

constexpr int kPieceColumns = 192;  // of rows that go to scratch first

// Rows of one call: enough for Winograd's tiles to fill whole blocks where the picture is narrow.
int rows_per_call(const StepPlan& plan, int width) {
  if (plan.col_group == 1) return plan.row_group;
  constexpr int kTiles = 96;
  const int across = (width + plan.col_group - 1) / plan.col_group;
  return plan.row_group * std::clamp((kTiles + across / 2) / across, 1, kMostGroups);
}

int result_width(const Net& net, size_t s, const Strip& strip) {
  return strip.values[idx(net.step(s).out)].cols.size() / net.plan.steps[s].block + columns_before(net, s, strip);
}

size_t call_scratch(const Net& net, size_t s, const Strip& strip) {
  const Step& st = net.step(s);
  const StepPlan& sp = net.plan.steps[s];
  const int width = std::min(result_width(net, s, strip), strip.call_columns[s]);
  const auto rows = static_cast<size_t>(strip.call_rows[s]);
  const auto c = static_cast<size_t>(net.channels(st.in[0]));
  size_t floats = 0;
  if (!sp.in_place) floats = rows * static_cast<size_t>(st.channels) * static_cast<size_t>(row_stride(width));
  const Element element = net.plan.elements[idx(st.out)];
  if (sp.block > 1 && (element == Element::kPairs || element == Element::kBytes)) floats += 4 * static_cast<size_t>(row_stride(width * sp.block));
  if (sp.algorithm == Algorithm::kWinograd) floats += net.plan.kernels->winograd_scratch(sp.cin, sp.cout, st.conv.kh, width);
  if (sp.algorithm == Algorithm::kWinograd2d || sp.algorithm == Algorithm::kWinograd6x6)
    floats += net.plan.kernels->winograd2d_scratch(sp.row_group, sp.cin, sp.cout, width, strip.call_rows[s]);
  if (const Tile16 tile = tile16(sp.algorithm)) floats += winograd16_of(*net.plan.fast, tile).scratch(sp.cin, sp.cout, width, strip.call_rows[s]) / sizeof(float) + 1;
  if (sp.algorithm == Algorithm::kConv16) floats += net.plan.fast->conv16_scratch(sp.cin, st.conv.kh, st.conv.kw, width) / sizeof(float) + 1;
  if (sp.algorithm == Algorithm::kConv16Rows) floats += net.plan.fast->conv16_rows_scratch(sp.cin, st.conv.kh, width) / sizeof(float) + 1;
  if (st.kind == Kind::kResize) floats += c * static_cast<size_t>(row_stride(strip.values[idx(st.in[0])].cols.size()));
  if (sp.algorithm == Algorithm::kConv8) return floats + conv8_lines(net, s, width, strip.values[idx(st.in[0])].stride).words;
  if (st.kind == Kind::kConv && st.conv.sw > 1) {
    const int phase = width + (st.conv.kw - 1) * st.conv.dw / st.conv.sw;
    floats += static_cast<size_t>(st.conv.kh) * static_cast<size_t>(st.conv.sw) * c * static_cast<size_t>(row_stride(phase));
  }
  return floats;
}

}  // namespace

Conv8Lines conv8_lines(const Net& net, size_t s, int width, ptrdiff_t in_stride) {
  const Step& st = net.step(s);
  const ConvParams& p = st.conv;
  const bool bytes = net.plan.elements[idx(st.in[0])] == Element::kBytes;
  Conv8Lines l;
  l.lines = (net.channels(st.in[0]) + 3) / 4;
  l.columns = (width - 1) * p.sw + (p.kw - 1) * p.dw + 1;
  l.strided = p.sw > 1;
  l.source_stride = bytes ? in_stride : row_stride(l.columns);
  l.row_words = l.lines * l.source_stride;
  l.source_words = l.row_words * (l.strided ? 1 : p.kh);
  l.stride = l.strided ? row_stride(width) : l.source_stride;
  l.words = static_cast<size_t>(l.source_words) + (l.strided ? idx(p.kh) * idx(p.kw) * static_cast<size_t>(l.lines * l.stride) : 0) + kRowEnd;
  return l;
}

Strip make_strip(const Net& net, Span base) {
  Strip strip;
  strip.base = base;
  strip.outs = net.output_spans(1, base);
  std::vector<Span> spans;
  net.demand(1, strip.outs, spans);
  strip.values.resize(spans.size());
  for (size_t v = 0; v < spans.size(); ++v) strip.values[v].cols = is_nothing(spans[v]) ? Span{0, 0} : spans[v];
  for (size_t i = 0; i < net.active.size(); ++i) {
    const Step& st = net.step(i);
    if (!net.active[i] || st.kind != Kind::kConv) continue;
    const Span out = strip.values[idx(st.out)].cols;
    if (is_nothing(out)) continue;
    ValueColumns& in = strip.values[idx(st.in[0])];
    const ConvAxis a = conv_axis(st.conv, 1, net.size(st.in[0]).w);
    const int block = net.plan.steps[i].block;
    const Span result = net.groups(i, 1, {out.lo / block, out.hi / block});
    const int64_t first = a.first(result.lo), last = a.last(result.hi - 1);
    in.left = static_cast<int>(std::max<int64_t>(in.left, in.cols.lo - first));
    in.right = static_cast<int>(std::max<int64_t>(in.right, last + 1 - in.cols.hi));
  }
  // Values joined in place have the margins that readers of the result need.
  for (size_t i = net.active.size(); i-- > 0;) {
    if (!net.active[i] || net.step(i).kind != Kind::kConcat) continue;
    const ValueColumns& out = strip.values[idx(net.step(i).out)];
    int channel = 0;
    for (size_t k = 0; k < net.step(i).in.size(); ++k) {
      const int v = net.step(i).in[k];
      ValueColumns& in = strip.values[idx(v)];
      if (net.in_place(i, k, channel)) in.left = std::max(in.left, out.left), in.right = std::max(in.right, out.right);
      channel += net.channels(v);
    }
  }
  std::vector<char> by_conv(spans.size(), 0);
  for (size_t i = 0; i < net.active.size(); ++i)
    if (net.active[i] && ((net.step(i).kind == Kind::kConv && net.plan.steps[i].in_place) || net.nothing_to_do(i))) by_conv[idx(net.step(i).out)] = 1;
  struct Root {
    Span all = kNothing;
    int left = 0, gap = 0;
    bool margins = false;
  };
  std::vector<Root> roots(spans.size());
  // Kernels write whole groups, and what is added to them is read in the same columns.
  for (size_t i = 0; i < net.active.size(); ++i) {
    if (!net.active[i]) continue;
    const StepPlan& plan = net.plan.steps[i];
    const int before = columns_before(net, i, strip);
    if (before == 0) continue;
    Root& out = roots[idx(net.place(net.step(i).out).root)];
    out.all = hull(out.all, {-before, 0});
    const auto reads = [&](int v) {
      if (v >= 0) roots[idx(net.place(v).root)].left = std::max(roots[idx(net.place(v).root)].left, before);
    };
    reads(plan.residual);
    for (const auto* ops : {&plan.before, &plan.after})
      for (const RowOp& op : *ops) reads(op.value);
  }
  for (size_t v = 0; v < spans.size(); ++v) {
    const ValueColumns& c = strip.values[v];
    if (c.cols.size() <= 0) continue;
    Root& root = roots[idx(net.places[v].root)];
    root.all = hull(root.all, c.cols);
    root.left = std::max(root.left, c.left);
    root.gap = std::max({root.gap, c.left, c.right, by_conv[v] ? kConvOverWrite : kOverWrite});
    root.margins = root.margins || c.left || c.right;
  }
  for (size_t v = 0; v < spans.size(); ++v) {
    const Root& root = roots[idx(net.places[v].root)];
    ValueColumns& c = strip.values[v];
    c.all = is_nothing(root.all) ? Span{0, 0} : root.all;
    c.stride = row_stride(c.all.size(), root.gap);
    c.before = (root.left + 15) / 16 * 16;  // channels begin on a cache line
    c.margins = root.margins;
  }
  limit_scratch(net, strip, SIZE_MAX);
  return strip;
}

void limit_scratch(const Net& net, Strip& strip, size_t most) {
  strip.call_rows.assign(net.active.size(), 1);
  strip.call_columns.assign(net.active.size(), INT_MAX);
  strip.scratch_floats = 0;
  for (size_t s = 0; s < net.active.size(); ++s) {
    const int width = net.active[s] ? result_width(net, s, strip) : 0;
    if (width <= 0) continue;
    int &rows = strip.call_rows[s], &columns = strip.call_columns[s];
    const StepPlan& plan = net.plan.steps[s];
    const int unit = part_columns(plan);
    rows = rows_per_call(plan, width);
    if (net.step(s).kind == Kind::kConv) {
      if (!plan.in_place) columns = (kPieceColumns + unit - 1) / unit * unit;
      // Long rows first, then many of them, and last the columns that fill a kernel's registers.
      while (call_scratch(net, s, strip) > most && (rows > plan.row_group || std::min(width, columns) > unit)) {
        const int units = (std::min(width, columns) - 1) / unit;
        if (rows > plan.row_group && units < 3) {
          rows -= plan.row_group;
        } else {
          columns = (units > 6 ? units / 2 : units) * unit;
        }
      }
    }
    strip.scratch_floats = std::max(strip.scratch_floats, call_scratch(net, s, strip));
  }
  for (int v : net.plan.program.inputs)
    if (net.plan.elements[idx(v)] != Element::kFloat)
      strip.scratch_floats = std::max(strip.scratch_floats, static_cast<size_t>(net.channels(v)) * static_cast<size_t>(row_stride(strip.values[idx(v)].cols.size())));
  for (size_t o = 0; o < net.outputs.size(); ++o)
    strip.scratch_floats = std::max(strip.scratch_floats, static_cast<size_t>(net.channels(net.outputs[o])) * static_cast<size_t>(row_stride(strip.outs[o].size())));
}

}  // namespace fastsr
