// Recurrences along a dim that gradients are made of.
#pragma once

#include "ops/op.h"

namespace fluxion {

/// y[t] = x[t] + factor[t] * y[t - 1] along the axis, from its end if `reverse`. Differentiable to any order.
Tensor linear_recurrence(const Tensor& x, const Tensor& factor, int64_t axis, bool reverse);

}  // namespace fluxion
