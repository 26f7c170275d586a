#include "engine/job.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>

#include "base/error.h"
#include "base/threads.h"
#include "engine/team.h"

namespace fastsr {
namespace {

constexpr int64_t kParts = 100;  // of a tile, for progress
using Clock = std::chrono::steady_clock;

// As fastsr/knobs.py: false when unset or blank, an error when it is not a whole number of at least 0.
bool environment_number(const char* name, int64_t* number) {
  const char* variable = std::getenv(name);
  std::string text = variable ? variable : "";
  const char* const blank = " \t\n\v\f\r";
  text.erase(0, text.find_first_not_of(blank));
  text.erase(text.find_last_not_of(blank) + 1);
  if (text.empty()) return false;
  if (text.find_first_not_of("0123456789") != std::string::npos)
    throw Error(ErrorKind::kArgument, std::string(name) + "=" + text + ": a whole number of at least 0 is needed");
  *number = std::strtoll(text.c_str(), nullptr, 10);
  return true;
}

std::vector<int64_t> tile_order(int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  int64_t seed;
  if (environment_number("FASTSR_TILE_SEED", &seed)) {
    auto state = static_cast<uint64_t>(seed) * 2 + 1;
    for (size_t i = order.size(); i > 1; --i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      std::swap(order[i - 1], order[(state >> 33) % i]);
    }
  }
  return order;
}

}  // namespace

Prepared::Prepared(const Plan& plan, int h, int w, std::vector<int> outputs, const TilingOptions& wanted)
    : net(plan, h, w, std::move(outputs)), tiling(make_tiling(net, wanted)), options(wanted), pid_(process_id()), bands_(tiling.bands.size()) {}

bool Prepared::fits(int h, int w, const std::vector<int>& outputs, const TilingOptions& wanted) const {
  return pid_ == process_id() && net.height == h && net.width == w && net.outputs == outputs && options == wanted;
}

const Schedule& Prepared::schedule(size_t band) const {
  BandSchedule& b = bands_[band];
  const std::lock_guard<std::mutex> lock(b.mutex);
  if (!b.schedule) b.schedule = std::make_unique<Schedule>(make_schedule(net, tiling.bands[band], tiling.chunk));
  return *b.schedule;
}

// What a thread keeps from tile to tile.
struct Job::Slot {
  Workspace rings, scratch;
  std::unique_ptr<TileRunner> runner;
  int64_t tile = -1;  // that the runner is ready for, in a team
};

Job::Job(const Prepared& prepared, const std::vector<const Source*>& sources, const std::vector<Sink*>& sinks, const RunOptions& options,
         std::function<Workspace(size_t)> take, std::function<void(Workspace)> give_back)
    : prepared_(prepared), net_(prepared.net), options_(options), take_(std::move(take)), give_back_(std::move(give_back)),
      zeros_(prepared.tiling.zero_floats, 0.0f), context_{net_, sources, sinks, zeros_.data(), options.calibration}, threads_(prepared.tiling.threads), order_(tile_order(prepared.tiles())),
      total_(prepared.tiles() * kParts) {
  if (!prepared.tiling.team) threads_ = static_cast<int>(std::min<int64_t>(threads_, prepared.tiles()));
  slots_.resize(static_cast<size_t>(threads_));
  if (!options.quiet) environment_number("FASTSR_DEBUG", &debug_);
  timed_ = debug_ >= 2 || options.times;
}

Job::~Job() {
  for (Slot& slot : slots_) {
    if (slot.rings.capacity) give_back_(std::move(slot.rings));
    if (slot.scratch.capacity) give_back_(std::move(slot.scratch));
  }
}

void Job::run() {
  if (debug_ >= 1) print_choice();
  polled_ = Clock::now();
  net_.plan.weights.make(net_.plan, prepared_.options.threads, [this] {
    if (Clock::now() - polled_ > std::chrono::milliseconds(50)) poll();
  });
  const Clock::time_point start = polled_ = Clock::now();
  if (prepared_.tiling.team) {
    run_team();
  } else {
    run_tiles();
  }
  if (options_.times) *options_.times = times();
  if (debug_ >= 2) print_times(std::chrono::duration<double>(Clock::now() - start).count());
  if (options_.progress && !options_.progress(total_, total_)) throw Error(ErrorKind::kCancelled, "cancelled");
}

TileRunner& Job::runner(int slot_index) {
  Slot& slot = slots_[static_cast<size_t>(slot_index)];
  if (!slot.runner) slot.runner = std::make_unique<TileRunner>(context_, timed_);
  return *slot.runner;
}

float* Job::room(Workspace& workspace, size_t floats) {
  if (!workspace.capacity) workspace = take_(floats);
  return workspace.room(floats, prepared_.tiling.generous);
}

void Job::run_tiles() {
  const Tiling& tiling = prepared_.tiling;
  const auto n_strips = static_cast<int64_t>(tiling.strips.size());
  const auto tile = [&](int64_t unit, int slot_index) {
    stopping([&] {
      const int64_t t = order_[static_cast<size_t>(unit)];
      const Strip& strip = tiling.strips[static_cast<size_t>(t % n_strips)];
      const Schedule& schedule = prepared_.schedule(static_cast<size_t>(t / n_strips));
      const Layout layout = make_layout(net_, schedule, strip);
      TileRunner& own = runner(slot_index);
      Slot& slot = slots_[static_cast<size_t>(slot_index)];
      own.begin(layout, strip, room(slot.rings, layout.floats), room(slot.scratch, strip.scratch_floats));
      walk(schedule, slot_index, [&](const Action& action) { own.act(action); });
    });
    if (slot_index == 0 && done_.load(std::memory_order_relaxed) < total_) poll();
  };
  parallel_for(prepared_.tiles(), threads_, tile, [this] { poll(); });
}

// What a team works on at the moment; its leader changes it between turns.
struct Job::Turn {
  int64_t tile = -1;
  const Layout* layout = nullptr;
  const Strip* strip = nullptr;
  float* rings = nullptr;
  const Action* action = nullptr;
  Share share;
};

void Job::run_team() {
  const Tiling& tiling = prepared_.tiling;
  const auto n_strips = static_cast<int64_t>(tiling.strips.size());
  Team team;
  Turn turn;
  const auto ready = [&](int member) -> TileRunner& {
    TileRunner& own = runner(member);
    Slot& slot = slots_[static_cast<size_t>(member)];
    if (slot.tile != turn.tile) {
      own.begin(*turn.layout, *turn.strip, turn.rings, room(slot.scratch, turn.strip->scratch_floats));
      slot.tile = turn.tile;
    }
    return own;
  };
  const auto unit = [&](int number, int member) {
    ready(member).act(*turn.action, turn.share, number);
  };
  const auto lead = [&] {
    for (const int64_t t : order_) {
      const Strip& strip = tiling.strips[static_cast<size_t>(t % n_strips)];
      const Schedule& schedule = prepared_.schedule(static_cast<size_t>(t / n_strips));
      const Layout layout = make_layout(net_, schedule, strip);
      turn = {t, &layout, &strip, room(slots_[0].rings, layout.floats), nullptr, {}};
      const TileRunner& own = ready(0);
      walk(schedule, 0, [&](const Action& action) {
        turn.action = &action;
        turn.share = own.share(action, threads_);
        team.turn(turn.share.units(action), unit);
      });
    }
  };
  bool led = false;
  parallel_for(threads_, threads_, [&](int64_t, int slot) {
    if (slot != 0) return team.help(slot, unit);
    if (led) return;
    led = true;
    struct Close {
      Team& team;
      ~Close() { team.close(); }
    } close{team};
    lead();
  });
  if (!led) throw Error(ErrorKind::kCancelled, "the process is ending");
}

void Job::walk(const Schedule& schedule, int slot, const std::function<void(const Action&)>& act) {
  const auto n_actions = static_cast<int64_t>(schedule.actions.size());
  int64_t actions = 0, told = 0;
  for (const Action& action : schedule.actions) {
    act(action);
    if (stopped_.load(std::memory_order_relaxed)) return;
    const int64_t parts = ++actions * kParts / n_actions;
    if (parts > told) done_.fetch_add(parts - told, std::memory_order_relaxed);
    told = std::max(told, parts);
    if (slot == 0 && options_.progress && Clock::now() - polled_ > std::chrono::milliseconds(50)) poll();
  }
  done_.fetch_add(kParts - told, std::memory_order_relaxed);
}

void Job::stopping(const std::function<void()>& work) {
  try {
    work();
  } catch (...) {
    stopped_.store(true, std::memory_order_relaxed);
    throw;
  }
}

// On the calling thread only.
void Job::poll() {
  if (!options_.progress) return;
  polled_ = Clock::now();
  stopping([this] {
    if (!options_.progress(done_.load(std::memory_order_relaxed), total_)) throw Error(ErrorKind::kCancelled, "cancelled");
  });
}

void Job::print_choice() const {
  const Tiling& t = prepared_.tiling;
  const Strip& strip = t.strips[t.strips.size() / 2];
  const double rings = layout_floats(net_, prepared_.schedule(t.bands.size() / 2), strip), scratch = static_cast<double>(strip.scratch_floats);
  std::fprintf(stderr, "fastsr: %s, %d threads%s, picture %dx%d, %zu strips x %zu bands, %d rows a turn, %.1f MiB in all\n", net_.plan.kernels->isa, threads_,
               t.team ? " as a team" : "", net_.width, net_.height, t.strips.size(), t.bands.size(), t.chunk,
               (rings * (t.team ? 1 : threads_) + scratch * threads_) * sizeof(float) / (1 << 20));
  for (size_t s = 0; s < net_.active.size(); ++s)
    if (net_.active[s]) std::fprintf(stderr, "fastsr:   %-24s %s\n", net_.step(s).name.c_str(), net_.plan.steps[s].kernel(net_.step(s)).c_str());
}

std::vector<StepTime> Job::times() const {
  std::vector<StepTime> times(net_.active.size() + 2);
  for (const Slot& slot : slots_)
    for (size_t i = 0; slot.runner && i < times.size(); ++i) {
      times[i].seconds += slot.runner->times()[i].seconds;
      times[i].pixels += slot.runner->times()[i].pixels;
    }
  return times;
}

void Job::print_times(double wall) const {
  const std::vector<StepTime> times = this->times();
  double total = 0, flops = 0;
  for (const StepTime& t : times) total += t.seconds;
  for (size_t s = 0; s < times.size(); ++s) {
    const bool is_step = s < net_.active.size();
    if (is_step && !net_.active[s]) continue;
    const double f = is_step ? net_.plan.steps[s].flops_per_pixel * times[s].pixels : 0;
    flops += f;
    const std::string name = is_step ? net_.step(s).name : s == net_.active.size() ? "(read input)" : "(write output)";
    std::fprintf(stderr, "fastsr:   %9.3f ms %5.1f %%  %7.1f GFLOP/s  %-24s %s\n", times[s].seconds * 1e3, 100 * times[s].seconds / std::max(total, 1e-12),
                 f / std::max(times[s].seconds, 1e-12) / 1e9, name.c_str(), is_step ? net_.plan.steps[s].kernel(net_.step(s)).c_str() : "");
  }
  std::fprintf(stderr, "fastsr:   %9.3f ms of thread time, %.3f ms elapsed on %d threads, %.1f GFLOP/s\n", total * 1e3, wall * 1e3, threads_, flops / std::max(wall, 1e-12) / 1e9);
}

}  // namespace fastsr
