// fast_test --bench: the 16-bit convolution's rate.
#pragma once
#include "kernels_fast.h"
#include "kernels_peak.h"

namespace {

// GFLOP/s of `rows` rows of `width` pixels, counted as the direct sum's; best of short runs. Input and output rows lie as in the engine.
double bench_fast_convolution(const FastKernels* isa, Tile16 tile, int cin, int cout, int width, int rows, Element type) {
  FastProblem p(tile, cin, cout, width, rows, type);
  p.calibrate(1.25f);
  Winograd16Rows r = p.rows(1);
  r.out_type = type;
  FastCall call(isa, p, r, 0);
  const double flop = 2.0 * rows * 9 * cin * cout * width;
  const int rounds = std::max(1, static_cast<int>((isa->isa == std::string("scalar") ? 3e7 : 3e8) / flop));
  double best = 0;
  for (int run = 0; run < 20; run++) {
    const double start = peak::seconds();
    for (int i = 0; i < rounds; i++) winograd16_of(*isa, tile).run(call.r);
    best = std::max(best, flop * rounds / (peak::seconds() - start) * 1e-9);
  }
  return best;
}

void bench_fast(const std::vector<const FastKernels*>& isas, const std::string& only) {
  const int shapes[][4] = {{64, 64, 96, 12}, {64, 64, 192, 12}, {64, 64, 288, 12}, {64, 64, 576, 12}, {32, 32, 192, 12}, {12, 12, 192, 12}, {64, 32, 192, 12}, {64, 16, 192, 12}, {256, 256, 96, 12}};
  for (const FastKernels* isa : isas) {
    if (!only.empty() && only != isa->isa) continue;
    for (const auto& s : shapes)
      for (Tile16 tile : {Tile16{4, 4}, {6, 4}, {6, 6}})
        for (Element type : {Element::kHalf, Element::kPairs})
          std::printf("%s winograd16 %dx%d %3d->%3d, %3d x %2d, %s  %7.1f GFLOP/s\n", fast_name(isa).c_str(), tile.rows, tile.columns, s[0], s[1], s[2], s[3],
                      type == Element::kHalf ? "halves" : "pairs ", bench_fast_convolution(isa, tile, s[0], s[1], s[2], s[3], type));
  }
}

}  // namespace
