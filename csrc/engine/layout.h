// Where in memory the rows of a tile's values lie.
#pragma once
#include <vector>

#include "engine/tiling.h"

namespace fastsr {

struct Ring {
  Element element = Element::kFloat;
  ptrdiff_t base = 0;    // floats from the start of the tile's memory to that of the root's ring
  ptrdiff_t first = 0;   // from here on in elements: to the value's own channels
  ptrdiff_t stride = 0;  // channel to channel
  ptrdiff_t row = 0;     // row to row
  int rows = 1, origin = 0, channels = 0;  // origin: column of a channel's first element
  int lines = 0;                           // of a row: channels, or pairs or fours of them
  int before = 0, end = 0, gap = 0;        // zero margins: elements before the first channel, and from column `end` on to the next channel
};

constexpr double kMostFloats = static_cast<double>(size_t{1} << 29);  // of a tile, 2 GiB: more means a hostile file

struct Layout {
  std::vector<Ring> rings;  // by value
  size_t floats = 0;        // of all rings
};

// Rings whose values do not live at the same time share memory. Throws Error(kMemory) when that is more than any picture can ask for.
Layout make_layout(const Net& net, const Schedule& schedule, const Strip& strip);

// Floats that make_layout finds, without its limit.
double layout_floats(const Net& net, const Schedule& schedule, const Strip& strip);

// The most floats of rings that live at the same time: no layout takes less. Quickly found.
double live_floats(const Net& net, const Schedule& schedule, const Strip& strip);

}  // namespace fastsr
