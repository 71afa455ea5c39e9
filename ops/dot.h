// Contractions: the op whose tiles every matrix product and convolution runs on.
#pragma once

#include "kernels/tiles.h"
#include "ops/op.h"

namespace fluxion {

extern OpDef kDot;           // (a [..., m, k], b [..., k, n]) -> [..., m, n], batch dims broadcast
extern OpDef kMatrixVector;  // (a [..., m, k], b [k]) -> [..., m]
extern OpDef kLinear;        // (x [..., k], weight [n, k], bias [n]?) -> [..., n]

/// The tiles and finishers for operands of a dtype, result in `out`.
kernels::ContractionKernels contraction_kernels(DType in, DType out);

}  // namespace fluxion
