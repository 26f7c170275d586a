#include "engine/rows.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>

#include "engine/fsr_reader.h"

namespace fastsr {
namespace {

size_t idx(int i) { return static_cast<size_t>(i); }

// Seconds of processor time of this thread where the system tells, so that profiles hold on a busy machine.
double now() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec t;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0) return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
#endif
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

TileRunner::TileRunner(const RunContext& run, bool timed) : run_(run), net_(run.net), k_(*run.net.plan.kernels), timed_(timed) {
  resize_columns_.resize(net_.active.size());
  times_.resize(net_.active.size() + 2);
  for (const Source* s : run.sources) source_scratch_.push_back(s->make_scratch());
  for (Sink* s : run.sinks) sink_scratch_.push_back(s->make_scratch());
  for (size_t s = 0; s < net_.active.size(); ++s) nothing_to_do_.push_back(net_.active[s] && net_.nothing_to_do(s));
  // A sink may overwrite what it is given: rows that others still read are copied first.
  for (size_t o = 0; o < net_.outputs.size(); ++o) {
    const int v = net_.outputs[o];
    bool shared = std::count(net_.outputs.begin(), net_.outputs.end(), v) > 1;
    for (size_t other = 0; other < net_.places.size(); ++other)
      shared |= net_.used[other] && other != idx(v) && net_.places[other].root == net_.place(v).root;
    for (size_t s = 0; s < net_.active.size(); ++s) {
      if (!net_.active[s]) continue;
      for (int in : net_.step(s).in) shared |= in == v;
      for (const Epilogue& e : net_.step(s).epilogue) shared |= e.value == v;
    }
    copy_for_sink_.push_back(shared);
  }
}

TileRunner::~TileRunner() = default;

void TileRunner::begin(const Layout& layout, const Strip& strip, float* rings, float* scratch) {
  layout_ = &layout;
  strip_ = &strip;
  rings_ = rings;
  scratch_ = scratch;
  for (size_t s = 0; s < net_.active.size(); ++s) {
    const Step& step = net_.step(s);
    if (!net_.active[s] || step.kind != Kind::kResize) continue;
    const int block = net_.plan.steps[s].block, n_taps = resize_tap_count(step.resize), first = strip.values[idx(step.in[0])].cols.lo;
    const Span out = strip.values[idx(step.out)].cols;
    ResizeColumns& c = resize_columns_[s];
    c.index.clear(), c.coef.clear();
    for (int x = out.lo / block; x < out.hi / block; ++x) {
      int index[kMaxResizeTaps];
      float coef[kMaxResizeTaps];
      resize_taps(step.resize, 1, net_.size(step.in[0]).w, net_.result_extent(s, 1), x, index, coef);
      for (int t = 0; t < n_taps; ++t) {
        c.index.push_back(std::max(index[t] - first, 0));
        c.coef.push_back(coef[t]);
      }
    }
  }
}

Share TileRunner::share(const Action& action, int threads) const {
  const int rows = action.to - action.from;
  if (action.what != Action::kMake) return {(rows + threads - 1) / threads, 1};
  const size_t s = idx(action.index);
  const StepPlan& plan = net_.plan.steps[s];
  const int group = plan.row_group, above = action.from - net_.group_begin(s, 0, action.from), groups = (rows + above + group - 1) / group;
  const int width = strip_->values[idx(net_.step(s).out)].cols.size() / plan.block + columns_before(net_, s, *strip_);
  const int unit = part_columns(plan), most_parts = (width + unit - 1) / unit;
  if (groups % threads != 0 && groups < 4 * threads && net_.step(s).kind == Kind::kConv && most_parts > 1) {
    int parts = 1;
    while (parts < most_parts && groups * parts % threads != 0) ++parts;
    return {group, parts, above};
  }
  const int most = std::max((plan.col_group > 1 ? strip_->call_rows[s] : 8) / group, 1);
  const int turns = (groups + threads * most - 1) / (threads * most) * threads;
  return {(groups + turns - 1) / turns * group, 1, above};
}

void TileRunner::act(const Action& action, Share share, int unit) {
  const double start = timed_ ? now() : 0;
  const size_t n_steps = net_.active.size(), i = idx(action.index);
  const int first = action.from - share.above + unit / share.parts * share.rows, from = std::max(first, action.from), to = std::min(first + share.rows, action.to);
  size_t entry = i;
  double pixels = 0;
  // A strip may have no column of a value: nothing of an output that is much narrower than the input.
  const auto empty = [this](int v) { return strip_->values[idx(v)].cols.size() <= 0; };
  switch (action.what) {
    case Action::kLoad:
      if (empty(net_.plan.program.inputs[i])) return;
      load(i, from, to);
      entry = n_steps;
      break;
    case Action::kMake:
      if (empty(net_.step(i).out) || nothing_to_do_[i]) return;
      pixels = make_part(i, from, to, unit % share.parts, share.parts);
      break;
    case Action::kStore:
      store(i, from, to);
      entry = n_steps + 1;
  }
  if (!timed_) return;
  times_[entry].seconds += now() - start;
  times_[entry].pixels += pixels;
}

template <class T>
void TileRunner::clear_margins(int v, int y, bool left, bool right, T zero) {
  const Ring& r = ring(v);
  if (left) {
    // Of the first channel. Of a value that lies behind another this is the other's right margin, of which the end is enough; other threads may be
    // reading it, but then it is zero already.
    const int n = std::min(r.before, r.gap);
    T* const before = element<T>(v, y, r.origin) - n;
    if (std::any_of(before, before + n, [zero](T e) { return e != zero; })) std::fill_n(before, n, zero);
    for (int c = 0; r.origin < 0 && c < r.lines; ++c) std::fill_n(element<T>(v, y, r.origin) + c * r.stride, -r.origin, zero);
  }
  T* const behind = element<T>(v, y, r.end);
  for (int c = 0; right && c < r.lines; ++c) std::fill_n(behind + c * r.stride, r.gap, zero);
}

// Zeroes the margins of a row just made, which kernels may have overwritten. left, right: whether these ends of the row were made.
void TileRunner::close_row(int v, int y, bool left, bool right) {
  if (!ring(v).gap) return;
  switch (ring(v).element) {
    case Element::kFloat: return clear_margins<float>(v, y, left, right);
    case Element::kHalf: return clear_margins<uint16_t>(v, y, left, right);
    case Element::kPairs: return clear_margins<uint32_t>(v, y, left, right);
    case Element::kBytes: return clear_margins<uint32_t>(v, y, left, right, static_cast<uint32_t>(-net_.plan.least[idx(v)]) * 0x01010101u);
  }
}

// Stores float rows of channels first .. first + channels - 1 into row y of a value of half floats, pairs or bytes. first: a multiple of 2, or of 4.
void TileRunner::keep(int v, int y, Span cols, const float* src, ptrdiff_t stride, int first, int channels) {
  const FastKernels& fast = *net_.plan.fast;
  const ptrdiff_t to_stride = ring(v).stride;
  if (half(v)) {
    auto* const to = element<uint16_t>(v, y, cols.lo) + first * to_stride;
    for (int c = 0; c < channels; ++c) fast.float_to_half(to + c * to_stride, src + c * stride, cols.size());
    return;
  }
  if (ring(v).element == Element::kBytes) {
    auto* to = element<uint32_t>(v, y, cols.lo) + first / 4 * to_stride;
    for (int c = 0; c < channels; c += 4, to += to_stride) {
      const float* four[4];
      for (int j = 0; j < 4; ++j) four[j] = c + j < channels ? src + (c + j) * stride : nullptr;
      fast.int8.float_to_bytes(to, four, cols.size(), net_.plan.least[idx(v)]);
    }
    return;
  }
  const Pairs& pairs = net_.plan.pairs[idx(v)];
  auto* to = element<uint32_t>(v, y, cols.lo) + first / 2 * to_stride;
  const float* scale = pairs.scale.data() + first;
  for (int c = 0; c < channels; c += 2, to += to_stride, src += 2 * stride, scale += 2) {
    const bool two = c + 1 < channels;
    fast.float_to_pairs(to, src, two ? src + stride : nullptr, cols.size(), scale[0], two ? scale[1] : 1.0f, pairs.most);
  }
}

const float* TileRunner::floats(int v, int y, Span cols, int c) {
  const bool bytes = ring(v).element == Element::kBytes;
  if (!half(v) && !bytes) return at(v, y, cols.lo) + c * ring(v).stride;
  line_.resize(idx(cols.size()) + kOverWrite);
  if (bytes) {
    net_.plan.fast->int8.bytes_to_float(line_.data(), element<uint32_t>(v, y, cols.lo) + c / 4 * ring(v).stride, c % 4, cols.size(), net_.plan.least[idx(v)]);
    return line_.data();
  }
  net_.plan.fast->half_to_float(line_.data(), element<uint16_t>(v, y, cols.lo) + c * ring(v).stride, cols.size());
  return line_.data();
}

// A part of rows from .. to - 1 of step s's result, in calls of as many rows and columns as the strip says. Row y of the result gives rows y * block ..
// y * block + block - 1 of the output. Returns how many pixels it made.
double TileRunner::make_part(size_t s, int from, int to, int part, int parts) {
  const Span out_cols = strip_->values[idx(net_.step(s).out)].cols;
  const StepPlan& plan = net_.plan.steps[s];
  const Span whole{out_cols.lo / plan.block - columns_before(net_, s, *strip_), out_cols.hi / plan.block}, cols = part_of(whole, part, parts, part_columns(plan));
  if (cols.size() <= 0) return 0;
  const int most = strip_->call_columns[s], calls = (cols.size() - 1) / most + 1;
  for (int y = from, n; y < to; y += n) {
    n = std::min(net_.group_begin(s, 0, y) + strip_->call_rows[s], to) - y;
    for (int k = 0; k < calls; ++k) {
      const Span some = part_of(cols, k, calls, part_columns(plan));
      if (some.size() > 0) make(s, y, n, some, some.lo == whole.lo, some.hi == whole.hi);
    }
  }
  return double{1} * (to - from) * cols.size();
}

// Columns cols of rows y .. y + n - 1 of step s's result, of which the first may lie before the picture if the step is in_place. left, right: whether
// these are the first and the last ones.
void TileRunner::make(size_t s, int y, int n, Span cols, bool left, bool right) {
  const Step& step = net_.step(s);
  const StepPlan& plan = net_.plan.steps[s];
  const Ring& out = ring(step.out);
  const int block = plan.block;
  if (step.kind == Kind::kConcat && half(step.out)) {
    for (int i = 0; i < n; ++i) concat(s, y + i, cols);
    return;
  }
  if (run_.calibration)
    for (int i = 0; i < n; ++i) measure(s, y + i, cols);
  // The result goes to the output's rows where it can, else to scratch as floats: before a shuffle, or to be made half floats or pairs.
  const bool in_place = plan.in_place;
  const ptrdiff_t stride = in_place ? out.stride : row_stride(cols.size());
  const int above = y - net_.group_begin(s, 0, y);  // rows of the group that the picture's edge cuts off
  results_.resize(idx(above + n));
  float* scratch = scratch_;
  for (int i = 0; i < above + n; ++i) {
    results_[idx(i)] = in_place ? row(step.out, y - above + i, cols.lo) : scratch;
    if (!in_place) scratch += stride * step.channels;
  }
  if (plan.algorithm == Algorithm::kConv8) {
    conv8(s, y, results_[0], stride, cols, scratch);
  } else if (reads_pairs(plan.algorithm)) {
    conv16(s, y, n, results_.data() + above, stride, cols, scratch);
  } else if (plan.algorithm != Algorithm::kDirect) {
    winograd(s, y - above, above + n, results_.data(), in_place ? out.element : Element::kFloat, stride, cols, scratch);
  } else {
    make_result(s, y, static_cast<float*>(results_[0]), stride, cols, scratch);
  }
  for (int i = 0; i < n; ++i) {
    auto* const result = static_cast<float*>(results_[idx(above + i)]);
    for (const RowOp& op : plan.before) apply(op, y + i, result, stride, step.channels, cols);
    if (block > 1) {
      shuffle(s, y + i, result, stride, cols, left, right, scratch);
      continue;
    }
    for (const RowOp& op : plan.after) apply(op, y + i, result, stride, step.channels, cols);
    if (!in_place) keep(step.out, y + i, cols, result, stride, 0, step.channels);
    if (run_.calibration) measure_result(s, y + i, cols);
    close_row(step.out, y + i, left, right);
  }
}

// A row of half floats of the Concat s.
void TileRunner::concat(size_t s, int y, Span cols) {
  const Step& step = net_.step(s);
  const ptrdiff_t stride = ring(step.out).stride;
  uint16_t* to = element<uint16_t>(step.out, y, cols.lo);
  int channel = 0;
  for (size_t i = 0; i < step.in.size(); ++i) {
    const Ring& in = ring(step.in[i]);
    const uint16_t* const src = element<uint16_t>(step.in[i], y, cols.lo);
    if (!net_.in_place(s, i, channel))
      for (int c = 0; c < in.channels; ++c) std::memcpy(to + c * stride, src + c * in.stride, idx(cols.size()) * sizeof(uint16_t));
    channel += in.channels;
    to += in.channels * stride;
  }
  close_row(step.out, y);
}

// The epilogue from its DepthToSpace on, of row y of step s's result. Pairs of channels that cannot be made in the value's rows are made in scratch.
void TileRunner::shuffle(size_t s, int y, const float* result, ptrdiff_t stride, Span cols, bool left, bool right, float* scratch) {
  const Step& step = net_.step(s);
  const StepPlan& plan = net_.plan.steps[s];
  const Ring& out = ring(step.out);
  const int block = plan.block, channels = step.channels / (block * block);
  const Span out_cols{cols.lo * block, cols.hi * block};
  const bool floats = out.element == Element::kFloat;
  const int at_once = floats ? channels : out.element == Element::kBytes ? 4 : 2;
  const ptrdiff_t out_stride = floats ? out.stride : row_stride(out_cols.size());
  const float* src[kMaxBlock];
  for (int by = 0; by < block; ++by) {
    const int row = y * block + by;
    float* const dst = floats ? at(step.out, row, out_cols.lo) : scratch;
    for (int first = 0; first < channels; first += at_once) {
      const int n = std::min(at_once, channels - first);
      for (int c = first; c < first + n; ++c) {
        for (int bx = 0; bx < block; ++bx) {
          const int from = plan.mode == 0 ? (by * block + bx) * channels + c : (c * block + by) * block + bx;
          src[bx] = result + from * stride;
        }
        k_.interleave(dst + (c - first) * out_stride, src, cols.size(), block);
      }
      for (const RowOp& op : plan.after) apply(op, row, dst, out_stride, n, out_cols, first);
      if (!floats) keep(step.out, row, out_cols, dst, out_stride, first, n);
    }
    close_row(step.out, row, left, right);
  }
}

void TileRunner::make_result(size_t s, int y, float* dst, ptrdiff_t stride, Span cols, float* scratch) {
  const Step& step = net_.step(s);
  const size_t bytes = static_cast<size_t>(cols.size()) * sizeof(float);
  switch (step.kind) {
    case Kind::kConv: conv(s, y, dst, stride, cols, scratch); break;
    case Kind::kResize: resize(s, y, dst, stride, cols, scratch); break;
    case Kind::kPad: pad(s, y, dst, stride, cols); break;
    case Kind::kDepthToSpace: depth_to_space(s, y, dst, stride, cols); break;
    case Kind::kSpaceToDepth: space_to_depth(s, y, dst, stride, cols); break;
    default:  // Pointwise, Concat
      for (size_t i = 0, channel = 0; i < step.in.size(); ++i) {
        const Ring& in = ring(step.in[i]);
        float* to = dst + static_cast<ptrdiff_t>(channel) * stride;
        channel += idx(in.channels);
        if (step.kind == Kind::kConcat && net_.in_place(s, i, static_cast<int>(channel) - in.channels)) continue;
        for (int c = 0; c < in.channels; ++c) std::memcpy(to + c * stride, floats(step.in[i], y, cols, c), bytes);
      }
  }
}

void TileRunner::resize(size_t s, int y, float* dst, ptrdiff_t stride, Span cols, float* scratch) {
  const Step& step = net_.step(s);
  const int v = step.in[0];
  const Ring& in = ring(v);
  const Span in_cols = strip_->values[idx(v)].cols;
  int index[kMaxResizeTaps];
  float coef[kMaxResizeTaps];
  const int n_taps = resize_taps(step.resize, 0, net_.size(v).h, net_.result_extent(s, 0), y, index, coef);
  const ResizeColumns& columns = resize_columns_[s];
  const ptrdiff_t line_stride = row_stride(in_cols.size());
  for (int c = 0; c < in.channels; ++c) {
    const float* line = at(v, index[0], in_cols.lo) + c * in.stride;
    if (n_taps > 1) {
      const float* rows[kMaxResizeTaps];
      for (int t = 0; t < n_taps; ++t) rows[t] = at(v, index[t], in_cols.lo) + c * in.stride;
      k_.resize_v(scratch + c * line_stride, rows, coef, n_taps, in_cols.size());
      line = scratch + c * line_stride;
    }
    k_.resize_h(dst + c * stride, line, columns.index.data(), columns.coef.data(), n_taps, cols.size());
  }
}

void TileRunner::pad(size_t s, int y, float* dst, ptrdiff_t stride, Span cols) {
  const Step& step = net_.step(s);
  const PadParams& p = step.pad;
  const int v = step.in[0];
  const Ring& in = ring(v);
  const Size size = net_.size(v);
  const int from = pad_source(p, 0, size.h, y);
  const int n_left = static_cast<int>(std::clamp<int64_t>(p.pl, cols.lo, cols.hi)), n_mid = static_cast<int>(std::clamp<int64_t>(int64_t{p.pl} + size.w, cols.lo, cols.hi));
  for (int c = 0; c < in.channels; ++c) {
    float* to = dst + c * stride;
    if (from < 0) {
      std::fill_n(to, cols.size(), p.value);
      continue;
    }
    const float* src = at(v, from, 0) + c * in.stride;  // column 0; only columns that the ring has are touched
    const auto mapped = [&](int x) {
      const int sx = pad_source(p, 1, size.w, x);
      return sx < 0 ? p.value : src[sx];
    };
    for (int x = cols.lo; x < n_left; ++x) to[x - cols.lo] = mapped(x);
    if (n_mid > n_left) std::memcpy(to + (n_left - cols.lo), src + (n_left - p.pl), static_cast<size_t>(n_mid - n_left) * sizeof(float));
    for (int x = std::max(n_mid, n_left); x < cols.hi; ++x) to[x - cols.lo] = mapped(x);
  }
}

void TileRunner::depth_to_space(size_t s, int y, float* dst, ptrdiff_t stride, Span cols) {
  const Step& step = net_.step(s);
  const int block = step.shuffle.block, by = y % block, v = step.in[0], channels = step.channels;
  const Ring& in = ring(v);
  const int first = cols.lo / block, n = (cols.hi - 1) / block + 1 - first, skip = cols.lo - first * block;
  const float* src = at(v, y / block, first);
  for (int c = 0; c < channels; ++c) {
    const auto from = [&](int bx) { return src + (step.shuffle.mode == 0 ? (by * block + bx) * channels + c : (c * block + by) * block + bx) * in.stride; };
    float* to = dst + c * stride;
    if (skip == 0 && n * block == cols.size()) {
      const float* lines[kMaxBlock];
      for (int bx = 0; bx < block; ++bx) lines[bx] = from(bx);
      k_.interleave(to, lines, n, block);
      continue;
    }
    for (int bx = 0; bx < block; ++bx) {
      const float* line = from(bx);
      for (int i = 0; i < n; ++i) {
        const int x = i * block + bx - skip;
        if (x >= 0 && x < cols.size()) to[x] = line[i];
      }
    }
  }
}

void TileRunner::space_to_depth(size_t s, int y, float* dst, ptrdiff_t stride, Span cols) {
  const Step& step = net_.step(s);
  const int block = step.shuffle.block, v = step.in[0];
  const Ring& in = ring(v);
  for (int by = 0; by < block; ++by) {
    const float* src = at(v, y * block + by, cols.lo * block);
    for (int c = 0; c < in.channels; ++c) {
      float* to[kMaxBlock];
      for (int bx = 0; bx < block; ++bx) to[bx] = dst + ((by * block + bx) * in.channels + c) * stride;
      k_.deinterleave(to, src + c * in.stride, cols.size(), block);
    }
  }
}

// To channels first .. first + channels - 1 of a row, of which dst is the first.
void TileRunner::apply(const RowOp& op, int y, float* dst, ptrdiff_t stride, int channels, Span cols, int first) {
  const auto code = static_cast<Pointwise>(op.code);
  if (op.value >= 0) {
    const int step = ring(op.value).channels == 1 ? 0 : 1;
    for (int c = 0; c < channels; ++c) k_.binary(code, dst + c * stride, floats(op.value, y, cols, (first + c) * step), cols.size());
    return;
  }
  for (int c = 0; c < channels; ++c) k_.unary(code, dst + c * stride, cols.size(), op.per_channel.empty() ? op.a : op.per_channel[idx(first + c)], op.b);
}

void TileRunner::load(size_t input, int from, int to) {
  const int v = net_.plan.program.inputs[input];
  const Span cols = strip_->values[idx(v)].cols;
  const bool floats = ring(v).element == Element::kFloat;
  const ptrdiff_t stride = floats ? ring(v).stride : row_stride(cols.size());
  for (int y = from; y < to; ++y) {
    float* const dst = floats ? at(v, y, cols.lo) : scratch_;
    run_.sources[input]->read(y, cols.lo, cols.size(), dst, stride, source_scratch_[input].get());
    if (!floats) keep(v, y, cols, dst, stride, 0, ring(v).channels);
    close_row(v, y);
  }
}

void TileRunner::store(size_t output, int from, int to) {
  const int v = net_.outputs[output];
  const Ring& r = ring(v);
  const Span cols = strip_->outs[output];
  if (cols.size() <= 0) return;
  for (int y = from; y < to; ++y) {
    float* src = at(v, y, cols.lo);
    ptrdiff_t stride = r.stride;
    if (copy_for_sink_[output]) {
      stride = row_stride(cols.size());
      for (int c = 0; c < r.channels; ++c) std::memcpy(scratch_ + c * stride, src + c * r.stride, static_cast<size_t>(cols.size()) * sizeof(float));
      src = scratch_;
    }
    run_.sinks[output]->write(y, cols.lo, cols.size(), src, stride, sink_scratch_[output].get());
  }
}

}  // namespace fastsr
