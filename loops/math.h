// Elementary functions of f32 and f64 as sequences of IEEE operations, right for NaN, infinities,
// denormals and signed zeros. Accuracy: the table of tests/cpp/math_test.cpp, measured against
// MPFR.
#pragma once

#include "loops/builder.h"

namespace fluxion::loops {

Value exp(Value);
Value exp_nonpositive(Value);  // exp for x <= 0 (or NaN), same bits, cheaper
Value exp2(Value);
Value expm1(Value);
Value log(Value);
Value log2(Value);
Value log10(Value);
Value log1p(Value);
Value sin(Value);
Value cos(Value);
Value tan(Value);
Value asin(Value);
Value acos(Value);
Value atan(Value);
Value sinh(Value);
Value cosh(Value);
Value tanh(Value);
Value erf(Value);
Value erfc(Value);
Value sigmoid(Value);
Value pow(Value x, Value y);
Value rsqrt(Value);       // 1 / sqrt(x), two roundings
Value reciprocal(Value);  // 1 / x

}  // namespace fluxion::loops
