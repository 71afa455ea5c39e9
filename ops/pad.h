// Growing and cropping dims.
#pragma once

#include "ops/op.h"

namespace fluxion {

/// Element i along the axis is element i - by of x; `fill` where there is none.
Tensor shifted(const Tensor& x, int64_t axis, int64_t by, double fill);

/// A 1-dim int64 tensor.
Tensor index_list(Ints values);

}  // namespace fluxion
