// Where the groups of rows and columns begin that Winograd's algorithm makes together.
#pragma once
#include "engine/geometry.h"
#include "engine/plan.h"

namespace fastsr {

// Sets the phases of all steps so that the groups of a step end where those of the step before it suffice for: where all groups have
// four rows, one then needs just one group more of what it reads, and a layer's halo is four rows or columns in all instead of eight. Any phases give right
// results.
void set_phases(Plan& plan);

// Whether a picture should be made with the phases. It must where it is cut into strips, or where the rows of many layers are long. They cost a group more
// in every row and column, so small pictures do without. sizes: of every value.
bool wants_phases(const Plan& plan, const std::vector<Size>& sizes, int width);

}  // namespace fastsr
