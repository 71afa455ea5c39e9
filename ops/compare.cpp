// Comparisons and tests: bool results.
#include <cmath>

#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/promotion.h"

namespace fluxion {

using loops::Body;

#define FLUXION_COMPARE(id, text, meaning, op)                       \
  constinit OpDef id = elementwise({.name = text,                    \
                                    .doc = meaning,                  \
                                    .inputs = 2,                     \
                                    .promotion = Promotion::compare, \
                                    .scalar = [](Body& b) { b.out(0, b.in(0) op b.in(1)); }});
FLUXION_COMPARE(kEq, "eq", "a == b.", ==)
FLUXION_COMPARE(kNe, "ne", "a != b; true for NaN.", !=)
FLUXION_COMPARE(kLt, "lt", "a < b.", <)
FLUXION_COMPARE(kLe, "le", "a <= b.", <=)
FLUXION_COMPARE(kGt, "gt", "a > b.", >)
FLUXION_COMPARE(kGe, "ge", "a >= b.", >=)
#undef FLUXION_COMPARE

constinit OpDef kIsNan = elementwise({.name = "isnan",
                                      .doc = "Whether x is NaN.",
                                      .promotion = Promotion::compare,
                                      .scalar = [](Body& b) { b.out(0, b.in(0) != b.in(0)); }});
constinit OpDef kIsInf =
    elementwise({.name = "isinf",
                 .doc = "Whether x is +inf or -inf.",
                 .promotion = Promotion::compare,
                 .scalar = [](Body& b) {
                   auto x = b.in(0);
                   b.out(0, loops::is_float(b.elem()) ? loops::abs(x) == x.like(INFINITY) : x != x);
                 }});
constinit OpDef kIsFinite =
    elementwise({.name = "isfinite",
                 .doc = "Whether x is neither NaN nor infinite.",
                 .promotion = Promotion::compare,
                 .scalar = [](Body& b) {
                   auto x = b.in(0);
                   b.out(0, loops::is_float(b.elem()) ? loops::abs(x) < x.like(INFINITY) : x == x);
                 }});
constinit OpDef kSignBit = elementwise(
    {.name = "signbit",
     .doc = "Whether the sign of x is negative (also of -0).",
     .promotion = Promotion::compare,
     .scalar = [](Body& b) {
       auto x = b.in(0);
       b.out(0,
             loops::is_float(b.elem()) ? loops::bitcast(x, loops::int_elem(b.elem())) < 0 : x < 0);
     }});
constinit OpDef kLogicalNot = elementwise({.name = "logical_not",
                                           .doc = "Whether x is zero.",
                                           .promotion = Promotion::compare,
                                           .scalar = [](Body& b) { b.out(0, ~b.mask(0)); }});
constinit OpDef kLogicalAnd =
    elementwise({.name = "logical_and",
                 .doc = "Whether both are nonzero.",
                 .inputs = 2,
                 .promotion = Promotion::compare,
                 .scalar = [](Body& b) { b.out(0, b.mask(0) & b.mask(1)); }});
constinit OpDef kLogicalOr =
    elementwise({.name = "logical_or",
                 .doc = "Whether either is nonzero.",
                 .inputs = 2,
                 .promotion = Promotion::compare,
                 .scalar = [](Body& b) { b.out(0, b.mask(0) | b.mask(1)); }});
constinit OpDef kLogicalXor =
    elementwise({.name = "logical_xor",
                 .doc = "Whether exactly one is nonzero.",
                 .inputs = 2,
                 .promotion = Promotion::compare,
                 .scalar = [](Body& b) { b.out(0, b.mask(0) ^ b.mask(1)); }});

Tensor eq(const Tensor& a, const Tensor& b) { return apply(kEq, {a, b}); }
Tensor ne(const Tensor& a, const Tensor& b) { return apply(kNe, {a, b}); }
Tensor lt(const Tensor& a, const Tensor& b) { return apply(kLt, {a, b}); }
Tensor le(const Tensor& a, const Tensor& b) { return apply(kLe, {a, b}); }
Tensor gt(const Tensor& a, const Tensor& b) { return apply(kGt, {a, b}); }
Tensor ge(const Tensor& a, const Tensor& b) { return apply(kGe, {a, b}); }
Tensor isnan(const Tensor& x) { return apply(kIsNan, {x}); }
Tensor isinf(const Tensor& x) { return apply(kIsInf, {x}); }
Tensor isfinite(const Tensor& x) { return apply(kIsFinite, {x}); }
Tensor signbit(const Tensor& x) { return apply(kSignBit, {x}); }
Tensor logical_not(const Tensor& x) { return apply(kLogicalNot, {x}); }
Tensor logical_and(const Tensor& a, const Tensor& b) { return apply(kLogicalAnd, {a, b}); }
Tensor logical_or(const Tensor& a, const Tensor& b) { return apply(kLogicalOr, {a, b}); }
Tensor logical_xor(const Tensor& a, const Tensor& b) { return apply(kLogicalXor, {a, b}); }

Tensor isclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  if (a.dtype() != b.dtype())
    fail(ErrorKind::runtime, "isclose: both tensors must have one dtype, got {} and {}",
         name(a.dtype()), name(b.dtype()));
  Tensor same = eq(a, b);
  if (equal_nan && is_floating(a.dtype())) same = logical_or(same, logical_and(isnan(a), isnan(b)));
  Tensor x = is_floating(a.dtype()) ? a : to_dtype(a, DType::f64),
         y = is_floating(b.dtype()) ? b : to_dtype(b, DType::f64);
  Tensor near = le(abs(sub(x, y)), add(number(atol), abs(mul(number(rtol), y))));
  return logical_or(same, logical_and(near, isfinite(y)));
}
bool allclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  return all(isclose(a, b, rtol, atol, equal_nan)).item_int() != 0;
}
bool equal(const Tensor& a, const Tensor& b) {
  if (!std::ranges::equal(a.sizes(), b.sizes())) return false;
  return all(eq(a, b)).item_int() != 0;
}

namespace {

OpDef* const kOps[] = {&kEq,         &kNe,         &kLt,        &kLe,        &kGt,
                       &kGe,         &kIsNan,      &kIsInf,     &kIsFinite,  &kSignBit,
                       &kLogicalNot, &kLogicalAnd, &kLogicalOr, &kLogicalXor};

constexpr uint16_t kUsual = kFunction | kMethod | kInplace | kOut;

const Function kFunctions[] = {
    {"eq(Number input, Number other) -> Tensor", "input == other, elementwise.", kUsual,
     thunk<&eq>},
    {"ne(Number input, Number other) -> Tensor", "input != other, elementwise.", kUsual,
     thunk<&ne>},
    {"lt(Number input, Number other) -> Tensor", "input < other, elementwise.", kUsual, thunk<&lt>},
    {"le(Number input, Number other) -> Tensor", "input <= other, elementwise.", kUsual,
     thunk<&le>},
    {"gt(Number input, Number other) -> Tensor", "input > other, elementwise.", kUsual, thunk<&gt>},
    {"ge(Number input, Number other) -> Tensor", "input >= other, elementwise.", kUsual,
     thunk<&ge>},
    {"isnan(Tensor input) -> Tensor", "Whether each element is NaN.", kFunction | kMethod,
     thunk<&isnan>},
    {"isinf(Tensor input) -> Tensor", "Whether each element is infinite.", kFunction | kMethod,
     thunk<&isinf>},
    {"isfinite(Tensor input) -> Tensor", "Whether each element is finite.", kFunction | kMethod,
     thunk<&isfinite>},
    {"signbit(Tensor input) -> Tensor", "Whether the sign of each element is negative.",
     kFunction | kMethod, thunk<&signbit>},
    {"logical_not(Tensor input) -> Tensor", "Whether each element is zero.", kUsual,
     thunk<&logical_not>},
    {"logical_and(Tensor input, Tensor other) -> Tensor", "Whether both elements are nonzero.",
     kUsual, thunk<&logical_and>},
    {"logical_or(Tensor input, Tensor other) -> Tensor", "Whether either element is nonzero.",
     kUsual, thunk<&logical_or>},
    {"logical_xor(Tensor input, Tensor other) -> Tensor", "Whether exactly one element is nonzero.",
     kUsual, thunk<&logical_xor>},
    {"isclose(Tensor input, Tensor other, float rtol=1e-05, float atol=1e-08, bool equal_nan=False) -> Tensor",
     "Whether |input - other| <= atol + rtol * |other|.", kFunction | kMethod, thunk<&isclose>},
    {"allclose(Tensor input, Tensor other, float rtol=1e-05, float atol=1e-08, bool equal_nan=False) -> bool",
     "Whether isclose holds for every element.", kFunction | kMethod, thunk<&allclose>},
    {"equal(Tensor input, Tensor other) -> bool", "Whether shapes and all elements are equal.",
     kFunction | kMethod, thunk<&equal>},
};

}  // namespace

extern const OpFile compare_ops;
const OpFile compare_ops{kOps, kFunctions};

}  // namespace fluxion
