#include "engine/layout.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"

namespace fastsr {
namespace {

constexpr size_t kSearched = 1500;

size_t idx(int i) { return static_cast<size_t>(i); }

// Floats of a root's ring; hostile files can ask for more than 64 bits hold.
double ring_floats(const Net& net, const Schedule& schedule, const Strip& strip, int v) {
  const double size = net.plan.elements[idx(v)] == Element::kHalf ? 0.5 : 1;
  const ValueColumns& c = strip.values[idx(v)];
  return std::ceil(size * (c.before + static_cast<double>(net.lines(v)) * static_cast<double>(c.stride)) * schedule.ring[idx(v)]) + kRowEnd;
}

struct Block {
  int value;
  double floats;
  Schedule::Life life;
  double at = 0;
};

// Gives every root's ring a place, the largest first, each at the lowest address that is free during its life. Returns the floats of all.
double place_rings(const Net& net, const Schedule& schedule, const Strip& strip, std::vector<Block>& blocks) {
  for (size_t v = 0; v < net.sizes.size(); ++v)
    if (net.used[v] && net.places[v].root == static_cast<int>(v))
      blocks.push_back({static_cast<int>(v), ring_floats(net, schedule, strip, static_cast<int>(v)), schedule.life[v]});
  std::stable_sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) { return a.floats > b.floats; });
  double total = 0;
  std::vector<const Block*> rivals;  // placed, alive at the same time, by address
  for (size_t i = 0; i < blocks.size(); ++i) {
    Block& block = blocks[i];
    rivals.clear();
    // Of very many values the smallest do not look for gaps: the search takes time with the square of their number.
    if (i >= kSearched) {
      block.at = total;
      total += block.floats;
      continue;
    }
    for (size_t j = 0; j < i; ++j)
      if (blocks[j].life.first <= block.life.last && block.life.first <= blocks[j].life.last) rivals.push_back(&blocks[j]);
    std::sort(rivals.begin(), rivals.end(), [](const Block* a, const Block* b) { return a->at < b->at; });
    for (const Block* rival : rivals) {
      if (block.at + block.floats <= rival->at) break;
      block.at = std::max(block.at, rival->at + rival->floats);
    }
    total = std::max(total, block.at + block.floats);
  }
  return total;
}

}  // namespace

double layout_floats(const Net& net, const Schedule& schedule, const Strip& strip) {
  std::vector<Block> blocks;
  return place_rings(net, schedule, strip, blocks);
}

double live_floats(const Net& net, const Schedule& schedule, const Strip& strip) {
  std::vector<std::pair<int32_t, double>> changes;  // at an action; what lives up to it goes after what begins there
  for (size_t v = 0; v < net.sizes.size(); ++v) {
    if (!net.used[v] || net.places[v].root != static_cast<int>(v)) continue;
    const double floats = ring_floats(net, schedule, strip, static_cast<int>(v));
    changes.emplace_back(schedule.life[v].first, floats);
    changes.emplace_back(schedule.life[v].last + 1, -floats);
  }
  std::sort(changes.begin(), changes.end());
  double live = 0, most = 0;
  for (const auto& change : changes) most = std::max(most, live += change.second);
  return most;
}

Layout make_layout(const Net& net, const Schedule& schedule, const Strip& strip) {
  std::vector<Block> blocks;
  const double floats = place_rings(net, schedule, strip, blocks) + static_cast<double>(strip.scratch_floats);
  if (floats > kMostFloats)
    throw Error(ErrorKind::kMemory, "the network needs " + std::to_string(static_cast<int64_t>(floats / (1 << 18))) + " MiB of working memory for one tile");
  Layout layout;
  layout.rings.resize(net.sizes.size());
  for (const Block& b : blocks) {
    layout.rings[idx(b.value)].base = static_cast<ptrdiff_t>(b.at);
    layout.floats = std::max(layout.floats, static_cast<size_t>(b.at + b.floats));
  }
  for (size_t v = 0; v < layout.rings.size(); ++v) {
    if (!net.used[v]) continue;
    const Place place = net.places[v];
    const ValueColumns& c = strip.values[v];
    Ring& r = layout.rings[v];
    r.stride = c.stride;
    r.element = net.plan.elements[v];
    r.base = layout.rings[idx(place.root)].base;
    r.first = c.before + place.channel * r.stride;
    r.row = c.before + r.stride * net.lines(place.root);
    r.rows = schedule.ring[idx(place.root)];
    r.origin = c.all.lo;
    r.channels = net.channels(static_cast<int>(v));
    r.lines = net.lines(static_cast<int>(v));
    if (!c.margins) continue;
    r.before = c.before;
    r.end = c.all.hi;
    r.gap = static_cast<int>(r.stride) - c.all.size();
  }
  return layout;
}

}  // namespace fastsr
