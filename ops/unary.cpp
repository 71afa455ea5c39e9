// Elementwise ops of one operand.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/functions.h"

namespace fluxion {

using loops::Body;

namespace {

/// A gradient that is zero everywhere it is defined.
void vjp_zero(const Vjp& v) { v.result[0] = zeros(v.in[0].sizes(), v.in[0].dtype()); }

}  // namespace

constinit OpDef kNeg = elementwise({.name = "neg",
                                    .doc = "-x.",
                                    .promotion = Promotion::promote,
                                    .vjp = [](const Vjp& v) { v.result[0] = neg(v.grad[0]); },
                                    .scalar = [](Body& b) { b.out(0, -b.in(0)); }});

constinit OpDef kAbs =
    elementwise({.name = "abs",
                 .doc = "|x|.",
                 .promotion = Promotion::promote,
                 .vjp = [](const Vjp& v) { v.result[0] = mul(v.grad[0], sign(v.in[0])); },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::abs(b.in(0))); }});

constinit OpDef kSign =
    elementwise({.name = "sign",
                 .doc = "-1, 0 or 1 by the sign of x; NaN stays NaN.",
                 .promotion = Promotion::promote,
                 .vjp = vjp_zero,
                 .scalar = [](Body& b) {
                   auto x = b.in(0);
                   auto s =
                       loops::select(x > 0, x.like(1), loops::select(x < 0, x.like(-1), x.like(0)));
                   b.out(0, loops::is_float(b.elem()) ? loops::select(loops::isnan(x), x, s) : s);
                 }});

constinit OpDef kFloor =
    elementwise({.name = "floor",
                 .doc = "The largest integer <= x.",
                 .promotion = Promotion::promote,
                 .vjp = vjp_zero,
                 .scalar = [](Body& b) {
                   b.out(0, loops::is_float(b.elem()) ? loops::floor(b.in(0)) : b.in(0));
                 }});

constinit OpDef kCeil =
    elementwise({.name = "ceil",
                 .doc = "The smallest integer >= x.",
                 .promotion = Promotion::promote,
                 .vjp = vjp_zero,
                 .scalar = [](Body& b) {
                   b.out(0, loops::is_float(b.elem()) ? loops::ceil(b.in(0)) : b.in(0));
                 }});

constinit OpDef kRound =
    elementwise({.name = "round",
                 .doc = "The nearest integer, halves to even.",
                 .promotion = Promotion::promote,
                 .vjp = vjp_zero,
                 .scalar = [](Body& b) {
                   b.out(0, loops::is_float(b.elem()) ? loops::round_even(b.in(0)) : b.in(0));
                 }});

constinit OpDef kTrunc =
    elementwise({.name = "trunc",
                 .doc = "The integer part of x.",
                 .promotion = Promotion::promote,
                 .vjp = vjp_zero,
                 .scalar = [](Body& b) {
                   b.out(0, loops::is_float(b.elem()) ? loops::trunc(b.in(0)) : b.in(0));
                 }});

constinit OpDef kSqrt = elementwise(
    {.name = "sqrt",
     .doc = "The square root.",
     .promotion = Promotion::floating,
     .vjp = [](const Vjp& v) { v.result[0] = div(v.grad[0], mul(v.out[0], number(2))); },
     .saves = kSaveOutput,
     .scalar = [](Body& b) { b.out(0, loops::sqrt(b.in(0))); },
     .max_ulp = 0.5});

constinit OpDef kRsqrt =
    elementwise({.name = "rsqrt",
                 .doc = "1 / sqrt(x), two roundings.",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       const Tensor& y = v.out[0];
                       v.result[0] = mul(mul(v.grad[0], number(-0.5)), mul(y, mul(y, y)));
                     },
                 .saves = kSaveOutput,
                 .scalar = [](Body& b) { b.out(0, loops::rsqrt(b.in(0))); },
                 .cost = division_cost,
                 .max_ulp = 1.5});

constinit OpDef kExp =
    elementwise({.name = "exp",
                 .doc = "e to the power x.",
                 .promotion = Promotion::floating,
                 .vjp = [](const Vjp& v) { v.result[0] = mul(v.grad[0], v.out[0]); },
                 .saves = kSaveOutput,
                 .scalar = [](Body& b) { b.out(0, loops::exp(b.in(0))); },
                 .max_ulp = 1});

constinit OpDef kExp2 =
    elementwise({.name = "exp2",
                 .doc = "2 to the power x.",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] = mul(v.grad[0], mul(v.out[0], number(0.6931471805599453)));
                     },
                 .saves = kSaveOutput,
                 .scalar = [](Body& b) { b.out(0, loops::exp2(b.in(0))); },
                 .max_ulp = 1});

constinit OpDef kExpm1 = elementwise(
    {.name = "expm1",
     .doc = "exp(x) - 1, accurate near 0.",
     .promotion = Promotion::floating,
     .vjp = [](const Vjp& v) { v.result[0] = mul(v.grad[0], add(v.out[0], number(1))); },
     .saves = kSaveOutput,
     .scalar = [](Body& b) { b.out(0, loops::expm1(b.in(0))); },
     .max_ulp = 1.1});

constinit OpDef kLog =
    elementwise({.name = "log",
                 .doc = "The natural logarithm.",
                 .promotion = Promotion::floating,
                 .vjp = [](const Vjp& v) { v.result[0] = div(v.grad[0], v.in[0]); },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::log(b.in(0))); },
                 .max_ulp = 1});

constinit OpDef kLog2 =
    elementwise({.name = "log2",
                 .doc = "The logarithm to base 2.",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] = div(v.grad[0], mul(v.in[0], number(0.6931471805599453)));
                     },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::log2(b.in(0))); },
                 .max_ulp = 1});

constinit OpDef kLog10 =
    elementwise({.name = "log10",
                 .doc = "The logarithm to base 10.",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] = div(v.grad[0], mul(v.in[0], number(2.302585092994046)));
                     },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::log10(b.in(0))); },
                 .max_ulp = 1});

constinit OpDef kLog1p =
    elementwise({.name = "log1p",
                 .doc = "log(1 + x), accurate near 0.",
                 .promotion = Promotion::floating,
                 .vjp = [](const Vjp& v) { v.result[0] = div(v.grad[0], add(v.in[0], number(1))); },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::log1p(b.in(0))); },
                 .max_ulp = 1});

constinit OpDef kSin =
    elementwise({.name = "sin",
                 .doc = "The sine of x in radians.",
                 .promotion = Promotion::floating,
                 .vjp = [](const Vjp& v) { v.result[0] = mul(v.grad[0], cos(v.in[0])); },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::sin(b.in(0))); },
                 .max_ulp = 1});

constinit OpDef kCos =
    elementwise({.name = "cos",
                 .doc = "The cosine of x in radians.",
                 .promotion = Promotion::floating,
                 .vjp = [](const Vjp& v) { v.result[0] = mul(v.grad[0], neg(sin(v.in[0]))); },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::cos(b.in(0))); },
                 .max_ulp = 1});

constinit OpDef kTan =
    elementwise({.name = "tan",
                 .doc = "The tangent of x in radians.",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] = mul(v.grad[0], add(mul(v.out[0], v.out[0]), number(1)));
                     },
                 .saves = kSaveOutput,
                 .scalar = [](Body& b) { b.out(0, loops::tan(b.in(0))); },
                 .max_ulp = 2});

constinit OpDef kAsin =
    elementwise({.name = "asin",
                 .doc = "The arcsine in radians.",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] = mul(v.grad[0], rsqrt(sub(number(1), mul(v.in[0], v.in[0]))));
                     },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::asin(b.in(0))); },
                 .max_ulp = 2});

constinit OpDef kAcos =
    elementwise({.name = "acos",
                 .doc = "The arccosine in radians.",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] =
                           neg(mul(v.grad[0], rsqrt(sub(number(1), mul(v.in[0], v.in[0])))));
                     },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::acos(b.in(0))); },
                 .max_ulp = 2});

constinit OpDef kAtan = elementwise(
    {.name = "atan",
     .doc = "The arctangent in radians.",
     .promotion = Promotion::floating,
     .vjp =
         [](const Vjp& v) { v.result[0] = div(v.grad[0], add(mul(v.in[0], v.in[0]), number(1))); },
     .saves = kSaveInput,
     .scalar = [](Body& b) { b.out(0, loops::atan(b.in(0))); },
     .max_ulp = 2});

constinit OpDef kSinh =
    elementwise({.name = "sinh",
                 .doc = "The hyperbolic sine.",
                 .promotion = Promotion::floating,
                 .vjp = [](const Vjp& v) { v.result[0] = mul(v.grad[0], cosh(v.in[0])); },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::sinh(b.in(0))); },
                 .max_ulp = 2});

constinit OpDef kCosh =
    elementwise({.name = "cosh",
                 .doc = "The hyperbolic cosine.",
                 .promotion = Promotion::floating,
                 .vjp = [](const Vjp& v) { v.result[0] = mul(v.grad[0], sinh(v.in[0])); },
                 .saves = kSaveInput,
                 .scalar = [](Body& b) { b.out(0, loops::cosh(b.in(0))); },
                 .max_ulp = 2});

constinit OpDef kTanh =
    elementwise({.name = "tanh",
                 .doc = "The hyperbolic tangent.",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] = mul(v.grad[0], sub(number(1), mul(v.out[0], v.out[0])));
                     },
                 .saves = kSaveOutput,
                 .scalar = [](Body& b) { b.out(0, loops::tanh(b.in(0))); },
                 .max_ulp = 1});

constinit OpDef kErf = elementwise({.name = "erf",
                                    .doc = "The error function.",
                                    .promotion = Promotion::floating,
                                    .vjp =
                                        [](const Vjp& v) {
                                          v.result[0] =
                                              mul(mul(v.grad[0], number(1.1283791670955126)),
                                                  exp(neg(mul(v.in[0], v.in[0]))));
                                        },
                                    .saves = kSaveInput,
                                    .scalar = [](Body& b) { b.out(0, loops::erf(b.in(0))); },
                                    .max_ulp = 1});

constinit OpDef kErfc = elementwise({.name = "erfc",
                                     .doc = "1 - erf(x).",
                                     .promotion = Promotion::floating,
                                     .vjp =
                                         [](const Vjp& v) {
                                           v.result[0] =
                                               mul(mul(v.grad[0], number(-1.1283791670955126)),
                                                   exp(neg(mul(v.in[0], v.in[0]))));
                                         },
                                     .saves = kSaveInput,
                                     .scalar = [](Body& b) { b.out(0, loops::erfc(b.in(0))); },
                                     .max_ulp = 4});

constinit OpDef kSigmoid =
    elementwise({.name = "sigmoid",
                 .doc = "1 / (1 + exp(-x)).",
                 .promotion = Promotion::floating,
                 .vjp =
                     [](const Vjp& v) {
                       v.result[0] = mul(v.grad[0], mul(v.out[0], sub(number(1), v.out[0])));
                     },
                 .saves = kSaveOutput,
                 .scalar = [](Body& b) { b.out(0, loops::sigmoid(b.in(0))); },
                 .max_ulp = 2.5});

constinit OpDef kReciprocal = elementwise(
    {.name = "reciprocal",
     .doc = "1 / x.",
     .promotion = Promotion::floating,
     .vjp = [](const Vjp& v) { v.result[0] = neg(mul(v.grad[0], mul(v.out[0], v.out[0]))); },
     .saves = kSaveOutput,
     .scalar = [](Body& b) { b.out(0, loops::reciprocal(b.in(0))); },
     .max_ulp = 0.5});

constinit OpDef kBitwiseNot = elementwise({.name = "bitwise_not",
                                           .doc = "The complement of every bit (of a bool: not).",
                                           .promotion = Promotion::bitwise,
                                           .scalar = [](Body& b) { b.out(0, ~b.in(0)); }});

Tensor neg(const Tensor& x) {
  if (x.dtype() == DType::bool_)
    fail(ErrorKind::runtime,
         "neg: negation of a bool tensor is not defined; use ~x or logical_not()");
  return apply(kNeg, {x});
}
Tensor abs(const Tensor& x) { return apply(kAbs, {x}); }
Tensor sign(const Tensor& x) { return apply(kSign, {x}); }
Tensor floor(const Tensor& x) { return apply(kFloor, {x}); }
Tensor ceil(const Tensor& x) { return apply(kCeil, {x}); }
Tensor round(const Tensor& x, int64_t decimals) {
  if (decimals == 0) return apply(kRound, {x});
  Tensor scale = number(std::pow(10.0, static_cast<double>(std::abs(decimals))));
  return decimals > 0 ? div(apply(kRound, {mul(x, scale)}), scale)
                      : mul(apply(kRound, {div(x, scale)}), scale);
}
Tensor trunc(const Tensor& x) { return apply(kTrunc, {x}); }
Tensor frac(const Tensor& x) { return sub(x, trunc(x)); }
Tensor sqrt(const Tensor& x) { return apply(kSqrt, {x}); }
Tensor rsqrt(const Tensor& x) { return apply(kRsqrt, {x}); }
Tensor exp(const Tensor& x) { return apply(kExp, {x}); }
Tensor exp2(const Tensor& x) { return apply(kExp2, {x}); }
Tensor expm1(const Tensor& x) { return apply(kExpm1, {x}); }
Tensor log(const Tensor& x) { return apply(kLog, {x}); }
Tensor log2(const Tensor& x) { return apply(kLog2, {x}); }
Tensor log10(const Tensor& x) { return apply(kLog10, {x}); }
Tensor log1p(const Tensor& x) { return apply(kLog1p, {x}); }
Tensor sin(const Tensor& x) { return apply(kSin, {x}); }
Tensor cos(const Tensor& x) { return apply(kCos, {x}); }
Tensor tan(const Tensor& x) { return apply(kTan, {x}); }
Tensor asin(const Tensor& x) { return apply(kAsin, {x}); }
Tensor acos(const Tensor& x) { return apply(kAcos, {x}); }
Tensor atan(const Tensor& x) { return apply(kAtan, {x}); }
Tensor sinh(const Tensor& x) { return apply(kSinh, {x}); }
Tensor cosh(const Tensor& x) { return apply(kCosh, {x}); }
Tensor tanh(const Tensor& x) { return apply(kTanh, {x}); }
Tensor erf(const Tensor& x) { return apply(kErf, {x}); }
Tensor erfc(const Tensor& x) { return apply(kErfc, {x}); }
Tensor sigmoid(const Tensor& x) { return apply(kSigmoid, {x}); }
Tensor reciprocal(const Tensor& x) { return apply(kReciprocal, {x}); }
Tensor square(const Tensor& x) { return pow(x, Scalar(2).tensor()); }
Tensor bitwise_not(const Tensor& x) {
  return x.dtype() == DType::bool_ ? logical_not(x) : apply(kBitwiseNot, {x});
}

namespace {

OpDef* const kOps[] = {&kNeg,   &kAbs,  &kSign,  &kFloor,   &kCeil,       &kRound,
                       &kTrunc, &kSqrt, &kRsqrt, &kExp,     &kExp2,       &kExpm1,
                       &kLog,   &kLog2, &kLog10, &kLog1p,   &kSin,        &kCos,
                       &kTan,   &kAsin, &kAcos,  &kAtan,    &kSinh,       &kCosh,
                       &kTanh,  &kErf,  &kErfc,  &kSigmoid, &kReciprocal, &kBitwiseNot};

constexpr uint16_t kUsual = kFunction | kMethod | kInplace | kOut;

const Function kFunctions[] = {
    {"neg(Tensor input) -> Tensor", "The negative of every element. Raises for bool.", kUsual,
     thunk<&neg>},
    {"abs(Tensor input) -> Tensor", "The absolute value of every element.", kUsual, thunk<&abs>},
    {"sign(Tensor input) -> Tensor", "-1, 0 or 1 by the sign of every element.", kUsual,
     thunk<&sign>},
    {"floor(Tensor input) -> Tensor", "The largest integer not above every element.", kUsual,
     thunk<&floor>},
    {"ceil(Tensor input) -> Tensor", "The smallest integer not below every element.", kUsual,
     thunk<&ceil>},
    {"round(Tensor input, *, int decimals=0) -> Tensor",
     "Rounds to `decimals` decimals, halves to even.", kUsual, thunk<&round>},
    {"trunc(Tensor input) -> Tensor", "The integer part of every element.", kUsual, thunk<&trunc>},
    {"frac(Tensor input) -> Tensor", "The fractional part, x - trunc(x).", kUsual, thunk<&frac>},
    {"sqrt(Tensor input) -> Tensor", "The square root; NaN below 0.", kUsual, thunk<&sqrt>},
    {"rsqrt(Tensor input) -> Tensor", "1 / sqrt(x).", kUsual, thunk<&rsqrt>},
    {"exp(Tensor input) -> Tensor", "e to the power of every element.", kUsual, thunk<&exp>},
    {"exp2(Tensor input) -> Tensor", "2 to the power of every element.", kUsual, thunk<&exp2>},
    {"expm1(Tensor input) -> Tensor", "exp(x) - 1, accurate near 0.", kUsual, thunk<&expm1>},
    {"log(Tensor input) -> Tensor", "The natural logarithm; -inf at 0, NaN below.", kUsual,
     thunk<&log>},
    {"log2(Tensor input) -> Tensor", "The logarithm to base 2.", kUsual, thunk<&log2>},
    {"log10(Tensor input) -> Tensor", "The logarithm to base 10.", kUsual, thunk<&log10>},
    {"log1p(Tensor input) -> Tensor", "log(1 + x), accurate near 0.", kUsual, thunk<&log1p>},
    {"sin(Tensor input) -> Tensor", "The sine of angles in radians.", kUsual, thunk<&sin>},
    {"cos(Tensor input) -> Tensor", "The cosine of angles in radians.", kUsual, thunk<&cos>},
    {"tan(Tensor input) -> Tensor", "The tangent of angles in radians.", kUsual, thunk<&tan>},
    {"asin(Tensor input) -> Tensor", "The arcsine in radians; NaN outside [-1, 1].", kUsual,
     thunk<&asin>},
    {"acos(Tensor input) -> Tensor", "The arccosine in radians; NaN outside [-1, 1].", kUsual,
     thunk<&acos>},
    {"atan(Tensor input) -> Tensor", "The arctangent in radians.", kUsual, thunk<&atan>},
    {"sinh(Tensor input) -> Tensor", "The hyperbolic sine.", kUsual, thunk<&sinh>},
    {"cosh(Tensor input) -> Tensor", "The hyperbolic cosine.", kUsual, thunk<&cosh>},
    {"tanh(Tensor input) -> Tensor", "The hyperbolic tangent.", kUsual, thunk<&tanh>},
    {"erf(Tensor input) -> Tensor",
     "The error function 2/sqrt(pi) * integral of exp(-t^2) from 0 to x.", kUsual, thunk<&erf>},
    {"erfc(Tensor input) -> Tensor", "1 - erf(x), accurate for large x.", kUsual, thunk<&erfc>},
    {"sigmoid(Tensor input) -> Tensor", "1 / (1 + exp(-x)).", kUsual, thunk<&sigmoid>},
    {"reciprocal(Tensor input) -> Tensor", "1 / x.", kUsual, thunk<&reciprocal>},
    {"square(Tensor input) -> Tensor", "x * x.", kUsual, thunk<&square>},
    {"bitwise_not(Tensor input) -> Tensor", "The complement of every bit; of bools, not.", kUsual,
     thunk<&bitwise_not>},
};

}  // namespace

extern const OpFile unary_ops;
const OpFile unary_ops{kOps, kFunctions};

}  // namespace fluxion
