// Inverse hyperbolic functions, the angle of a point, the inverse error function, and sums of exponentials as logarithms.
#include <cmath>
#include <initializer_list>

#include "ops/elementwise.h"
#include "ops/functions.h"

namespace fluxion {

using loops::Body;
using loops::Mask;
using loops::Value;

namespace {

constexpr double kLn2 = 0.6931471805599453, kPi = 3.141592653589793;
constexpr double kHalfSqrtPi = 0.8862269254527580;

bool single(Value x) { return x.elem() == loops::Elem::f32; }
/// Beyond this x^2 + 1 is x^2, and x^2 may overflow.
double square_limit(Value x) { return single(x) ? 1e8 : 1e17; }

Value asinh_of(Value x) {
  Value a = loops::abs(x), square = a * a;
  Value y = loops::log1p(a + square / (loops::sqrt(square + 1) + 1));
  return loops::copysign(loops::select(a > square_limit(x), loops::log(a) + kLn2, y), x);
}

Value acosh_of(Value x) {
  Value t = x - 1, y = loops::log1p(t + loops::sqrt(t * (t + 2)));
  return loops::select(x > square_limit(x), loops::log(x) + kLn2, y);
}

Value atanh_of(Value x) {
  Value a = loops::abs(x);
  return loops::copysign(loops::log1p(2 * a / (1 - a)) * 0.5, x);
}

/// The angle within an octant, then pi / 2 or pi minus it.
Value atan2_of(Value y, Value x) {
  Value a = loops::abs(x), b = loops::abs(y);
  Value low = loops::minimum(a, b), high = loops::maximum(a, b);
  Mask equal = low == high;  // also both zero, or both infinite
  Value t = loops::select(equal, loops::select(high == 0, x.like(0), x.like(1)), low / high);
  Value angle = loops::atan(t);
  angle = loops::select(b > a, kPi / 2 - angle, angle);
  Value sign = loops::copysign(x.like(1), x);
  angle = loops::select(sign < 0, kPi - angle, angle);
  Value result = loops::copysign(angle, y);
  return loops::select(loops::isnan(x) | loops::isnan(y), x + y, result);
}

Value horner(Value w, std::initializer_list<double> coefficients) {
  Value p = w.like(0);
  for (double c : coefficients) p = loops::fma(p, w, c);
  return p;
}

/// Giles 2010 to seven digits, then Halley's steps on erf, or on erfc where 1 - |x| is exact.
Value erfinv_of(Value x) {
  Value a = loops::abs(x), rest = 1 - a;
  Value w = -loops::log(rest * (a + 1));
  Value near =
      horner(w - 2.5, {2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06,
                       0.00021858087, -0.00125372503, -0.00417768164, 0.246640727, 1.50140941});
  Value far = horner(loops::sqrt(w) - 3,
                     {-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
                      -0.0076224613, 0.00943887047, 1.00167406, 2.83297682});
  Value y = loops::select(w < 5, near, far) * a;
  for (int step = 0; step < (single(x) ? 1 : 2); ++step) {
    Value error = loops::select(a > 0.5, rest - loops::erfc(y), loops::erf(y) - a);
    Value newton = error * kHalfSqrtPi * loops::exp(y * y);
    y = y - newton / loops::fma(y, newton, 1);
  }
  y = loops::select(a == 1, y.like(INFINITY), y);
  return loops::copysign(loops::select(a > 1, y.like(std::nan("")), y), x);
}

/// max(a, b) + log(1 + base^-|a - b|); equal infinities have no difference.
template <class Tail>
Value log_add(Value a, Value b, Tail tail) {
  Value most = loops::maximum(a, b);
  Value sum = most + tail(-loops::abs(a - b));
  return loops::select(loops::abs(most) == INFINITY, most, sum);
}

/// The share of the first operand: its power over the sum of both.
void vjp_log_add(const Vjp& v, double scale) {
  Tensor difference = mul(sub(v.in[0], v.in[1]), number(scale));
  if (v.needs(0)) v.result[0] = mul(v.grad[0], sigmoid(difference));
  if (v.needs(1)) v.result[1] = mul(v.grad[0], sigmoid(neg(difference)));
}

void acosh_samples(const OpDef&, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i64})
    for (Shape shape : {Shape{3, 5}, Shape{}}) {
      const SampleSink::Input in[] = {{shape, t, 1.25, 3}};
      sink.add(in, nullptr, 0);
    }
}

}  // namespace

constinit OpDef kAsinh =
    elementwise({.name = "asinh",
                 .doc = "The inverse hyperbolic sine.",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] = mul(v.grad[0], rsqrt(add(mul(v.in[0], v.in[0]), number(1))));
                     },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, asinh_of(b.in(0))); },
                 .max_ulp = 3});

constinit OpDef kAcosh =
    elementwise({.name = "acosh",
                 .doc = "The inverse hyperbolic cosine; NaN below 1.",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] = mul(v.grad[0], rsqrt(sub(mul(v.in[0], v.in[0]), number(1))));
                     },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, acosh_of(b.in(0))); },
                 .samples = acosh_samples,
                 .max_ulp = 3});

constinit OpDef kAtanh = elementwise(
    {.name = "atanh",
     .doc = "The inverse hyperbolic tangent; NaN outside [-1, 1].",
     .promotion = Promotion::floating,
     .vjp =
         [](const Vjp& v) { v.result[0] = div(v.grad[0], sub(number(1), mul(v.in[0], v.in[0]))); },
     .saves = kSaveInput,
     .scalar = [](Body& b) { b.out(0, atanh_of(b.in(0))); },
     .max_ulp = 3});

constinit OpDef kAtan2 =
    elementwise({.name = "atan2",
                 .doc = "The angle of the point (b, a) in radians, in [-pi, pi].",
                 .inputs = 2,
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       const Tensor &y = v.in[0], &x = v.in[1];
                       Tensor g = div(v.grad[0], add(mul(x, x), mul(y, y)));
                       if (v.needs(0)) v.result[0] = mul(g, x);
                       if (v.needs(1)) v.result[1] = neg(mul(g, y));
                     },
                 .saves = kSaveBoth,
                 .scalar = [](Body& b) { b.out(0, atan2_of(b.in(0), b.in(1))); },
                 .max_ulp = 3});

constinit OpDef kErfinv =
    elementwise({.name = "erfinv",
                 .doc = "The inverse of the error function; NaN outside [-1, 1].",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] =
                           mul(mul(v.grad[0], number(kHalfSqrtPi)), exp(mul(v.out[0], v.out[0])));
                     },
                 .saves = kSaveOutput,
                 .scalar = [](Body& b) { b.out(0, erfinv_of(b.in(0))); },
                 .max_ulp = 4});

constinit OpDef kLogaddexp =
    elementwise({.name = "logaddexp",
                 .doc = "log(exp(a) + exp(b)) without overflow.",
                 .inputs = 2,
                 .promotion = Promotion::floating,
                 .vjp = [](const Vjp& v) { vjp_log_add(v, 1); },
                 .saves = kSaveBoth,
                 .scalar =
                     [](Body& b) {
                       b.out(0, log_add(b.in(0), b.in(1), [](Value d) {
                               return loops::log1p(loops::exp_nonpositive(d));
                             }));
                     },
                 .max_ulp = 2});

constinit OpDef kLogaddexp2 =
    elementwise({.name = "logaddexp2",
                 .doc = "log2(2^a + 2^b) without overflow.",
                 .inputs = 2,
                 .promotion = Promotion::floating,
                 .vjp = [](const Vjp& v) { vjp_log_add(v, kLn2); },
                 .saves = kSaveBoth,
                 .scalar =
                     [](Body& b) {
                       b.out(0, log_add(b.in(0), b.in(1), [](Value d) {
                               return loops::log1p(loops::exp2(d)) * (1 / kLn2);
                             }));
                     },
                 .max_ulp = 2});

Tensor asinh(const Tensor& x) { return apply(kAsinh, {x}); }
Tensor acosh(const Tensor& x) { return apply(kAcosh, {x}); }
Tensor atanh(const Tensor& x) { return apply(kAtanh, {x}); }
Tensor atan2(const Tensor& y, const Tensor& x) { return apply(kAtan2, {y, x}); }
Tensor erfinv(const Tensor& x) { return apply(kErfinv, {x}); }
Tensor logaddexp(const Tensor& a, const Tensor& b) { return apply(kLogaddexp, {a, b}); }
Tensor logaddexp2(const Tensor& a, const Tensor& b) { return apply(kLogaddexp2, {a, b}); }

namespace {

OpDef* const kOps[] = {&kAsinh, &kAcosh, &kAtanh, &kAtan2, &kErfinv, &kLogaddexp, &kLogaddexp2};

constexpr uint16_t kUsual = kFunction | kMethod | kInplace | kOut;

const Function kFunctions[] = {
    {"asinh(Tensor input) -> Tensor", "The inverse hyperbolic sine.", kUsual, thunk<&asinh>},
    {"acosh(Tensor input) -> Tensor", "The inverse hyperbolic cosine; NaN below 1.", kUsual,
     thunk<&acosh>},
    {"atanh(Tensor input) -> Tensor", "The inverse hyperbolic tangent; NaN outside [-1, 1].",
     kUsual, thunk<&atanh>},
    {"atan2(Tensor input, Tensor other) -> Tensor",
     "The angle of the point (other, input) in radians, in [-pi, pi].", kUsual, thunk<&atan2>},
    {"erfinv(Tensor input) -> Tensor", "The inverse of the error function; NaN outside [-1, 1].",
     kUsual, thunk<&erfinv>},
    {"logaddexp(Tensor input, Tensor other) -> Tensor",
     "log(exp(input) + exp(other)) without overflow.", kFunction | kMethod | kOut,
     thunk<&logaddexp>},
    {"logaddexp2(Tensor input, Tensor other) -> Tensor",
     "log2(2^input + 2^other) without overflow.", kFunction | kMethod | kOut, thunk<&logaddexp2>},
};

}  // namespace

extern const OpFile special_ops;
const OpFile special_ops{kOps, kFunctions};

}  // namespace fluxion
