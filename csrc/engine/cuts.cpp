// How a run is cut into tiles: a cost model and the search for the cheapest cut.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "engine/layout.h"
#include "engine/rows.h"
#include "engine/tiling.h"

namespace fastsr {
namespace {

constexpr double kThread = static_cast<double>(size_t{100} << 10) / sizeof(float);  // what a thread takes beside rings and scratch
constexpr double kMostWork = 1.8;  // times the least work: cuts that compute more do not count as possible
constexpr double kNear = 768 << 10;  // bytes of rings that the second-level cache holds, which has 512 KiB to 2 MiB
constexpr double kTurnBytes = 1 << 20;  // and of what a step reads and writes in a turn
constexpr double kSharedBytes = 8 << 20;  // of that, in the turns of all threads, what the last cache level holds
constexpr double kThreadBytes = 2 << 20;  // and for each thread, where that is more
constexpr int kFewThreads = 8;     // a network that leaves room for no more takes more memory instead
constexpr int kSmallCut = 4;       // cuts lie at multiples of this and of all groups where the picture is large enough
constexpr size_t kScratch[] = {SIZE_MAX, size_t{160} << 10, size_t{80} << 10, 0};  // floats: what a thread's scratch may be limited to

std::vector<Span> cut(const Net& net, int axis, int pieces) {
  const int n = axis == 0 ? net.height : net.width;
  int unit = kSmallCut;
  for (size_t s = 0; s < net.active.size(); ++s)
    if (net.active[s]) unit = std::lcm(unit, net.plan.steps[s].group(axis));
  if (n / pieces < 8 * unit) unit = 1;
  const auto at = [&](int i) { return i == pieces ? n : static_cast<int>(int64_t{n} * i / pieces) / unit * unit; };
  std::vector<Span> spans;
  for (int i = 0; i < pieces; ++i) spans.push_back({at(i), at(i + 1)});
  return spans;
}

// Floats of all packed weights that a run reads.
double weight_floats(const Net& net) {
  double floats = 0;
  for (size_t i = 0; i < net.active.size(); ++i)
    if (net.active[i]) floats += static_cast<double>(net.plan.steps[i].packed_group);
  return floats;
}

// A way to cut rows or columns, whatever the rows a turn and the threads.
struct Axis {
  int pieces = 1;
  std::vector<double> pixels;  // per step: rows (columns) that all pieces together make
};

struct Bands : Axis {};

struct Strips : Axis {
  struct Calls {
    std::vector<int> rows, columns;  // per step, of a call
    double scratch;                  // floats
  };
  Strip middle;              // the widest
  double widest = 0;         // bytes that the most demanding convolution goes through for one row
  std::vector<Calls> calls;  // for each of kScratch that makes a difference
};

// Bytes of the values that step i reads and writes, each once.
double step_bytes(const Net& net, size_t i) {
  if (net.nothing_to_do(i)) return 0;
  std::vector<int> values;
  net.each_value(i, [&](int v) { values.push_back(v); });
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  double bytes = 0;
  for (int v : values)
    bytes += (net.plan.elements[static_cast<size_t>(v)] == Element::kHalf ? 2.0 : 4.0) * net.lines(v) * net.size(v).h * net.size(v).w;
  return bytes;
}

// First, last and a middle piece stand for all: how often each counts.
double weight(int sample, int pieces) { return pieces == 1 ? (sample == 0) : pieces == 2 ? (sample != 1) : sample == 1 ? pieces - 2 : 1; }

template <class Spans>
void add_pixels(const Net& net, Axis& axis, const Spans& spans, double weight) {
  for (size_t i = 0; i < net.active.size(); ++i)
    if (net.active[i]) axis.pixels[i] += weight * spans(net.step(i).out).size() / net.plan.steps[i].block;
}

Bands make_bands(const Net& net, int pieces) {
  Bands bands;
  bands.pieces = pieces;
  bands.pixels.assign(net.active.size(), 0);
  const std::vector<Span> spans = cut(net, 0, pieces);
  const size_t sample[] = {0, spans.size() / 2, spans.size() - 1};
  for (int k = 0; k < 3; ++k) {
    if (weight(k, pieces) == 0) continue;
    const Band band = make_band(net, spans[sample[k]]);
    add_pixels(net, bands, [&](int v) { return band.rows[static_cast<size_t>(v)]; }, weight(k, pieces));
  }
  return bands;
}

Strips make_strips(const Net& net, int pieces, int threads) {
  Strips strips;
  strips.pieces = pieces;
  strips.pixels.assign(net.active.size(), 0);
  const std::vector<Span> spans = cut(net, 1, pieces);
  const size_t sample[] = {0, spans.size() / 2, spans.size() - 1};
  for (int k = 0; k < 3; ++k) {
    if (weight(k, pieces) == 0) continue;
    Strip strip = make_strip(net, spans[sample[k]]);
    add_pixels(net, strips, [&](int v) { return strip.values[static_cast<size_t>(v)].cols; }, weight(k, pieces));
    if (k != 2) strips.middle = std::move(strip);
  }
  for (size_t i = 0; i < net.active.size(); ++i) {
    const Step& st = net.step(i);
    if (!net.active[i] || st.kind != Kind::kConv) continue;
    const double width = strips.middle.values[static_cast<size_t>(st.in[0])].cols.size();
    strips.widest = std::max(strips.widest, 4.0 * net.channels(st.in[0]) * st.conv.kh * width);
  }
  for (size_t most : kScratch) {
    limit_scratch(net, strips.middle, most);
    const auto scratch = static_cast<double>(strips.middle.scratch_floats);
    if (!strips.calls.empty() && scratch >= strips.calls.back().scratch) continue;
    strips.calls.push_back({strips.middle.call_rows, strips.middle.call_columns, scratch});
    if (threads * scratch < kRoom / 8) break;
  }
  return strips;
}

// Estimates the time of a run cut in some way, in floating point operations. The constants are from measurements on Zen 4 and
// Zen 5; those of bytes matter where layers have few channels and pictures are large.
class CostModel {
 public:
  // Of runs that advance by `chunk` rows.
  CostModel(const Net& net, int chunk) : net_(net), chunk_(chunk), weights_(4 * weight_floats(net)) {
    schedule_ = make_schedule(net, make_band(net, {0, static_cast<int>(std::min<int64_t>(net.height, std::max(32, 4 * chunk)))}), chunk);
    for (size_t i = 0; i < net.active.size(); ++i) {
      const StepPlan& plan = net.plan.steps[i];
      const auto passes = static_cast<double>(plan.before.size() + plan.after.size() + (plan.block > 1) + 2);
      flops_.push_back(net.active[i] ? plan.cost_per_pixel() + 10 * passes * net.step(i).channels : 0);
      share_.push_back(net.active[i] ? rows_at_a_time(net, i, chunk) : 1);
      bytes_.push_back(net.active[i] ? step_bytes(net, i) / (static_cast<double>(net.result_extent(i, 0)) * net.result_extent(i, 1)) : 0);
    }
    // Pieces of a network that is cut at means are fed with, and make, values of many channels; pictures have few, whose cost does not show.
    const auto add_lines = [&](int v) { lines_ += std::max(0, net.channels(v) - 4) * static_cast<double>(net.size(v).h); };
    for (int v : net.plan.program.inputs)
      if (net.used[static_cast<size_t>(v)]) add_lines(v);
    for (int v : net.outputs) add_lines(v);
    const Strip whole = make_strip(net, {0, net.width});
    packing_ = layout_floats(net, schedule_, whole) / std::max(live_floats(net, schedule_, whole), 1.0);
  }

  int chunk() const { return chunk_; }

  // Floats of a tile's rings, about and exactly.
  double rings(const Strips& strips) const { return packing_ * live_floats(net_, schedule_, strips.middle); }
  double exact_rings(const Strips& strips) const { return layout_floats(net_, schedule_, strips.middle); }

  double work(const Bands& bands, const Strips& strips) const {
    double sum = 0;
    for (size_t i = 0; i < flops_.size(); ++i) sum += flops_[i] * strips.pixels[i] * bands.pixels[i];
    return sum;
  }

  // rings: floats. team: whether the threads work on one tile after the other together, or on tiles of their own.
  double time(const Bands& bands, const Strips& strips, const Strips::Calls& calls, double rings, int threads, bool team) const {
    // A turn of a team; a row of a step; a byte of weights that is not in the second-level cache any more when the step's turn comes; a single vector of
    // tiles, which does not fill a kernel's registers; a line of an array, read or written, that is far from the one before; a byte of a value that is
    // not in that cache any more, and what one adds that is in none; what part of a step's operations hides such bytes, and what part of all work they
    // must be to count.
    constexpr double kTurn = 4e5, kRow = 1.5e4, kWeight = 10, kLanes = 16, kSingle = 1.25, kLine = 1e4;
    constexpr double kByte = 28, kMemoryByte = 20, kHidden = 0.8, kLittle = 0.06;
    const double shared = std::max(kSharedBytes, kThreadBytes * threads), tiles_at_once = std::min<double>(threads, bands.pieces * strips.pieces);
    double work = 0, missed = 0;
    for (size_t i = 0; i < flops_.size(); ++i) {
      if (flops_[i] == 0) continue;
      const StepPlan& plan = net_.plan.steps[i];
      const double group = plan.row_group, width = strips.pixels[i] / strips.pieces, share = share_[i];
      // In a turn of a team threads get whole groups of rows, or parts of them that end where vectors do.
      const double groups = std::max(1.0, std::min(share, bands.pixels[i]) / group), unit = part_columns(plan), parts = std::ceil(width / unit);
      const double whole = std::ceil(groups / threads) / groups, cut = std::ceil(parts * groups / threads) * unit / (width * groups);
      const double busy = team ? std::max(std::min(whole, cut), 1.0 / threads) : 1;
      const double call_groups = std::min(calls.rows[i] / group, team ? std::ceil(groups * busy) : groups);
      double flops = flops_[i];
      if (plan.col_group > 1) {  // whole vectors of tiles
        const double all = width / plan.col_group * call_groups * (team && cut < whole ? groups * busy : 1);
        const double tiles = std::max(1.0, std::min(all, static_cast<double>(calls.columns[i]) / plan.col_group * call_groups));
        flops *= std::ceil(tiles / kLanes) * kLanes / tiles * (tiles <= kLanes ? kSingle : 1);
      }
      // What a team's other threads have made is in their caches, so all of it is far.
      const double turn = bytes_[i] * width * std::min(share, bands.pixels[i] / bands.pieces), all = team ? turn : turn * tiles_at_once;
      const double far = team && threads > 1 ? 1 : std::clamp(turn / kTurnBytes - 1, 0.0, 1.0), farther = std::clamp(all / shared - 1, 0.0, 1.0);
      missed += busy * strips.pixels[i] * bands.pixels[i] * std::max(0.0, (kByte * far + kMemoryByte * farther) * bytes_[i] - kHidden * flops);
      double step = (flops * strips.pixels[i] + kRow * strips.pieces) * bands.pixels[i];
      if (weights_ > (512 << 10)) step += kWeight * 4 * static_cast<double>(plan.packed_group) * strips.pieces * bands.pixels[i] / (call_groups * group);
      work += step * busy;
      if (team) work += kTurn * bands.pixels[i] * strips.pieces / std::max(share, group);
    }
    work += std::max(0.0, missed - kLittle * work);
    work += kLine * lines_ * strips.pieces / (team ? threads : 1);
    const auto beyond = [](double bytes) { return std::clamp(bytes / kNear - 1, 0.0, 4.0 / 3); };
    work *= 1 + 0.045 * beyond(rings * 4) + 0.06 * beyond(strips.widest);
    // A team that has slept may wake up on one core and stay there for some milliseconds.
    if (team) return work + (threads > 1 ? 8e8 : 0);
    const double n = static_cast<double>(bands.pieces) * strips.pieces, turns = std::ceil(n / threads);
    const double waiting = threads > 1 ? 1 + 0.15 * (threads - 1) / n : 1;
    return (work / n + 1e6) * turns * waiting + (threads > 1 && n > 1 ? 2e6 : 0);
  }

 private:
  const Net& net_;
  const int chunk_;
  Schedule schedule_;
  const double weights_;               // bytes, of all steps
  std::vector<double> flops_, bytes_, share_;  // per step: of a pixel of its result; rows at a time
  double lines_ = 0;                   // of inputs and outputs of many channels: lines of all channels
  double packing_ = 1;                 // of rings: what their places add to what lives at the same time
};

struct Cuts {
  const CostModel* model;
  const Strips* strips;
  const Strips::Calls* calls;
  const Bands* bands;
  int threads;
  bool team;
  double floats, work, time;

  double workers() const { return team ? threads : std::min(static_cast<double>(threads), static_cast<double>(bands->pieces) * strips->pieces); }
  double memory(double rings) const { return (team ? rings : workers() * rings) + workers() * (calls->scratch + kThread); }
  // With large pages.
  double generous() const {
    const double rings = generous_floats(model->exact_rings(*strips));
    return (team ? rings : workers() * rings) + workers() * (generous_floats(calls->scratch) + kThread);
  }
};

template <class Make>
auto candidates(int extent, int smallest, int most, const Make& make) {
  std::vector<decltype(make(1))> list;
  for (int n = 1; n == 1 || (extent / n >= smallest && n <= most); n += (n + 5) / 6) list.push_back(make(n));
  return list;
}

class Search {
 public:
  Search(const Net& net, const TilingOptions& options) : net_(net), options_(options) {
    room_ = room_floats(weight_floats(net));
    strips_ = candidates(net.width, 32, 512, [&](int n) { return make_strips(net, n, options.threads); });
    bands_ = candidates(net.height, 8, options.teams == Teams::kAlways ? 1 : 512, [&](int n) { return make_bands(net, n); });
    if (options.teams != Teams::kAlways) add(options.chunk > 0 ? options.chunk : small_chunk(net), false);
    if (options.teams == Teams::kAlways || (options.teams == Teams::kAny && options.chunk == 0))
      for (int groups : {1, 2, options.threads, 2 * options.threads, 3 * options.threads, net.height}) {
        const int chunk = options.chunk > 0 ? options.chunk : std::min(groups * std::max(small_chunk(net), kSmallCut), net.height);
        if (models_.empty() || models_.back()->chunk() < chunk || list_.empty() || !list_.back().team) add(chunk, true);
        if (chunk == net.height || chunk == options.chunk) break;
      }
  }

  // Rows that a thread alone on a tile advances by: few, but a whole group.
  static int small_chunk(const Net& net) {
    int chunk = 2;
    for (size_t s = 0; s < net.active.size(); ++s)
      if (net.active[s]) chunk = std::max(chunk, net.plan.steps[s].row_group);
    return chunk;
  }

  // Floats that a run may take.
  double room() const { return room_; }

  // The fastest of those that fit into the room. Where a network takes more anyway, unless it is cut into pieces that are mostly halo or leaves most threads
  // without work, it gets a tenth more than it needs.
  Cuts best() {
    double least_work = list_.front().work, least = -1;
    bool fits = false;
    for (const Cuts& c : list_) least_work = std::min(least_work, c.work);
    for (const Cuts& c : list_) {
      if (c.work > kMostWork * least_work) continue;
      fits = fits || (c.floats <= room_ && c.threads >= std::min(options_.threads, kFewThreads));
      if (c.threads == options_.threads && (least < 0 || c.floats < least)) least = c.floats;
    }
    const double room = fits ? room_ : std::max(room_, 1.1 * least);
    std::stable_sort(list_.begin(), list_.end(), [&](const Cuts& a, const Cuts& b) {
      return (a.floats <= room) != (b.floats <= room) ? a.floats <= room : a.time < b.time;
    });
    for (const Cuts& c : list_)
      if (c.floats > room || c.memory(c.model->exact_rings(*c.strips)) <= room) return c;
    return list_.front();
  }

 private:
  // For each way to cut columns the fastest way to cut rows, with all threads and with as many as leave room.
  void add(int chunk, bool team) {
    models_.push_back(std::make_unique<CostModel>(net_, chunk));
    const CostModel& model = *models_.back();
    for (const Strips& strips : strips_) {
      const double rings = model.rings(strips);
      if (rings > kMostFloats && &strips != &strips_.back()) continue;
      for (const Strips::Calls& calls : strips.calls) {
        Cuts c{&model, &strips, &calls, nullptr, options_.threads, team, 0, 0, 0};
        add_fastest(c, rings);
        while (c.threads > 1 && c.floats > room_) {
          c.threads = (c.threads + 1) / 2;
          add_fastest(c, rings);
        }
      }
    }
  }

  void add_fastest(Cuts& c, double rings) {
    c.bands = nullptr;
    for (const Bands& bands : bands_) {
      const double t = c.model->time(bands, *c.strips, *c.calls, rings, c.threads, c.team);
      if (!c.bands || t < c.time) c.time = t, c.bands = &bands;
      if (c.team) break;
    }
    c.floats = c.memory(rings);
    c.work = c.model->work(*c.bands, *c.strips);
    list_.push_back(c);
  }

  const Net& net_;
  const TilingOptions& options_;
  double room_;
  std::vector<Strips> strips_;
  std::vector<Bands> bands_;
  std::vector<std::unique_ptr<CostModel>> models_;
  std::vector<Cuts> list_;
};

}  // namespace

Tiling make_tiling(const Net& net, const TilingOptions& options) {
  Tiling t;
  t.threads = options.threads;
  std::vector<Span> rows, cols;
  size_t scratch = SIZE_MAX;
  if (const int tile = options.tile; tile > 0) {
    t.chunk = options.chunk > 0 ? options.chunk : Search::small_chunk(net);
    t.team = options.teams == Teams::kAlways;
    for (int y = 0; y < net.height; y += std::min(tile, net.height - y)) rows.push_back({y, y + std::min(tile, net.height - y)});
    for (int x = 0; x < net.width; x += std::min(tile, net.width - x)) cols.push_back({x, x + std::min(tile, net.width - x)});
  } else {
    Search search(net, options);
    const Cuts cuts = search.best();
    t.chunk = cuts.model->chunk();
    t.threads = cuts.threads;
    t.team = cuts.team;
    t.generous = cuts.generous() <= search.room();
    rows = cut(net, 0, cuts.bands->pieces);
    cols = cut(net, 1, cuts.strips->pieces);
    scratch = static_cast<size_t>(cuts.calls->scratch);
  }
  for (const Span& base : rows) t.bands.push_back(make_band(net, base));
  for (const Span& base : cols) {
    t.strips.push_back(make_strip(net, base));
    if (t.strips.back().scratch_floats > scratch) limit_scratch(net, t.strips.back(), scratch);
  }
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
