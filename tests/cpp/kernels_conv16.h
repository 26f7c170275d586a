// The direct convolution in 16-bit integers against a model of its arithmetic, and rows of pairs.
#pragma once
#include "kernels_fast_model.h"

namespace {

// ---- pairs ---------------------------------------------------------------------------------------------------------------------------------------

int nearest_int(float x, float most) { return static_cast<int>(std::nearbyint(std::min(std::max(x, -most), most))); }

void test_pairs(const std::vector<const FastKernels*>& isas) {
  std::vector<float> in{0.0f, -0.0f, 0.5f, 1.5f, -2.5f, 32766.5f, 32767.5f, -40000, 1e30f, -1e30f, kInf, -kInf};
  while (in.size() < 5000) in.push_back(uniform(-40000, 40000));
  const int n = static_cast<int>(in.size());
  in.resize(in.size() + kOverRead, kNaN);
  for (const FastKernels* isa : isas) {
    for (const float most : {2048.0f, 20000.0f, 32767.0f})
      for (const bool both : {true, false}) {
        std::vector<uint32_t> out(in.size());
        std::vector<float> back[2] = {std::vector<float>(in.size()), std::vector<float>(in.size())};
        std::vector<float> second(in.rbegin() + kOverRead, in.rend());
        second.resize(in.size(), kNaN);
        isa->float_to_pairs(out.data(), in.data(), both ? second.data() : nullptr, n, 0.75f, 2.0f, most);
        isa->pairs_to_float(back[0].data(), both ? back[1].data() : nullptr, out.data(), n, 0.75f, 2.0f);
        for (int i = 0; i < n; i++) {
          const int lo = nearest_int(in[i] * 0.75f, most), hi = both ? nearest_int(second[i] * 2.0f, most) : 0;
          checks += 2;
          if (static_cast<int16_t>(out[i]) != lo || static_cast<int16_t>(out[i] >> 16) != hi) {
            fail("%s pairs of %g and %g are %08x", isa->isa, in[i], second[i], out[i]);
            break;
          }
          if (back[0][i] != static_cast<float>(lo) / 0.75f || (both && back[1][i] != static_cast<float>(hi) / 2.0f)) {
            fail("%s floats of pairs %08x are %g and %g", isa->isa, out[i], back[0][i], back[1][i]);
            break;
          }
        }
      }
    for (int size = 1; size <= 70; size++) {  // the ends are guarded
      Row<float> x0(size + kOverRead), x1(size + kOverRead), y0(size + kOverWrite), y1(size + kOverWrite);
      Row<uint32_t> x(size + kOverRead), y(size + kOverWrite);
      isa->float_to_pairs(y.data, x0.data, size % 2 ? x1.data : nullptr, size, 1, 1, 1000);
      isa->pairs_to_float(y0.data, y1.data, x.data, size, 1, 1);
    }
  }
}

// ---- the convolution -----------------------------------------------------------------------------------------------------------------------------

struct Conv16Shape {
  int cin, cout, kh, kw, dilation;
};

struct Conv16Problem {
  Conv16Shape s;
  int width, taps, reach;
  TestScales in_scales, out_scales, extra_scales;
  ptrdiff_t stride, extra_stride;
  std::vector<float> w, bias, slope, extra_scale;
  std::vector<std::unique_ptr<AnyRow>> rows;
  AnyRow extra;
  std::vector<const uint32_t*> lines;

  Conv16Problem(const Conv16Shape& shape, int width_, float most, Element extra_type)
      : s(shape), width(width_), taps(s.kh * s.kw), reach(width + (s.kw - 1) * s.dilation), in_scales(s.cin, most), out_scales(s.cout, 3000),
        extra_scales(s.cout, 7000), stride(reach + kOverRead), extra_stride(width + kOverRead), w(static_cast<size_t>(s.cout) * s.cin * taps),
        bias(s.cout), slope(s.cout),
        extra_scale(s.cout, 1.0f), extra(extra_type, s.cout, extra_stride, 0, extra_scales.get()) {
    for (float& v : w) v = uniform(-1, 1);
    for (float& v : bias) v = uniform(-1, 1);
    for (float& v : slope) v = uniform(0, 1);
    if (pick(3) == 0) slope[pick(s.cout)] = uniform(-1, 2);
    const float top = 1.2f * most / 8192;  // some are cut off
    for (int i = 0; i < s.kh; i++) {
      rows.push_back(std::make_unique<AnyRow>(Element::kPairs, s.cin, stride, 0, in_scales.get()));
      for (int c = 0; c < s.cin; c++)
        for (int x = 0; x < stride; x++) rows[i]->set(c, x, x < reach ? uniform(-top, top) : kNaN);
      lines.push_back(static_cast<const uint32_t*>(rows[i]->at(0)));
    }
    for (int k = 0; k < s.cout; k++)
      for (int x = 0; x < width; x++) extra.set(k, x, uniform(-1, 1));
  }

  Conv16Row row(int variant) {
    Conv16Row r{};
    r.in_stride = stride;
    r.cin = s.cin, r.cout = s.cout, r.width = width, r.kh = s.kh, r.kw = s.kw, r.dilation = s.dilation;
    r.bias = variant % 7 == 6 ? nullptr : bias.data();
    r.out_type = static_cast<Element>(variant % 3);
    const bool pairs = r.out_type == Element::kPairs;
    r.act = static_cast<Act>(variant / 3 % (pairs ? 4 : 5));
    r.a = r.act == Act::kClip ? -0.75f : variant % 4 == 3 ? -0.3f : 0.2f;
    r.b = 1.25f;
    r.slope = slope.data();
    r.lines = lines.data();
    r.residual = variant / 5 % 3 ? extra.at(0) : nullptr;
    r.residual_type = extra.type;
    for (int k = 0; k < s.cout; k++) extra_scale[k] = (pairs ? out_scales.scale[k] : 1) / (extra.type == Element::kPairs ? extra_scales.scale[k] : 1);
    r.residual_scale = extra_scale.data();
    r.residual_stride = extra_stride;
    r.residual_first = variant / 5 % 3 == 2;
    r.most = out_scales.most;
    return r;
  }
  const float* out_scale(const Conv16Row& r) const { return r.out_type == Element::kPairs ? out_scales.scale.data() : nullptr; }

  // Results [k][x] as floats that the element type can hold.
  std::vector<float> model(const Conv16Row& r, bool fused) const {
    const Fma fma{fused};
    const int lines_of_two = s.cin / 2, per_sum = std::max(1, 192 / taps), sums = std::max(1, (lines_of_two + per_sum - 1) / per_sum);
    std::vector<int> sum_of(s.cin, sums - 1);
    for (int i = 0; i < sums; i++)
      for (int line = lines_of_two * i / sums; line < lines_of_two * (i + 1) / sums; line++) sum_of[2 * line] = sum_of[2 * line + 1] = i;
    const double most_sum = std::floor(2147483647.0 / static_cast<double>(in_scales.most));
    std::vector<float> out;
    for (int k = 0; k < s.cout; k++) {
      const float* const from = w.data() + static_cast<size_t>(k) * s.cin * taps;
      std::vector<double> u(static_cast<size_t>(s.cin) * taps), total(sums);
      double largest = 0;
      for (int i = 0; i < s.cin * taps; i++) {
        u[i] = static_cast<double>(from[i]) / static_cast<double>(in_scales.scale[i / taps]);
        total[sum_of[i / taps]] += std::fabs(u[i]);
        largest = std::max(largest, std::fabs(u[i]));
      }
      double scale = largest > 0 ? std::min(most_sum / *std::max_element(total.begin(), total.end()), 32767 / largest) : 1;
      std::vector<int64_t> q(u.size());
      for (;;) {
        std::vector<int64_t> whole(sums);
        for (size_t i = 0; i < u.size(); i++) {
          q[i] = static_cast<int64_t>(std::nearbyint(u[i] * scale));
          whole[sum_of[i / taps]] += std::abs(q[i]);
        }
        const double most = static_cast<double>(*std::max_element(whole.begin(), whole.end()));
        if (most <= most_sum) break;
        scale *= (most_sum - 0.5) / most;
      }
      const double unit = out_scale(r) ? static_cast<double>(out_scales.scale[k]) : 1;
      const float coef = static_cast<float>(unit / scale);
      for (int x = 0; x < width; x++) {
        float y = static_cast<float>((r.bias ? static_cast<double>(r.bias[k]) : 0) * unit);
        for (int part = 0; part < sums; part++) {
          int64_t sum = 0;
          for (int c = 0; c < s.cin; c++)
            for (int t = 0; t < taps && sum_of[c] == part; t++)
              sum += q[c * taps + t] * static_cast<int64_t>(rows[t / s.kw]->get(c, x + t % s.kw * s.dilation));
          if (sum != static_cast<int32_t>(sum)) fail("%s", "a sum leaves 32 bits");
          y = fma(static_cast<float>(sum), coef, y);
        }
        const float more = r.residual ? extra.get(k, x) * extra_scale[k] : 0.0f;
        if (r.residual && r.residual_first) y += more;
        const float slope_k = r.act == Act::kPRelu ? slope[k] : r.a;
        if (r.act == Act::kRelu) y = std::max(y, 0.0f);
        if (r.act == Act::kClip) y = std::min(std::max(y, r.a), r.b);
        if ((r.act == Act::kPRelu || r.act == Act::kLeakyRelu) && y < 0) y *= slope_k;
        if (r.residual && !r.residual_first) y += more;
        if (r.out_type == Element::kHalf) y = static_cast<float>(nearest_half(y));
        if (r.out_type == Element::kPairs) y = static_cast<float>(nearest_int(y, r.most));
        out.push_back(y);
      }
    }
    return out;
  }
};

// An output row in guarded memory, and the call's scratch and weights.
struct Conv16Call {
  std::vector<uint8_t> packed;
  Row<uint8_t> scratch;
  ptrdiff_t stride;
  AnyRow out;
  Conv16Row r;
  Conv16Call(const FastKernels* isa, const Conv16Problem& p, const Conv16Row& like, int lead)
      : packed(isa->conv16_pack_size(p.s.cout, p.s.cin, p.s.kh, p.s.kw) + 64), scratch(isa->conv16_scratch(p.s.cin, p.s.kh, p.s.kw, like.width)),
        stride(like.width + kOverWrite + lead % 7), out(like.out_type, p.s.cout, stride, lead, p.out_scales.get()), r(like) {
    void* aligned = packed.data() + (64 - reinterpret_cast<uintptr_t>(packed.data()) % 64) % 64;
    isa->conv16_pack(aligned, p.w.data(), p.s.cout, p.s.cin, p.s.kh, p.s.kw, r.bias, p.in_scales.get(), p.out_scale(r));
    r.weights = static_cast<const float*>(aligned);
    r.scratch = scratch.data;
    r.out_stride = stride;
    r.out = out.at(0);
    isa->conv16(r);
  }
};

void test_conv16_shape(const std::vector<const FastKernels*>& isas, const Conv16Shape& s, int width, int variant, float most) {
  Conv16Problem p(s, width, most, static_cast<Element>(pick(3)));
  const Conv16Row r = p.row(variant);
  const int from = pick(width), n = 1 + pick(width - from);
  std::vector<float> models[2];
  for (const FastKernels* isa : isas) {
    const std::string name = std::string(isa->isa) + " (" + isa->dot + ")";
    const bool fused = isa->isa != std::string("scalar");
    if (models[fused].empty()) models[fused] = p.model(r, fused);
    const std::vector<float>& want = models[fused];
    Conv16Call all(isa, p, r, 3);
    for (size_t i = 0; i < want.size(); i++) {
      const int k = static_cast<int>(i / width), x = static_cast<int>(i % width);
      const float got = all.out.get(k, x);
      checks++;
      if (!same(got + 0.0f, want[i] + 0.0f)) {
        fail("%s conv16 %d->%d %dx%d dilation %d width %d variant %d: [%d][%d] is %.9g, expected %.9g", name.c_str(), s.cin, s.cout, s.kh, s.kw, s.dilation,
             width, variant, k, x, got, want[i]);
        break;
      }
    }
    if (!all.out.intact(width)) fail("%s conv16 %d->%d %dx%d width %d writes outside its row", name.c_str(), s.cin, s.cout, s.kh, s.kw, width);

    // Some of the pixels: other blocks and places, the same bits.
    Conv16Row part = r;
    std::vector<const uint32_t*> lines;
    for (const uint32_t* line : p.lines) lines.push_back(line + from);
    part.lines = lines.data();
    part.width = n;
    part.residual = r.residual ? p.extra.at(from) : nullptr;
    Conv16Call some(isa, p, part, pick(16));
    bool equal = true;
    for (int k = 0; k < s.cout; k++)
      for (int x = 0; x < n; x++) equal = equal && same(some.out.get(k, x), all.out.get(k, from + x));
    if (!equal) fail("%s conv16 %d->%d %dx%d: pixels %d to %d differ from the whole row's", name.c_str(), s.cin, s.cout, s.kh, s.kw, from, from + n);
    if (!some.out.intact(n)) fail("%s conv16 %d->%d %dx%d width %d writes outside its row", name.c_str(), s.cin, s.cout, s.kh, s.kw, n);
  }
  digest(models[1]);
}

// Weights and inputs that make the largest sums, channels without weights.
void test_conv16_extremes(const std::vector<const FastKernels*>& isas) {
  for (const Conv16Shape& s : {Conv16Shape{1, 3, 1, 1, 1}, Conv16Shape{2, 3, 3, 3, 1}, Conv16Shape{7, 5, 5, 5, 1}, Conv16Shape{40, 1, 3, 3, 1}})
    for (const float most : {1.0f, 2048.0f, 32767.0f}) {
      Conv16Problem p(s, 33, most, Element::kFloat);
      for (float& w : p.w) w = pick(2) ? 1.0f : -1.0f;
      const size_t terms = static_cast<size_t>(s.cin) * p.taps;
      for (size_t i = 0; i < terms; i++) p.w[i] = s.cout > 1 ? 0.0f : 1.0f;
      for (int i = 0; i < s.kh; i++)
        for (int c = 0; c < s.cin; c++)
          for (int x = 0; x < p.reach; x++)
            p.rows[i]->set(c, x, p.w[p.w.size() - terms + static_cast<size_t>(c) * p.taps + static_cast<size_t>(i) * s.kw] * (x % 5 ? 1e9f : -1e9f));
      for (int variant : {0, 1, 2}) {
        const Conv16Row r = p.row(variant);
        for (const FastKernels* isa : isas) {
          const std::vector<float> want = p.model(r, isa->isa != std::string("scalar"));
          Conv16Call call(isa, p, r, 0);
          for (size_t i = 0; i < want.size(); i++)
            if (const float got = call.out.get(static_cast<int>(i / 33), static_cast<int>(i % 33)); !same(got + 0.0f, want[i] + 0.0f)) {
              fail("%s conv16 of extremes, most %g: %g, expected %g", isa->isa, most, got, want[i]);
              break;
            }
        }
      }
    }
}

// The error against the convolution's meaning, in dB below the results, with inputs kept in the range that conv16_most chooses or a multiple of it.
double conv16_error(const FastKernels* isa, const Conv16Shape& s, float times) {
  const int terms = s.cin * s.kh * s.kw;
  Conv16Problem p(s, 64, 8192, Element::kFloat);
  std::vector<float> limits(s.cin), values(static_cast<size_t>(s.kh) * s.cin * p.stride);
  std::vector<double> powers(s.cin);
  for (int c = 0; c < s.cin; c++) {
    limits[c] = uniform(0.5f, 2);
    powers[c] = static_cast<double>(limits[c]) * static_cast<double>(limits[c]) / 12;  // of numbers up to half the limit
  }
  const float chosen = isa->conv16_most(p.w.data(), s.cout, s.cin, s.kh, s.kw, limits.data(), powers.data());
  if (!(chosen >= 2048 && chosen <= 32767 && chosen == std::floor(chosen))) fail("%s conv16_most is %g", isa->isa, chosen);
  p.in_scales.most = std::min(std::floor(chosen * times), 32767.0f);
  for (int c = 0; c < s.cin; c++) p.in_scales.scale[c] = p.in_scales.most / limits[c];
  for (int i = 0; i < s.kh; i++) {
    p.rows[i]->scales = p.in_scales.get();
    for (int c = 0; c < s.cin; c++)
      for (int x = 0; x < p.reach; x++) {
        values[(static_cast<size_t>(i) * s.cin + c) * p.stride + x] = limits[c] * uniform(-0.5f, 0.5f);
        p.rows[i]->set(c, x, values[(static_cast<size_t>(i) * s.cin + c) * p.stride + x]);
      }
  }
  Conv16Row r = p.row(0);
  r.act = Act::kNone;
  r.residual = nullptr;
  Conv16Call call(isa, p, r, 0);
  double power = 0, error = 0;
  for (int k = 0; k < s.cout; k++)
    for (int x = 0; x < p.width; x++) {
      double sum = p.bias[k];
      for (int t = 0; t < terms; t++) {
        const int c = t / p.taps, i = t % p.taps / s.kw, j = t % s.kw;
        sum += static_cast<double>(p.w[static_cast<size_t>(k) * terms + t]) * values[(static_cast<size_t>(i) * s.cin + c) * p.stride + x + j * s.dilation];
      }
      power += sum * sum;
      error += std::pow(call.out.get(k, x) - sum, 2);
    }
  return 10 * std::log10(power / error);
}

void test_conv16_accuracy(const std::vector<const FastKernels*>& isas) {
  const Conv16Shape shapes[] = {{1, 64, 5, 5, 1}, {1, 64, 9, 9, 1}, {3, 64, 3, 3, 1}, {64, 32, 1, 1, 1}, {56, 12, 1, 1, 1}, {12, 12, 3, 3, 1},
                                {32, 4, 3, 3, 1}, {64, 1, 3, 3, 1}, {32, 1, 5, 5, 1}, {56, 4, 5, 5, 1}};
  for (const Conv16Shape& s : shapes)
    for (const FastKernels* isa : isas) {
      const double db = conv16_error(isa, s, 1), less = conv16_error(isa, s, 0.25f), more = conv16_error(isa, s, 4);
      checks++;
      if (!(db > 62)) fail("%s conv16 %d->%d %dx%d: %.1f dB", isa->isa, s.cin, s.cout, s.kh, s.kw, db);
      if (!(db > less - 2 && db > more - 2))
        fail("%s conv16_most of %d->%d: %.1f dB, %.1f with a quarter, %.1f with four times it", isa->isa, s.cin, s.cout, db, less, more);
      if (std::getenv("FAST_PRINT")) std::printf("%s conv16 %d->%d %dx%d: %.2f dB (%.2f, %.2f)\n", isa->isa, s.cin, s.cout, s.kh, s.kw, db, less, more);
    }
}

void test_conv16(const std::vector<const FastKernels*>& isas) {
  test_pairs(isas);
  for (const FastKernels* isa : isas)
    for (int width = 1; width < 300; width++)
      for (const int cin : {1, 2, 3})
        if (isa->conv16_scratch(cin, 3, 5, width + 1) < isa->conv16_scratch(cin, 3, 5, width))
          fail("%s conv16: less scratch for more than width %d", isa->isa, width);
  int variant = 0;
  const auto most = [] { return static_cast<float>(1024 + pick(31744)); };
  const int channels[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 20, 33};
  const int kernels[][2] = {{1, 1}, {3, 3}, {5, 5}, {1, 2}, {2, 1}, {1, 3}, {3, 1}, {2, 4}, {4, 3}, {9, 9}};
  for (const int cin : {1, 2, 3, 4, 5, 12, 17})
    for (const int cout : channels)
      for (const auto& k : kernels) {
        if (k[0] == 9 && (cin > 2 || cout > 3)) continue;
        const Conv16Shape s{cin, cout, k[0], k[1], pick(3) ? 1 : 1 + pick(9)};
        test_conv16_shape(isas, s, 1 + pick(cin * cout * k[0] * k[1] > 1000 ? 60 : 140), variant++, most());
      }
  for (int width = 1; width <= 220; width++) test_conv16_shape(isas, {1 + pick(3), 1 + pick(3), 3, 3, 1}, width, variant++, most());
  for (const Conv16Shape& s : {Conv16Shape{64, 1, 3, 3, 1}, Conv16Shape{32, 1, 5, 5, 1}, Conv16Shape{57, 4, 5, 5, 1}, Conv16Shape{64, 32, 1, 1, 1},
                               Conv16Shape{1, 64, 5, 5, 1}, Conv16Shape{401, 6, 1, 1, 1}, Conv16Shape{2, 2, 15, 15, 1}, Conv16Shape{10, 2, 7, 5, 4}})
    for (int i = 0; i < 3; i++) test_conv16_shape(isas, s, 1 + pick(100), variant++, most());
  for (const int dilation : {1, 2, 15, 16, 17, 32, 33, 70})
    for (const int cin : {1, 2}) test_conv16_shape(isas, {cin, 1, 3, 3, dilation}, 1 + pick(60), variant++, most());
  for (variant = 0; variant < 420; variant++) test_conv16_shape(isas, {3, 5, 2, 2, 1}, 37, variant, most());  // every combination
  test_conv16_extremes(isas);
  test_conv16_accuracy(isas);
}

}  // namespace
