// How a run is cut into tiles: a cost model and the search for the cheapest cut.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "engine/layout.h"
#include "engine/rows.h"
#include "engine/tiling.h"

namespace fastsr {
namespace {

constexpr double kRoom = static_cast<double>(size_t{62} << 20) / sizeof(float);  // all threads together, when the engine chooses the tiles
constexpr double kMostTime = 1.8;  // times the fastest cut's time: cuts that are slower do not count as possible
constexpr int kSmallCut = 4;  // cuts lie at multiples of this where the picture is large enough

std::vector<Span> cut(int n, int pieces) {
  const int unit = n / pieces >= 8 * kSmallCut ? kSmallCut : 1;
  const auto at = [&](int i) { return i == pieces ? n : static_cast<int>(int64_t{n} * i / pieces) / unit * unit; };
  std::vector<Span> spans;
  for (int i = 0; i < pieces; ++i) spans.push_back({at(i), at(i + 1)});
  return spans;
}

// Estimates the time of a run cut in some way, in floating point operations. The constants are from measurements on Zen 4 and matter little.
class CostModel {
 public:
  // Of runs that advance by `chunk` rows, on tiles of their own for each thread or as a team on one tile after the other.
  CostModel(const Net& net, int chunk, int threads, bool team) : net_(net), chunk_(chunk), threads_(threads), team_(team) {
    const int middle = net.height / 2, half = std::max(16, 2 * chunk);
    ring_ = make_schedule(net, make_band(net, {std::max(0, middle - half), std::min(net.height, middle + half + 1)}), chunk);
    for (size_t i = 0; i < net.active.size(); ++i) {
      const double passes = static_cast<double>(net.plan.steps[i].before.size() + net.plan.steps[i].after.size() + (net.plan.steps[i].block > 1) + 2);
      flops_.push_back(net.active[i] ? net.plan.steps[i].cost_per_pixel() + 10 * passes * net.step(i).channels : 0);
      if (net.active[i]) weights_ += 4.0 * static_cast<double>(net.plan.steps[i].packed_group);
    }
  }

  struct Axis {
    int pieces = 1;
    std::vector<double> pixels;  // per step: rows (columns) that all pieces together make
    double floats = 0;           // columns: of a tile's rings
    double scratch = 0;          // columns: of a thread's scratch
    std::vector<int> call_rows;  // columns: rows that a step makes in one go
    double penalty = 1;          // columns: for rows that leave the second-level cache
  };

  Axis axis(int which, int pieces) const {
    Axis a;
    a.pieces = pieces;
    a.pixels.assign(flops_.size(), 0);
    const std::vector<Span> spans = cut(which == 0 ? net_.height : net_.width, pieces);
    // First, last and a middle piece stand for all.
    const size_t sample[] = {0, spans.size() / 2, spans.size() - 1};
    for (int k = 0; k < 3; ++k) {
      const double weight = pieces == 1 ? (k == 0) : pieces == 2 ? (k != 1) : k == 1 ? pieces - 2 : 1;
      if (weight == 0) continue;
      if (which == 0) {
        const Band band = make_band(net_, spans[sample[k]]);
        for (size_t i = 0; i < flops_.size(); ++i)
          if (net_.active[i]) a.pixels[i] += weight * band.rows[static_cast<size_t>(net_.step(i).out)].size() / net_.plan.steps[i].block;
      } else {
        const Strip strip = make_strip(net_, spans[sample[k]]);
        for (size_t i = 0; i < flops_.size(); ++i)
          if (net_.active[i]) a.pixels[i] += weight * strip.values[static_cast<size_t>(net_.step(i).out)].cols.size() / net_.plan.steps[i].block;
        a.floats = std::max(a.floats, layout_floats(net_, ring_, strip));  // too much as well: then more pieces are taken
        a.call_rows = strip.call_rows;
        a.scratch = std::max(a.scratch, static_cast<double>(strip.scratch_floats));
        a.penalty = 1 + 0.06 * std::clamp((a.floats * 4 - (768 << 10)) / (1 << 20), 0.0, 1.0) + 0.08 * std::clamp(widest(strip) / (768 << 10) - 1, 0.0, 1.0);
      }
    }
    return a;
  }

  // Floats that a run needs.
  double floats(const Axis& cols) const { return team_ ? cols.floats + threads_ * cols.scratch : threads_ * (cols.floats + cols.scratch); }

  // For one row of every result.
  double work(const Axis& cols) const {
    double sum = 0;
    for (size_t i = 0; i < flops_.size(); ++i) sum += flops_[i] * cols.pixels[i];
    return sum;
  }

  double time(const Axis& rows, const Axis& cols) const {
    // A turn of a team; a row of a step; a byte of weights that is not in the second-level cache any more when the step's turn comes.
    constexpr double kTurn = 4e5, kRow = 1.5e4, kWeight = 10, kLanes = 16;
    double work = 0;
    for (size_t i = 0; i < flops_.size(); ++i) {
      if (flops_[i] == 0) continue;
      const StepPlan& plan = net_.plan.steps[i];
      const double group = plan.row_group, width = cols.pixels[i] / cols.pieces, share = rows_at_a_time(net_, i, chunk_);
      // In a turn of a team threads get whole groups of rows, or parts of them that end where vectors do.
      const double groups = std::max(1.0, std::min(share, rows.pixels[i]) / group), parts = std::ceil(width / kPartColumns);
      const double whole = std::ceil(groups / threads_) / groups, cut = std::ceil(parts * groups / threads_) * kPartColumns / (width * groups);
      const double busy = team_ ? std::max(std::min(whole, cut), 1.0 / threads_) : 1;
      const double call_groups = std::min(cols.call_rows[i] / group, team_ ? std::ceil(groups * busy) : groups);
      double flops = flops_[i];
      if (plan.col_group > 1) {  // whole vectors of tiles
        const double tiles = std::max(1.0, width / plan.col_group * call_groups * (team_ && cut < whole ? groups * busy : 1));
        flops *= std::ceil(tiles / kLanes) * kLanes / tiles;
      }
      double step = (flops * cols.pixels[i] + kRow * cols.pieces) * rows.pixels[i];
      if (weights_ > (512 << 10)) step += kWeight * 4 * static_cast<double>(plan.packed_group) * cols.pieces * rows.pixels[i] / (call_groups * group);
      work += step * busy;
      if (team_) work += kTurn * rows.pixels[i] * cols.pieces / std::max(share, group);
    }
    // A team that has slept may wake up on one core and stay there for some milliseconds.
    if (team_) return work * cols.penalty + (threads_ > 1 ? 8e8 : 0);
    const double n = static_cast<double>(rows.pieces) * cols.pieces, turns = std::ceil(n / threads_);
    const double waiting = threads_ > 1 ? 1 + 0.15 * (threads_ - 1) / n : 1;
    return (work * cols.penalty / n + 1e6) * turns * waiting + (threads_ > 1 && n > 1 ? 2e6 : 0);
  }

 private:
  // Bytes that the most demanding convolution goes through for one row.
  double widest(const Strip& strip) const {
    double bytes = 0;
    for (size_t i = 0; i < net_.active.size(); ++i) {
      const Step& st = net_.step(i);
      if (!net_.active[i] || st.kind != Kind::kConv) continue;
      bytes = std::max(bytes, 4.0 * net_.channels(st.in[0]) * st.conv.kh * static_cast<double>(strip.values[static_cast<size_t>(st.in[0])].cols.size()));
    }
    return bytes;
  }

  const Net& net_;
  const int chunk_, threads_;
  const bool team_;
  Schedule ring_;
  std::vector<double> flops_;  // per pixel of each step's result
  double weights_ = 0;         // bytes, of all steps
};

struct Cuts {
  int bands, strips, chunk;
  bool team;
  double time, floats;
};

std::vector<CostModel::Axis> candidates(const CostModel& model, int axis, int extent, int smallest, int most) {
  std::vector<CostModel::Axis> list;
  for (int n = 1; n == 1 || (extent / n >= smallest && n <= most); n += (n + 5) / 6) list.push_back(model.axis(axis, n));
  return list;
}

// For each way to cut columns the fastest way to cut rows.
void add_cuts(std::vector<Cuts>& list, const Net& net, int chunk, int threads, bool team) {
  const CostModel model(net, chunk, threads, team);
  const std::vector<CostModel::Axis> bands = candidates(model, 0, net.height, 8, team ? 1 : 512), strips = candidates(model, 1, net.width, 32, 512);
  for (const CostModel::Axis& s : strips) {
    if (model.floats(s) > kMostFloats && &s != &strips.back()) continue;
    Cuts best{1, s.pieces, chunk, team, -1, model.floats(s)};
    for (const CostModel::Axis& b : bands) {
      const double t = model.time(b, s);
      if (best.time < 0 || t < best.time) best.time = t, best.bands = b.pieces;
    }
    list.push_back(best);
  }
}

// Rows that a thread alone on a tile advances by: few, but a whole group.
int small_chunk(const Net& net) {
  int chunk = 2;
  for (size_t s = 0; s < net.active.size(); ++s)
    if (net.active[s]) chunk = std::max(chunk, net.plan.steps[s].row_group);
  return chunk;
}

// The fastest of those that fit into kRoom. Where a network takes more anyway, unless it is cut into pieces that are mostly halo, it gets a tenth more
// than it needs.
Cuts choose_cuts(const Net& net, const TilingOptions& options) {
  std::vector<Cuts> list;
  if (options.teams != Teams::kAlways) add_cuts(list, net, options.chunk > 0 ? options.chunk : small_chunk(net), options.threads, false);
  if (options.teams == Teams::kAlways || (options.teams == Teams::kAny && options.chunk == 0))
    for (int chunk : {4, 8, 4 * options.threads, 8 * options.threads, net.height}) {
      chunk = options.chunk > 0 ? options.chunk : std::min(chunk, net.height);
      add_cuts(list, net, chunk, options.threads, true);
      if (chunk == net.height || chunk == options.chunk) break;
    }
  const auto faster = [](const Cuts& a, const Cuts& b) { return a.time < b.time; };
  const double fastest = std::min_element(list.begin(), list.end(), faster)->time;
  double least = -1;
  for (const Cuts& c : list)
    if (c.time <= kMostTime * fastest && (least < 0 || c.floats < least)) least = c.floats;
  const double room = std::max(kRoom, 1.1 * least);
  const Cuts* best = nullptr;
  for (const Cuts& c : list)
    if (!best || (c.floats <= room) > (best->floats <= room) || ((c.floats <= room) == (best->floats <= room) && faster(c, *best))) best = &c;
  return *best;
}

}  // namespace

Tiling make_tiling(const Net& net, const TilingOptions& options) {
  Tiling t;
  std::vector<Span> rows, cols;
  if (const int tile = options.tile; tile > 0) {
    t.chunk = options.chunk > 0 ? options.chunk : small_chunk(net);
    t.team = options.teams == Teams::kAlways;
    for (int y = 0; y < net.height; y += std::min(tile, net.height - y)) rows.push_back({y, y + std::min(tile, net.height - y)});
    for (int x = 0; x < net.width; x += std::min(tile, net.width - x)) cols.push_back({x, x + std::min(tile, net.width - x)});
  } else {
    const Cuts cuts = choose_cuts(net, options);
    t.chunk = cuts.chunk;
    t.team = cuts.team;
    rows = cut(net.height, cuts.bands);
    cols = cut(net.width, cuts.strips);
  }
  for (const Span& base : rows) t.bands.push_back(make_band(net, base));
  for (const Span& base : cols) t.strips.push_back(make_strip(net, base));
  for (const Strip& strip : t.strips) {
    for (size_t i = 0; i < net.active.size(); ++i) {
      const Step& st = net.step(i);
      if (!net.active[i] || st.kind != Kind::kConv) continue;
      ptrdiff_t stride = strip.values[static_cast<size_t>(st.in[0])].stride;
      const int width = strip.values[static_cast<size_t>(st.out)].cols.size() / net.plan.steps[i].block;
      if (st.conv.sw > 1) stride = std::max(stride, row_stride(width + (st.conv.kw - 1) * st.conv.dw / st.conv.sw));
      t.zero_floats = std::max(t.zero_floats, static_cast<size_t>(net.channels(st.in[0])) * static_cast<size_t>(stride) + kRowEnd);
    }
  }
  if (static_cast<double>(t.zero_floats) > kMostFloats) throw Error(ErrorKind::kMemory, "the network needs too much working memory for one tile");
  return t;
}

}  // namespace fastsr
