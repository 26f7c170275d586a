// Rows of half floats in guarded memory, and the 16-bit convolution's arithmetic operation by operation.
#pragma once
#include <array>

#include "../../csrc/targets/fast.h"
#include "kernels_fixture.h"

namespace {

const float kHalfMax = 65504;

double half_value(uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  const double size = exponent == 31 ? (fraction ? kNaN : kInf) : exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
  return h & 0x8000 ? -size : size;
}

// The nearest half float, half to even, in its range; as a number.
double nearest_half(double x) {
  if (x == 0 || std::isnan(x)) return x;
  const double limited = std::min(std::max(x, -static_cast<double>(kHalfMax)), static_cast<double>(kHalfMax));
  const int unit = std::max(std::ilogb(limited), -14) - 10;
  return std::ldexp(std::nearbyint(std::ldexp(limited, -unit)), unit);
}

uint16_t half_bits(double x) {  // of a number that is a half float
  for (int lo = 0, hi = 0x7c00;;) {
    const int mid = (lo + hi) / 2;
    const double size = half_value(static_cast<uint16_t>(mid));
    if (size == std::fabs(x)) return static_cast<uint16_t>(mid | (std::signbit(x) ? 0x8000 : 0));
    (size < std::fabs(x) ? lo : hi) = mid;
  }
}

// Elements that end at an inaccessible page.
template <class T>
class Row {
 public:
  explicit Row(size_t n) : memory_((n * sizeof(T) + 3) / 4), n_(n), data(reinterpret_cast<T*>(memory_.data + (n * sizeof(T) + 3) / 4) - n) {
    for (size_t i = 0; i < n; i++) data[i] = marker();
  }
  static T marker() {
    T value;
    std::memcpy(&value, &kMarker, sizeof value);
    return value;
  }
  // As Guarded's.
  bool intact(size_t first, size_t stride, size_t rows, size_t n) const {
    const T mark = marker();
    for (size_t i = 0; i < n_; i++) {
      const bool inside = i >= first && (i - first) / stride < rows && (i - first) % stride < n;
      if (!inside && std::memcmp(data + i, &mark, sizeof mark)) return false;
    }
    return true;
  }

 private:
  Guarded memory_;
  size_t n_;

 public:
  T* data;
};

// How channels are kept as pairs. Scales are powers of two, so a number times or by one of them is exact.
struct TestScales {
  std::vector<float> scale;
  float most;
  TestScales(int channels, float most_) : scale(channels), most(most_) {
    for (float& s : scale) s = std::ldexp(1.0f, 10 + pick(4));
  }
  PairScales get() const { return {scale.data(), most}; }
};

// A row of any type: `channels` of them, `stride` elements apart, `lead` elements from the memory's start. Pairs are set from numbers and got as integers.
struct AnyRow {
  Element type;
  int channels;
  ptrdiff_t stride, lead;
  PairScales scales;
  Row<float> floats;
  Row<uint16_t> halves;
  Row<uint32_t> words;
  AnyRow(Element t, int channels_, ptrdiff_t stride_, ptrdiff_t lead_, PairScales scales_)
      : type(t), channels(channels_), stride(stride_), lead(lead_), scales(scales_), floats(size(Element::kFloat)), halves(size(Element::kHalf)),
        words(size(Element::kPairs)) {}
  int lines() const { return type == Element::kPairs ? (channels + 1) / 2 : channels; }
  size_t size(Element t) const { return t == type ? static_cast<size_t>(lead + lines() * stride) : 0; }
  void* at(ptrdiff_t x) {
    x += lead;
    return type == Element::kPairs ? static_cast<void*>(words.data + x) : type == Element::kHalf ? static_cast<void*>(halves.data + x) : floats.data + x;
  }
  void set(int c, ptrdiff_t x, float value) {
    const ptrdiff_t i = lead + x + (type == Element::kPairs ? c / 2 : c) * stride;
    if (type == Element::kPairs) {
      const float scaled = std::min(std::max(value * scales.scale[c], -scales.most), scales.most);
      const uint32_t bits = std::isnan(value) ? 0x8000 : static_cast<uint32_t>(static_cast<int>(std::nearbyint(scaled))) & 0xffff;
      words.data[i] = c % 2 ? (words.data[i] & 0xffff) | bits << 16 : bits;
    } else if (type == Element::kHalf) {
      halves.data[i] = std::isnan(value) ? 0x7e00 : half_bits(nearest_half(value));
    } else {
      floats.data[i] = value;
    }
  }
  float get(int c, ptrdiff_t x) const {
    const ptrdiff_t i = lead + x + (type == Element::kPairs ? c / 2 : c) * stride;
    if (type == Element::kPairs) return static_cast<float>(static_cast<int16_t>(words.data[i] >> (c % 2 * 16)));
    return type == Element::kHalf ? static_cast<float>(half_value(halves.data[i])) : floats.data[i];
  }
  double value(int c, ptrdiff_t x) const { return static_cast<double>(get(c, x)) / (type == Element::kPairs ? static_cast<double>(scales.scale[c]) : 1.0); }
  // Whether nothing was written but `width` elements of every line and kConvOverWrite more, and an odd last line's upper halves are zero.
  bool intact(int width) const {
    for (int x = 0; type == Element::kPairs && channels % 2 && x < width; x++)
      if (get(channels, x) != 0) return false;
    const size_t n = static_cast<size_t>(width) + kConvOverWrite;
    return floats.intact(lead, stride, lines(), n) && halves.intact(lead, stride, lines(), n) && words.intact(lead, stride, lines(), n);
  }
};

// ---- the model -----------------------------------------------------------------------------------------------------------------------------------

// y = AT ((G g) * (BT d)) of F(tile, 3), by the textbook.
struct FastMatrices {
  int tile, side, all;
  double at[6][8] = {}, g[8][3] = {}, bt[8][8] = {};
  explicit FastMatrices(int tile_) : tile(tile_), side(tile_ + 2), all(side * side) {
    const std::vector<double> point = tile == 4 ? std::vector<double>{0, 1, -1, 0.5, -2} : std::vector<double>{0, 1, -1, 2, -2, 0.5, -0.5};
    const int n = side - 1;
    for (int j = 0; j < n; j++) {
      std::array<double, 8> others{1}, full{1};  // polynomials whose zeros are the points, without point j and with it; lowest power first
      double scale = 1;
      for (int i = 0; i < n; i++) {
        for (int e = n; e >= 0; e--) full[e] = (e ? full[e - 1] : 0) - point[i] * full[e];
        if (i == j) continue;
        for (int e = n; e >= 0; e--) others[e] = (e ? others[e - 1] : 0) - point[i] * others[e];
        scale *= point[j] - point[i];
      }
      for (int e = 0; e < side; e++) bt[j][e] = others[e], bt[n][e] = full[e];
      for (int e = 0; e < tile; e++) at[e][j] = std::pow(point[j], e);
      for (int e = 0; e < 3; e++) g[j][e] = std::pow(point[j], e) / scale;
    }
    at[tile - 1][n] = g[n][2] = 1;
  }
};
const FastMatrices& matrices(int tile) {
  static const FastMatrices four(4), six(6);
  return tile == 4 ? four : six;
}

struct FastWeights {
  std::vector<int32_t> u;    // [p][k][c]
  std::vector<float> coef;   // [p][k]
  std::vector<float> scale;  // [p][c]
  float most;
};

// What transformed inputs were like.
struct FastRange {
  int cin, all;
  std::vector<float> largest;
  std::vector<double> squares;
  Winograd16Range r;
  FastRange(Tile16 tile, int cin_) : cin(cin_), all(tile.points()), largest(all * cin_), squares(all * cin_), r{largest.data(), squares.data(), 0} {}
  FastRange(const FastRange&) = delete;
};

// Margins are numbers that float rounding leaves as they are when multiplied.
FastWeights model_weights(Tile16 tile, const std::vector<float>& w, int cout, int cin, const FastRange& range, float margin, const float* in_scale) {
  FastWeights m;
  const FastMatrices &of_y = matrices(tile.rows), &of_x = matrices(tile.columns);
  const int side = of_x.side, kAll = tile.points();
  m.u.resize(static_cast<size_t>(kAll) * cout * cin);
  m.coef.resize(static_cast<size_t>(kAll) * cout);
  m.scale.resize(static_cast<size_t>(kAll) * cin);
  std::vector<double> u(m.u.size()), sums(static_cast<size_t>(kAll) * cout), largest(sums.size());
  double of_u = 0, of_v = 0;
  for (int p = 0; p < kAll; p++) {
    double power = 0;
    const float top = *std::max_element(&range.largest[p * cin], &range.largest[p * cin] + cin);
    for (int c = 0; c < cin; c++) {
      const double limit = static_cast<double>(std::max(range.largest[p * cin + c], top / 16)) * static_cast<double>(margin);
      m.scale[p * cin + c] = static_cast<float>(limit > 1e-30 ? limit : 1);
      const double l = static_cast<double>(m.scale[p * cin + c]);
      power += range.r.tiles > 0 ? range.squares[p * cin + c] / range.r.tiles / (l * l) : 0.01;
    }
    const int py = p / side, px = p % side;
    double column_y = 0, column_x = 0;
    for (int i = 0; i < tile.rows; i++) column_y += of_y.at[i][py] * of_y.at[i][py];
    for (int i = 0; i < tile.columns; i++) column_x += of_x.at[i][px] * of_x.at[i][px];
    const double times = column_y * column_x;
    for (int k = 0; k < cout; k++) {
      double squares = 0;
      const size_t pk = static_cast<size_t>(p) * cout + k;
      for (int c = 0; c < cin; c++) {
        const float* t = w.data() + (static_cast<size_t>(k) * cin + c) * 9;
        double line[3];
        for (int x = 0; x < 3; x++) line[x] = of_y.g[py][0] * t[x] + of_y.g[py][1] * t[3 + x] + of_y.g[py][2] * t[6 + x];
        const double sum = of_x.g[px][0] * line[0] + of_x.g[px][1] * line[1] + of_x.g[px][2] * line[2];
        const double v = u[pk * cin + c] = sum * static_cast<double>(m.scale[p * cin + c]);
        sums[pk] += std::fabs(v);
        largest[pk] = std::max(largest[pk], std::fabs(v));
        squares += v * v;
      }
      of_v += times * squares;
      of_u += times * power * sums[pk] * sums[pk];
    }
  }
  const double best = of_u > 0 ? 46340.95 * std::sqrt(std::sqrt(of_v / of_u)) : 32768;
  const double r = best > 32767 ? 32767 : std::max(std::floor(best / 1024) * 1024, 2048.0);
  const int64_t most_sum = 2147483647 / static_cast<int64_t>(r);
  m.most = static_cast<float>(r);
  for (size_t pk = 0; pk < sums.size(); pk++) {
    double scale = sums[pk] > 0 ? std::min(static_cast<double>(most_sum) / sums[pk], 32767 / largest[pk]) : 1;
    for (;;) {
      int64_t total = 0;
      for (int c = 0; c < cin; c++) {
        m.u[pk * cin + c] = static_cast<int32_t>(std::nearbyint(u[pk * cin + c] * scale));
        total += std::abs(m.u[pk * cin + c]);
      }
      if (total <= most_sum) break;
      scale *= (static_cast<double>(most_sum) - 0.5) / static_cast<double>(total);
    }
    m.coef[pk] = static_cast<float>(1 / (scale * r));
  }
  for (size_t i = 0; i < m.scale.size(); i++) m.scale[i] = m.most / m.scale[i] / (in_scale ? in_scale[i % cin] : 1.0f);
  return m;
}

// Multiplication and addition, with one rounding or, as the scalar set has it, with two.
struct Fma {
  bool fused;
  float operator()(float a, float b, float c) const { return fused ? std::fma(a, b, c) : a * b + c; }
};

void model_input(int tile, Fma fma, const float* d, int step, float* t) {
  const auto at = [&](int i) { return d[i * step]; };
  if (tile == 4) {
    const float e = at(4) - at(2), f = at(3) - at(1), p0 = fma(1.5f, at(1), at(2) - at(0)), p1 = fma(1.5f, at(2), f), p2 = fma(1.5f, at(3), e);
    const float out[6] = {p2 - p0, p2 + p1, p2 - p1, fma(2.0f, f, e), fma(-0.5f, f, e), fma(1.5f, at(4), at(5) - at(3)) - p1};
    for (int i = 0; i < 6; i++) t[i * step] = out[i];
    return;
  }
  const float even1 = fma(-4.25f, at(4), at(2) + at(6)), odd1 = fma(-4.25f, at(3), at(1) + at(5));
  const float even2 = fma(-1.25f, at(4), fma(0.25f, at(2), at(6))), odd2 = fma(-1.25f, at(3), fma(0.25f, at(1), at(5)));
  const float even3 = fma(-5.0f, at(4), fma(4.0f, at(2), at(6))), odd3 = fma(-5.0f, at(3), fma(4.0f, at(1), at(5)));
  const float out[8] = {fma(5.25f, at(2) - at(4), at(6) - at(0)), even1 + odd1, even1 - odd1, fma(2.0f, odd2, even2), fma(-2.0f, odd2, even2),
                        fma(0.5f, odd3, even3), fma(-0.5f, odd3, even3), fma(5.25f, at(3) - at(5), at(7) - at(1))};
  for (int i = 0; i < 8; i++) t[i * step] = out[i];
}

// The last steps of A^T: m0, the last point, and sums and differences of pairs of points; of tile 4 the second pair are two points themselves.
void model_output(int tile, Fma fma, float sum0, float last, const float (&sum)[3], const float (&difference)[3], float* to, int step) {
  if (tile == 4) {
    const float m3 = sum[1], m4 = difference[1];
    to[0] = sum0 + (m3 + m4);
    to[step] = fma(0.5f, m3, fma(-2.0f, m4, difference[0]));
    to[2 * step] = fma(0.25f, m3, fma(4.0f, m4, sum[0]));
    to[3 * step] = fma(0.125f, m3, fma(-8.0f, m4, last));
    return;
  }
  to[0] = sum0 + (sum[1] + sum[2]);
  for (int i = 1; i < 6; i++) {
    const float* const of = i % 2 ? difference : sum;
    to[i * step] = fma(std::ldexp(1.0f, i), of[1], fma(std::ldexp(1.0f, -i), of[2], i == 5 ? last : of[0]));
  }
}

// Input lines, weights and everything else that a Winograd16Rows points to.
struct FastProblem {
  Tile16 tile;
  int side, kAll, cin, cout, width, n_rows, groups, tiles;  // side: points in a row
  Element type;
  TestScales in_scales, out_scales;
  ptrdiff_t stride, extra_stride;
  std::vector<float> w, bias, slope;
  std::vector<std::unique_ptr<AnyRow>> lines, extra;
  std::vector<const void*> in, residual;
  Element extra_type;
  FastRange range;
  float margin = 1;

  FastProblem(Tile16 tile_, int cin_, int cout_, int width_, int rows_, Element type_, float reach = 1)
      : tile(tile_), side(tile_.columns + 2), kAll(tile_.points()), cin(cin_), cout(cout_), width(width_), n_rows(rows_),
        groups((rows_ + tile.rows - 1) / tile.rows), tiles((width_ + tile.columns - 1) / tile.columns), type(type_),
        in_scales(cin_, 1000), out_scales(cout_, 3000), stride(tiles * tile.columns + 2 + kOverRead), extra_stride(width_ + kOverRead),
        w(static_cast<size_t>(cout_) * cin_ * 9), bias(cout_), slope(cout_),
        extra_type(pick(2) ? Element::kHalf : Element::kFloat), range(tile, cin_) {
    for (float& v : w) v = uniform(-1, 1);
    for (float& v : bias) v = uniform(-1, 1);
    for (float& v : slope) v = uniform(-0.5f, 1.5f);
    for (int i = 0; i < tile.rows * groups + 2; i++) {
      lines.push_back(std::make_unique<AnyRow>(type, cin, stride, 0, in_scales.get()));
      for (int c = 0; c < cin; c++)
        for (int x = 0; x < stride; x++) lines[i]->set(c, x, x < tile.columns * tiles + 2 ? reach * uniform(-1, 1) : kNaN);
      in.push_back(lines[i]->at(0));
    }
    for (int i = 0; i < n_rows; i++) {
      extra.push_back(std::make_unique<AnyRow>(extra_type, cout, extra_stride, 0, PairScales{}));
      for (int k = 0; k < cout; k++)
        for (int x = 0; x < width; x++) extra[i]->set(k, x, uniform(-1, 1));
      residual.push_back(extra[i]->at(0));
    }
  }

  Winograd16Rows rows(int variant) const {
    Winograd16Rows r{};
    r.in = in.data();
    r.in_type = type;
    r.in_stride = stride;
    r.cin = cin, r.cout = cout, r.width = width, r.rows = n_rows;
    r.bias = variant % 7 == 6 ? nullptr : bias.data();
    r.act = static_cast<Act>(variant % 5);
    r.a = r.act == Act::kClip ? -0.75f : 0.2f;
    r.b = 1.25f;
    r.slope = slope.data();
    r.residual = variant / 5 % 3 ? residual.data() : nullptr;
    r.residual_type = extra_type;
    r.residual_stride = extra_stride;
    r.residual_first = variant / 5 % 3 == 2;
    r.out_pairs = out_scales.get();
    return r;
  }

  const float* in_scale() const { return type == Element::kPairs ? in_scales.scale.data() : nullptr; }

  // [p][c][tile of all groups] before scales.
  std::vector<float> transformed(bool fused) const {
    std::vector<float> v(static_cast<size_t>(kAll) * cin * groups * tiles);
    for (int c = 0; c < cin; c++)
      for (int t = 0; t < groups * tiles; t++) {
        float d[64], m[64];
        for (int i = 0; i < kAll; i++) d[i] = lines[t / tiles * tile.rows + i / side]->get(c, t % tiles * tile.columns + i % side);
        for (int x = 0; x < side; x++) model_input(tile.rows, {fused}, d + x, side, m + x);
        for (int y = 0; y < tile.rows + 2; y++) model_input(tile.columns, {fused}, m + side * y, 1, d + side * y);
        for (int p = 0; p < kAll; p++) v[(static_cast<size_t>(p) * cin + c) * groups * tiles + t] = d[p];
      }
    return v;
  }

  void calibrate(float margin_) {
    margin = margin_;
    const std::vector<float> v = transformed(true);
    const size_t n = static_cast<size_t>(groups) * tiles;
    for (int i = 0; i < kAll * cin; i++) {
      const float unit = in_scale() ? 1 / in_scale()[i % cin] : 1.0f;
      range.largest[i] = 0;
      range.squares[i] = 0;
      for (size_t j = 0; j < n; j++) {
        range.largest[i] = std::max(range.largest[i], std::fabs(v[i * n + j] * unit));
        range.squares[i] += std::pow(static_cast<double>(v[i * n + j]) * static_cast<double>(unit), 2);
      }
    }
    range.r.tiles = static_cast<double>(n);
  }

  // Results [row][k][x] as floats that the element type can hold.
  std::vector<float> model(const Winograd16Rows& r, bool fused) const {
    const Fma fma{fused};
    const FastWeights m = model_weights(tile, w, cout, cin, range, margin, in_scale());
    const std::vector<float> v = transformed(fused);
    std::vector<float> out(static_cast<size_t>(n_rows) * cout * width);
    const int all = groups * tiles;
    std::vector<int32_t> q(v.size());
    for (size_t i = 0; i < v.size(); i++) {
      const float x = v[i] * m.scale[i / all];
      q[i] = static_cast<int32_t>(std::nearbyint(std::min(std::max(x, -m.most), m.most)));
    }
    for (int k = 0; k < cout; k++)
      for (int t = 0; t < all; t++) {
        float columns[6][8], y[6][6];
        float s[64];
        for (int p = 0; p < kAll; p++) {
          int64_t sum = 0;
          for (int c = 0; c < cin; c++)
            sum += static_cast<int64_t>(q[(static_cast<size_t>(p) * cin + c) * all + t]) * m.u[(static_cast<size_t>(p) * cout + k) * cin + c];
          if (sum != static_cast<int32_t>(sum)) fail("%s", "a sum leaves 32 bits");
          s[p] = static_cast<float>(sum);
        }
        for (int j = 0; j < side; j++) {
          const auto coef = [&](int i) { return m.coef[static_cast<size_t>(side * i + j) * cout + k]; };
          const auto sum_of = [&](int i) { return s[side * i + j]; };
          const float bias_k = r.bias ? r.bias[k] : 0.0f;
          float sum[3], difference[3];
          for (int i = 0; i < tile.rows / 2; i++) {
            const int a = 2 * i + 1, b = a + 1;
            const float first = i == 0 && j == 1 ? fma(coef(a), sum_of(a), bias_k) : coef(a) * sum_of(a);
            sum[i] = fma(coef(b), sum_of(b), first);
            difference[i] = fma(-coef(b), sum_of(b), first);
          }
          if (tile.rows == 4) sum[1] = coef(3) * sum_of(3), difference[1] = coef(4) * sum_of(4);
          const int last = tile.rows + 1;
          model_output(tile.rows, fma, fma(coef(0), sum_of(0), sum[0]), fma(coef(last), sum_of(last), difference[0]), sum, difference, &columns[0][j], 8);
        }
        for (int i = 0; i < tile.rows; i++) {
          const float* c = columns[i];
          float sum[3], difference[3];
          for (int j = 0; j < tile.columns / 2; j++) sum[j] = c[2 * j + 1] + c[2 * j + 2], difference[j] = c[2 * j + 1] - c[2 * j + 2];
          if (tile.columns == 4) sum[1] = c[3], difference[1] = c[4];
          model_output(tile.columns, fma, c[0] + sum[0], c[side - 1] + difference[0], sum, difference, y[i], 1);
        }
        for (int i = 0; i < tile.rows * tile.columns; i++) {
          const int dy = i / tile.columns, dx = i % tile.columns, row = t / tiles * tile.rows + dy, x = t % tiles * tile.columns + dx;
          if (row >= n_rows || x >= width) continue;
          float value = y[dy][dx];
          const float more = r.residual ? extra[row]->get(k, x) : 0.0f;
          if (r.residual && r.residual_first) value += more;
          const float slope_k = r.act == Act::kPRelu ? slope[k] : r.a;
          if (r.act == Act::kRelu) value = std::max(value, 0.0f);
          if (r.act == Act::kClip) value = std::min(std::max(value, r.a), r.b);
          if ((r.act == Act::kPRelu || r.act == Act::kLeakyRelu) && value < 0) value *= slope_k;
          if (r.residual && !r.residual_first) value += more;
          if (r.out_type == Element::kHalf) value = static_cast<float>(nearest_half(value));
          if (r.out_type == Element::kPairs) {
            value = std::nearbyint(std::min(std::max(value * r.out_pairs.scale[k], -r.out_pairs.most), r.out_pairs.most));
          }
          out[(static_cast<size_t>(row) * cout + k) * width + x] = value;
        }
      }
    return out;
  }
};

}  // namespace
