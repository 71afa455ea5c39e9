// The normal distribution's cumulative, as gelu wants it.
#pragma once

#include "ops/apply.h"
#include "ops/expr.h"

namespace fluxion::loops {

/// P(Z <= x), absolute error below 2e-7 (f32) or 2e-16 (f64); exactly 0 and 1 far out.
Value normal_cdf(Value x);

}  // namespace fluxion::loops

namespace fluxion {

extern OpDef kNormalCdf;  // (x) -> P(Z <= x)

inline Expr normal_cdf(const Expr& x) { return apply(kNormalCdf, {x.t}); }

}  // namespace fluxion
