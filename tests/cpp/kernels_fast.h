// Kernels of the tier `fast` against an exact model of their arithmetic, and against the convolution's meaning.
#pragma once
#include <tuple>

#include "kernels_fast_model.h"

namespace {

// ---- conversion ----------------------------------------------------------------------------------------------------------------------------------

void test_halves(const std::vector<const FastKernels*>& isas) {
  std::vector<float> in{0.0f, -0.0f, kInf, -kInf, kNaN, 65504, 65519, 65520, -65520, 1e30f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, -0x1.8p-24f};
  for (uint32_t u = rng() % 4099; u < 0xfffff000u; u += 4099) in.push_back(unbits(u));
  for (int h = 0; h < 0x7c00; h++) {  // every half float, the middle to the next one, and that middle's neighbours
    const float x = static_cast<float>(half_value(static_cast<uint16_t>(h))), y = static_cast<float>(half_value(static_cast<uint16_t>(h + 1)));
    for (float v : {x, std::isinf(y) ? x : (x + y) / 2}) {
      const float sign = h % 3 ? 1.0f : -1.0f;
      in.insert(in.end(), {sign * v, sign * std::nextafter(v, kInf), sign * std::nextafter(v, -kInf)});
    }
  }
  for (const FastKernels* isa : isas) {
    std::vector<uint16_t> out(in.size() + kOverWrite);
    in.resize(out.size());
    isa->float_to_half(out.data(), in.data(), static_cast<int>(in.size()) - kOverWrite);
    for (size_t i = 0; i + kOverWrite < in.size(); i++) {
      checks++;
      const double want = nearest_half(in[i]), got = half_value(out[i]);
      if (std::isnan(want) ? !std::isnan(got) : want != got || std::signbit(want) != std::signbit(got)) {
        fail("%s %.9g is the half float %g, expected %g", isa->isa, in[i], got, want);
        break;
      }
    }
    in.resize(in.size() - kOverWrite);
    std::vector<uint16_t> all(65536 + kOverWrite);
    std::vector<float> values(65536 + kOverWrite);
    for (int h = 0; h < 65536; h++) all[h] = static_cast<uint16_t>(h);
    isa->half_to_float(values.data(), all.data(), 65536);
    for (int h = 0; h < 65536; h++)
      if (!same(values[h], static_cast<float>(half_value(static_cast<uint16_t>(h))))) {
        fail("%s half float %04x is %g", isa->isa, h, values[h]);
        break;
      }
    for (int n = 1; n <= 70; n++) {
      Row<uint16_t> x(n + kOverRead), y(n + kOverWrite);
      Row<float> z(n + kOverWrite), t(n + kOverRead);
      isa->half_to_float(z.data, x.data, n);
      isa->float_to_half(y.data, t.data, n);  // the end is guarded
    }
  }
}

// ---- the convolution -----------------------------------------------------------------------------------------------------------------------------

// Output rows in guarded memory, and the call's scratch and weights.
struct FastCall {
  std::vector<std::unique_ptr<AnyRow>> buffers;
  std::vector<void*> rows;
  Tile16 tile;
  std::vector<uint8_t> packed;
  Row<float> scratch;
  int lead;
  Winograd16Rows r;

  FastCall(const FastKernels* isa, const FastProblem& p, const Winograd16Rows& like, int lead_)
      : tile(p.tile), packed(winograd16_of(*isa, tile).pack_size(p.cout, p.cin) + 64), scratch((winograd16_of(*isa, tile).scratch(p.cin, p.cout, like.width, like.rows) + 3) / 4),
        lead(lead_), r(like) {
    void* aligned = packed.data() + (64 - reinterpret_cast<uintptr_t>(packed.data()) % 64) % 64;
    winograd16_of(*isa, tile).pack(aligned, p.w.data(), p.cout, p.cin, p.range.r, p.margin, p.in_scale());
    r.weights = static_cast<const float*>(aligned);
    r.scratch = scratch.data;
    r.out_stride = r.width + kOverWrite + lead % 7;
    for (int i = 0; i < r.rows; i++) {
      buffers.push_back(std::make_unique<AnyRow>(r.out_type, r.cout, r.out_stride, lead, r.out_pairs));
      rows.push_back(buffers[i]->at(0));
    }
    r.out = rows.data();
    winograd16_of(*isa, tile).run(r);
  }
  float get(int row, int k, int x) const { return buffers[row]->get(k, x); }
  bool intact() const {
    for (const auto& b : buffers)
      if (!b->intact(r.width)) return false;
    return true;
  }
};

std::string fast_name(const FastKernels* isa) { return std::string(isa->isa) + " (" + isa->dot + ")"; }

void test_fast_convolution(const std::vector<const FastKernels*>& isas, Tile16 tile, int cin, int cout, int width, int rows, int variant, float margin = 1.1f) {
  FastProblem p(tile, cin, cout, width, rows, static_cast<Element>(variant % 4 % 3));
  p.calibrate(margin);
  Winograd16Rows r = p.rows(variant);
  r.out_type = static_cast<Element>(variant / 2 % 3);
  const int tile0 = pick(p.tiles), n = 1 + pick(width - tile.columns * tile0), group0 = pick(p.groups), n_rows = 1 + pick(rows - tile.rows * group0);
  std::vector<float> models[2];
  for (const FastKernels* isa : isas) {
    const std::string name = fast_name(isa);
    const bool fused = isa->isa != std::string("scalar");
    if (models[fused].empty()) models[fused] = p.model(r, fused);
    const std::vector<float>& want = models[fused];
    const FastCall whole(isa, p, r, 3);
    for (size_t i = 0; i < want.size(); i++) {
      const int row = static_cast<int>(i / width / cout), k = static_cast<int>(i / width % cout), x = static_cast<int>(i % width);
      const float got = whole.get(row, k, x);
      checks++;
      if (!same(got + 0.0f, want[i] + 0.0f)) {
        fail("%s winograd16 %dx%d %d->%d width %d rows %d variant %d: row %d [%d][%d] is %.9g, expected %.9g", name.c_str(), tile.rows, tile.columns, cin, cout, width, rows, variant,
             row, k, x, got, want[i]);
        break;
      }
    }
    if (!whole.intact()) fail("%s winograd16 %d->%d width %d writes outside its rows", name.c_str(), cin, cout, width);

    // Some of the tiles: other blocks and places, the same bits.
    Winograd16Rows part = r;
    std::vector<const void*> in, residual;
    for (int i = 0; i < (n_rows + tile.rows - 1) / tile.rows * tile.rows + 2; i++) in.push_back(p.lines[tile.rows * group0 + i]->at(tile.columns * tile0));
    for (int i = 0; i < n_rows; i++) residual.push_back(p.extra[tile.rows * group0 + i]->at(tile.columns * tile0));
    part.in = in.data();
    part.residual = r.residual ? residual.data() : nullptr;
    part.width = n;
    part.rows = n_rows;
    const FastCall some(isa, p, part, pick(16));
    bool equal = true;
    for (int row = 0; row < n_rows; row++)
      for (int k = 0; k < cout; k++)
        for (int x = 0; x < n; x++) equal = equal && same(some.get(row, k, x), whole.get(tile.rows * group0 + row, k, tile.columns * tile0 + x));
    if (!equal) fail("%s winograd16 %d->%d: a part of the tiles of width %d, %d rows, differs from the whole", name.c_str(), cin, cout, width, rows);
    if (!some.intact()) fail("%s winograd16 %d->%d width %d writes outside its rows", name.c_str(), cin, cout, n);
  }
  digest(models[1]);
}

void test_fast_range(const std::vector<const FastKernels*>& isas, Tile16 tile, int cin, int width, int rows, Element type) {
  FastProblem p(tile, cin, 1, width, rows, type);
  p.calibrate(1);
  Winograd16Rows r = p.rows(0);
  for (const FastKernels* isa : isas) {
    Row<float> scratch((winograd16_of(*isa, tile).scratch(cin, 1, width, rows) + 3) / 4);
    r.scratch = scratch.data;
    const bool fused = isa->isa != std::string("scalar");
    FastRange got(tile, cin);
    got.largest[7] = 1e9f;  // added to, not set
    got.squares[8] = 1000;
    got.r.tiles = 5;
    winograd16_of(*isa, tile).measure(r, got.r);
    checks += p.kAll * cin;
    bool right = got.r.tiles == 5 + p.range.r.tiles && got.largest[7] == 1e9f;
    for (int i = 0; i < p.kAll * cin; i++) {
      const double most = p.range.largest[i], squares = p.range.squares[i] + (i == 8 ? 1000 : 0);
      const double slack = fused ? 0 : tile.rows == 4 ? 1e-4 : 1e-3;  // inputs are at most 1, transformed ones 49 to 240
      right = right && (i == 7 || std::fabs(got.largest[i] - most) <= slack) &&
              std::fabs(got.squares[i] - squares) <= 1e-5 * squares + slack * p.range.r.tiles;
    }
    if (!right) fail("%s range of %d channels, width %d, %d rows is wrong", fast_name(isa).c_str(), cin, width, rows);
  }
}

// The error against the convolution's meaning, in dB below the results.
double fast_error(const FastKernels* isa, const FastProblem& p) {
  Winograd16Rows r = p.rows(0);
  r.act = Act::kNone;
  r.out_type = Element::kFloat;
  const FastCall call(isa, p, r, 0);
  double power = 0, error = 0;
  for (int row = 0; row < p.n_rows; row++)
    for (int k = 0; k < p.cout; k++)
      for (int x = 0; x < p.width; x++) {
        double sum = r.bias[k];
        for (int c = 0; c < p.cin; c++)
          for (int t = 0; t < 9; t++)
            sum += static_cast<double>(p.w[(static_cast<size_t>(k) * p.cin + c) * 9 + t]) * p.lines[row + t / 3]->value(c, x + t % 3);
        power += sum * sum;
        error += (call.get(row, k, x) - sum) * (call.get(row, k, x) - sum);
      }
  return 10 * std::log10(power / error);
}

void test_fast_accuracy(const std::vector<const FastKernels*>& isas, Tile16 tile) {
  const double least = tile.rows == 4 ? 60 : tile.columns == 4 ? 55 : 50;
  for (int cin : {1, 3, 16, 64}) {
    FastProblem p(tile, cin, 16, 80, 2 * tile.rows, Element::kHalf);
    p.calibrate(1.25f);
    for (const FastKernels* isa : isas) {
      const double db = fast_error(isa, p);
      checks++;
      if (!(db > least)) fail("%s winograd16 %dx%d %d->16: %.1f dB", fast_name(isa).c_str(), tile.rows, tile.columns, cin, db);
      if (std::getenv("FAST_PRINT")) std::printf("%s winograd16 %dx%d %d->16: %.2f dB\n", fast_name(isa).c_str(), tile.rows, tile.columns, cin, db);
    }
  }
}

// Weights and inputs that make the largest sums; numbers beyond the limits, beyond 32 bits and beyond the half floats; NaN.
void test_fast_extremes(const std::vector<const FastKernels*>& isas, Tile16 tile) {
  for (int cin : {1, 2, 3, 64, 301}) {
    FastProblem p(tile, cin, 7, 20, 4, Element::kHalf, 60000);
    for (float& w : p.w) w = pick(2) ? 1.0f : -1.0f;
    for (int i = 0; i < 9 * cin; i++) p.w[i] = i % 9 == 4;  // and one of equal ones
    for (const float limit : {1e-3f, 1.0f, 1e4f, 1e30f}) {
      std::fill(p.range.largest.begin(), p.range.largest.end(), limit);
      p.range.r.tiles = 0;
      for (const Element type : {Element::kHalf, Element::kFloat, Element::kPairs}) {
        Winograd16Rows r = p.rows(0);
        r.out_type = type;
        const std::vector<float> want[2] = {p.model(r, false), p.model(r, true)};
        for (const FastKernels* isa : isas) {
          const FastCall call(isa, p, r, 0);
          const std::vector<float>& w = want[isa->isa != std::string("scalar")];
          for (size_t i = 0; i < w.size(); i++)
            if (const float got = call.get(static_cast<int>(i / 140), static_cast<int>(i / 20 % 7), static_cast<int>(i % 20)); !same(got + 0.0f, w[i] + 0.0f)) {
              fail("%s winograd16 of extremes, limit %g: %g, expected %g", fast_name(isa).c_str(), limit, got, w[i]);
              break;
            }
        }
      }
    }
  }
  FastProblem p(tile, 3, 2, 9, 4, Element::kHalf);
  p.calibrate(1);
  Winograd16Rows r = p.rows(0);
  r.out_type = Element::kHalf;
  for (const FastKernels* isa : isas) {
    p.lines[3]->set(0, 2, 0);
    const FastCall before(isa, p, r, 0);
    p.lines[3]->set(0, 2, kNaN);
    const FastCall after(isa, p, r, 0);
    for (int i = 0; i < 4 * 2 * 9; i++) {
      const float a = before.get(i / 18, i / 9 % 2, i % 9), b = after.get(i / 18, i / 9 % 2, i % 9);
      if (std::isnan(b) || (i % 9 >= tile.columns && !same(a, b))) fail("%s winograd16 of NaN at column 2: column %d", fast_name(isa).c_str(), i % 9);
    }
  }
}

void test_winograd16(const std::vector<const FastKernels*>& isas, Tile16 tile) {
  for (const FastKernels* isa : isas)
    for (int width = 1; width < 400; width++)
      for (int cout : {1, 12, 64})
        for (int rows : {1, 5, 9, 30})
          if (winograd16_of(*isa, tile).scratch(12, cout, width + 1, rows) < winograd16_of(*isa, tile).scratch(12, cout, width, rows) ||
              winograd16_of(*isa, tile).scratch(12, cout, width, rows + 4) < winograd16_of(*isa, tile).scratch(12, cout, width, rows))
            fail("%s winograd16: less scratch for more than width %d", isa->isa, width);
  int variant = 0;
  const int channels[] = {1, 2, 3, 5, 8, 10, 12, 17, 26, 32, 64};
  for (int cin : channels)
    for (int cout : channels) {
      const int work = cin * cout;
      for (int width = 1 + pick(10); width <= 140; width += work > 1000 ? 90 + pick(60) : work > 100 ? 40 + pick(60) : 10 + pick(30))
        test_fast_convolution(isas, tile, cin, cout, width, 1 + pick(12), variant++);
    }
  for (int width = 1; width <= 140; width++) test_fast_convolution(isas, tile, 3, 2, width, 1 + pick(9), variant++);
  for (int width = 29; width <= 95; width += 3) test_fast_convolution(isas, tile, 2, 3, width, 1 + pick(8 * tile.rows), variant++);  // up to 8 groups of rows
  for (int width : {257, 1021}) test_fast_convolution(isas, tile, 5, 13, width, 9, variant++);
  for (const auto& [cin, cout, width, rows] :
       {std::tuple{128, 128, 57, 7}, {256, 256, 13, 8}, {250, 67, 29, 5}, {180, 180, 34, 4}, {192, 32, 65, 12}, {129, 251, 20, 3}})
    test_fast_convolution(isas, tile, cin, cout, width, rows, variant++);
  for (variant = 0; variant < 420; variant++) test_fast_convolution(isas, tile, 2, 9, 37, 4, variant);  // every combination
  for (int width = 1; width <= 80; width++) test_fast_range(isas, tile, 1 + pick(4), width, 1 + pick(9), width % 2 ? Element::kHalf : Element::kFloat);
  test_fast_convolution(isas, tile, 12, 12, 100, 8, 1, 0.3f);  // many are cut off
  test_fast_accuracy(isas, tile);
  test_fast_extremes(isas, tile);
}

void test_fast(const std::vector<const FastKernels*>& isas) {
  test_halves(isas);
  for (Tile16 tile : {Tile16{4, 4}, {6, 4}, {6, 6}}) test_winograd16(isas, tile);
}

}  // namespace
