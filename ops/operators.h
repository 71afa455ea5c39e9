// Arithmetic operators on tensors; numbers are weak scalars.
#pragma once

#include "ops/functions.h"

namespace fluxion {

#define FLUXION_OPERATOR(op, function)                                                     \
  inline Tensor operator op(const Tensor& a, const Tensor& b) { return function(a, b); }   \
  inline Tensor operator op(const Tensor& a, Scalar b) { return function(a, b.tensor()); } \
  inline Tensor operator op(Scalar a, const Tensor& b) { return function(a.tensor(), b); }
FLUXION_OPERATOR(+, add)
FLUXION_OPERATOR(-, sub)
FLUXION_OPERATOR(*, mul)
FLUXION_OPERATOR(/, div)
FLUXION_OPERATOR(%, remainder)
FLUXION_OPERATOR(<, lt)
FLUXION_OPERATOR(<=, le)
FLUXION_OPERATOR(>, gt)
FLUXION_OPERATOR(>=, ge)
FLUXION_OPERATOR(==, eq)
FLUXION_OPERATOR(!=, ne)
FLUXION_OPERATOR(&, bitwise_and)
FLUXION_OPERATOR(|, bitwise_or)
FLUXION_OPERATOR(^, bitwise_xor)
#undef FLUXION_OPERATOR

inline Tensor operator-(const Tensor& x) { return neg(x); }
inline Tensor operator~(const Tensor& x) { return bitwise_not(x); }

}  // namespace fluxion
