// Winograd's algorithm in both directions: against the convolution's meaning, in parts, with many groups of rows.
#pragma once
#include "kernels_winograd.h"

namespace {

// Everything about one shape: the whole, and any part of it that begins at a multiple of the tiles' rows and columns.
void test_winograd2d(const std::vector<const Kernels*>& isas, int tile, int cin, int cout, int width, int groups, int variant) {
  const WinogradProblem p(cin, cout, width, false, tile, groups);
  const int x0 = pick((width + tile - 1) / tile) * tile, n = 1 + pick(width - x0), y0 = pick(groups) * tile, n_rows = 1 + pick(p.n_rows - y0), lead = pick(16);
  std::vector<float> first;
  for (const Kernels* isa : isas) {
    std::vector<float> packed(isa->winograd2d_pack_size(tile, cout, cin) + 16, kNaN);
    float* aligned = packed.data();
    while (reinterpret_cast<uintptr_t>(aligned) % 64) aligned++;
    isa->winograd2d_pack(tile, aligned, p.w.data(), cout, cin);
    WinogradRows r = p.rows(variant);
    r.weights = aligned;
    Guarded scratch(isa->winograd2d_scratch(tile, cin, cout, width, r.rows));
    r.scratch = scratch.data;
    WinogradOutput out(r, 3, r.rows);
    isa->winograd2d(r);
    check_winograd_result(isa->isa, p, r);
    if (!out.intact(r)) fail("%s winograd%dx%d %d->%d width %d rows %d writes outside its rows", isa->isa, tile, tile, cin, cout, width, r.rows);

    WinogradRows part = r;
    std::vector<const float*> lines, residual;
    for (int i = y0; i < p.n_rows + 2; i++) lines.push_back(p.lines[i] + x0);
    for (int i = y0; i < p.n_rows; i++) residual.push_back(p.residual[i] + x0);
    part.in = lines.data();
    part.residual = r.residual ? residual.data() : nullptr;
    part.width = n;
    Guarded part_scratch(isa->winograd2d_scratch(tile, cin, cout, n, n_rows));
    part.scratch = part_scratch.data;
    WinogradOutput part_out(part, lead, n_rows);
    isa->winograd2d(part);
    if (!same_results(part, r, x0, n, std::min(n_rows, r.rows - y0), y0))
      fail("%s winograd%dx%d %d->%d: pixels %d..%d of %d, rows %d..%d of %d differ from the whole's", isa->isa, tile, tile, cin, cout, x0, x0 + n, width, y0, y0 + n_rows,
           p.n_rows);
    if (!part_out.intact(part)) fail("%s winograd%dx%d %d->%d width %d rows %d writes outside its rows", isa->isa, tile, tile, cin, cout, n, n_rows);

    if (isa->isa == std::string("scalar")) continue;
    std::vector<float> dense;
    for (int i = 0; i < r.rows; i++)
      for (int k = 0; k < cout; k++) dense.insert(dense.end(), r.out[i] + k * r.out_stride, r.out[i] + k * r.out_stride + width);
    if (first.empty()) first = dense;
    if (!std::equal(dense.begin(), dense.end(), first.begin(), same))
      fail("%s winograd%dx%d %d->%d width %d: bits differ from the other sets'", isa->isa, tile, tile, cin, cout, width);
  }
  digest(first);
}

void test_winograd2ds(const std::vector<const Kernels*>& isas, int tile) {
  for (const Kernels* isa : isas)
    for (const int channels : {12, 256})
      for (int width = 1; width < 1000; width++)
        for (int rows = 1; rows < 14; rows++)
          if (isa->winograd2d_scratch(tile, channels, channels, width + 1, rows) < isa->winograd2d_scratch(tile, channels, channels, width, rows) ||
              isa->winograd2d_scratch(tile, channels, channels, width, rows + 1) < isa->winograd2d_scratch(tile, channels, channels, width, rows))
            fail("%s winograd%dx%d: less scratch than for a smaller picture than width %d rows %d", isa->isa, tile, tile, width + 1, rows + 1);
  int variant = 0;
  const int channels[] = {1, 3, 5, 12, 16, 32, 48, 56, 64, 65};
  for (int cin : channels)
    for (int cout : channels) {
      const int work = cin * cout;
      for (int width = 1 + pick(3); width <= 70; width += work > 1000 ? 40 + pick(40) : work > 100 ? 25 + pick(30) : 5 + pick(9))
        test_winograd2d(isas, tile, cin, cout, width, 1 + pick(work > 1000 ? 2 : 5), variant++);
    }
  for (int width = 1; width <= 70; width++) test_winograd2d(isas, tile, 5, 3, width, 1 + pick(7), variant++);
  for (int width : {127, 193, 320, 1021, 4000}) test_winograd2d(isas, tile, 3, 5, width, width < 1000 ? 3 : 1, variant++);
  for (int width : {257, 900}) test_winograd2d(isas, tile, 16, 12, width, 2, variant++);
  test_winograd2d(isas, tile, 200, 9, 33, 2, variant++);
  for (const auto& [cin, cout, width, groups] :
       {std::tuple{128, 128, 57, 2}, {256, 256, 13, 2}, {250, 67, 29, 2}, {180, 180, 34, 1}, {192, 32, 65, 3}, {129, 251, 20, 1}})
    test_winograd2d(isas, tile, cin, cout, width, groups, variant++);
  for (variant = 0; variant < 420; variant++) test_winograd2d(isas, tile, 2, 9, 37, 1 + variant % 2, variant);  // every combination
  for (const auto& [cin, cout, limit] : {std::tuple{64, 16, tile == 4 ? 2.1 : 9.0}, std::tuple{12, 12, tile == 4 ? 2.9 : 15.0}}) {
    const WinogradProblem p(cin, cout, 200, false, tile, 2);
    for (const Kernels* isa : isas) {
      const double ratio = winograd_error_ratio(isa, p);
      checks++;
      if (!(ratio < limit)) fail("%s winograd%dx%d %d->%d: its error is %g times the direct sum's", isa->isa, tile, tile, cin, cout, ratio);
    }
  }
}

}  // namespace
