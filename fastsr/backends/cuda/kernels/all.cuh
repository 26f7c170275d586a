// All kernels of the backend: what is compiled for a network, which names the instances that it needs.
#pragma once

#include "conv_direct.cuh"
#include "conv_mma.cuh"
#include "elements.cuh"
#include "fused.cuh"
#include "picture.cuh"

using namespace fastsr;
