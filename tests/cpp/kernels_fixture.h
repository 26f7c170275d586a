// What kernels_test.cpp and kernels_bench.h share: random numbers, guarded memory, and the convolution shapes that drive tests and benchmark alike.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/targets/cpu.h"
#include "../../csrc/base/error.h"
#include "../../csrc/kernels/kernels.h"

using namespace fastsr;

namespace {

const float kNaN = std::numeric_limits<float>::quiet_NaN();
const float kInf = std::numeric_limits<float>::infinity();
const double kEps = std::numeric_limits<float>::epsilon() / 2;  // largest relative error of one rounding
const uint32_t kMarker = 0x7fc0beef;                            // a NaN that no kernel makes

std::mt19937 rng;
int failures = 0;
long checks = 0;

template <class... A>
void fail(const char* format, A... a) {
  if (failures++ < 20) {
    std::printf("FAIL ");
    std::printf(format, a...);
    std::printf("\n");
  }
}

float uniform(float lo, float hi) { return std::uniform_real_distribution<float>(lo, hi)(rng); }
int pick(int n) { return std::uniform_int_distribution<int>(0, n - 1)(rng); }
uint32_t bits(float f) { uint32_t u; std::memcpy(&u, &f, 4); return u; }
float unbits(uint32_t u) { float f; std::memcpy(&f, &u, 4); return f; }
bool same(float a, float b) { return bits(a) == bits(b) || (std::isnan(a) && std::isnan(b)); }

// Hash of all results of the vector sets.
uint64_t digest_value = 14695981039346656037u;
void digest(const std::vector<float>& values) {
  for (float v : values) digest_value = (digest_value ^ (std::isnan(v) ? 0x7fc00000u : bits(v))) * 1099511628211u;
}

// Floats that end at an inaccessible page, all set to the marker.
class Guarded {
 public:
  explicit Guarded(size_t n) : n_(n) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    bytes_ = (n * 4 + page - 1) / page * page + page;
    map_ = static_cast<char*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (map_ == MAP_FAILED || mprotect(map_ + bytes_ - page, page, PROT_NONE)) std::abort();
    data = reinterpret_cast<float*>(map_ + bytes_ - page) - n;
    for (size_t i = 0; i < n; i++) data[i] = unbits(kMarker);
  }
  Guarded(const Guarded&) = delete;
  ~Guarded() { munmap(map_, bytes_); }
  // Everything outside the `rows` rows that start at `first`, are `stride` apart and `n` long must still hold the marker.
  bool intact(size_t first, size_t stride, size_t rows, size_t n) const {
    for (size_t i = 0; i < n_; i++) {
      const bool inside = i >= first && (i - first) / stride < rows && (i - first) % stride < n;
      if (!inside && bits(data[i]) != kMarker) return false;
    }
    return true;
  }
  float* data;

 private:
  char* map_;
  size_t bytes_, n_;
};

// ---- convolution ---------------------------------------------------------------------------------------------------------------------------------

struct ConvShape {
  int cin, cout, kh, kw;
  bool bench;
};

const ConvShape kConvShapes[] = {
    {64, 64, 3, 3, true}, {1, 64, 5, 5, true}, {1, 56, 5, 5, true}, {12, 12, 3, 3, true}, {56, 12, 1, 1, true}, {12, 56, 1, 1, true},
    {32, 4, 3, 3, true}, {32, 5, 1, 1, true}, {5, 5, 3, 3, true}, {5, 32, 1, 1, true}, {64, 32, 3, 3, true}, {64, 1, 3, 3, true},
    {64, 4, 3, 3, true}, {32, 9, 3, 3, true}, {32, 16, 3, 3, true}, {56, 9, 3, 3, true}, {64, 3, 3, 3, true}, {3, 64, 3, 3, true},
    {64, 256, 3, 3, true}, {2, 1, 2, 4, false}, {3, 1, 3, 2, false}, {1, 1, 1, 1, false}, {3, 2, 2, 2, false}, {2, 3, 3, 1, false},
    {3, 6, 1, 3, false}, {2, 7, 4, 4, false}, {3, 8, 3, 3, false}, {2, 10, 3, 3, false}, {2, 11, 2, 2, false}, {1, 13, 3, 3, false},
    {3, 15, 1, 1, false}, {2, 17, 3, 3, false}, {1, 19, 1, 5, false}, {1, 23, 3, 3, false}, {2, 33, 1, 1, false}, {1, 1, 9, 9, false},
};

// Input rows, weights and everything else that a ConvRow points to, for one row.
struct ConvProblem {
  ConvShape s;
  int width, n_taps;
  ptrdiff_t stride;
  Guarded in;
  std::vector<float> w, bias, slope;
  std::vector<const float*> taps;
  Guarded residual;

  // `aligned`: the middle tap's rows start on cache lines, as in the engine. Otherwise rows have any alignment and the last one ends at the guard.
  ConvProblem(const ConvShape& shape, int width_, bool aligned)
      : s(shape), width(width_), n_taps(shape.kh * shape.kw), stride(row_stride(shape, width_, aligned)), in(rows() * stride + 16),
        w(static_cast<size_t>(shape.cout) * shape.cin * n_taps), bias(shape.cout), slope(shape.cout), residual(shape.cout * (width_ + kOverRead)) {
    for (float& v : w) v = uniform(-1, 1);
    for (float& v : bias) v = uniform(-1, 1);
    for (float& v : slope) v = uniform(-0.5f, 1.5f);
    float* const first = in.data + (aligned ? 16 - s.kw / 2 : 16);
    for (int row = 0; row < static_cast<int>(rows()); row++)
      for (int x = 0; x < stride; x++) first[row * stride + x] = x < width + s.kw - 1 ? uniform(-1, 1) : kNaN;
    for (int y = 0; y < s.kh; y++)
      for (int x = 0; x < s.kw; x++) taps.push_back(first + y * s.cin * stride + x);
    for (int k = 0; k < s.cout; k++)
      for (int x = 0; x < width; x++) residual.data[k * (width + kOverRead) + x] = uniform(-1, 1);
  }
  size_t rows() const { return static_cast<size_t>(s.cin) * s.kh; }
  static ptrdiff_t row_stride(const ConvShape& s, int width, bool aligned) {
    const ptrdiff_t n = width + s.kw - 1 + kOverRead;
    return aligned ? (n + 15) / 16 * 16 : n;
  }

  // variant: activation, residual mode and whether there is a bias.
  ConvRow row(int variant) {
    ConvRow r{};
    r.taps = taps.data();
    r.in_stride = stride;
    r.n_taps = n_taps;
    r.cin = s.cin;
    r.cout = s.cout;
    r.width = width;
    r.bias = variant % 7 == 6 ? nullptr : bias.data();
    r.act = static_cast<Act>(variant % 5);
    r.a = r.act == Act::kClip ? -0.75f : 0.2f;
    r.b = 1.25f;
    r.slope = slope.data();
    r.residual = variant / 5 % 3 ? residual.data : nullptr;
    r.residual_first = variant / 5 % 3 == 2;
    r.residual_stride = width + kOverRead;
    return r;
  }
};

double act(const ConvRow& r, int k, double x) {
  switch (r.act) {
    case Act::kNone: return x;
    case Act::kRelu: return std::max(x, 0.0);
    case Act::kLeakyRelu: return x >= 0 ? x : r.a * x;
    case Act::kPRelu: return x >= 0 ? x : r.slope[k] * x;
    case Act::kClip: return std::min(std::max(x, static_cast<double>(r.a)), static_cast<double>(r.b));
  }
  return kNaN;
}

[[maybe_unused]] void check_conv_result(const char* isa, const ConvProblem& p, const ConvRow& r) {
  const int terms = p.s.cin * p.n_taps;
  for (int k = 0; k < p.s.cout; k++)
    for (int x = 0; x < p.width; x++) {
      double sum = r.bias ? r.bias[k] : 0, size = std::fabs(sum);
      for (int c = 0; c < p.s.cin; c++)
        for (int t = 0; t < p.n_taps; t++) {
          const double term = static_cast<double>(p.w[(static_cast<size_t>(k) * p.s.cin + c) * p.n_taps + t]) * p.taps[t][c * p.stride + x];
          sum += term;
          size += std::fabs(term);
        }
      const double extra = r.residual ? r.residual[k * r.residual_stride + x] : 0;
      const double want = r.residual_first ? act(r, k, sum + extra) : act(r, k, sum) + extra;
      // Two roundings for each term (scalar), one each for residual and slope; a slope magnifies by at most 1.5.
      const double tolerance = 1.5 * ((2 * terms + 2) * kEps * (size + std::fabs(extra)));
      const float got = r.out[k * r.out_stride + x];
      checks++;
      if (!(std::fabs(got - want) <= tolerance))
        return fail("%s conv %d->%d %dx%d width %d act %d: [%d][%d] is %g, expected %g +- %g", isa, p.s.cin, p.s.cout, p.s.kh, p.s.kw, p.width,
                    static_cast<int>(r.act), k, x, got, want, tolerance);
    }
}

}  // namespace
