// The convolution in 8-bit integers against its meaning, integer by integer, and rows of bytes; and how fast it is.
#pragma once
#include "kernels_fast.h"
#include "kernels_peak.h"

namespace {

// ---- bytes ---------------------------------------------------------------------------------------------------------------------------------------

float quantized(float x, float low, float high) { return std::isnan(x) ? low : std::nearbyint(std::min(std::max(x, low), high)); }

void test_bytes(const std::vector<const FastKernels*>& isas) {
  for (const FastKernels* isa : isas)
    for (int n = 1; n <= 70; n++)
      for (const float least : {-255.0f, -128.0f, 0.0f}) {
        const int channels = 1 + pick(4);
        std::vector<std::unique_ptr<Row<float>>> rows;
        const float* four[4] = {};
        for (int c = 0; c < channels; c++) {
          rows.push_back(std::make_unique<Row<float>>(n + kOverRead));
          for (int i = 0; i < n; i++) rows[c]->data[i] = least + static_cast<float>(pick(256));
          four[c] = rows[c]->data;
        }
        Row<uint32_t> bytes(n + kOverRead);
        isa->int8.float_to_bytes(bytes.data, four, n, least);
        for (int c = 0; c < channels; c++) {
          Row<float> back(n + kOverWrite);
          isa->int8.bytes_to_float(back.data, bytes.data, c, n, least);
          for (int i = 0; i < n; i++, checks++)
            if (back.data[i] != four[c][i] || (bytes.data[i] >> 8 * c & 255) != static_cast<uint32_t>(four[c][i] - least))
              return fail("%s bytes: channel %d of word %08x is %g, expected %g", fast_name(isa).c_str(), c, bytes.data[i], back.data[i], four[c][i]);
        }
      }
}

// ---- the convolution -----------------------------------------------------------------------------------------------------------------------------

struct Conv8Shape {
  int cin, cout, kh, kw;
};

struct Conv8Problem {
  Conv8Shape s;
  int width, lines, n_taps;
  float least;
  ptrdiff_t stride;
  std::vector<float> w, bias, scale, shift, slope;
  std::vector<std::unique_ptr<Row<uint32_t>>> rows;
  std::vector<const uint32_t*> taps;

  // extreme: only the largest weights and inputs.
  Conv8Problem(const Conv8Shape& shape, int width_, float least_, bool extreme)
      : s(shape), width(width_), lines((shape.cin + 3) / 4), n_taps(shape.kh * shape.kw), least(least_), stride(width + shape.kw - 1 + kOverRead),
        w(static_cast<size_t>(shape.cout) * shape.cin * n_taps), bias(shape.cout), scale(shape.cout), shift(shape.cout), slope(shape.cout) {
    for (float& v : w) v = extreme ? (pick(2) ? 127.0f : -128.0f) : static_cast<float>(pick(256) - 128);
    for (float& v : bias) v = static_cast<float>(pick(2000001) - 1000000);
    for (float& v : scale) v = uniform(0.2f, 3.0f) / std::sqrt(static_cast<float>(s.cin * n_taps)) / 60;
    for (float& v : shift) v = uniform(-9, 9);
    for (float& v : slope) v = uniform(-0.5f, 1.5f);
    for (int i = 0; i < s.kh; i++) {
      rows.push_back(std::make_unique<Row<uint32_t>>(static_cast<size_t>(lines) * stride));
      for (int l = 0; l < lines; l++)
        for (int x = 0; x < width + s.kw - 1; x++) {
          uint32_t word = 0;
          for (int j = 0; j < 4; j++) word |= static_cast<uint32_t>(extreme ? 255 * pick(2) : pick(256)) << 8 * j;
          rows[i]->data[l * stride + x] = word;
        }
      for (int j = 0; j < s.kw; j++) taps.push_back(rows[i]->data + j);
    }
  }

  Conv8Row row(int variant) {
    Conv8Row r{};
    r.taps = taps.data();
    r.in_stride = stride;
    r.n_taps = n_taps;
    r.cin = s.cin, r.cout = s.cout, r.width = width;
    Finish8& f = r.finish;
    f.scale = variant % 5 == 4 ? nullptr : scale.data();
    f.shift = variant % 3 ? nullptr : shift.data();
    f.act = static_cast<Act>(variant % 5);
    f.a = f.act == Act::kClip ? -20.5f : 0.2f;
    f.b = 30.25f;
    f.slope = slope.data();
    r.bytes = variant % 2;
    f.quantize = r.bytes || variant / 2 % 2;
    f.low = -static_cast<float>(pick(256));
    f.high = f.low + 255;
    f.times = r.bytes || variant / 4 % 2 || !f.quantize ? 1.0f : 0.037f;
    r.least = f.low;
    return r;
  }

  float at(int c, int t, int x) const { return static_cast<float>(taps[t][c / 4 * stride + x] >> 8 * (c % 4) & 255) + least; }

  std::vector<float> model(const Conv8Row& r) const {
    std::vector<float> out;
    const Finish8& f = r.finish;
    for (int k = 0; k < s.cout; k++)
      for (int x = 0; x < width; x++) {
        int64_t sum = static_cast<int64_t>(bias[k]);
        for (int c = 0; c < s.cin; c++)
          for (int t = 0; t < n_taps; t++) sum += static_cast<int64_t>(w[(static_cast<size_t>(k) * s.cin + c) * n_taps + t] * at(c, t, x));
        if (sum != static_cast<int32_t>(sum)) fail("%s", "a sum leaves 32 bits");
        float y = static_cast<float>(sum);
        if (f.scale) y = y * f.scale[k];
        if (f.shift) y = y + f.shift[k];
        if (f.act == Act::kRelu) y = std::max(y, 0.0f);
        if (f.act == Act::kLeakyRelu && y < 0) y = y * f.a;
        if (f.act == Act::kPRelu && y < 0) y = y * f.slope[k];
        if (f.act == Act::kClip) y = std::min(std::max(y, f.a), f.b);
        if (f.quantize) y = quantized(y, f.low, f.high);
        if (f.times != 1.0f) y = y * f.times;
        out.push_back(y);
      }
    return out;
  }
};

// An output row in guarded memory, and the call's weights.
struct Conv8Call {
  std::vector<uint8_t> packed;
  ptrdiff_t stride;
  Row<uint32_t> out;
  Conv8Row r;
  int lead;
  Conv8Call(const FastKernels* isa, const Conv8Problem& p, const Conv8Row& like, int lead_)
      : packed(isa->int8.conv8_pack_size(p.s.cout, p.s.cin, p.n_taps) + 64), stride(like.width + kConvOverWrite + lead_ % 7),
        out(static_cast<size_t>(lead_ + lines(p, like) * stride)), r(like), lead(lead_) {
    void* const aligned = packed.data() + (64 - reinterpret_cast<uintptr_t>(packed.data()) % 64) % 64;
    isa->int8.conv8_pack(aligned, p.w.data(), p.s.cout, p.s.cin, p.n_taps, p.bias.data(), p.least);
    r.weights = aligned;
    r.out = out.data + lead;
    r.out_stride = stride;
    isa->int8.conv8(r);
  }
  static int lines(const Conv8Problem& p, const Conv8Row& r) { return r.bytes ? (p.s.cout + 3) / 4 : p.s.cout; }
  float get(int k, int x) const {
    if (r.bytes) return static_cast<float>(out.data[lead + k / 4 * stride + x] >> 8 * (k % 4) & 255) + r.least;
    float v;
    std::memcpy(&v, out.data + lead + k * stride + x, 4);
    return v;
  }
  bool intact(const Conv8Problem& p) const {  // kernels may write whole vectors
    return out.intact(static_cast<size_t>(lead), static_cast<size_t>(stride), static_cast<size_t>(lines(p, r)), static_cast<size_t>(r.width) + kConvOverWrite - 1);
  }
};

void test_conv8_shape(const std::vector<const FastKernels*>& isas, const Conv8Shape& s, int width, int variant, bool extreme) {
  Conv8Problem p(s, width, -static_cast<float>(pick(256)), extreme);
  const Conv8Row r = p.row(variant);
  const std::vector<float> want = p.model(r);
  const int from = pick(width), n = 1 + pick(width - from);
  for (const FastKernels* isa : isas) {
    const std::string name = fast_name(isa);
    const Conv8Call all(isa, p, r, pick(16));
    for (size_t i = 0; i < want.size(); i++, checks++)
      if (const float got = all.get(static_cast<int>(i / width), static_cast<int>(i % width)); !same(got + 0.0f, want[i] + 0.0f)) {
        fail("%s conv8 %d->%d %dx%d width %d variant %d: [%d][%d] is %.9g, expected %.9g", name.c_str(), s.cin, s.cout, s.kh, s.kw, width, variant,
             static_cast<int>(i / width), static_cast<int>(i % width), got, want[i]);
        break;
      }
    if (!all.intact(p)) fail("%s conv8 %d->%d %dx%d width %d writes outside its row", name.c_str(), s.cin, s.cout, s.kh, s.kw, width);
    Conv8Row part = r;
    std::vector<const uint32_t*> taps;
    for (const uint32_t* tap : p.taps) taps.push_back(tap + from);
    part.taps = taps.data();
    part.width = n;
    const Conv8Call some(isa, p, part, pick(16));
    bool equal = some.intact(p);
    for (int k = 0; k < s.cout; k++)
      for (int x = 0; x < n; x++) equal = equal && same(some.get(k, x), all.get(k, from + x));
    if (!equal) fail("%s conv8 %d->%d %dx%d: pixels %d to %d differ from the whole row's", name.c_str(), s.cin, s.cout, s.kh, s.kw, from, from + n);
  }
  digest(want);
}

void test_conv8(const std::vector<const FastKernels*>& isas) {
  test_bytes(isas);
  int variant = 0;
  const int channels[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 20, 28, 33};
  const int kernels[][2] = {{1, 1}, {3, 3}, {1, 2}, {2, 1}, {5, 5}};
  for (const int cin : {1, 2, 3, 4, 5, 8, 13})
    for (const int cout : channels)
      for (const auto& k : kernels) test_conv8_shape(isas, {cin, cout, k[0], k[1]}, 1 + pick(cin * cout * k[0] * k[1] > 1000 ? 40 : 150), variant++, false);
  for (int width = 1; width <= 220; width++) test_conv8_shape(isas, {1 + pick(5), 1 + pick(9), 3, 3}, width, variant++, pick(4) == 0);
  for (variant = 0; variant < 60; variant++) test_conv8_shape(isas, {5, 6, 2, 2}, 37, variant, false);
  for (const Conv8Shape& s : {Conv8Shape{64, 5, 3, 3}, Conv8Shape{300, 3, 5, 5}, Conv8Shape{2, 9, 9, 9}})
    for (int i = 0; i < 4; i++) test_conv8_shape(isas, s, 30, variant++, true);
}

// GFLOP/s of a row of `width` pixels, bytes to bytes, by turns of rows as in the engine; the best of short runs.
double bench_conv8(const FastKernels* isa, int cin, int cout, int kh, int kw, int width) {
  Conv8Problem p({cin, cout, kh, kw}, width, -128, false);
  Conv8Row r = p.row(1);
  r.finish.shift = nullptr;
  Conv8Call call(isa, p, r, 0);
  const double flop = 2.0 * kh * kw * cin * cout * width;
  const int rounds = std::max(1, static_cast<int>((isa->isa == std::string("scalar") ? 3e7 : 3e8) / flop));
  double best = 0;
  for (int run = 0; run < 20; run++) {
    const double start = peak::seconds();
    for (int i = 0; i < rounds; i++) isa->int8.conv8(call.r);
    best = std::max(best, flop * rounds / (peak::seconds() - start) * 1e-9);
  }
  return best;
}

void bench_conv8s(const std::vector<const FastKernels*>& isas, const std::string& only) {
  const int shapes[][4] = {{64, 64, 3, 3}, {32, 32, 3, 3}, {28, 28, 3, 3}, {12, 12, 3, 3}, {64, 12, 3, 3}, {32, 4, 3, 3}, {3, 64, 3, 3}, {64, 32, 1, 1}};
  for (const FastKernels* isa : isas) {
    if (!only.empty() && only != isa->isa) continue;
    const double before = peak::int8_rate(isa->isa, isa->dot);
    for (const auto& s : shapes) {
      const double rate = bench_conv8(isa, s[0], s[1], s[2], s[3], 256);
      const double top = std::max(before, peak::int8_rate(isa->isa, isa->dot));
      std::printf("%s conv8 %3d->%3d, %dx%d  %7.1f GFLOP/s", fast_name(isa).c_str(), s[0], s[1], s[2], s[3], rate);
      if (top > 0) std::printf("  %3.0f %% of %.1f", 100 * rate / top, top);
      std::printf("\n");
    }
  }
}

}  // namespace
