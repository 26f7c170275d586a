// Winograd's algorithm against the convolution's meaning in double precision, and its rate next to the direct kernel's.
#pragma once
#include <array>
#include <tuple>

#include "kernels_fixture.h"
#include "kernels_peak.h"

namespace {

constexpr int kGroup = 4;

// F(tile, n) for tile + n - 2 finite points and infinity, by the textbook: y = AT ((G g) * (BT d)).
struct WinogradMatrices {
  int points;
  double at[6][8] = {}, g[8][5] = {}, bt[8][8] = {};
  WinogradMatrices(int tile, int n) : points(tile + n - 1) {
    const std::vector<double> zeros = points == 6 ? std::vector<double>{0, 0.625, -0.625, 1.5, -1.5} : std::vector<double>{0, 0.5, -0.5, 1, -1, 2, -2};
    const int last = points - 1;
    for (int j = 0; j < last; j++) {
      std::array<double, 8> others{1}, all{1};  // polynomials whose zeros are the points, without point j and with it; lowest power first
      double scale = 1;
      for (int i = 0; i < last; i++) {
        for (int e = last; e >= 0; e--) all[e] = (e ? all[e - 1] : 0) - zeros[i] * all[e];
        if (i == j) continue;
        for (int e = last; e >= 0; e--) others[e] = (e ? others[e - 1] : 0) - zeros[i] * others[e];
        scale *= zeros[j] - zeros[i];
      }
      for (int e = 0; e <= last; e++) bt[j][e] = others[e], bt[last][e] = all[e];
      for (int e = 0; e < tile; e++) at[e][j] = std::pow(zeros[j], e);
      for (int e = 0; e < n; e++) g[j][e] = std::pow(zeros[j], e) / scale;
    }
    at[tile - 1][last] = g[last][n - 1] = 1;
  }
};
const WinogradMatrices kF43(4, 3), kF45(4, 5), kF63(6, 3);

struct WinogradShape {
  int cin, cout, size;
};

const WinogradShape kWinogradBench[] = {{64, 64, 3}, {32, 32, 3}, {12, 12, 3},   {64, 32, 3}, {48, 48, 3}, {128, 128, 3}, {6, 6, 3},  {4, 64, 3},
                                        {3, 64, 3},  {64, 4, 3},  {64, 64, 5}, {1, 64, 5},  {3, 64, 5},  {56, 4, 5},    {32, 1, 5}};

// Input lines, weights and everything else that a WinogradRows points to, for `groups` groups of rows of winograd, or of winograd2d with tiles of that
// size.
struct WinogradProblem {
  int cin, cout, width, tile, group, size, n_rows, columns;  // tile: 0 for winograd; group: of rows; size: of the kernel; columns: of the input that hold numbers
  ptrdiff_t stride;
  Guarded in;
  std::vector<float> w, bias, slope;
  std::vector<const float*> lines;
  std::vector<std::unique_ptr<Guarded>> extra;
  std::vector<const float*> residual;
  std::vector<double> weight_points;  // of scales2d: [k][c][p]
  std::vector<double> sum, scale;     // [row][k][x] without bias: the result, and what its error is relative to

  // `aligned` as in ConvProblem.
  WinogradProblem(int cin_, int cout_, int width_, bool aligned, int tile_ = 0, int groups = 1, int size_ = 3)
      : cin(cin_), cout(cout_), width(width_), tile(tile_), group(tile_ ? tile_ : kGroup), size(size_), n_rows(group * groups),
        columns((tile_ ? (width_ + tile_ - 1) / tile_ * tile_ : width_) + size_ - 1), stride(ConvProblem::row_stride({cin_, cout_, size_, size_, false}, columns - size_ + 1, aligned)),
        in(static_cast<size_t>(n_rows + size_ - 1) * cin_ * stride + 16), w(static_cast<size_t>(cout_) * cin_ * size_ * size_), bias(cout_), slope(cout_) {
    for (float& v : w) v = uniform(-1, 1);
    for (float& v : bias) v = uniform(-1, 1);
    for (float& v : slope) v = uniform(-0.5f, 1.5f);
    float* const first = in.data + (aligned ? 16 - size / 2 : 16);
    for (int row = 0; row < (n_rows + size - 1) * cin; row++)
      for (int x = 0; x < stride; x++) first[row * stride + x] = x < columns ? uniform(-1, 1) : kNaN;
    for (int i = 0; i < n_rows + size - 1; i++) lines.push_back(first + i * cin * stride);
    for (int i = 0; i < n_rows; i++) {
      extra.push_back(std::make_unique<Guarded>(cout * (width + kOverRead)));
      residual.push_back(extra[i]->data);
      for (int k = 0; k < cout; k++)
        for (int x = 0; x < width; x++) extra[i]->data[k * (width + kOverRead) + x] = uniform(-1, 1);
    }
    sum.resize(static_cast<size_t>(n_rows) * cout * width);
    scale.resize(sum.size());
    for (int k = 0; k < cout; k++)
      for (int i = 0; i < n_rows; i++) direct(i, k, &sum[(static_cast<size_t>(i) * cout + k) * width]);
    for (int i = 0; i < n_rows; i += group) tile ? scales2d(i) : scales(i);
  }

  // Roundings of a result in the order of the algorithm: one for each term, one of the weight, as many for each transform of the input as its longest
  // chain has, five to seven for each of the output, one each for residual and slope.
  int roundings() const { return tile == 6 ? cin + 25 : tile ? cin + 19 : size == 3 ? 3 * cin + 11 : 5 * cin + 14; }

  const float* filter(int k, int c) const { return w.data() + (static_cast<size_t>(k) * cin + c) * size * size; }

  void direct(int row, int k, double* to) const {
    for (int c = 0; c < cin; c++)
      for (int t = 0; t < size * size; t++)
        for (int x = 0; x < width; x++) to[x] += static_cast<double>(filter(k, c)[t]) * lines[row + t / size][c * stride + x + t % size];
  }

  // Adds up the absolute values of what the algorithm adds up.
  void scales(int row) {
    const WinogradMatrices& f = size == 3 ? kF43 : kF45;
    std::vector<double> magnitude(static_cast<size_t>(cin) * f.points * columns), point(f.points * static_cast<size_t>(width));  // of the input: [c][p][x]
    for (int c = 0; c < cin; c++)
      for (int p = 0; p < f.points; p++)
        for (int x = 0; x < columns; x++)
          for (int i = 0; i < f.points; i++)
            magnitude[(static_cast<size_t>(c) * f.points + p) * columns + x] += std::fabs(f.bt[p][i] * lines[row + i][c * stride + x]);
    for (int k = 0; k < cout; k++) {
      std::fill(point.begin(), point.end(), 0.0);
      for (int c = 0; c < cin; c++)
        for (int p = 0; p < f.points; p++)
          for (int kx = 0; kx < size; kx++) {
            const double* const m = &magnitude[(static_cast<size_t>(c) * f.points + p) * columns + kx];
            double u = 0;
            for (int ky = 0; ky < size; ky++) u += std::fabs(f.g[p][ky] * filter(k, c)[ky * size + kx]);
            for (int x = 0; x < width; x++) point[p * width + x] += u * m[x];
          }
      for (int i = 0; i < kGroup; i++)
        for (int p = 0; p < f.points; p++)
          for (int x = 0; x < width; x++) scale[(static_cast<size_t>(row + i) * cout + k) * width + x] += std::fabs(f.at[i][p]) * point[p * width + x];
    }
  }

  // Both transforms of absolute values, which do not depend on each other, are made once: of the weights for all rows, of the input for all filters.
  void scales2d(int row) {
    const WinogradMatrices& f = tile == 4 ? kF43 : kF63;
    const int n = f.points, all = n * n;
    if (weight_points.empty()) {
      weight_points.resize(static_cast<size_t>(cout) * cin * all);
      for (int kc = 0; kc < cout * cin; kc++) {
        double g[8][3] = {};
        for (int p = 0; p < n; p++)
          for (int t = 0; t < 9; t++) g[p][t % 3] += std::fabs(f.g[p][t / 3] * w[static_cast<size_t>(kc) * 9 + t]);
        for (int p = 0; p < n; p++)
          for (int q = 0; q < n; q++)
            for (int j = 0; j < 3; j++) weight_points[static_cast<size_t>(kc) * all + p * n + q] += std::fabs(f.g[q][j]) * g[p][j];
      }
    }
    std::vector<double> input(static_cast<size_t>(cin) * all);
    for (int x = 0; x < width; x += tile) {
      std::fill(input.begin(), input.end(), 0.0);
      for (int c = 0; c < cin; c++) {
        double d[8][8] = {};
        for (int p = 0; p < n; p++)
          for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) d[p][j] += std::fabs(f.bt[p][i] * lines[row + i][c * stride + x + j]);
        for (int p = 0; p < n; p++)
          for (int q = 0; q < n; q++)
            for (int j = 0; j < n; j++) input[static_cast<size_t>(c) * all + p * n + q] += std::fabs(f.bt[q][j]) * d[p][j];
      }
      for (int k = 0; k < cout; k++) {
        double points[64] = {};
        for (int c = 0; c < cin; c++) {
          const double* const g = &weight_points[(static_cast<size_t>(k) * cin + c) * all];
          for (int p = 0; p < all; p++) points[p] += input[static_cast<size_t>(c) * all + p] * g[p];
        }
        for (int i = 0; i < tile; i++)
          for (int j = 0; j < tile && x + j < width; j++)
            for (int p = 0; p < all; p++)
              scale[(static_cast<size_t>(row + i) * cout + k) * width + x + j] += std::fabs(f.at[i][p / n] * f.at[j][p % n]) * points[p];
      }
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
    r.size = size;
    r.tile = tile;
    r.rows = n_rows - variant / 15 % group;
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
        const double tolerance = 1.5 * 2 * p.roundings() * kEps * (p.scale[at] + std::fabs(bias) + std::fabs(extra));
        const float got = r.out[i][k * r.out_stride + x];
        checks++;
        if (!(std::fabs(got - want) <= tolerance))
          return fail("%s winograd%s %dx%d %d->%d width %d act %d: row %d [%d][%d] is %g, expected %g +- %g", isa, p.tile == 6 ? "6x6" : p.tile ? "2d" : "", p.size, p.size, p.cin,
                      p.cout, p.width, static_cast<int>(r.act), i, k, x, got, want, tolerance);
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

void test_winograd(const std::vector<const Kernels*>& isas, int cin, int cout, int width, int variant, int size) {
  WinogradProblem p(cin, cout, width, false, 0, 1, size);
  const int x0 = pick(width), n = 1 + pick(width - x0), lead = pick(16), part_rows = 1 + pick(kGroup);
  std::vector<float> first;
  for (const Kernels* isa : isas) {
    std::vector<float> packed(isa->winograd_pack_size(cout, cin, size) + 16, kNaN);
    float* aligned = packed.data();
    while (reinterpret_cast<uintptr_t>(aligned) % 64) aligned++;
    isa->winograd_pack(aligned, p.w.data(), cout, cin, size);
    WinogradRows r = p.rows(variant);
    r.weights = aligned;
    Guarded scratch(isa->winograd_scratch(cin, cout, size, width));
    r.scratch = scratch.data;
    WinogradOutput out(r, 3, r.rows);
    isa->winograd(r);
    check_winograd_result(isa->isa, p, r);
    if (!out.intact(r)) fail("%s winograd %dx%d %d->%d width %d writes outside its rows", isa->isa, size, size, cin, cout, width);

    // A part of the columns with another number of rows: other chunks, blocks and places, the same bits.
    WinogradRows part = r;
    std::vector<const float*> lines, residual;
    for (const float* line : p.lines) lines.push_back(line + x0);
    for (const float* row : p.residual) residual.push_back(row + x0);
    part.in = lines.data();
    part.residual = r.residual ? residual.data() : nullptr;
    part.width = n;
    Guarded part_scratch(isa->winograd_scratch(cin, cout, size, n));
    part.scratch = part_scratch.data;
    WinogradOutput part_out(part, lead, part_rows);
    isa->winograd(part);
    if (!same_results(part, r, x0, n, std::min(part.rows, r.rows)))
      fail("%s winograd %dx%d %d->%d: pixels %d..%d of %d differ from the whole rows'", isa->isa, size, size, cin, cout, x0, x0 + n, width);
    if (!part_out.intact(part)) fail("%s winograd %dx%d %d->%d width %d writes outside its rows", isa->isa, size, size, cin, cout, n);

    if (isa->isa == std::string("scalar")) continue;
    std::vector<float> dense;
    for (int i = 0; i < r.rows; i++)
      for (int k = 0; k < cout; k++) dense.insert(dense.end(), r.out[i] + k * r.out_stride, r.out[i] + k * r.out_stride + width);
    if (first.empty()) first = dense;
    if (!std::equal(dense.begin(), dense.end(), first.begin(), same))
      fail("%s winograd %dx%d %d->%d width %d: bits differ from the other sets'", isa->isa, size, size, cin, cout, width);
  }
  digest(first);
}

// The root mean square error of both algorithms against double precision; how much larger Winograd's is.
double winograd_error_ratio(const Kernels* isa, const WinogradProblem& p) {
  const int cin = p.cin, cout = p.cout, width = p.width, size = p.size, n_taps = size * size;
  const size_t pack_size = p.tile ? isa->winograd2d_pack_size(p.tile, cout, cin) : isa->winograd_pack_size(cout, cin, size);
  std::vector<float> packed(std::max(pack_size, isa->conv_pack_size(cout, cin, n_taps)) + 16);
  float* aligned = packed.data();
  while (reinterpret_cast<uintptr_t>(aligned) % 64) aligned++;
  WinogradRows r = p.rows(0);
  r.bias = nullptr;
  r.weights = aligned;
  std::vector<float> scratch(p.tile ? isa->winograd2d_scratch(p.tile, cin, cout, width, p.n_rows) : isa->winograd_scratch(cin, cout, size, width));
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
  p.tile ? isa->winograd2d_pack(p.tile, aligned, p.w.data(), cout, cin) : isa->winograd_pack(aligned, p.w.data(), cout, cin, size);
  (p.tile ? isa->winograd2d : isa->winograd)(r);
  const double winograd = error();
  isa->conv_pack(aligned, p.w.data(), cout, cin, n_taps);
  for (int i = 0; i < p.n_rows; i++) {
    const float* taps[25];
    for (int t = 0; t < n_taps; t++) taps[t] = p.lines[i + t / size] + t % size;
    ConvRow row{};
    row.taps = taps;
    row.in_stride = r.in_stride;
    row.n_taps = n_taps;
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
    for (int size : {3, 5})
      for (int cin : {1, 12})
        for (int width = 1; width < 1000; width++)
          if (isa->winograd_scratch(cin, 12, size, width + 1) < isa->winograd_scratch(cin, 12, size, width))
            fail("%s winograd: less scratch for width %d", isa->isa, width + 1);
  int variant = 0;
  const int channels[] = {1, 3, 5, 12, 16, 32, 48, 56, 64, 65};
  for (int size : {3, 5}) {
    for (int cin : channels)
      for (int cout : channels) {
        const int work = cin * cout * (size - 2);
        for (int width = 1 + pick(3); width <= 70; width += work > 2000 ? 30 + pick(30) : work > 100 ? 15 + pick(20) : 1 + pick(5))
          test_winograd(isas, cin, cout, width, variant++, size);
      }
    for (int width = 1; width <= 70; width++) test_winograd(isas, 5, 3, width, variant++, size);
    for (int cout : {8, 17, 70})
      for (int width = 1; width <= 70; width += 1 + pick(3)) test_winograd(isas, 1, cout, width, variant++, size);
    for (int cin : {2, 3, 4})
      for (int width : {1 + pick(16), 33, 100 + pick(100)}) test_winograd(isas, cin, 32 + pick(8), width, variant++, size);
    for (int width : {127, 193, 320, 1021, 4000}) test_winograd(isas, 3, 5, width, variant++, size);
    for (int width : {257, 1500}) test_winograd(isas, 16, 12, width, variant++, size);
    for (int width : {257, 1500}) test_winograd(isas, 1, 12, width, variant++, size);
    for (variant = 0; variant < 420; variant++) test_winograd(isas, 1 + variant % 2, 9, 37, variant, size);  // every combination, both kinds
  }
  // The points 0, +-1, +-2 make it 1.9 and 2.1; with 5x5 0, +-1, +-2, +-3 make it 13.
  for (const auto& [cin, cout, size, limit] : {std::tuple{64, 16, 3, 1.6}, std::tuple{12, 12, 3, 1.8}, std::tuple{64, 16, 5, 2.5}, std::tuple{1, 64, 5, 5.0}}) {
    const WinogradProblem p(cin, cout, 200, false, 0, 1, size);
    for (const Kernels* isa : isas) {
      const double ratio = winograd_error_ratio(isa, p);
      checks++;
      if (!(ratio < limit)) fail("%s winograd %dx%d %d->%d: its error is %g times the direct sum's", isa->isa, size, size, cin, cout, ratio);
    }
  }
}

struct WinogradRates {
  double direct, winograd;
};

// GFLOP/s of the direct kernel and of Winograd's, counted as the direct sum's, for a group of rows; best of runs that take turns.
WinogradRates bench_winograd(const Kernels* isa, const WinogradShape& s, int width, int tile) {
  const int n_taps = s.size * s.size;
  WinogradProblem p(s.cin, s.cout, width, true, tile, 1, s.size);
  const int group = p.group;
  const size_t pack_size[2] = {isa->conv_pack_size(s.cout, s.cin, n_taps),
                               tile ? isa->winograd2d_pack_size(tile, s.cout, s.cin) : isa->winograd_pack_size(s.cout, s.cin, s.size)};
  std::vector<float> weights[2] = {std::vector<float>(pack_size[0] + 16), std::vector<float>(pack_size[1] + 16)};
  float* packed[2];
  for (int i = 0; i < 2; i++)
    for (packed[i] = weights[i].data(); reinterpret_cast<uintptr_t>(packed[i]) % 64;) packed[i]++;
  isa->conv_pack(packed[0], p.w.data(), s.cout, s.cin, n_taps);
  tile ? isa->winograd2d_pack(tile, packed[1], p.w.data(), s.cout, s.cin) : isa->winograd_pack(packed[1], p.w.data(), s.cout, s.cin, s.size);
  WinogradRows r = p.rows(1);
  r.weights = packed[1];
  std::vector<float> scratch(tile ? isa->winograd2d_scratch(tile, s.cin, s.cout, width, group) : isa->winograd_scratch(s.cin, s.cout, s.size, width));
  r.scratch = scratch.data();
  r.out_stride = (width + kOverWrite + 15) / 16 * 16;
  std::vector<float> out(group * s.cout * r.out_stride + 16);
  float* rows[6];
  for (rows[0] = out.data(); reinterpret_cast<uintptr_t>(rows[0]) % 64;) rows[0]++;
  for (int i = 1; i < group; i++) rows[i] = rows[i - 1] + s.cout * r.out_stride;
  r.out = rows;
  const float* taps[6][25];
  std::vector<ConvRow> direct(group);
  for (int i = 0; i < group; i++) {
    for (int t = 0; t < n_taps; t++) taps[i][t] = p.lines[i + t / s.size] + t % s.size;
    direct[i].taps = taps[i];
    direct[i].in_stride = r.in_stride;
    direct[i].n_taps = n_taps;
    direct[i].cin = s.cin;
    direct[i].cout = s.cout;
    direct[i].width = width;
    direct[i].weights = packed[0];
    direct[i].bias = r.bias;
    direct[i].act = r.act;
    direct[i].out = rows[i];
    direct[i].out_stride = r.out_stride;
  }
  const double flop = 2.0 * group * n_taps * s.cin * s.cout * width;
  const int rounds = std::max(1, static_cast<int>((isa->isa == std::string("scalar") ? 3e7 : 1e8) / flop));
  WinogradRates best{0, 0};
  for (int run = 0; run < 12; run++) {
    double start = peak::seconds();
    for (int i = 0; i < rounds; i++)
      for (const ConvRow& row : direct) isa->conv(row);
    best.direct = std::max(best.direct, flop * rounds / (peak::seconds() - start) * 1e-9);
    start = peak::seconds();
    for (int i = 0; i < rounds; i++) (tile ? isa->winograd2d : isa->winograd)(r);
    best.winograd = std::max(best.winograd, flop * rounds / (peak::seconds() - start) * 1e-9);
  }
  check_winograd_result(isa->isa, p, r);
  return best;
}

void bench_winograds(const Kernels* isa) {
  for (const int tile : {0, 4, 6})
    for (const WinogradShape& s : kWinogradBench)
      for (int width : {128, 320}) {
        if (tile && s.size != 3) continue;
        const auto [direct, winograd] = bench_winograd(isa, s, width, tile);
        std::printf("  winograd%s %3d->%3d %dx%d width %3d  %7.1f GFLOP/s of the direct sum  %5.2f times conv's %.1f\n", tile == 6 ? "6x6" : tile ? "2d" : "", s.cin, s.cout,
                    s.size, s.size, width, winograd, winograd / direct, direct);
      }
}

}  // namespace
