// conv16_rows against the convolution's meaning, within what rounding the weights can do; the same bits whichever rows and columns are made together.
#pragma once
#include "kernels_conv16.h"

namespace {

struct RowsProblem : Conv16Problem {
  RowsProblem(const Conv16Shape& shape, int width_, float most, Element extra_type, bool extreme = false) : Conv16Problem(shape, width_, most, extra_type) {
    rows.push_back(std::make_unique<AnyRow>(Element::kPairs, s.cin, stride, 0, in_scales.get()));
    lines.push_back(static_cast<const uint32_t*>(rows[s.kh]->at(0)));
    for (int i = 0; i <= s.kh; i++)
      for (int c = 0; c < s.cin; c++)
        for (int x = 0; x < stride; x++) {
          const float limit = most / in_scales.scale[c];
          rows[i]->set(c, x, x >= reach ? kNaN : extreme ? (pick(2) ? limit : -limit) : uniform(-limit, limit));
        }
    for (float& v : slope) v = uniform(0, pick(3) ? 1 : 2);
  }
  Conv16Rows call(int variant, const Conv16Row& like) const {
    Conv16Rows r{};
    static_cast<ConvCommon&>(r) = like;
    r.lines = lines.data();
    r.kh = s.kh, r.kw = s.kw, r.dilation = s.dilation;
    r.residual_type = like.residual_type;
    r.residual_scale = like.residual_scale;
    r.out_type = like.out_type;
    r.most = like.most;
    r.rows = 1 + variant % 2;
    return r;
  }
  // The result before it is rounded, and the most by which rounded weights can change it; coef: of a result's unit.
  std::pair<double, double> meant(const Conv16Rows& r, int k, int y, int x, double coef, float more) const {
    const double unit = r.out_type == Element::kPairs ? static_cast<double>(out_scales.scale[k]) : 1;
    double sum = r.bias ? static_cast<double>(r.bias[k]) : 0, size = std::fabs(sum), inputs = 0;
    for (int c = 0; c < s.cin; c++)
      for (int t = 0; t < taps; t++) {
        const double d = static_cast<double>(rows[y + t / s.kw]->get(c, x + t % s.kw * s.dilation));
        const double term = static_cast<double>(w[(static_cast<size_t>(k) * s.cin + c) * taps + t]) * d / static_cast<double>(in_scales.scale[c]);
        sum += term, size += std::fabs(term), inputs += std::fabs(d);
      }
    double v = sum * unit;
    const double extra_v = r.residual ? static_cast<double>(more) : 0;
    if (r.residual_first) v += extra_v;
    const double slope_k = static_cast<double>(r.act == Act::kPRelu ? slope[k] : r.a);
    if (r.act == Act::kRelu) v = std::max(v, 0.0);
    if (r.act == Act::kClip) v = std::min(std::max(v, static_cast<double>(r.a)), static_cast<double>(r.b));
    if ((r.act == Act::kPRelu || r.act == Act::kLeakyRelu) && v < 0) v *= slope_k;
    if (!r.residual_first) v += extra_v;
    double bound = (coef * inputs + 1e-6 * unit * size) * std::max(1.0, std::fabs(slope_k)) + 1e-6 * std::fabs(extra_v) + 1e-12;
    if (r.out_type == Element::kHalf) bound += std::fabs(v) / 1024;
    if (r.out_type == Element::kPairs) {
      v = std::min(std::max(v, -static_cast<double>(r.most)), static_cast<double>(r.most));
      bound += 0.51;
    }
    return {v, bound};
  }
};

struct RowsCall {
  std::vector<uint8_t> packed;
  Row<uint8_t> scratch;
  ptrdiff_t stride;
  std::vector<std::unique_ptr<AnyRow>> out;
  const float* weights;
  RowsCall(const FastKernels* isa, const RowsProblem& p, Conv16Rows r, int lead)
      : packed(isa->conv16_rows_pack_size(p.s.cout, p.s.cin, p.s.kh, p.s.kw) + 64), scratch(isa->conv16_rows_scratch(p.s.cin, p.s.kh, r.width)),
        stride(r.width + kOverWrite + lead % 7) {
    void* aligned = packed.data() + (64 - reinterpret_cast<uintptr_t>(packed.data()) % 64) % 64;
    isa->conv16_rows_pack(aligned, p.w.data(), p.s.cout, p.s.cin, p.s.kh, p.s.kw, r.bias, p.in_scales.get(),
                          r.out_type == Element::kPairs ? p.out_scales.scale.data() : nullptr);
    std::vector<void*> to;
    for (int i = 0; i < r.rows; i++) {
      out.push_back(std::make_unique<AnyRow>(r.out_type, p.s.cout, stride, lead, p.out_scales.get()));
      to.push_back(out[i]->at(0));
    }
    r.weights = weights = static_cast<const float*>(aligned);
    r.scratch = scratch.data;
    r.out_stride = stride;
    r.out = to.data();
    isa->conv16_rows(r);
  }
};

void test_conv16_rows_shape(const std::vector<const FastKernels*>& isas, const Conv16Shape& s, int width, int variant, float most, bool extreme = false) {
  RowsProblem p(s, width, most, static_cast<Element>(pick(3)), extreme);
  const Conv16Row like = p.row(variant);
  const Conv16Rows r = p.call(variant, like);
  AnyRow second(p.extra.type, s.cout, p.extra_stride, 0, p.extra_scales.get());
  for (int k = 0; k < s.cout; k++)
    for (int x = 0; x < width; x++) second.set(k, x, uniform(-1, 1));
  AnyRow* const extras[2] = {&p.extra, &second};
  const int from = pick(width), n = 1 + pick(width - from);
  std::vector<float> expected;  // of the vector sets
  for (const FastKernels* isa : isas) {
    const auto complain = [&](const char* what) {
      fail("%s (%s) conv16_rows %d->%d %dx%d dilation %d width %d variant %d: %s", isa->isa, isa->dot, s.cin, s.cout, s.kh, s.kw, s.dilation, width, variant, what);
    };
    const auto run = [&](int first, int rows, int begin, int size, int lead) {
      Conv16Rows some = r;
      std::vector<const uint32_t*> lines;
      for (int i = first; i <= s.kh + 1; i++) lines.push_back(p.lines[std::min(i, s.kh)] + begin);
      const void* residual[2];
      for (int i = 0; i < rows; i++) residual[i] = extras[first + i]->at(begin);
      some.lines = lines.data();
      some.rows = rows;
      some.width = size;
      some.residual = like.residual ? residual : nullptr;
      return std::make_unique<RowsCall>(isa, p, some, lead);
    };
    const auto all = run(0, r.rows, 0, width, 3);
    std::vector<float> got;
    bool near = true;
    for (int y = 0; y < r.rows; y++) {
      if (!all->out[y]->intact(width)) complain("writes outside its rows");
      for (int k = 0; k < s.cout; k++)
        for (int x = 0; x < width; x++) {
          got.push_back(all->out[y]->get(k, x) + 0.0f);
          Conv16Rows with = r;
          const void* some = nullptr;
          with.residual = like.residual ? &some : nullptr;
          const auto [v, bound] = p.meant(with, k, y, x, static_cast<double>(all->weights[k]), extras[y]->get(k, x) * p.extra_scale[k]);
          near = near && std::fabs(static_cast<double>(got.back()) - v) <= bound;
          checks++;
        }
    }
    if (!near) complain("a result is too far off");
    if (isa->isa != std::string("scalar")) {
      if (expected.empty()) expected = got;
      for (size_t i = 0; i < got.size(); i++)
        if (!same(got[i], expected[i])) return complain("other bits than another instruction set");
    }
    for (int y = 0; y < r.rows; y++) {  // each row alone, and only some of its pixels
      const auto one = run(y, 1, from, n, pick(16));
      bool equal = true;
      for (int k = 0; k < s.cout; k++)
        for (int x = 0; x < n; x++) equal = equal && same(one->out[0]->get(k, x), all->out[y]->get(k, from + x));
      if (!equal) complain("a part differs from the whole");
      if (!one->out[0]->intact(n)) complain("writes outside its row");
    }
  }
  digest(expected);
}

void test_conv16_rows(const std::vector<const FastKernels*>& isas) {
  for (const FastKernels* isa : isas)
    for (int width = 1; width < 700; width++)
      for (const int cin : {1, 12, 64})
        if (isa->conv16_rows_scratch(cin, 3, width + 1) < isa->conv16_rows_scratch(cin, 3, width)) fail("%s conv16_rows: less scratch for more width", isa->isa);
  int variant = 0;
  const auto most = [] { return static_cast<float>(1024 + pick(15360)); };
  const int kernels[][2] = {{2, 1}, {3, 3}, {4, 4}, {5, 5}, {3, 1}, {6, 2}, {7, 3}, {8, 1}, {9, 9}};
  for (const int cin : {1, 2, 3, 4, 5, 12, 17})
    for (const int cout : {1, 2, 3, 4, 5, 7, 8, 12, 13})
      for (const auto& k : kernels) {
        if (k[0] == 9 && (cin > 3 || cout > 4)) continue;
        const Conv16Shape s{cin, cout, k[0], k[1], pick(3) ? 1 : 1 + pick(kConv16RowsReach / k[1])};
        test_conv16_rows_shape(isas, s, 1 + pick(cin * cout * k[0] * k[1] > 1000 ? 60 : 140), variant++, most());
      }
  for (int width = 1; width <= 220; width++) test_conv16_rows_shape(isas, {1 + pick(3), 1 + pick(5), 3, 3, 1}, width, variant++, most());
  for (const Conv16Shape& s : {Conv16Shape{64, 6, 3, 3, 1}, Conv16Shape{57, 4, 5, 5, 1}, Conv16Shape{1, 64, 5, 5, 1}, Conv16Shape{1, 9, 9, 9, 1},
                               Conv16Shape{401, 2, 2, 1, 1}, Conv16Shape{10, 2, 7, 5, 4}, Conv16Shape{3, 3, 3, 1, 32}})
    for (int i = 0; i < 2; i++) test_conv16_rows_shape(isas, s, 1 + pick(700), variant++, most());
  for (const Conv16Shape& s : {Conv16Shape{2, 3, 3, 3, 1}, Conv16Shape{7, 5, 5, 5, 1}, Conv16Shape{40, 4, 3, 3, 1}, Conv16Shape{12, 2, 4, 2, 1}})
    for (const float m : {1.0f, 2048.0f, kConv16RowsMost})
      for (int i = 0; i < 6; i++) test_conv16_rows_shape(isas, s, 33, variant++, m, true);
  for (variant = 0; variant < 420; variant++) test_conv16_rows_shape(isas, {3, 5, 2, 2, 1}, 37, variant, most());  // every combination
}

}  // namespace
