#include "engine/run.h"

#include <algorithm>
#include <thread>

#include "base/error.h"
#include "base/threads.h"
#include "engine/calibrate.h"
#include "engine/int8.h"
#include "engine/job.h"
#include "targets/cpu.h"

namespace fastsr {
namespace {

// A lock that another thread held at fork() stays locked in the child for ever, so this gives up; others hold it for moments only.
std::unique_lock<std::mutex> lock_or_give_up(std::mutex& mutex) {
  std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
  for (int tries = 0; !lock.owns_lock() && tries < 100; ++tries) {
    std::this_thread::yield();
    static_cast<void>(lock.try_lock());
  }
  return lock;
}

double flops_of(const Net& net) {
  double flops = 0;
  for (size_t s = 0; s < net.active.size(); ++s) {
    if (!net.active[s]) continue;
    const StepPlan& plan = net.plan.steps[s];
    const Size size = net.size(net.step(s).out);
    const double pixels = static_cast<double>(size.h) * size.w;
    flops += pixels * net.channels(net.step(s).out) * (1.0 + static_cast<double>(net.step(s).epilogue.size()));
    flops += pixels / (plan.block * plan.block) * plan.flops_per_pixel;
  }
  return flops;
}

constexpr double kRememberedBytes = 4 << 20;  // of schedules
constexpr size_t kIdleBytes = size_t{64} << 20;  // workspaces kept between runs, per model

}  // namespace

float* Workspace::room(size_t n, bool generous) {
  if (capacity < n) {
    floats.reset();
    capacity = 0;
    floats = aligned_floats(n, generous);
    capacity = n;
  }
  return floats.get();
}

Model::Model(const FsrBytes& fsr, const PlanOptions& options, const Kernels* chosen) {
  Program program = read_fsr(fsr);
  if (!chosen) chosen = &kernels();
  PlanOptions how = options;
  if (how.precision == Precision::kAuto) how.precision = is_quantised(program) ? Precision::kInt8 : Precision::kF32;
  if (how.precision == Precision::kInt8 && !is_quantised(program))
    throw Error(ErrorKind::kModel, "this model is not quantised to 8 bits, so the precision int8 has no integers to compute with: use the precision fast or f32");
  plan_ = how.precision == Precision::kFast ? make_fast_plan(program, chosen, how) : make_plan(std::move(program), chosen, how);
}
Model::~Model() = default;

// The smallest that holds n floats, else the largest.
Workspace Model::take_workspace(size_t n) const {
  Workspace w;
  const std::unique_lock<std::mutex> lock = lock_or_give_up(mutex_);
  if (!lock.owns_lock() || idle_.empty()) return w;
  const auto better = [n](const Workspace& a, const Workspace& b) {
    return (a.capacity >= n) != (b.capacity >= n) ? a.capacity >= n : (a.capacity < b.capacity) == (a.capacity >= n);
  };
  auto best = idle_.begin();
  for (auto it = best; it != idle_.end(); ++it)
    if (better(*it, *best)) best = it;
  w = std::move(*best);
  idle_.erase(best);
  if (w.capacity >= n) return w;
  // New memory: what is left of runs of other sizes makes room for it.
  size_t kept = n * sizeof(float);
  for (const Workspace& idle : idle_) kept += idle.bytes();
  while (kept > kIdleBytes && !idle_.empty()) {
    kept -= idle_.back().bytes();
    idle_.pop_back();
  }
  return w;
}

void Model::give_back(Workspace workspace) const {
  const std::unique_lock<std::mutex> lock = lock_or_give_up(mutex_);
  if (!lock.owns_lock()) return;
  size_t kept = workspace.bytes();
  for (const Workspace& w : idle_) kept += w.bytes();
  if (kept <= kIdleBytes) idle_.push_back(std::move(workspace));
}

std::shared_ptr<const Prepared> Model::prepare(int h, int w, const std::vector<int>& values, const TilingOptions& options) const {
  std::shared_ptr<const Prepared> prepared;
  {
    const std::unique_lock<std::mutex> lock = lock_or_give_up(mutex_);
    if (lock.owns_lock()) prepared = last_;
  }
  if (prepared && prepared->fits(h, w, values, options)) return prepared;
  prepared = std::make_shared<const Prepared>(*plan_, h, w, values, options);
  const double actions = static_cast<double>(h) * static_cast<double>(plan_->steps.size()) / prepared->tiling.chunk;
  if (actions * sizeof(Action) > kRememberedBytes) return prepared;
  const std::unique_lock<std::mutex> lock = lock_or_give_up(mutex_);
  if (lock.owns_lock()) last_ = prepared;
  return prepared;
}

void Model::pack(const RunOptions& options) const {
  plan_->weights.make(*plan_, options.threads, [&] {
    if (options.progress && !options.progress(0, 1)) throw Error(ErrorKind::kCancelled, "cancelled");
  });
}

Size Model::output_size(int output, int h, int w) const {
  return value_sizes(plan_->program, h, w)[static_cast<size_t>(plan_->program.outputs[static_cast<size_t>(output)].value)];
}

double Model::flops(int output, int h, int w) const {
  const Program& program = plan_->program;
  return flops_of(Net(*plan_, h, w, {program.outputs[static_cast<size_t>(output)].value}));
}

Model::Cost Model::cost(int h, int w, int tile, int threads) const {
  std::vector<int> values;
  for (const OutputInfo& o : plan_->program.outputs) values.push_back(o.value);
  const Net net(*plan_, h, w, values);
  const Tiling tiling = make_tiling(net, {tile, 0, threads, Teams::kAny});
  Cost cost{flops_of(net), 0, 0, 0, 0};
  const Schedule schedule = make_schedule(net, tiling.bands[tiling.bands.size() / 2], tiling.chunk);
  const Strip& strip = tiling.strips[tiling.strips.size() / 2];
  const double tiles = static_cast<double>(tiling.strips.size()) * static_cast<double>(tiling.bands.size());
  cost.threads = static_cast<int>(tiling.team ? tiling.threads : std::min<double>(tiling.threads, tiles));
  cost.rings = layout_floats(net, schedule, strip) * (tiling.team ? 1 : cost.threads) * sizeof(float);
  cost.scratch = static_cast<double>(strip.scratch_floats) * sizeof(float);
  cost.bytes = cost.rings + cost.scratch * cost.threads + static_cast<double>(tiling.zero_floats) * sizeof(float);
  return cost;
}

void Model::run(const std::vector<const Source*>& sources, const std::vector<int>& outputs, const std::vector<Sink*>& sinks, const RunOptions& options) const {
  const Program& program = plan_->program;
  if (sources.size() != program.inputs.size())
    throw Error(ErrorKind::kArgument, "the network has " + std::to_string(program.inputs.size()) + " inputs, " + std::to_string(sources.size()) + " were given");
  if (outputs.size() != sinks.size() || outputs.empty()) throw Error(ErrorKind::kArgument, "no output was asked for");
  std::vector<int> values;
  for (int o : outputs) {
    if (o < 0 || static_cast<size_t>(o) >= program.outputs.size()) throw Error(ErrorKind::kArgument, "the network has no output number " + std::to_string(o));
    values.push_back(program.outputs[static_cast<size_t>(o)].value);
  }
  const int h = sources[0]->height(), w = sources[0]->width();
  for (size_t i = 0; i < sources.size(); ++i) {
    const int c = program.values[static_cast<size_t>(program.inputs[i])].channels;
    if (sources[i]->channels() != c)
      throw Error(ErrorKind::kPicture, "the network takes " + std::to_string(c) + " channels, got " + std::to_string(sources[i]->channels()));
    if (sources[i]->height() != h || sources[i]->width() != w) throw Error(ErrorKind::kPicture, "all inputs must have the same height and width");
  }

  const int threads = std::clamp(options.threads > 0 ? options.threads : get_num_threads(), 1, kMaxThreads);
  const std::shared_ptr<const Prepared> prepared = prepare(h, w, values, {options.tile, options.chunk, threads, options.teams});
  Job(*prepared, sources, sinks, options, [this](size_t n) { return take_workspace(n); }, [this](Workspace used) { give_back(std::move(used)); }).run();
}

}  // namespace fastsr
