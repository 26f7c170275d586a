#include "engine/calibrate.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/error.h"
#include "base/threads.h"
#include "engine/arrays.h"
#include "engine/job.h"
#include "targets/fast.h"

namespace fastsr {
namespace {

constexpr int kLargestTile = 6, kGroups = 12;  // of winograd16; a multiple of all its tiles
constexpr int kCell = 32;              // the picture is a grid of cells
constexpr double kLargeNetwork = 4e6;  // operations per pixel: beyond, a smaller picture has to do
constexpr double kMostResults = 1 << 25;         // numbers in all outputs
constexpr double kMostWork = 1e13;     // operations: a network that takes more for the picture stays in floats

uint32_t hash(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ x >> 16;
}

float noise(int plane, int y, int x) { return static_cast<float>(hash(hash(hash(static_cast<uint32_t>(plane)) + static_cast<uint32_t>(y)) + static_cast<uint32_t>(x)) >> 8) / 16777216.0f; }

// Noise with features of about `size` pixels.
float smooth(int plane, int y, int x, int size) {
  const int y0 = y / size, x0 = x / size;
  const float fy = static_cast<float>(y % size) / static_cast<float>(size), fx = static_cast<float>(x % size) / static_cast<float>(size);
  const auto at = [&](int i, int j) { return noise(plane * 64 + size, y0 + i, x0 + j); };
  return (at(0, 0) * (1 - fx) + at(0, 1) * fx) * (1 - fy) + (at(1, 0) * (1 - fx) + at(1, 1) * fx) * fy;
}

// A picture of 0..1 with what pictures have, and the hardest of it: soft shades and texture at all scales, hard edges in all directions, lines, letters,
// single pixels, fine patterns, flat areas, noise; half of the cells in grey, the others in strong colours. plane: the colour channel.
float calibration_pixel(int plane, int y, int x) {
  const int cell = y / kCell * 64 + x / kCell, cy = y % kCell, cx = x % kCell;
  const auto chance = [cell](int i) { return noise(7, cell, i); };  // of the cell
  const int hue = chance(0) < 0.5f ? 0 : plane;
  const auto clamp = [](float v) { return std::clamp(v, 0.0f, 1.0f); };
  const auto ink = [&](int i) { return clamp(2.0f * chance(10 + 8 * i + hue) - 0.5f); };  // half of them black or white
  const float dark = ink(0), light = std::abs(ink(1) - dark) < 0.5f ? 1 - dark : ink(1);
  const auto pick = [&](bool first) { return first ? dark : light; };
  const float slope = 4 * chance(1) - 2, along = static_cast<float>(cx) + slope * static_cast<float>(cy);
  const auto texture = [&] {
    float sum = 0, weight = 0.5f;
    for (int size = 32; size >= 2; size /= 2, weight *= 0.5f) sum += weight * smooth(hue, y, x, size);
    return sum;
  };
  const auto period = [&](int i) { return 1 + static_cast<int>(chance(i) * 4); };
  const auto grain = [&](int size) { return noise(20 + hue, y / size, x / size); };
  switch ((y / kCell * 5 + x / kCell) % 15) {
    case 0: return clamp(texture() * 1.1f);
    case 1: return clamp((texture() - 0.5f) * 4.0f + 0.5f);
    case 2: return pick(noise(2, cy / period(2), cx / period(3) + 64 * cell) < 0.5f);                                     // blocks
    case 3: return pick(along < 16 + 16 * slope);                                                                         // a slanted edge
    case 4: return pick((cy / 2) % 4 == 0 || (cx % 7 == 3 && cy % 8 > 1) || (cx + cy) % 11 == 0);                         // letters
    case 5: return pick((cy - 16) * (cy - 16) + (cx - 16) * (cx - 16) < 130);                                             // a disc
    case 6: return pick((cx / period(4)) % 2 == (cy < 16 ? 0 : (cy / period(5)) % 2));                                    // stripes and a checkerboard
    case 7: return grain(1) < 0.5f ? dark : light;
    case 8: return clamp(static_cast<float>(cx + cy) / 62.0f + 0.06f * (grain(1) - 0.5f));                                  // a gradient with grain
    case 9: return pick(std::abs(along - 16 - 16 * slope) < 1 || cx == 3 || cy == 28);                                    // thin lines
    case 10: return pick(cx % 8 == 3 && cy % 8 == 5);                                                                     // single pixels
    case 11: return pick(static_cast<int>(std::floor(along / static_cast<float>(period(6) + 1))) % 2 == 0);               // slanted stripes
    case 12: return clamp(0.5f + 0.5f * std::floor(4.0f * texture()) / 4.0f * static_cast<float>(cy % 16 < 8 ? 1 : -1));     // posterised
    case 13: return cy < 16 ? grain(1) : grain(3);
    default: return clamp(texture() + 0.4f * pick(noise(3, cy / 8, cx / 8) < 0.5f) - 0.2f);
  }
}

// What the program's inputs are fed.
struct Picture {
  Size size;
  std::vector<std::vector<float>> inputs;
};

// The picture of that size from cell `first` on, in the network's own range and channel order.
Picture calibration_picture(const Program& program, Size size, Size first = {0, 0}) {
  Picture picture{size, {}};
  const Feed& feed = program.feed;
  for (int value : program.inputs) {
    const int channels = program.values[static_cast<size_t>(value)].channels;
    std::vector<float> pixels;
    pixels.reserve(static_cast<size_t>(channels) * static_cast<size_t>(size.h) * static_cast<size_t>(size.w));
    for (int c = 0; c < channels; ++c) {
      const double mean = feed.mean.empty() ? 0 : feed.mean[static_cast<size_t>(c) % feed.mean.size()];
      for (int y = 0; y < size.h; ++y)
        for (int x = 0; x < size.w; ++x) pixels.push_back(static_cast<float>(calibration_pixel(c, y + first.h * kCell, x + first.w * kCell) * feed.range - mean));
    }
    picture.inputs.push_back(std::move(pixels));
  }
  return picture;
}

// Runs a plan on a picture; its outputs, one after the other.
std::vector<float> run(const Plan& plan, const Picture& picture, Calibration* calibration) {
  std::vector<int> values;
  for (const OutputInfo& o : plan.program.outputs) values.push_back(o.value);
  const Prepared prepared(plan, picture.size.h, picture.size.w, values, {0, 0, calibration ? 1 : get_num_threads(), Teams::kAny});
  std::vector<ArraySource> sources;
  std::vector<const Source*> source_pointers;
  sources.reserve(picture.inputs.size());
  for (size_t i = 0; i < picture.inputs.size(); ++i) {
    const int c = plan.program.values[static_cast<size_t>(plan.program.inputs[i])].channels;
    sources.emplace_back(picture.inputs[i].data(), c, picture.size.h, picture.size.w, ptrdiff_t{picture.size.h} * picture.size.w, ptrdiff_t{picture.size.w});
    source_pointers.push_back(&sources.back());
  }
  std::vector<float> results;
  std::vector<size_t> starts;
  size_t total = 0;
  for (int v : values) {
    starts.push_back(total);
    total += static_cast<size_t>(prepared.net.channels(v)) * static_cast<size_t>(prepared.net.size(v).h) * static_cast<size_t>(prepared.net.size(v).w);
  }
  results.resize(total);
  std::vector<ArraySink> sinks;
  std::vector<Sink*> sink_pointers;
  sinks.reserve(values.size());
  for (size_t o = 0; o < values.size(); ++o) {
    const Size size = prepared.net.size(values[o]);
    sinks.emplace_back(results.data() + starts[o], prepared.net.channels(values[o]), ptrdiff_t{size.h} * size.w, ptrdiff_t{size.w});
    sink_pointers.push_back(&sinks.back());
  }
  plan.weights.make(plan, 0);
  RunOptions options;
  options.calibration = calibration;
  options.quiet = true;
  Job(prepared, source_pointers, sink_pointers, options, [](size_t) { return Workspace(); }, [](Workspace) {}).run();
  return results;
}

// PSNR in dB against `exact`, of a range; 0: of the largest number of `exact`.
double decibels(const std::vector<float>& exact, const std::vector<float>& got, double white = 0) {
  double sum = 0;
  for (size_t i = 0; i < exact.size(); ++i) sum += std::pow(static_cast<double>(exact[i]) - got[i], 2);
  if (white == 0)
    for (float v : exact) white = std::max(white, std::abs(static_cast<double>(v)));
  return 10 * std::log10(white * white * static_cast<double>(exact.size()) / std::max(sum, 1e-300));
}

template <class Floats>
bool finite(const Floats& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](float v) { return std::isfinite(v); });
}

// Whether there is something to scale, and far enough from what floats hold for its scales.
bool usable(const InputRange& range) {
  constexpr float kLeast = 1e-20f, kMost = 1e20f;
  if (range.largest.empty() || !finite(range.largest)) return false;
  const float largest = *std::max_element(range.largest.begin(), range.largest.end());
  return largest > kLeast && largest < kMost;
}

// Borders and corners see more than other places, and those on the right and at the bottom cut a tile anywhere.
void measure_borders(const Plan& plan, Calibration& calibration) {
  constexpr int kSize = 4 * kLargestTile;
  for (int i = 0; i < kLargestTile * kLargestTile; ++i) {
    try {
      run(plan, calibration_picture(plan.program, {kSize - i / kLargestTile, kSize - i % kLargestTile}, {0, i}), &calibration);
    } catch (const Error& e) {
      if (e.kind != ErrorKind::kPicture) throw;  // the network takes no picture of this size: nothing to look at
    }
  }
}

// Whether running the plan twice on the calibration picture is out of proportion; hostile files can ask for any amount of work.
bool is_too_much(const Plan& plan, Size picture) {
  const std::vector<Size> sizes = value_sizes(plan.program, picture.h, picture.w);
  double flops = 0, results = 0;
  for (const OutputInfo& o : plan.program.outputs) {
    const Size size = sizes[static_cast<size_t>(o.value)];
    results += static_cast<double>(size.h) * size.w * plan.program.values[static_cast<size_t>(o.value)].channels;
  }
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    const Size size = sizes[static_cast<size_t>(plan.program.steps[s].out)];
    const double pixels = static_cast<double>(size.h) * size.w, block = plan.steps[s].block;
    flops += pixels * (plan.steps[s].flops_per_pixel / (block * block) + 10.0 * plan.program.values[static_cast<size_t>(plan.program.steps[s].out)].channels);
  }
  return flops > kMostWork || results > kMostResults;
}

}  // namespace

namespace {

// Chooses how steps run, until the result is close enough to the f32 result.
class Search {
 public:
  Search(const Program& program, const Kernels* kernels, const PlanOptions& options, const Picture& picture, const std::vector<float>& expected,
         const Calibration& calibration)
      : program_(program), kernels_(kernels), options_(options), picture_(picture), expected_(expected), ways_(calibration.ranges), ranges_(ways_.size()) {
    for (size_t s = 0; s < ways_.size(); ++s) {
      ranges_[s].result = calibration.results[s];
      if (!ways_[s].empty()) most_ = std::max(most_, ways_[s].size() - 1);
    }
  }

  // Null: not even one step can run in integers.
  std::unique_ptr<Plan> run() {
    double before = 0;  // PSNR with the larger tiles before
    for (size_t exact = 0; exact < most_; ++exact) {
      choose(exact);
      const double now = try_plan(range());
      if (now >= kLargeDecibels) return exact > 0 ? with_some_larger(exact, before) : std::move(plan_);
      before = now;
    }
    choose(most_);
    // The convolutions nearest to the result do the most harm: they go back to floats first.
    std::vector<size_t> steps;
    for (size_t s = 0; s < ranges_.size(); ++s)
      if (ranges_[s].seen > 0) steps.push_back(s);
    bool changed = false;
    for (size_t floats = 1;; floats *= 4) {
      const double now = try_plan(0);
      steps.erase(std::remove_if(steps.begin(), steps.end(), [&](size_t s) { return !is_fast(plan_->steps[s].algorithm); }), steps.end());
      if (steps.empty()) return nullptr;
      if (now >= kFastDecibels) return changed || most_ == 0 ? std::move(plan_) : with_some_larger(most_, before);
      changed = true;
      for (size_t i = 0; i < floats && !steps.empty(); ++i, steps.pop_back()) ranges_[steps.back()].seen = 0;
    }
  }

 private:
  double range() const { return std::abs(program_.feed.out_range); }

  // How a step runs at a level of exactness, 0 .. most_; steps with fewer ways have the more exact ones.
  const InputRange& way(size_t s, size_t exact) const {
    const size_t left = most_ - exact, n = ways_[s].size();
    return ways_[s][n > left ? n - 1 - left : 0];
  }
  void choose(size_t s, size_t exact) {
    const float result = ranges_[s].result;
    ranges_[s] = way(s, exact);
    ranges_[s].result = result;
  }
  void choose(size_t exact) {
    for (size_t s = 0; s < ways_.size(); ++s)
      if (!ways_[s].empty()) choose(s, exact);
  }

  // PSNR of the plan with the ranges as they are.
  double try_plan(double white) {
    plan_ = make_plan(program_, kernels_, options_, ranges_);
    result_ = fastsr::run(*plan_, picture_, nullptr);
    return decibels(expected_, result_, white);
  }

  // The plan is exact enough, that with the larger tiles before, of PSNR `large`, is not: as many of the first steps get these as the rest of the error
  // allows.
  std::unique_ptr<Plan> with_some_larger(size_t exact, double large) {
    constexpr double kShare = 0.8;
    std::vector<size_t> others;
    for (size_t s = 0; s < ways_.size(); ++s)
      if (!ways_[s].empty() && way(s, exact).algorithm != way(s, exact - 1).algorithm) others.push_back(s);
    const auto error = [](double db) { return std::pow(10, -db / 10); };
    const double small = error(decibels(expected_, result_, range()));
    const double share = kShare * (error(kLargeDecibels) - small) / (error(large) - small);
    if (!(share > 0)) return std::move(plan_);
    const auto n = static_cast<size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(others.size()));
    if (n == 0) return std::move(plan_);
    std::unique_ptr<Plan> before = std::move(plan_);
    for (size_t i = 0; i < n; ++i) choose(others[i], exact - 1);
    return try_plan(range()) >= kLargeDecibels ? std::move(plan_) : std::move(before);
  }

  const Program& program_;
  const Kernels* kernels_;
  const PlanOptions& options_;
  const Picture& picture_;
  const std::vector<float>& expected_;
  const std::vector<std::vector<InputRange>>& ways_;
  size_t most_ = 0;                 // the highest level of exactness
  std::vector<InputRange> ranges_;  // what is chosen
  std::unique_ptr<Plan> plan_;      // the last one that was tried
  std::vector<float> result_;       // what it made
};

}  // namespace

std::unique_ptr<Plan> make_fast_plan(const Program& program, const Kernels* kernels, const PlanOptions& options) {
  std::unique_ptr<Plan> exact = make_plan(program, kernels, options);
  Calibration calibration;
  bool any = false;
  calibration.ranges.resize(program.steps.size());
  calibration.results.resize(program.steps.size());
  for (size_t s = 0; s < program.steps.size(); ++s) {
    const std::vector<Algorithm> ways = fast_algorithms(program.steps[s], exact->steps[s], options);
    if (ways.empty() || !finite(program.tensors[static_cast<size_t>(program.steps[s].weight)].data)) continue;
    any = true;
    for (Algorithm algorithm : ways) calibration.ranges[s].emplace_back().algorithm = algorithm;
  }
  // Networks that are fed arrays do not say what these hold, so no picture can stand for them.
  const bool unknown_inputs = program.feed.colour == Colour::kRaw && !options.algorithm;
  if (!any || unknown_inputs || !fast_kernels(*kernels)) return exact;
  double flops = 0;  // about, for a pixel of the input
  for (const StepPlan& s : exact->steps) flops += s.flops_per_pixel;
  const Size size{4 * kCell, (flops > kLargeNetwork ? 5 : 15) * kCell};
  Picture picture;
  std::vector<float> expected;
  try {
    if (is_too_much(*exact, size)) return exact;
    picture = calibration_picture(program, size);
    PlanOptions measured = options;
    measured.groups = kGroups;
    const std::unique_ptr<Plan> plan = make_plan(program, kernels, measured);
    expected = run(*plan, picture, &calibration);
    measure_borders(*plan, calibration);
  } catch (const Error& e) {
    if (e.kind == ErrorKind::kPicture || e.kind == ErrorKind::kMemory) return exact;  // the network takes no picture of this size, or makes too much of it
    throw;
  }
  for (std::vector<InputRange>& ways : calibration.ranges)
    if (!std::all_of(ways.begin(), ways.end(), usable)) ways.clear();
  std::unique_ptr<Plan> plan = Search(program, kernels, options, picture, expected, calibration).run();
  return plan ? std::move(plan) : std::move(exact);
}

}  // namespace fastsr
