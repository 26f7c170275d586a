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

constexpr int kHeight = 96, kWidth = 160;

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

// A picture of 0..1 with what pictures have: soft shades and texture at all scales, hard edges in all directions, thin lines and letters, flat white and
// black, fine patterns and grain. plane: the colour channel.
float calibration_pixel(int plane, int y, int x) {
  const auto clamp = [](float v) { return std::clamp(v, 0.0f, 1.0f); };
  const int cell = y / 32 * 5 + x / 32, cy = y % 32, cx = x % 32;
  const float shade = 0.15f * static_cast<float>(plane) * noise(9, cell, 0);
  float texture = 0, weight = 0.5f;
  for (int size = 32; size >= 2; size /= 2, weight *= 0.5f) texture += weight * smooth(plane == 0 ? 0 : 1 + plane / 2, y, x, size);
  switch (cell) {
    case 0: case 7: case 11: return clamp(texture * 1.1f - shade);
    case 1: case 13: return clamp((texture - 0.5f) * 3.0f + 0.5f);
    case 2: return noise(2, cy / 4, cx / 3) < 0.5f ? 0.0f : 1.0f - shade;                                                // blocks
    case 3: return (cx + 2 * cy) % 40 < 20 ? 0.95f - shade : 0.1f;                                                     // a slanted edge
    case 4: return (cy / 2) % 4 == 0 || (cx % 7 == 3 && cy % 8 > 1) ? 0.05f : 1.0f;                                    // letters
    case 5: return (cy - 16) * (cy - 16) + (cx - 16) * (cx - 16) < 130 ? 1.0f - shade : 0.0f + shade;                  // a disc
    case 6: return cy < 16 ? static_cast<float>(cx % 2) : static_cast<float>((cx / 2 + cy / 2) % 2);                   // stripes and a checkerboard
    case 8: return clamp(static_cast<float>(cx + cy) / 62.0f + 0.06f * (noise(plane, y, x) - 0.5f));                     // a gradient with grain
    case 9: return cx == cy || cx == 31 - cy || cx == 16 ? 1.0f : 0.0f;                                                // thin lines
    case 10: return cy < 16 ? 1.0f : 0.0f;
    case 12: return clamp(0.5f + 0.5f * std::floor(4.0f * texture) / 4.0f * static_cast<float>(cy % 16 < 8 ? 1 : -1));  // posterised
    default: return clamp(0.5f + 0.8f * (noise(plane, y / 2, x / 2) - 0.5f));
  }
}

// What an input of the program is fed: the picture in the network's own range and channel order.
std::vector<float> calibration_input(const Program& program, int value) {
  const int channels = program.values[static_cast<size_t>(value)].channels;
  const Feed& feed = program.feed;
  std::vector<float> pixels;
  pixels.reserve(static_cast<size_t>(channels) * kHeight * kWidth);
  for (int c = 0; c < channels; ++c) {
    const double mean = feed.mean.empty() ? 0 : feed.mean[static_cast<size_t>(c) % feed.mean.size()];
    for (int y = 0; y < kHeight; ++y)
      for (int x = 0; x < kWidth; ++x) pixels.push_back(static_cast<float>(calibration_pixel(c, y, x) * feed.range - mean));
  }
  return pixels;
}

// Runs a plan on the calibration pictures; its outputs, one after the other.
std::vector<float> run(const Plan& plan, const std::vector<std::vector<float>>& inputs, Calibration* calibration) {
  std::vector<int> values;
  for (const OutputInfo& o : plan.program.outputs) values.push_back(o.value);
  const Prepared prepared(plan, kHeight, kWidth, values, {0, 0, calibration ? 1 : get_num_threads(), Teams::kAny});
  std::vector<ArraySource> sources;
  std::vector<const Source*> source_pointers;
  sources.reserve(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int c = plan.program.values[static_cast<size_t>(plan.program.inputs[i])].channels;
    sources.emplace_back(inputs[i].data(), c, kHeight, kWidth, ptrdiff_t{kHeight} * kWidth, ptrdiff_t{kWidth});
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
  RunOptions options;
  options.calibration = calibration;
  options.quiet = true;
  Job(prepared, source_pointers, sink_pointers, options, [](size_t) { return Workspace(); }, [](Workspace) {}).run();
  return results;
}

// PSNR in dB against `exact`, of which white is `range` unless it has larger numbers.
double decibels(const std::vector<float>& exact, const std::vector<float>& got, double range) {
  double sum = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    sum += std::pow(static_cast<double>(exact[i]) - got[i], 2);
    range = std::max(range, std::abs(static_cast<double>(exact[i])));
  }
  return 10 * std::log10(range * range * static_cast<double>(exact.size()) / std::max(sum, 1e-300));
}

}  // namespace

std::unique_ptr<Plan> make_fast_plan(const Program& program, const Kernels* kernels, const PlanOptions& options) {
  std::unique_ptr<Plan> exact = make_plan(program, kernels, options);
  Calibration calibration;
  std::vector<size_t> steps;
  for (size_t s = 0; s < program.steps.size(); ++s) {
    calibration.steps.push_back(takes_winograd16(program.steps[s], exact->steps[s], options));
    if (calibration.steps[s]) steps.push_back(s);
  }
  if (steps.empty() || !fast_kernels(*kernels)) return exact;
  std::vector<std::vector<float>> inputs;
  for (int v : program.inputs) inputs.push_back(calibration_input(program, v));
  std::vector<InputRange>& ranges = calibration.ranges;
  ranges.resize(program.steps.size());
  std::vector<float> expected;
  try {
    expected = run(*exact, inputs, &calibration);
  } catch (const Error& e) {
    if (e.kind == ErrorKind::kPicture) return exact;  // the network takes no picture of this size
    throw;
  }
  // The convolutions nearest to the result do the most harm: they go back to floats first.
  for (size_t left = steps.size(), floats = 1; left > 0; left -= std::min(left, floats), floats *= 4) {
    for (size_t i = left; i < steps.size(); ++i) ranges[steps[i]].tiles = 0;
    std::unique_ptr<Plan> plan = make_plan(program, kernels, options, ranges);
    if (decibels(expected, run(*plan, inputs, nullptr), program.feed.out_range) >= kFastDecibels) return plan;
  }
  return exact;
}

}  // namespace fastsr
