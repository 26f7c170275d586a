// Walks down a band as a tile will and writes down what is done when, and how many rows each ring must hold: see Schedule in tiling.h.
#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "engine/tiling.h"

namespace fastsr {
namespace {

size_t idx(int i) { return static_cast<size_t>(i); }

class Walk {
 public:
  Walk(const Net& net, const Band& band, int chunk) : net_(net), band_(band), chunk_(chunk) {
    result_.ring.assign(net.sizes.size(), 1);
    for (const Span& s : band.rows) done_.push_back(s.lo);
    for (const Span& s : band.outs) out_done_.push_back(s.lo);
  }

  // Output rows are asked for `chunk` input rows at a time. What they need is made in rounds in which each input advances by at most `chunk` rows and each
  // step by about as many (or one group): so the many rows that a deep network needs before its first output row pass through short rings too.
  Schedule run() {
    for (int y = band_.base.lo; y < band_.base.hi;) {
      y = band_.base.hi - y <= chunk_ ? band_.base.hi : y + chunk_;
      outs_ = net_.output_spans(0, {band_.base.lo, y});
      net_.demand(0, outs_, target_, &band_.rows);
      for (size_t v = 0; v < target_.size(); ++v)
        if (target_[v].lo >= target_[v].hi) target_[v] = {done_[v], done_[v]};
      while (!reached())
        if (!round()) throw Error(ErrorKind::kModel, "the network's steps wait for each other");
    }
    // A root's ring holds what the most demanding of its values needs.
    for (size_t v = 0; v < net_.places.size(); ++v) {
      int& ring = result_.ring[idx(net_.places[v].root)];
      ring = std::max(ring, result_.ring[v]);
    }
    find_lives();
    return std::move(result_);
  }

 private:
  bool reached() const {
    for (size_t v = 0; v < target_.size(); ++v)
      if (done_[v] < target_[v].hi) return false;
    for (size_t o = 0; o < outs_.size(); ++o)
      if (out_done_[o] < outs_[o].hi) return false;
    return true;
  }

  bool round() {
    net_.still_needed(band_.rows, done_, band_.outs, out_done_, keep_);
    bool moved = false;
    const std::vector<int>& inputs = net_.plan.program.inputs;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const int v = inputs[i], from = done_[idx(v)], to = std::min(target_[idx(v)].hi, from + chunk_);
      if (!net_.used[idx(v)] || to <= from) continue;
      add(Action::kLoad, i, from, to);
      grow(v, to);
      moved = true;
    }
    for (size_t s = 0; s < net_.active.size(); ++s) {
      if (!net_.active[s]) continue;
      const int v = net_.step(s).out, block = net_.plan.steps[s].block;
      const int from = done_[idx(v)] / block;
      const auto end = static_cast<int>(std::min<int64_t>(target_[idx(v)].hi / block, int64_t{from} + rows_at_a_time(net_, s, chunk_)));
      int to = from;
      while (to < end) {
        const int next = std::min(net_.group_begin(s, 0, to) + net_.plan.steps[s].row_group, target_[idx(v)].hi / block);
        if (!ready(s, next - 1)) break;
        to = next;
      }
      if (to == from) continue;
      if (from == 0) leave_room_above(s, to);
      add(Action::kMake, s, from, to);
      grow(v, to * block);
      moved = true;
    }
    for (size_t o = 0; o < outs_.size(); ++o) {
      const int to = std::min(outs_[o].hi, done_[idx(net_.outputs[o])]);
      if (to <= out_done_[o]) continue;
      add(Action::kStore, o, out_done_[o], to);
      out_done_[o] = to;
      moved = true;
    }
    return moved;
  }

  void add(Action::What what, size_t index, int from, int to) { result_.actions.push_back({what, static_cast<int32_t>(index), from, to}); }

  // Kernels write a first group whole where the picture's edge cuts it: what lies above the picture goes to rows of the ring that are still free.
  void leave_room_above(size_t s, int to) {
    const StepPlan& plan = net_.plan.steps[s];
    const int above = -net_.group_begin(s, 0, 0), root = net_.place(net_.step(s).out).root;
    if (above == 0 || !plan.in_place) return;
    for (size_t v = 0; v < done_.size(); ++v)
      if (net_.places[v].root == root) to = std::max(to, done_[v]);
    result_.ring[idx(root)] = std::max(result_.ring[idx(root)], to + above);
  }

  void grow(int v, int to) {
    int& ring = result_.ring[idx(v)];
    ring = std::max(ring, to - std::min(keep_[idx(v)], done_[idx(v)]));
    done_[idx(v)] = to;
  }

  void find_lives() {
    result_.life.assign(net_.sizes.size(), {INT32_MAX, -1});
    const auto touch = [this](int v, size_t action) {
      Schedule::Life& life = result_.life[idx(net_.place(v).root)];
      life.first = std::min(life.first, static_cast<int32_t>(action));
      life.last = std::max(life.last, static_cast<int32_t>(action));
    };
    for (size_t a = 0; a < result_.actions.size(); ++a) {
      const size_t i = idx(result_.actions[a].index);
      if (result_.actions[a].what == Action::kLoad) {
        touch(net_.plan.program.inputs[i], a);
      } else if (result_.actions[a].what == Action::kStore) {
        touch(net_.outputs[i], a);
      } else {
        net_.each_value(i, [&](int v) { touch(v, a); });
      }
    }
  }

  // Whether all that row y of step s's result needs has been made.
  bool ready(size_t s, int y) const {
    const Step& step = net_.step(s);
    const StepPlan& plan = net_.plan.steps[s];
    for (int v : step.in)
      if (input_span(step, 0, net_.size(v).h, net_.result_extent(s, 0), {y, y + 1}).hi > done_[idx(v)]) return false;
    if (plan.residual >= 0 && y >= done_[idx(plan.residual)]) return false;
    for (const RowOp& op : plan.before)
      if (op.value >= 0 && y >= done_[idx(op.value)]) return false;
    for (const RowOp& op : plan.after)
      if (op.value >= 0 && (y + 1) * plan.block > done_[idx(op.value)]) return false;
    return true;
  }

  const Net& net_;
  const Band& band_;
  const int chunk_;
  Schedule result_;
  std::vector<int> done_, out_done_, keep_;
  std::vector<Span> outs_, target_;
};

}  // namespace

int rows_at_a_time(const Net& net, size_t step, int chunk) {
  const int64_t extent = net.result_extent(step, 0), group = net.plan.steps[step].row_group;
  const int64_t share = (int64_t{chunk} * extent + net.height - 1) / net.height;
  if (extent <= net.height) return static_cast<int>(std::max(share, group));
  constexpr int64_t kBytes = 2 << 20;
  const int64_t row = int64_t{4} * net.step(step).channels * net.result_extent(step, 1), most = kBytes / std::max<int64_t>(row, 1);
  return static_cast<int>(std::max(std::min(share, most / group * group), group));
}

Schedule make_schedule(const Net& net, const Band& band, int chunk) { return Walk(net, band, chunk).run(); }

}  // namespace fastsr
