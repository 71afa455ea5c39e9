// One scalar body, two meanings: a body written once over `in`, `param` and arithmetic is recorded as loop IR
// (the fused kernel) and run on tensors (the composite that it equals bit for bit in f32 and f64).
#pragma once

#include "loops/elementwise.h"
#include "loops/math.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/op.h"

namespace fluxion {

/// A tensor with the arithmetic of loops::Value. Numbers meet a tensor first: arithmetic among numbers alone would be
/// rounded to the default dtype here and to the compute dtype there.
struct Expr {
  Tensor t;
  Expr(Tensor tensor) : t(std::move(tensor)) {}
  Expr(double literal) : t(number(literal)) {}
  Expr(int literal) : t(Scalar(literal).tensor()) {}
};
struct ExprMask {
  Tensor t;
};

inline Expr operator+(const Expr& a, const Expr& b) { return add(a.t, b.t); }
inline Expr operator-(const Expr& a, const Expr& b) { return sub(a.t, b.t); }
inline Expr operator*(const Expr& a, const Expr& b) { return mul(a.t, b.t); }
inline Expr operator/(const Expr& a, const Expr& b) { return div(a.t, b.t); }
inline Expr operator-(const Expr& a) { return neg(a.t); }
inline ExprMask operator<(const Expr& a, const Expr& b) { return {lt(a.t, b.t)}; }
inline ExprMask operator<=(const Expr& a, const Expr& b) { return {le(a.t, b.t)}; }
inline ExprMask operator>(const Expr& a, const Expr& b) { return {gt(a.t, b.t)}; }
inline ExprMask operator>=(const Expr& a, const Expr& b) { return {ge(a.t, b.t)}; }
inline ExprMask operator&(const ExprMask& a, const ExprMask& b) { return {logical_and(a.t, b.t)}; }
inline ExprMask operator|(const ExprMask& a, const ExprMask& b) { return {logical_or(a.t, b.t)}; }
inline Expr select(const ExprMask& m, const Expr& a, const Expr& b) { return where(m.t, a.t, b.t); }
inline Expr maximum(const Expr& a, const Expr& b) { return maximum(a.t, b.t); }
inline Expr minimum(const Expr& a, const Expr& b) { return minimum(a.t, b.t); }
inline Expr abs(const Expr& a) { return abs(a.t); }
inline Expr sqrt(const Expr& a) { return sqrt(a.t); }
inline Expr rsqrt(const Expr& a) { return rsqrt(a.t); }
inline Expr exp(const Expr& a) { return exp(a.t); }
inline Expr expm1(const Expr& a) { return expm1(a.t); }
inline Expr log(const Expr& a) { return log(a.t); }
inline Expr log1p(const Expr& a) { return log1p(a.t); }
inline Expr tanh(const Expr& a) { return tanh(a.t); }
inline Expr erf(const Expr& a) { return erf(a.t); }
inline Expr sigmoid(const Expr& a) { return sigmoid(a.t); }

/// Halves as f32: inside a fused op nothing is rounded to half precision ...
inline Tensor widen(const Tensor& x) { return is_half(x.dtype()) ? to_dtype(x, DType::f32) : x; }
/// ... and each output once.
inline Tensor rounded(const Tensor& y, DType dtype) {
  return is_half(dtype) ? to_dtype(y, dtype) : y;
}

/// What a body sees when it runs on tensors.
struct ExprBody {
  const Eval& e;
  Expr in(int k) const { return widen(e.in[k]); }
  Expr param(int k) const { return static_cast<const double*>(e.attr_data)[k]; }
  void out(int k, const Expr& v) const { e.out[k] = rounded(v.t, e.in[0].dtype()); }
};

/// The two meanings of a body `auto F(auto& b)`, for OpDef::scalar and OpDef::composite.
template <auto F>
void scalar_of(loops::Body& b) {
  b.out(0, F(b));
}
template <auto F>
void composite_of(const Eval& e) {
  ExprBody b{e};
  b.out(0, F(b));
}

/// The same for bodies of several outputs, which call b.out(k, value).
template <auto F>
void scalars_of(loops::Body& b) {
  F(b);
}
template <auto F>
void composites_of(const Eval& e) {
  ExprBody b{e};
  F(b);
}

}  // namespace fluxion
