// One thread's work on a tile: it slides down the tile as the band's schedule says, and makes of every value just the rows that are new. A value lives
// in a ring of rows: as many as its readers still need. So nothing is computed twice inside a tile. Several threads may share a tile: all rows of an
// action are independent of each other, and of convolutions all columns too.
#pragma once
#include <memory>
#include <vector>

#include "engine/io.h"
#include "engine/layout.h"
#include "engine/run.h"
#include "engine/tiling.h"

namespace fastsr {

// What all tiles of a run share.
struct RunContext {
  const Net& net;
  const std::vector<const Source*>& sources;  // one per input of the program
  const std::vector<Sink*>& sinks;            // one per net.outputs
  const float* zeros;                         // tiling.zero_floats of them
  Calibration* calibration;                   // what the run reads is added here, unless null
};

// How an action is cut into units for several threads: `rows` each, but `above` fewer in the first; their columns are cut into `parts` where it is a
// convolution.
struct Share {
  int rows = 1, parts = 1, above = 0;
  int units(const Action& action) const { return (action.to - action.from + above + rows - 1) / rows * parts; }
};

class TileRunner {
 public:
  // `timed`: fill times().
  TileRunner(const RunContext& run, bool timed);
  ~TileRunner();

  // From now on works on this tile. rings: layout.floats of them, shared by all threads on the tile; scratch: strip.scratch_floats, its own. All must
  // stay while the tile is worked on.
  void begin(const Layout& layout, const Strip& strip, float* rings, float* scratch);

  // Does an action, or one unit of it.
  void act(const Action& action) { act(action, {action.to - action.from, 1}, 0); }
  void act(const Action& action, Share share, int unit);

  // How `threads` threads should share an action: whole groups of rows, in calls as large as they may be.
  Share share(const Action& action, int threads) const;

  // Per step, then one entry for sources and one for sinks.
  const std::vector<StepTime>& times() const { return times_; }

 private:
  struct ResizeColumns {
    std::vector<int32_t> index;
    std::vector<float> coef;
  };

  const Ring& ring(int v) const { return layout_->rings[static_cast<size_t>(v)]; }
  template <class T>
  T* element(int v, int y, int x) const {
    const Ring& r = ring(v);
    return reinterpret_cast<T*>(rings_ + r.base) + r.first + ((y + r.rows) % r.rows) * r.row + (x - r.origin);
  }
  float* at(int v, int y, int x) const { return element<float>(v, y, x); }
  bool half(int v) const { return ring(v).element == Element::kHalf; }
  // Any kind.
  void* row(int v, int y, int x) const { return half(v) ? static_cast<void*>(element<uint16_t>(v, y, x)) : at(v, y, x); }
  void keep(int v, int y, Span cols, const float* src, ptrdiff_t stride, int first, int channels);
  void close_row(int v, int y, bool left = true, bool right = true);
  template <class T>
  void clear_margins(int v, int y, bool left, bool right, T zero = 0);
  // Columns cols of channel c of row y of value v as floats, in place or in line_.
  const float* floats(int v, int y, Span cols, int c);
  double make_part(size_t s, int from, int to, int part, int parts);
  void make(size_t s, int y, int n, Span cols, bool left, bool right);
  void concat(size_t s, int y, Span cols);
  ConvCommon common(size_t s, ptrdiff_t out_stride, Span cols) const;
  void winograd(size_t s, int y, int n, void* const* dst, Element element, ptrdiff_t stride, Span cols, float* scratch);
  void lines_of_bytes(int v, int iy, int first, int n, uint32_t* to, ptrdiff_t stride);
  void conv8(size_t s, int y, void* dst, ptrdiff_t stride, Span cols, float* scratch);
  void conv16(size_t s, int y, int n, void* const* dst, ptrdiff_t stride, Span cols, float* scratch);
  void measure(size_t s, int y, Span cols);
  void measure_result(size_t s, int y, Span cols);
  void shuffle(size_t s, int y, const float* result, ptrdiff_t stride, Span cols, bool left, bool right, float* scratch);
  void make_result(size_t s, int y, float* dst, ptrdiff_t stride, Span cols, float* scratch);
  void conv(size_t s, int y, float* dst, ptrdiff_t stride, Span cols, float* scratch);
  void resize(size_t s, int y, float* dst, ptrdiff_t stride, Span cols, float* scratch);
  void pad(size_t s, int y, float* dst, ptrdiff_t stride, Span cols);
  void depth_to_space(size_t s, int y, float* dst, ptrdiff_t stride, Span cols);
  void space_to_depth(size_t s, int y, float* dst, ptrdiff_t stride, Span cols);
  void apply(const RowOp& op, int y, float* dst, ptrdiff_t stride, int channels, Span cols, int first = 0);
  void load(size_t input, int from, int to);
  void store(size_t output, int from, int to);

  const RunContext& run_;
  const Net& net_;
  const Kernels& k_;
  const bool timed_;
  const Layout* layout_ = nullptr;
  const Strip* strip_ = nullptr;
  float* rings_ = nullptr;
  float* scratch_ = nullptr;
  std::vector<ResizeColumns> resize_columns_;  // by step
  std::vector<const float*> taps_;
  std::vector<const uint32_t*> lines_;
  std::vector<void*> results_;
  std::vector<float> line_;
  std::vector<char> copy_for_sink_, nothing_to_do_;
  std::vector<std::unique_ptr<IoScratch>> source_scratch_, sink_scratch_;
  std::vector<StepTime> times_;
};

}  // namespace fastsr
