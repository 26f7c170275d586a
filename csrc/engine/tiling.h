// Tiles: the input grid is cut into horizontal bands and vertical strips; a tile is where a band crosses a strip. Each output is cut at the same
// fractions of its size, so every output pixel belongs to exactly one tile. What a band (strip) needs of every value follows backwards from its outputs.
#pragma once
#include <cstddef>
#include <vector>

#include "engine/geometry.h"
#include "engine/plan.h"

namespace fastsr {

// Where a value's rows lie: in the rows of value `root`, from its channel `channel` on. What a Concat joins lies in its result from the start.
struct Place {
  int root = -1, channel = 0;
  bool operator==(const Place& o) const { return root == o.root && channel == o.channel; }
};

// A plan with a picture size and a choice of outputs: everything that all tiles of a run share.
struct Net {
  Net(const Plan& plan, int height, int width, std::vector<int> outputs);

  const Plan& plan;
  int height, width;            // of the inputs
  std::vector<int> outputs;     // values
  std::vector<Size> sizes;      // of every value
  std::vector<char> active;     // steps that the outputs need
  std::vector<char> used;       // values that active steps make or read, or that are outputs
  std::vector<Place> places;    // of every value
  bool phased;                  // whether groups begin at the steps' phases, else with the picture

  const Step& step(size_t s) const { return plan.program.steps[s]; }
  Size size(int v) const { return sizes[static_cast<size_t>(v)]; }
  int channels(int v) const { return plan.program.values[static_cast<size_t>(v)].channels; }
  // Of a row of a value: its channels, or pairs or fours of them.
  int lines(int v) const {
    const Element e = plan.elements[static_cast<size_t>(v)];
    return e == Element::kPairs ? (channels(v) + 1) / 2 : e == Element::kBytes ? (channels(v) + 3) / 4 : channels(v);
  }
  // Calls `f` with every value that a step makes or reads, with some more than once.
  template <class F>
  void each_value(size_t s, const F& f) const {
    const StepPlan& made = plan.steps[s];
    f(step(s).out);
    for (int v : step(s).in) f(v);
    if (made.residual >= 0) f(made.residual);
    for (const auto* ops : {&made.before, &made.after})
      for (const RowOp& op : *ops)
        if (op.value >= 0) f(op.value);
  }
  Place place(int v) const { return places[static_cast<size_t>(v)]; }
  // Whether input number `i` of the Concat `s` lies where the result wants it, from channel `channel` of the result on.
  bool in_place(size_t s, size_t i, int channel) const;
  // The first row (column) of the group of step s's result that `at` lies in; at the picture's edge this may be negative.
  int group_begin(size_t s, int axis, int at) const;
  // The groups of step s's result that hold `result`, of which the first may begin before the picture and the last end behind it.
  Span groups(size_t s, int axis, Span result) const;
  // Whether a step is a Concat whose inputs all lie where the result wants them.
  bool nothing_to_do(size_t s) const;
  // Extent of a step's result before its epilogue.
  int result_extent(size_t s, int axis) const { return size(step(s).out).along(axis) / plan.steps[s].block; }
  // The part of every output that belongs to `base`, a part of the input grid.
  std::vector<Span> output_spans(int axis, Span base) const;
  // The demand on every value for these parts of the outputs. With `full` (the demand of the whole band), values are made from its first row on.
  void demand(int axis, const std::vector<Span>& outs, std::vector<Span>& spans, const std::vector<Span>* full = nullptr) const;
  // The first row of each value that is still needed when rows [done, full.hi) of every value are still to be made.
  void still_needed(const std::vector<Span>& full, const std::vector<int>& done, const std::vector<Span>& outs, const std::vector<int>& out_done,
                    std::vector<int>& keep) const;

 private:
  void find_places();
};

struct Band {
  Span base;
  std::vector<Span> outs;  // rows of each output
  std::vector<Span> rows;  // demand on each value
};

struct ValueColumns {
  Span cols;             // demand
  int left = 0, right = 0;  // zero margins: columns outside the picture that convolutions read
  // Of the root, see Place:
  Span all;              // hull of its values' columns, with what their first groups have before the picture
  ptrdiff_t stride = 0;  // elements from one channel to the next; what is left between channels is both one's right and the next one's left margin
  int before = 0;        // elements before the first channel of a row
  bool margins = false;
};

struct Strip {
  Span base;
  std::vector<Span> outs;
  std::vector<ValueColumns> values;
  std::vector<int> call_rows;        // by step: rows of the result that are made in one go, a multiple of row_group
  std::vector<int> call_columns;     // by step: columns of them, at most
  // Of the scratch of one call: the result before a shuffle or before it is made half floats or pairs, behind it Winograd's transforms, lines resized
  // vertically or the column phases of a strided convolution; or a copy for a sink.
  size_t scratch_floats = 0;
};

// Columns of the first group of step s's result that lie before the picture: kernels make them, but nobody reads them.
int columns_before(const Net& net, size_t s, const Strip& strip);

// Kernels write whole vectors of up to 16 pixels, and whole groups: columns are cut where both end, at multiples of this from a row's first column.
int part_columns(const StepPlan& plan);

// The columns of one of `parts` parts of a row, of `unit` columns or a multiple of them; may be none.
Span part_of(Span cols, int part, int parts, int unit);

// Channel strides: room for what kernels write beyond, an odd number of cache lines so that channels fall into different cache sets.
ptrdiff_t row_stride(int width, int gap = kOverWrite);
constexpr size_t kRowEnd = 256;  // floats that must be readable beyond the end of a buffer of rows

// What the tiles of a band do, in order; the same for every strip.
struct Action {
  enum What : int32_t { kLoad, kMake, kStore };
  What what;
  int32_t index;     // of the input, step or output
  int32_t from, to;  // its rows; for kMake rows of the step's result before a shuffle
};

struct Schedule {
  std::vector<Action> actions;
  std::vector<int> ring;  // rows that the ring of each root must hold
  struct Life {
    int32_t first, last;  // actions
  };
  std::vector<Life> life;  // from the first action that writes into the ring of a root to the last that reads it
};

Band make_band(const Net& net, Span base);
Strip make_strip(const Net& net, Span base);
// Chooses call_rows and call_columns so that no call takes more than `most` floats of scratch, as far as that can be.
void limit_scratch(const Net& net, Strip& strip, size_t most);
Schedule make_schedule(const Net& net, const Band& band, int chunk);
// Rows of its result that a step makes at a time when inputs advance by `chunk` rows: as many as go with that, but not so many that large rows take
// much memory.
int rows_at_a_time(const Net& net, size_t step, int chunk);

// How a call of conv8 for `width` pixels reads its input. in_stride: of the ring.
struct Conv8Lines {
  int lines = 0;                // of four channels
  int columns = 0;              // of the input under the kernel
  bool strided = false;         // taps have lines of their own, made of every other or so pixel
  ptrdiff_t source_stride = 0;  // words from line to line of a row of the input, in the ring or made of floats or zeros
  ptrdiff_t row_words = 0;      // of such a row
  ptrdiff_t source_words = 0;   // of all that are made at once
  ptrdiff_t stride = 0;         // words from line to line as the kernel reads them
  size_t words = 0;             // of scratch
};
Conv8Lines conv8_lines(const Net& net, size_t step, int width, ptrdiff_t in_stride);

struct Tiling {
  std::vector<Band> bands;
  std::vector<Strip> strips;
  int chunk = 1;           // input rows that a tile advances by
  int threads = 1;         // that work; fewer than there are where their scratch would take too much
  bool team = false;       // they work together on each tile; otherwise each takes tiles of its own
  bool generous = true;    // whether memory is taken in whole large pages
  size_t zero_floats = 0;  // of the shared zero row
};

// What may be asked of a tiling; 0 and kAny leave it to the engine.
enum class Teams : int { kAny = -1, kNone, kAlways };
struct TilingOptions {
  int tile = 0;   // edge of the tiles in input pixels
  int chunk = 0;  // input rows that a tile advances by
  int threads = 1;
  Teams teams = Teams::kAny;
  bool operator==(const TilingOptions& o) const { return tile == o.tile && chunk == o.chunk && threads == o.threads && teams == o.teams; }
};

Tiling make_tiling(const Net& net, const TilingOptions& options);

}  // namespace fastsr
