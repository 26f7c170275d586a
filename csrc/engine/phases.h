// Where the groups of rows and columns begin that Winograd's algorithm makes together.
#pragma once
#include "engine/plan.h"

namespace fastsr {

// Sets the phases of all steps so that the groups of a step end where those of the step before it suffice for: then the four rows of a group need just
// one group more of what they read, and a layer's halo is four rows or columns in all instead of eight. Any phases give right results.
void set_phases(Plan& plan);

}  // namespace fastsr
