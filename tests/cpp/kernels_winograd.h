// Winograd's algorithm against the convolution's meaning in double precision, and its rate next to the direct kernel's.
#pragma once
#include <array>
#include <tuple>

#include "kernels_fixture.h"
#include "kernels_peak.h"

namespace {

constexpr int kLines = 6, kGroup = 4;

// F(4, 3) for five finite points and infinity, by the textbook: y = AT ((G g) * (BT d)).
struct WinogradMatrices {
  double at[4][6] = {}, g[6][3] = {}, bt[6][6] = {};
  WinogradMatrices() {
    const double points[5] = {0, 0.625, -0.625, 1.5, -1.5};
    for (int j = 0; j < 5; j++) {
      std::array<double, 6> others{1}, all{1};  // polynomials whose zeros are the points, without point j and with it; lowest power first
      double scale = 1;
      for (int i = 0; i < 5; i++) {
        for (int e = 5; e >= 0; e--) all[e] = (e ? all[e - 1] : 0) - points[i] * all[e];
        if (i == j) continue;
        for (int e = 5; e >= 0; e--) others[e] = (e ? others[e - 1] : 0) - points[i] * others[e];
        scale *= points[j] - points[i];
      }
      for (int e = 0; e < 6; e++) bt[j][e] = others[e], bt[5][e] = all[e];
      for (int e = 0; e < 4; e++) at[e][j] = std::pow(points[j], e);
      for (int e = 0; e < 3; e++) g[j][e] = std::pow(points[j], e) / scale;
    }
    at[3][5] = g[5][2] = 1;
  }
};
const WinogradMatrices kF43;

struct WinogradShape {
  int cin, cout;
};

const WinogradShape kWinogradBench[] = {{64, 64}, {32, 32}, {12, 12}, {64, 32}, {48, 48}, {128, 128}, {6, 6}, {4, 64}, {64, 4}};

// Input lines, weights and everything else that a WinogradRows points to, for `groups` groups of rows of winograd, or of winograd2d (`both`).
struct WinogradProblem {
  int cin, cout, width, n_rows, columns;  // columns: of the input that hold numbers
  bool both;
  ptrdiff_t stride;
  Guarded in;
  std::vector<float> w, bias, slope;
  std::vector<const float*> lines;
  std::vector<std::unique_ptr<Guarded>> extra;
  std::vector<const float*> residual;
  std::vector<double> sum, size;  // [row][k][x] without bias: the result, and what its error is relative to

  // `aligned` as in ConvProblem.
  WinogradProblem(int cin_, int cout_, int width_, bool aligned, bool both_ = false, int groups = 1)
      : cin(cin_), cout(cout_), width(width_), n_rows(kGroup * groups), columns((both_ ? (width_ + 3) / 4 * 4 : width_) + 2), both(both_),
        stride(ConvProblem::row_stride({cin_, cout_, 3, 3, false}, columns - 2, aligned)),
        in(static_cast<size_t>(n_rows + 2) * cin_ * stride + 16), w(static_cast<size_t>(cout_) * cin_ * 9), bias(cout_), slope(cout_) {
    for (float& v : w) v = uniform(-1, 1);
    for (float& v : bias) v = uniform(-1, 1);
    for (float& v : slope) v = uniform(-0.5f, 1.5f);
    float* const first = in.data + (aligned ? 15 : 16);
    for (int row = 0; row < (n_rows + 2) * cin; row++)
      for (int x = 0; x < stride; x++) first[row * stride + x] = x < columns ? uniform(-1, 1) : kNaN;
    for (int i = 0; i < n_rows + 2; i++) lines.push_back(first + i * cin * stride);
    for (int i = 0; i < n_rows; i++) {
      extra.push_back(std::make_unique<Guarded>(cout * (width + kOverRead)));
      residual.push_back(extra[i]->data);
      for (int k = 0; k < cout; k++)
        for (int x = 0; x < width; x++) extra[i]->data[k * (width + kOverRead) + x] = uniform(-1, 1);
    }
    sum.resize(static_cast<size_t>(n_rows) * cout * width);
    size.resize(sum.size());
    for (int k = 0; k < cout; k++) {
      for (int i = 0; i < n_rows; i++) direct(i, k, &sum[(static_cast<size_t>(i) * cout + k) * width]);
      for (int i = 0; i < n_rows; i += kGroup) both ? sizes2d(i, k) : sizes(i, k);
    }
  }

  // Roundings of a result in the order of the algorithm: one for each term, one of the weight, three for each transform of the input and five for each
  // of the output, one each for residual and slope.
  int roundings() const { return both ? cin + 19 : 3 * cin + 11; }

  const float* filter(int k, int c) const { return w.data() + (static_cast<size_t>(k) * cin + c) * 9; }

  void direct(int row, int k, double* to) const {
    for (int c = 0; c < cin; c++)
      for (int t = 0; t < 9; t++)
        for (int x = 0; x < width; x++) to[x] += static_cast<double>(filter(k, c)[t]) * lines[row + t / 3][c * stride + x + t % 3];
  }

  // Adds up the absolute values of what the algorithm adds up.
  void sizes(int row, int k) {
    std::vector<double> magnitude(width + 2), point(6 * static_cast<size_t>(width));
    for (int c = 0; c < cin; c++)
      for (int p = 0; p < 6; p++) {
        for (int x = 0; x < width + 2; x++) {
          magnitude[x] = 0;
          for (int i = 0; i < kLines; i++) magnitude[x] += std::fabs(kF43.bt[p][i] * lines[row + i][c * stride + x]);
        }
        for (int kx = 0; kx < 3; kx++) {
          double u = 0;
          for (int ky = 0; ky < 3; ky++) u += std::fabs(kF43.g[p][ky] * filter(k, c)[ky * 3 + kx]);
          for (int x = 0; x < width; x++) point[p * width + x] += u * magnitude[x + kx];
        }
      }
    for (int i = 0; i < kGroup; i++)
      for (int p = 0; p < 6; p++)
        for (int x = 0; x < width; x++) size[(static_cast<size_t>(row + i) * cout + k) * width + x] += std::fabs(kF43.at[i][p]) * point[p * width + x];
  }

  void sizes2d(int row, int k) {
    for (int x = 0; x < width; x += 4) {
      double points[6][6] = {};
      for (int c = 0; c < cin; c++) {
        double d[6][6] = {}, g[6][3] = {};
        for (int p = 0; p < 6; p++) {
          for (int i = 0; i < 6; i++)
            for (int j = 0; j < 6; j++) d[p][j] += std::fabs(kF43.bt[p][i] * lines[row + i][c * stride + x + j]);
          for (int t = 0; t < 9; t++) g[p][t % 3] += std::fabs(kF43.g[p][t / 3] * filter(k, c)[t]);
        }
        for (int p = 0; p < 6; p++)
          for (int q = 0; q < 6; q++) {
            double input = 0, weight = 0;
            for (int j = 0; j < 6; j++) input += std::fabs(kF43.bt[q][j]) * d[p][j];
            for (int j = 0; j < 3; j++) weight += std::fabs(kF43.g[q][j]) * g[p][j];
            points[p][q] += input * weight;
          }
      }
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4 && x + j < width; j++)
          for (int p = 0; p < 36; p++)
            size[(static_cast<size_t>(row + i) * cout + k) * width + x + j] += std::fabs(kF43.at[i][p / 6] * kF43.at[j][p % 6]) * points[p / 6][p % 6];
    }
  }

  // variant: activation, residual mode, whether there is a bias, how many rows.
  WinogradRows rows(int variant) const {
    WinogradRows r{};
    r.in = lines.data();
    r.in_stride = stride;
    r.cin = cin;
    r.cout = cout;
    r.width = width;
    r.bias = variant % 7 == 6 ? nullptr : bias.data();
    r.act = static_cast<Act>(variant % 5);
    r.a = r.act == Act::kClip ? -0.75f : 0.2f;
    r.b = 1.25f;
    r.slope = slope.data();
    r.residual = variant / 5 % 3 ? residual.data() : nullptr;
    r.residual_first = variant / 5 % 3 == 2;
    r.residual_stride = width + kOverRead;
    r.rows = n_rows - variant / 15 % kGroup;
    return r;
  }
};

void check_winograd_result(const char* isa, const WinogradProblem& p, const WinogradRows& r) {
  ConvRow like{};
  like.act = r.act, like.a = r.a, like.b = r.b, like.slope = r.slope;
  for (int i = 0; i < r.rows; i++)
    for (int k = 0; k < p.cout; k++)
      for (int x = 0; x < p.width; x++) {
        const size_t at = (static_cast<size_t>(i) * p.cout + k) * p.width + x;
        const double bias = r.bias ? r.bias[k] : 0, extra = r.residual ? r.residual[i][k * r.residual_stride + x] : 0, sum = p.sum[at] + bias;
        const double want = r.residual_first ? act(like, k, sum + extra) : act(like, k, sum) + extra;
        // Twice for scalar, which rounds products; a slope magnifies by at most 1.5.
        const double tolerance = 1.5 * 2 * p.roundings() * kEps * (p.size[at] + std::fabs(bias) + std::fabs(extra));
        const float got = r.out[i][k * r.out_stride + x];
        checks++;
        if (!(std::fabs(got - want) <= tolerance))
          return fail("%s winograd%s %d->%d width %d act %d: row %d [%d][%d] is %g, expected %g +- %g", isa, p.both ? "2d" : "", p.cin, p.cout, p.width,
                      static_cast<int>(r.act), i, k, x, got, want, tolerance);
      }
}

// The first `n` columns and `rows` rows of the results must be those at `offset` from row `row` of the other; true when so.
bool same_results(const WinogradRows& a, const WinogradRows& b, int offset, int n, int rows, int row = 0) {
  for (int i = 0; i < rows; i++)
    for (int k = 0; k < a.cout; k++)
      for (int x = 0; x < n; x++)
        if (!same(a.out[i][k * a.out_stride + x], b.out[row + i][k * b.out_stride + offset + x])) return false;
  return true;
}

// Output rows, each in guarded memory.
struct WinogradOutput {
  std::vector<std::unique_ptr<Guarded>> buffers;
  std::vector<float*> rows;
  int lead;
  WinogradOutput(WinogradRows& r, int lead_, int n_rows) : rows(n_rows), lead(lead_) {
    r.rows = n_rows;
    r.out_stride = r.width + kOverWrite + lead % 7;
    for (int i = 0; i < n_rows; i++) {
      buffers.push_back(std::make_unique<Guarded>(lead + r.cout * r.out_stride));
      rows[i] = buffers[i]->data + lead;
    }
    r.out = rows.data();
  }
  bool intact(const WinogradRows& r) const {
    for (const auto& b : buffers)
      if (!b->intact(lead, r.out_stride, r.cout, r.width + kConvOverWrite)) return false;
    return true;
  }
};

void test_winograd(const std::vector<const Kernels*>& isas, int cin, int cout, int width, int variant) {
  WinogradProblem p(cin, cout, width, false);
  const int x0 = pick(width), n = 1 + pick(width - x0), lead = pick(16), part_rows = 1 + pick(kGroup);
  std::vector<float> first;
  for (const Kernels* isa : isas) {
    std::vector<float> packed(isa->winograd_pack_size(cout, cin) + 16, kNaN);
    float* aligned = packed.data();
    while (reinterpret_cast<uintptr_t>(aligned) % 64) aligned++;
    isa->winograd_pack(aligned, p.w.data(), cout, cin);
    WinogradRows r = p.rows(variant);
    r.weights = aligned;
    Guarded scratch(isa->winograd_scratch(cin, cout, width));
    r.scratch = scratch.data;
    WinogradOutput out(r, 3, r.rows);
    isa->winograd(r);
    check_winograd_result(isa->isa, p, r);
    if (!out.intact(r)) fail("%s winograd %d->%d width %d writes outside its rows", isa->isa, cin, cout, width);

    // A part of the columns with another number of rows: other chunks, blocks and places, the same bits.
    WinogradRows part = r;
    std::vector<const float*> lines, residual;
    for (const float* line : p.lines) lines.push_back(line + x0);
    for (const float* row : p.residual) residual.push_back(row + x0);
    part.in = lines.data();
    part.residual = r.residual ? residual.data() : nullptr;
    part.width = n;
    Guarded part_scratch(isa->winograd_scratch(cin, cout, n));
    part.scratch = part_scratch.data;
    WinogradOutput part_out(part, lead, part_rows);
    isa->winograd(part);
    if (!same_results(part, r, x0, n, std::min(part.rows, r.rows)))
      fail("%s winograd %d->%d: pixels %d..%d of %d differ from the whole rows'", isa->isa, cin, cout, x0, x0 + n, width);
    if (!part_out.intact(part)) fail("%s winograd %d->%d width %d writes outside its rows", isa->isa, cin, cout, n);

    if (isa->isa == std::string("scalar")) continue;
    std::vector<float> dense;
    for (int i = 0; i < r.rows; i++)
      for (int k = 0; k < cout; k++) dense.insert(dense.end(), r.out[i] + k * r.out_stride, r.out[i] + k * r.out_stride + width);
    if (first.empty()) first = dense;
    if (!std::equal(dense.begin(), dense.end(), first.begin(), same))
      fail("%s winograd %d->%d width %d: bits differ from the other sets'", isa->isa, cin, cout, width);
  }
  digest(first);
}

// The root mean square error of both algorithms against double precision; how much larger Winograd's is.
double winograd_error_ratio(const Kernels* isa, const WinogradProblem& p) {
  const int cin = p.cin, cout = p.cout, width = p.width;
  const size_t pack_size = p.both ? isa->winograd2d_pack_size(cout, cin) : isa->winograd_pack_size(cout, cin);
  std::vector<float> packed(std::max(pack_size, isa->conv_pack_size(cout, cin, 9)) + 16);
  float* aligned = packed.data();
  while (reinterpret_cast<uintptr_t>(aligned) % 64) aligned++;
  WinogradRows r = p.rows(0);
  r.bias = nullptr;
  r.weights = aligned;
  std::vector<float> scratch(p.both ? isa->winograd2d_scratch(cin, cout, width, p.n_rows) : isa->winograd_scratch(cin, cout, width));
  r.scratch = scratch.data();
  WinogradOutput out(r, 0, p.n_rows);
  const auto error = [&] {
    double e = 0;
    for (int i = 0; i < p.n_rows; i++)
      for (int k = 0; k < cout; k++)
        for (int x = 0; x < width; x++) {
          const double d = out.rows[i][k * r.out_stride + x] - p.sum[(static_cast<size_t>(i) * cout + k) * width + x];
          e += d * d;
        }
    return std::sqrt(e);
  };
  (p.both ? isa->winograd2d_pack : isa->winograd_pack)(aligned, p.w.data(), cout, cin);
  (p.both ? isa->winograd2d : isa->winograd)(r);
  const double winograd = error();
  isa->conv_pack(aligned, p.w.data(), cout, cin, 9);
  for (int i = 0; i < p.n_rows; i++) {
    const float* taps[9];
    for (int t = 0; t < 9; t++) taps[t] = p.lines[i + t / 3] + t % 3;
    ConvRow row{};
    row.taps = taps;
    row.in_stride = r.in_stride;
    row.n_taps = 9;
    row.cin = cin;
    row.cout = cout;
    row.width = width;
    row.weights = aligned;
    row.out = out.rows[i];
    row.out_stride = r.out_stride;
    isa->conv(row);
  }
  return winograd / error();
}

void test_winograds(const std::vector<const Kernels*>& isas) {
  for (const Kernels* isa : isas)
    for (int width = 1; width < 1000; width++)
      if (isa->winograd_scratch(12, 12, width + 1) < isa->winograd_scratch(12, 12, width))
        fail("%s winograd: less scratch for width %d", isa->isa, width + 1);
  int variant = 0;
  const int channels[] = {1, 3, 5, 12, 16, 32, 48, 56, 64, 65};
  for (int cin : channels)
    for (int cout : channels) {
      const int work = cin * cout;
      for (int width = 1 + pick(3); width <= 70; width += work > 2000 ? 30 + pick(30) : work > 100 ? 15 + pick(20) : 1 + pick(5))
        test_winograd(isas, cin, cout, width, variant++);
    }
  for (int width = 1; width <= 70; width++) test_winograd(isas, 5, 3, width, variant++);
  for (int width : {127, 193, 320, 1021, 4000}) test_winograd(isas, 3, 5, width, variant++);
  for (int width : {257, 1500}) test_winograd(isas, 16, 12, width, variant++);
  for (variant = 0; variant < 420; variant++) test_winograd(isas, 2, 9, 37, variant);  // every combination
  for (const auto& [cin, cout, limit] : {std::tuple{64, 16, 1.6}, std::tuple{12, 12, 1.8}}) {  // the points 0, +-1, +-2 make it 1.9 and 2.1
    const WinogradProblem p(cin, cout, 200, false);
    for (const Kernels* isa : isas) {
      const double ratio = winograd_error_ratio(isa, p);
      checks++;
      if (!(ratio < limit)) fail("%s winograd %d->%d: its error is %g times the direct sum's", isa->isa, cin, cout, ratio);
    }
  }
}

struct WinogradRates {
  double direct, winograd;
};

// GFLOP/s of the direct kernel and of Winograd's, counted as the direct sum's, for four rows; best of runs that take turns.
WinogradRates bench_winograd(const Kernels* isa, const WinogradShape& s, int width, bool both) {
  WinogradProblem p(s.cin, s.cout, width, true, both);
  const size_t pack_size[2] = {isa->conv_pack_size(s.cout, s.cin, 9), (both ? isa->winograd2d_pack_size : isa->winograd_pack_size)(s.cout, s.cin)};
  std::vector<float> weights[2] = {std::vector<float>(pack_size[0] + 16), std::vector<float>(pack_size[1] + 16)};
  float* packed[2];
  for (int i = 0; i < 2; i++)
    for (packed[i] = weights[i].data(); reinterpret_cast<uintptr_t>(packed[i]) % 64;) packed[i]++;
  isa->conv_pack(packed[0], p.w.data(), s.cout, s.cin, 9);
  (both ? isa->winograd2d_pack : isa->winograd_pack)(packed[1], p.w.data(), s.cout, s.cin);
  WinogradRows r = p.rows(1);
  r.weights = packed[1];
  std::vector<float> scratch(both ? isa->winograd2d_scratch(s.cin, s.cout, width, kGroup) : isa->winograd_scratch(s.cin, s.cout, width));
  r.scratch = scratch.data();
  r.out_stride = (width + kOverWrite + 15) / 16 * 16;
  std::vector<float> out(kGroup * s.cout * r.out_stride + 16);
  float* rows[kGroup];
  for (rows[0] = out.data(); reinterpret_cast<uintptr_t>(rows[0]) % 64;) rows[0]++;
  for (int i = 1; i < kGroup; i++) rows[i] = rows[i - 1] + s.cout * r.out_stride;
  r.out = rows;
  const float* taps[kGroup][9];
  ConvRow direct[kGroup] = {};
  for (int i = 0; i < kGroup; i++) {
    for (int t = 0; t < 9; t++) taps[i][t] = p.lines[i + t / 3] + t % 3;
    direct[i].taps = taps[i];
    direct[i].in_stride = r.in_stride;
    direct[i].n_taps = 9;
    direct[i].cin = s.cin;
    direct[i].cout = s.cout;
    direct[i].width = width;
    direct[i].weights = packed[0];
    direct[i].bias = r.bias;
    direct[i].act = r.act;
    direct[i].out = rows[i];
    direct[i].out_stride = r.out_stride;
  }
  const double flop = 2.0 * kGroup * 9 * s.cin * s.cout * width;
  const int rounds = std::max(1, static_cast<int>((isa->isa == std::string("scalar") ? 3e7 : 1e8) / flop));
  WinogradRates best{0, 0};
  for (int run = 0; run < 12; run++) {
    double start = peak::seconds();
    for (int i = 0; i < rounds; i++)
      for (const ConvRow& row : direct) isa->conv(row);
    best.direct = std::max(best.direct, flop * rounds / (peak::seconds() - start) * 1e-9);
    start = peak::seconds();
    for (int i = 0; i < rounds; i++) (both ? isa->winograd2d : isa->winograd)(r);
    best.winograd = std::max(best.winograd, flop * rounds / (peak::seconds() - start) * 1e-9);
  }
  check_winograd_result(isa->isa, p, r);
  return best;
}

void bench_winograds(const Kernels* isa) {
  for (const bool both : {false, true})
    for (const WinogradShape& s : kWinogradBench)
      for (int width : {128, 320}) {
        const auto [direct, winograd] = bench_winograd(isa, s, width, both);
        std::printf("  winograd%s %3d->%3d width %3d  %7.1f GFLOP/s of the direct sum  %5.2f times conv's %.1f\n", both ? "2d" : "", s.cin, s.cout, width,
                    winograd, winograd / direct, direct);
      }
}

}  // namespace
