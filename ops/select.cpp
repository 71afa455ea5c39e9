// Choosing between operands.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/functions.h"

namespace fluxion {

using loops::Body;

namespace {
constexpr SaveRule kSaveCondition[] = {{1, 0}};
}

constinit OpDef kSelect =
    elementwise({.name = "where",
                 .doc = "a where the condition holds, else b.",
                 .inputs = 3,
                 .promotion = Promotion::choose,
                 .vjp =
                     [](const Vjp& v) {
                       Tensor zero = zeros({}, v.grad[0].dtype());
                       if (v.needs(1)) v.result[1] = where(v.in[0], v.grad[0], zero);
                       if (v.needs(2)) v.result[2] = where(v.in[0], zero, v.grad[0]);
                     },
                 .saves = kSaveCondition,
                 .scalar = [](Body& b) { b.out(0, loops::select(b.mask(0), b.in(1), b.in(2))); }});

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  if (condition.dtype() != DType::bool_)
    fail(ErrorKind::runtime,
         "where: the condition must be a bool tensor, got {}. Compare it, for example with != 0",
         name(condition.dtype()));
  return apply(kSelect, {condition, a, b});
}

namespace {

/// The bound is a Python number or a tensor; undefined bounds do nothing.
Tensor clamp_bounds(const char* op, const Tensor& x, const Tensor& low, const Tensor& high) {
  if (!low.defined() && !high.defined())
    fail(ErrorKind::runtime, "{}: at least one of min and max must be given", op);
  Tensor y = x;
  // x itself where it is within the bounds, so that ties pass the whole gradient to x as in PyTorch
  if (low.defined()) y = where(lt(y, low), low, y);
  if (high.defined()) y = where(gt(y, high), high, y);
  return y;
}

}  // namespace

Tensor clamp(const Tensor& x, const Tensor& min, const Tensor& max) {
  return clamp_bounds("clamp", x, min, max);
}
Tensor clamp_min(const Tensor& x, const Tensor& min) {
  return clamp_bounds("clamp_min", x, min, {});
}
Tensor clamp_max(const Tensor& x, const Tensor& max) {
  return clamp_bounds("clamp_max", x, {}, max);
}
Tensor nan_to_num(const Tensor& x, OptDouble nan, OptDouble posinf, OptDouble neginf) {
  if (!is_floating(x.dtype())) return x;
  double most = x.dtype() == DType::f64    ? 1.7976931348623157e308
                : x.dtype() == DType::f16  ? 65504.0
                : x.dtype() == DType::bf16 ? 3.3895313892515355e38
                                           : 3.4028234663852886e38;
  Tensor y = where(isnan(x), number(nan.value_or(0)), x);
  y = where(eq(y, number(INFINITY)), number(posinf.value_or(most)), y);
  return where(eq(y, number(-INFINITY)), number(neginf.value_or(-most)), y);
}

namespace {

OpDef* const kOps[] = {&kSelect};

const Function kFunctions[] = {
    {"where(Tensor condition, Number input, Number other) -> Tensor",
     "input where condition holds, else other; broadcast and promoted.", kFunction | kOut,
     thunk<static_cast<Tensor (*)(const Tensor&, const Tensor&, const Tensor&)>(&where)>},
    {"clamp(Tensor input, Number? min=None, Number? max=None) -> Tensor",
     "Every element limited to [min, max]. Raises if both are None.",
     kFunction | kMethod | kInplace | kOut, thunk<&clamp>},
    {"clamp_min(Tensor input, Number min) -> Tensor", "Every element at least min.",
     kFunction | kMethod | kInplace, thunk<&clamp_min>},
    {"clamp_max(Tensor input, Number max) -> Tensor", "Every element at most max.",
     kFunction | kMethod | kInplace, thunk<&clamp_max>},
    {"nan_to_num(Tensor input, float? nan=None, float? posinf=None, float? neginf=None) -> Tensor",
     "NaN replaced by nan (0), infinities by the largest finite numbers.",
     kFunction | kMethod | kInplace, thunk<&nan_to_num>},
};

}  // namespace

extern const OpFile select_ops;
const OpFile select_ops{kOps, kFunctions};

}  // namespace fluxion
