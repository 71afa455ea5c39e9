// Micro-kernels of the contraction drivers (kernels/tiles.h has their ABI and variants).
#pragma once

#include <string>

#include "kernels/tiles.h"
#include "loops/ir.h"

namespace fluxion::loops {

/// One tile of `rows` rows, f32, f64, i32 or i64 (integers wrap).
Function contraction_tile(std::string name, Elem compute, kernels::TileForm form, int rows,
                          bool wide);

/// out[r, j] = sums[r, j] (+ bias[j] or bias[r]), rounded once. args: sums, out (both with stride
/// {row}), bias (stride {row} for BiasSide::rows); sizes = {rows, n}.
Function finish_tile(std::string name, Elem compute, Elem out, kernels::BiasSide bias);

}  // namespace fluxion::loops
