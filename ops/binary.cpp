// Elementwise arithmetic of two operands.
#include <cmath>

#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/promotion.h"
#include "tensor/thread_state.h"

namespace fluxion {

using loops::Body;

constinit OpDef kAdd = elementwise({.name = "add",
                                    .doc = "a + b.",
                                    .inputs = 2,
                                    .promotion = Promotion::promote,
                                    .vjp =
                                        [](const Vjp& v) {
                                          if (v.needs(0)) v.result[0] = v.grad[0];
                                          if (v.needs(1)) v.result[1] = v.grad[0];
                                        },
                                    .scalar = [](Body& b) { b.out(0, b.in(0) + b.in(1)); }});

constinit OpDef kSub = elementwise({.name = "sub",
                                    .doc = "a - b.",
                                    .inputs = 2,
                                    .promotion = Promotion::promote,
                                    .vjp =
                                        [](const Vjp& v) {
                                          if (v.needs(0)) v.result[0] = v.grad[0];
                                          if (v.needs(1)) v.result[1] = neg(v.grad[0]);
                                        },
                                    .scalar = [](Body& b) { b.out(0, b.in(0) - b.in(1)); }});

constinit OpDef kMul = elementwise({.name = "mul",
                                    .doc = "a * b.",
                                    .inputs = 2,
                                    .promotion = Promotion::promote,
                                    .wide_numbers = true,
                                    .vjp =
                                        [](const Vjp& v) {
                                          if (v.needs(0)) v.result[0] = mul(v.grad[0], v.in[1]);
                                          if (v.needs(1)) v.result[1] = mul(v.grad[0], v.in[0]);
                                        },
                                    .saves = kSaveOther,
                                    .scalar = [](Body& b) { b.out(0, b.in(0) * b.in(1)); }});

namespace {
constexpr SaveRule kDivSaves[] = {{2, 0}, {3, 0}};
}

constinit OpDef kDiv =
    elementwise({.name = "div",
                 .doc = "a / b.",
                 .inputs = 2,
                 .promotion = Promotion::floating,
                 .wide_numbers = true,
                 .vjp =
                     [](const Vjp& v) {
                       if (v.needs(0)) v.result[0] = div(v.grad[0], v.in[1]);
                       if (v.needs(1))
                         v.result[1] = neg(mul(v.grad[0], div(div(v.in[0], v.in[1]), v.in[1])));
                     },
                 .saves = kDivSaves,
                 .scalar = [](Body& b) { b.out(0, b.in(0) / b.in(1)); },
                 .max_ulp = 0.5});

namespace {

/// Divisors and exponents from 1 on.
void positive_samples(const OpDef& op, SampleSink& sink) {
  class Positive final : public SampleSink {
   public:
    explicit Positive(SampleSink& to) : to_(to) {}
    void add(std::span<const Input> inputs, const void* attrs, size_t bytes) override {
      std::vector<Input> in(inputs.begin(), inputs.end());
      if (!is_floating(in[1].dtype)) in[1].low = in[1].high = 1;
      if (is_integral(in[1].dtype)) in[1].high = 2;
      to_.add(in, attrs, bytes);
    }

   private:
    SampleSink& to_;
  } positive(sink);
  elementwise_samples(op, positive);
}

/// PyTorch raises for any zero among integer divisors.
void refuse_zero_divisor(const char* op, const Eval& e) {
  const Tensor& b = e.in[1];
  if (is_floating(common_dtype(e.in)) || b.numel() == 0) return;
  NoGrad plain;
  if (b.dim() == 0 ? b.item_int() == 0 : any(eq(b, Scalar(0).tensor())).item_int() != 0)
    fail(ErrorKind::runtime,
         "{}: ZeroDivisionError: the integer divisor holds a zero; use float tensors for inf", op);
}

void refuse_negative_exponent(const Eval& e) {
  const Tensor& b = e.in[1];
  if (is_floating(common_dtype(e.in)) || b.numel() == 0) return;
  NoGrad plain;
  if (b.dim() == 0 ? b.item_int() < 0 : any(lt(b, Scalar(0).tensor())).item_int() != 0)
    fail(
        ErrorKind::runtime,
        "pow: integers to negative integer powers are not defined; cast the base to a float dtype");
}

}  // namespace

constinit OpDef kFloorDiv =
    elementwise({.name = "floor_divide",
                 .doc = "a / b rounded down; refuses integer zero divisors.",
                 .inputs = 2,
                 .promotion = Promotion::promote,
                 .wide_numbers = true,
                 .eval =
                     [](const Eval& e) {
                       refuse_zero_divisor("floor_divide", e);
                       eval_elementwise(e);
                     },
                 .vjp =
                     [](const Vjp& v) {
                       if (v.needs(0)) v.result[0] = zeros(v.in[0].sizes(), v.in[0].dtype());
                       if (v.needs(1)) v.result[1] = zeros(v.in[1].sizes(), v.in[1].dtype());
                     },
                 .scalar = [](Body& b) { b.out(0, loops::floor_div(b.in(0), b.in(1))); },
                 .samples = positive_samples});

constinit OpDef kTruncDiv =
    elementwise({.name = "trunc_divide",
                 .doc = "a / b rounded towards zero.",
                 .inputs = 2,
                 .promotion = Promotion::promote,
                 .wide_numbers = true,
                 .eval =
                     [](const Eval& e) {
                       refuse_zero_divisor("div", e);
                       eval_elementwise(e);
                     },
                 .vjp =
                     [](const Vjp& v) {
                       if (v.needs(0)) v.result[0] = zeros(v.in[0].sizes(), v.in[0].dtype());
                       if (v.needs(1)) v.result[1] = zeros(v.in[1].sizes(), v.in[1].dtype());
                     },
                 .scalar =
                     [](Body& b) {
                       auto q = b.in(0) / b.in(1);
                       b.out(0, loops::is_float(b.elem()) ? loops::trunc(q) : q);
                     },
                 .samples = positive_samples});

constinit OpDef kRem =
    elementwise({.name = "remainder",
                 .doc = "a - b * floor(a / b): the sign of b.",
                 .inputs = 2,
                 .promotion = Promotion::promote,
                 .eval =
                     [](const Eval& e) {
                       refuse_zero_divisor("remainder", e);
                       eval_elementwise(e);
                     },
                 .vjp =
                     [](const Vjp& v) {
                       if (v.needs(0)) v.result[0] = v.grad[0];
                       if (v.needs(1))
                         v.result[1] = neg(mul(v.grad[0], floor_divide(v.in[0], v.in[1])));
                     },
                 .saves = kSaveBoth,
                 .scalar = [](Body& b) { b.out(0, loops::floor_rem(b.in(0), b.in(1))); },
                 .samples = positive_samples});

constinit OpDef kFmod =
    elementwise({.name = "fmod",
                 .doc = "a - b * trunc(a / b): the sign of a.",
                 .inputs = 2,
                 .promotion = Promotion::promote,
                 .eval =
                     [](const Eval& e) {
                       refuse_zero_divisor("fmod", e);
                       eval_elementwise(e);
                     },
                 .vjp =
                     [](const Vjp& v) {
                       if (v.needs(0)) v.result[0] = v.grad[0];
                       if (v.needs(1))
                         v.result[1] = neg(mul(v.grad[0], apply(kTruncDiv, {v.in[0], v.in[1]})));
                     },
                 .saves = kSaveBoth,
                 .scalar = [](Body& b) { b.out(0, loops::rem(b.in(0), b.in(1))); },
                 .samples = positive_samples});

namespace {

/// Integer power by squaring, of a non-negative exponent.
loops::Value integer_power(loops::Value base, loops::Value exponent) {
  auto result = base.like(1);
  int bits = kernels::elem_size(base.elem()) * 8 - 1;
  for (int i = 0; i < bits; ++i) {
    auto odd = (exponent & 1) == 1;
    result = loops::select(odd, result * base, result);
    exponent = loops::shift_right(exponent, 1);
    base = base * base;
  }
  return result;
}

constexpr SaveRule kPowSaves[] = {{3, 0}, {3, 1}};

}  // namespace

constinit OpDef kPow = elementwise(
    {.name = "pow",
     .doc = "a to the power b.",
     .inputs = 2,
     .promotion = Promotion::promote,
     .eval =
         [](const Eval& e) {
           refuse_negative_exponent(e);
           eval_elementwise(e);
         },
     .vjp =
         [](const Vjp& v) {
           const Tensor &a = v.in[0], &b = v.in[1], &g = v.grad[0];
           if (v.needs(0)) {
             Tensor slope = mul(b, pow(a, sub(b, number(1))));
             v.result[0] = mul(g, where(eq(b, number(0)), zeros({}, slope.dtype()), slope));
           }
           if (v.needs(1)) {
             Tensor flat = mul(v.out[0], log(where(gt(a, number(0)), a, ones({}, a.dtype()))));
             Tensor below =
                 where(lt(a, number(0)), full({}, Scalar(std::nan("")), flat.dtype()), flat);
             Tensor at_zero = where(ge(b, number(0)), zeros({}, flat.dtype()),
                                    full({}, Scalar(-INFINITY), flat.dtype()));
             v.result[1] = mul(g, where(eq(a, number(0)), at_zero, below));
           }
         },
     .saves = kPowSaves,
     .scalar =
         [](Body& b) {
           b.out(0, loops::is_float(b.elem()) ? loops::pow(b.in(0), b.in(1))
                                              : integer_power(b.in(0), b.in(1)));
         },
     .max_ulp = 2});

namespace {

/// Half of the gradient to each of two equal operands, as PyTorch does.
void vjp_extremum(const Vjp& v, Tensor (*wins)(const Tensor&, const Tensor&)) {
  Tensor half = where(eq(v.in[0], v.in[1]), number(0.5), number(0));
  auto share = [&](const Tensor& mine, const Tensor& other) {
    return mul(v.grad[0], add(to_dtype(wins(mine, other), v.grad[0].dtype()),
                              to_dtype(half, v.grad[0].dtype())));
  };
  if (v.needs(0)) v.result[0] = share(v.in[0], v.in[1]);
  if (v.needs(1)) v.result[1] = share(v.in[1], v.in[0]);
}

}  // namespace

constinit OpDef kMaximum =
    elementwise({.name = "maximum",
                 .doc = "The larger of a and b; NaN wins.",
                 .inputs = 2,
                 .promotion = Promotion::promote,
                 .vjp = [](const Vjp& v) { vjp_extremum(v, gt); },
                 .saves = kSaveBoth,
                 .scalar = [](Body& b) { b.out(0, loops::maximum(b.in(0), b.in(1))); }});

constinit OpDef kMinimum =
    elementwise({.name = "minimum",
                 .doc = "The smaller of a and b; NaN wins.",
                 .inputs = 2,
                 .promotion = Promotion::promote,
                 .vjp = [](const Vjp& v) { vjp_extremum(v, lt); },
                 .saves = kSaveBoth,
                 .scalar = [](Body& b) { b.out(0, loops::minimum(b.in(0), b.in(1))); }});

constinit OpDef kAnd = elementwise({.name = "bitwise_and",
                                    .doc = "a & b.",
                                    .inputs = 2,
                                    .promotion = Promotion::bitwise,
                                    .scalar = [](Body& b) { b.out(0, b.in(0) & b.in(1)); }});
constinit OpDef kOr = elementwise({.name = "bitwise_or",
                                   .doc = "a | b.",
                                   .inputs = 2,
                                   .promotion = Promotion::bitwise,
                                   .scalar = [](Body& b) { b.out(0, b.in(0) | b.in(1)); }});
constinit OpDef kXor = elementwise({.name = "bitwise_xor",
                                    .doc = "a ^ b.",
                                    .inputs = 2,
                                    .promotion = Promotion::bitwise,
                                    .scalar = [](Body& b) { b.out(0, b.in(0) ^ b.in(1)); }});
namespace {

/// A negative or too large count shifts every bit out, as in PyTorch.
loops::Mask shifts_within(Body& b) {
  auto count = b.in(1);
  return (count >= 0) & (count < kernels::elem_size(b.elem()) * 8);
}

}  // namespace

constinit OpDef kShiftLeft = elementwise(
    {.name = "bitwise_left_shift",
     .doc = "a << b.",
     .inputs = 2,
     .promotion = Promotion::bitwise,
     .scalar = [](Body& b) {
       auto within = shifts_within(b);
       auto x = b.in(0), count = b.in(1);
       b.out(0, loops::select(within, loops::shift_left(x, loops::select(within, count, x.like(0))),
                              x.like(0)));
     }});
constinit OpDef kShiftRight = elementwise(
    {.name = "bitwise_right_shift",
     .doc = "a >> b, arithmetic.",
     .inputs = 2,
     .promotion = Promotion::bitwise,
     .scalar = [](Body& b) {
       auto all = b.in(0).like(kernels::elem_size(b.elem()) * 8 - 1);
       b.out(0, loops::shift_right(b.in(0), loops::select(shifts_within(b), b.in(1), all)));
     }});

namespace {

bool is_one(const Scalar& s) { return s.as_double() == 1; }

void refuse_bools(const char* op, const Tensor& a, const Tensor& b) {
  if (a.dtype(op) == DType::bool_ && b.dtype(op) == DType::bool_)
    fail(ErrorKind::runtime,
         "{}: subtraction of two bool tensors is not defined; use bitwise_xor() or logical_xor()",
         op);
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b, Scalar alpha) {
  return apply(kAdd, {a, is_one(alpha) ? b : mul(b, alpha.tensor())});
}
Tensor sub(const Tensor& a, const Tensor& b, Scalar alpha) {
  refuse_bools("sub", a, b);
  return apply(kSub, {a, is_one(alpha) ? b : mul(b, alpha.tensor())});
}
Tensor rsub(const Tensor& a, const Tensor& b, Scalar alpha) { return sub(b, a, alpha); }
Tensor mul(const Tensor& a, const Tensor& b) { return apply(kMul, {a, b}); }
Tensor floor_divide(const Tensor& a, const Tensor& b) { return apply(kFloorDiv, {a, b}); }
Tensor div(const Tensor& a, const Tensor& b, std::optional<std::string_view> rounding_mode) {
  if (!rounding_mode) return apply(kDiv, {a, b});
  if (*rounding_mode == "floor") return floor_divide(a, b);
  if (*rounding_mode == "trunc") return apply(kTruncDiv, {a, b});
  fail(ErrorKind::runtime, "div: rounding_mode must be None, 'trunc' or 'floor', got '{}'",
       *rounding_mode);
}
Tensor remainder(const Tensor& a, const Tensor& b) { return apply(kRem, {a, b}); }
Tensor fmod(const Tensor& a, const Tensor& b) { return apply(kFmod, {a, b}); }
Tensor pow(const Tensor& a, const Tensor& b) {
  const Tensor in[] = {a, b};
  if (b.has(kNumber)) {
    double e = b.item();
    if (common_dtype(in) == a.dtype()) {
      if (e == 1) return mul(a, Scalar(true).tensor());
      if (e == 2) return mul(a, a);
      if (e == 3) return mul(mul(a, a), a);
    }
    if (is_floating(a.dtype())) {
      if (e == 0.5) return sqrt(a);
      if (e == -0.5) return rsqrt(a);
      if (e == -1) return reciprocal(a);
      if (e == -2) return reciprocal(mul(a, a));
    }
  }
  return apply(kPow, {a, b});
}
Tensor maximum(const Tensor& a, const Tensor& b) { return apply(kMaximum, {a, b}); }
Tensor minimum(const Tensor& a, const Tensor& b) { return apply(kMinimum, {a, b}); }
Tensor bitwise_and(const Tensor& a, const Tensor& b) { return apply(kAnd, {a, b}); }
Tensor bitwise_or(const Tensor& a, const Tensor& b) { return apply(kOr, {a, b}); }
Tensor bitwise_xor(const Tensor& a, const Tensor& b) { return apply(kXor, {a, b}); }
Tensor bitwise_left_shift(const Tensor& a, const Tensor& b) { return apply(kShiftLeft, {a, b}); }
Tensor bitwise_right_shift(const Tensor& a, const Tensor& b) { return apply(kShiftRight, {a, b}); }
Tensor addcmul(const Tensor& x, const Tensor& a, const Tensor& b, Scalar value) {
  return add(x, mul(a, b), value);
}
Tensor addcdiv(const Tensor& x, const Tensor& a, const Tensor& b, Scalar value) {
  return add(x, div(a, b), value);
}
Tensor lerp(const Tensor& a, const Tensor& b, const Tensor& weight) {
  return add(a, mul(weight, sub(b, a)));
}

namespace {

OpDef* const kOps[] = {&kAdd, &kSub,  &kMul,       &kDiv,       &kFloorDiv, &kTruncDiv,
                       &kRem, &kFmod, &kPow,       &kMaximum,   &kMinimum,  &kAnd,
                       &kOr,  &kXor,  &kShiftLeft, &kShiftRight};

constexpr uint16_t kUsual = kFunction | kMethod | kInplace | kOut;

const Function kFunctions[] = {
    {"add(Number input, Number other, *, Scalar alpha=1) -> Tensor",
     "input + alpha * other, broadcast and promoted.", kUsual, thunk<&add>},
    {"sub(Number input, Number other, *, Scalar alpha=1) -> Tensor",
     "input - alpha * other, broadcast and promoted.", kUsual, thunk<&sub>},
    {"rsub(Number input, Number other, *, Scalar alpha=1) -> Tensor", "other - alpha * input.",
     kFunction | kMethod, thunk<&rsub>},
    {"mul(Number input, Number other) -> Tensor", "input * other, broadcast and promoted.", kUsual,
     thunk<&mul>},
    {"div(Number input, Number other, *, str? rounding_mode=None) -> Tensor",
     "input / other; rounding_mode 'trunc' or 'floor' rounds the quotient.", kUsual, thunk<&div>},
    {"floor_divide(Number input, Number other) -> Tensor",
     "The quotient rounded down. Raises for an integer zero divisor.", kUsual,
     thunk<&floor_divide>},
    {"remainder(Number input, Number other) -> Tensor", "Python's %: the sign of other.", kUsual,
     thunk<&remainder>},
    {"fmod(Number input, Number other) -> Tensor", "C's fmod: the sign of input.", kUsual,
     thunk<&fmod>},
    {"pow(Number input, Number exponent) -> Tensor", "input to the power exponent.", kUsual,
     thunk<&pow>},
    {"maximum(Tensor input, Tensor other) -> Tensor", "The larger of each pair; NaN wins.",
     kFunction | kMethod | kOut, thunk<&maximum>},
    {"minimum(Tensor input, Tensor other) -> Tensor", "The smaller of each pair; NaN wins.",
     kFunction | kMethod | kOut, thunk<&minimum>},
    {"bitwise_and(Number input, Number other) -> Tensor", "input & other of integers or bools.",
     kUsual, thunk<&bitwise_and>},
    {"bitwise_or(Number input, Number other) -> Tensor", "input | other of integers or bools.",
     kUsual, thunk<&bitwise_or>},
    {"bitwise_xor(Number input, Number other) -> Tensor", "input ^ other of integers or bools.",
     kUsual, thunk<&bitwise_xor>},
    {"bitwise_left_shift(Number input, Number other) -> Tensor", "input << other of integers.",
     kUsual, thunk<&bitwise_left_shift>},
    {"bitwise_right_shift(Number input, Number other) -> Tensor",
     "input >> other of integers, arithmetic.", kUsual, thunk<&bitwise_right_shift>},
    {"addcmul(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
     "input + value * tensor1 * tensor2.", kUsual, thunk<&addcmul>},
    {"addcdiv(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
     "input + value * tensor1 / tensor2.", kUsual, thunk<&addcdiv>},
    {"lerp(Tensor input, Tensor end, Number weight) -> Tensor", "input + weight * (end - input).",
     kUsual, thunk<&lerp>},
};

}  // namespace

extern const OpFile binary_ops;
const OpFile binary_ops{kOps, kFunctions};

}  // namespace fluxion
