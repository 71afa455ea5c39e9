// Tensors from nothing: constants and ranges.
#include <cmath>

#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/requirements.h"

namespace fluxion {

using loops::Body;

namespace {

struct FullAttrs {
  double value;
  int64_t integer;  // the value of integer dtypes, exact
  int64_t dtype;
  Dims shape;
};
constexpr Field kFullFields[] = {
    {"value", FieldKind::real, offsetof(FullAttrs, value), "value of floating dtypes"},
    {"integer", FieldKind::integer, offsetof(FullAttrs, integer),
     "value of integer and bool dtypes"},
    {"dtype", FieldKind::dtype, offsetof(FullAttrs, dtype), "dtype of the result"},
    {"shape", FieldKind::dims, offsetof(FullAttrs, shape), "shape of the result"},
};

struct IotaAttrs {
  double start, step;
  int64_t dtype, length;
};
constexpr Field kIotaFields[] = {
    {"start", FieldKind::real, offsetof(IotaAttrs, start), "first value"},
    {"step", FieldKind::real, offsetof(IotaAttrs, step), "difference of neighbours"},
    {"dtype", FieldKind::dtype, offsetof(IotaAttrs, dtype), "dtype of the result"},
    {"length", FieldKind::integer, offsetof(IotaAttrs, length), "number of elements"},
};

void eval_full(const Eval& e) {
  const auto& a = e.attrs<FullAttrs>();
  auto dtype = static_cast<DType>(a.dtype);
  if (!e.out[0].defined()) e.out[0] = empty(a.shape, dtype);
  copy_elements(is_floating(dtype) ? scalar(a.value, dtype) : scalar(a.integer, dtype), e.out[0]);
}

void eval_iota(const Eval& e) {
  const auto& a = e.attrs<IotaAttrs>();
  if (!e.out[0].defined()) e.out[0] = empty(Ints(&a.length, 1), static_cast<DType>(a.dtype));
  run_elementwise(e.op, &a, e.out[0].dtype(), {}, e.out, Shape(e.out[0].sizes()));
}

void iota_kernels(const OpDef& op, KernelSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::i32, DType::i64}) {
    DType compute = is_floating(t) ? DType::f64 : DType::i64;
    sink.add(op, t, 0, [&](std::string symbol) {
      return loops::elementwise(std::move(symbol), {}, {&t, 1}, compute, 0u, op.scalar);
    });
  }
}

double shape_cost(std::span<const Type>, const void*) { return 1; }

void full_samples(const OpDef& op, SampleSink& sink) {
  for (int t = 0; t < kDTypes; ++t) {
    FullAttrs a{1.5, 1, t, {2, 3}};
    sink.add({}, &a, op.attr_bytes);
  }
}
void iota_samples(const OpDef& op, SampleSink& sink) {
  for (int t = 1; t < kDTypes; ++t) {
    IotaAttrs a{3, 2, t, 17};
    sink.add({}, &a, op.attr_bytes);
  }
}

}  // namespace

constinit OpDef kFull{
    .name = "full",
    .doc = "A shape filled with one value.",
    .inputs = 0,
    .space = Space::elementwise,
    .attr_bytes = sizeof(FullAttrs),
    .fields = kFullFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<FullAttrs>();
          require(t, std::ranges::all_of(Ints(a.shape), [](int64_t s) { return s >= 0; }),
                  "sizes must not be negative");
          t.out[0] = {static_cast<DType>(a.dtype), false, Shape(a.shape)};
        },
    .eval = eval_full,
    .cost = shape_cost,
    .samples = full_samples};

constinit OpDef kIota{
    .name = "iota",
    .doc = "start, start + step, ...",
    .inputs = 0,
    .space = Space::elementwise,
    .attr_bytes = sizeof(IotaAttrs),
    .fields = kIotaFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<IotaAttrs>();
          require(t, a.length >= 0, "the length must not be negative");
          require(t, static_cast<DType>(a.dtype) != DType::bool_, "there is no range of bools");
          t.out[0] = {static_cast<DType>(a.dtype), false, Shape{a.length}};
        },
    .eval = eval_iota,
    .scalar = [](Body& b) { b.out(0, loops::cast(b.index(), b.elem()) * b.param(1) + b.param(0)); },
    .kernels = iota_kernels,
    .cost = shape_cost,
    .samples = iota_samples};

namespace {

void check_sizes(const char* op, Ints size, DType dtype) {
  double bytes = static_cast<double>(size_of(dtype));
  for (int64_t s : size) {
    if (s < 0)
      fail(ErrorKind::runtime, "{}: sizes must not be negative, got {}", op, shape_text(size));
    bytes *= static_cast<double>(s);
  }
  if (bytes >= 0x1p63)
    fail(ErrorKind::runtime,
         "{}: a tensor of shape {} and dtype {} has more bytes than 64 bits can count", op,
         shape_text(size), name(dtype));
}

Tensor wants_grad(Tensor t, bool requires_grad) {
  if (requires_grad) t.set_requires_grad(true);
  return t;
}

FullAttrs full_attrs(const Scalar& value, DType t, Ints size) {
  int64_t whole = t == DType::bool_ ? value.as_double() != 0 : is_floating(t) ? 0 : value.as_int();
  return {value.as_double(), whole, static_cast<int64_t>(t), size};
}

DType dtype_of(const Scalar& s) { return s.kind == DType::f64 ? default_dtype() : s.kind; }

}  // namespace

namespace {

Tensor filled(const char* op, Ints size, const Scalar& value, DType dtype, bool requires_grad) {
  check_sizes(op, size, dtype);
  check_number(op, value.as_double(), value.is_floating(), dtype);
  FullAttrs a = full_attrs(value, dtype, size);
  return wants_grad(apply(kFull, &a, {}), requires_grad);
}

}  // namespace

Tensor full(Ints size, Scalar fill_value, OptDType dtype, bool requires_grad) {
  return filled("full", size, fill_value, dtype.value_or(dtype_of(fill_value)), requires_grad);
}
Tensor zeros(Ints size, OptDType dtype, bool requires_grad) {
  return filled("zeros", size, Scalar(0), dtype.value_or(default_dtype()), requires_grad);
}
Tensor ones(Ints size, OptDType dtype, bool requires_grad) {
  return filled("ones", size, Scalar(1), dtype.value_or(default_dtype()), requires_grad);
}
Tensor empty(Ints size, OptDType dtype, bool requires_grad) {
  DType t = dtype.value_or(default_dtype());
  check_sizes("empty", size, t);
  return wants_grad(empty(size, t), requires_grad);
}
namespace {

/// Unset memory with the layout of a dense permuted tensor (PyTorch's preserve_format).
Tensor unset_like(const Tensor& x, OptDType dtype) {
  DType t = dtype.value_or(x.dtype("empty_like"));
  Tensor like = empty_like_dense(x);
  return t == x.dtype() ? like : alias(empty(x.sizes(), t), x.sizes(), like.strides(), 0);
}

}  // namespace

Tensor full_like(const Tensor& x, Scalar fill_value, OptDType dtype, bool requires_grad) {
  if (x.is_contiguous())
    return full(x.sizes(), fill_value, dtype.value_or(x.dtype()), requires_grad);
  Tensor out = unset_like(x, dtype);
  check_number("full_like", fill_value.as_double(), fill_value.is_floating(), out.dtype());
  FullAttrs a = full_attrs(fill_value, out.dtype(), x.sizes());
  apply(kFull, &a, {}, {&out, 1});
  return wants_grad(out, requires_grad);
}
Tensor zeros_like(const Tensor& x, OptDType dtype, bool requires_grad) {
  return full_like(x, Scalar(0), dtype, requires_grad);
}
Tensor ones_like(const Tensor& x, OptDType dtype, bool requires_grad) {
  return full_like(x, Scalar(1), dtype, requires_grad);
}
Tensor empty_like(const Tensor& x, OptDType dtype, bool requires_grad) {
  return wants_grad(unset_like(x, dtype), requires_grad);
}
Tensor new_zeros(const Tensor& x, Ints size, OptDType dtype, bool requires_grad) {
  return zeros(size, dtype.value_or(x.dtype()), requires_grad);
}
Tensor new_ones(const Tensor& x, Ints size, OptDType dtype, bool requires_grad) {
  return ones(size, dtype.value_or(x.dtype()), requires_grad);
}
Tensor new_empty(const Tensor& x, Ints size, OptDType dtype, bool requires_grad) {
  return empty(size, OptDType(dtype.value_or(x.dtype())), requires_grad);
}
Tensor new_full(const Tensor& x, Ints size, Scalar fill_value, OptDType dtype, bool requires_grad) {
  return full(size, fill_value, dtype.value_or(x.dtype()), requires_grad);
}

namespace {

/// The number of steps, exact for integers.
int64_t range_length(const Scalar& start, const Scalar& end, const Scalar& step) {
  bool floating = start.is_floating() || end.is_floating() || step.is_floating();
  double n = std::ceil((end.as_double() - start.as_double()) / step.as_double());
  if (n >= 0x1p63) fail(ErrorKind::runtime, "arange: {} elements are more than fit in 64 bits", n);
  if (floating) return static_cast<int64_t>(n);
  auto span = static_cast<__int128>(end.as_int()) - start.as_int();
  return static_cast<int64_t>((span + step.as_int() - (step.as_int() > 0 ? 1 : -1)) /
                              step.as_int());
}

bool is_exact(double v) { return std::abs(v) <= 0x1p53; }

}  // namespace

Tensor arange(Scalar start, Scalar end, Scalar step, OptDType dtype, bool requires_grad) {
  double a = start.as_double(), b = end.as_double(), s = step.as_double();
  if (s == 0) fail(ErrorKind::runtime, "arange: step must not be 0");
  if (std::isnan(s)) fail(ErrorKind::runtime, "arange: step must not be NaN");
  if (!std::isfinite(a) || !std::isfinite(b))
    fail(ErrorKind::runtime, "arange: bounds must be finite, got {} to {}", a, b);
  if ((b > a && s < 0) || (b < a && s > 0))
    fail(ErrorKind::runtime, "arange: the end {} cannot be reached from {} with step {}", b, a, s);
  bool floating = start.is_floating() || end.is_floating() || step.is_floating();
  DType t = dtype.value_or(floating ? default_dtype() : DType::i64);
  int64_t n = range_length(start, end, step);
  check_sizes("arange", Ints(&n, 1), t);
  if (!floating && !(is_exact(a) && is_exact(s) && is_exact(b))) {
    IotaAttrs count{0, 1, static_cast<int64_t>(DType::i64), n};
    Tensor wide = add(mul(apply(kIota, &count, {}), step.tensor()), start.tensor());
    return wants_grad(to_dtype(wide, t), requires_grad);
  }
  IotaAttrs attrs{a, s, static_cast<int64_t>(t), n};
  return wants_grad(apply(kIota, &attrs, {}), requires_grad);
}

Tensor arange(Scalar end, OptDType dtype, bool requires_grad) {
  return arange(end.is_floating() ? Scalar(0.0) : Scalar(0), end, Scalar(1), dtype, requires_grad);
}

Tensor linspace(Scalar start, Scalar end, int64_t steps, OptDType dtype, bool requires_grad) {
  if (steps < 0) fail(ErrorKind::runtime, "linspace: steps must not be negative, got {}", steps);
  DType t = dtype.value_or(default_dtype());
  double a = start.as_double(), b = end.as_double(),
         step = steps > 1 ? (b - a) / static_cast<double>(steps - 1) : 0;
  IotaAttrs up{a, step, static_cast<int64_t>(DType::f64), steps};
  check_sizes("linspace", Ints(&steps, 1), DType::f64);
  Tensor rising = apply(kIota, &up, {});
  if (steps > 1) {  // the second half is counted from the end, which it reaches exactly
    IotaAttrs index{0, 1, static_cast<int64_t>(DType::i64), steps},
        back{static_cast<double>(steps - 1), -1, static_cast<int64_t>(DType::f64), steps};
    Tensor from_end = sub(number(b), mul(apply(kIota, &back, {}), number(step)));
    rising = where(lt(apply(kIota, &index, {}), Scalar(steps / 2).tensor()), rising, from_end);
  }
  return wants_grad(to_dtype(rising, t), requires_grad);
}

namespace {

OpDef* const kOps[] = {&kFull, &kIota};

const Function kFunctions[] = {
    {"zeros(int... size, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "A tensor of zeros.", kFunction | kOut,
     thunk<static_cast<Tensor (*)(Ints, OptDType, bool)>(&zeros)>},
    {"ones(int... size, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "A tensor of ones.", kFunction | kOut,
     thunk<static_cast<Tensor (*)(Ints, OptDType, bool)>(&ones)>},
    {"empty(int... size, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False, ignored? memory_format=None) -> Tensor",
     "A tensor of unset memory.", kFunction | kOut,
     thunk<static_cast<Tensor (*)(Ints, OptDType, bool)>(&empty)>},
    {"full(int[] size, Scalar fill_value, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "A tensor filled with one value.", kFunction | kOut, thunk<&full>},
    {"zeros_like(Tensor input, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, bool requires_grad=False, ignored? memory_format=None) -> Tensor",
     "Zeros of the shape and dtype of input.", kFunction, thunk<&zeros_like>},
    {"ones_like(Tensor input, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, bool requires_grad=False, ignored? memory_format=None) -> Tensor",
     "Ones of the shape and dtype of input.", kFunction, thunk<&ones_like>},
    {"empty_like(Tensor input, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, bool requires_grad=False, ignored? memory_format=None) -> Tensor",
     "Unset memory of the shape and dtype of input.", kFunction, thunk<&empty_like>},
    {"full_like(Tensor input, Scalar fill_value, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, bool requires_grad=False, ignored? memory_format=None) -> Tensor",
     "One value in the shape and dtype of input.", kFunction, thunk<&full_like>},
    {"new_zeros(Tensor input, int... size, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "Zeros with the dtype of input.", kMethod, thunk<&new_zeros>},
    {"new_ones(Tensor input, int... size, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "Ones with the dtype of input.", kMethod, thunk<&new_ones>},
    {"new_empty(Tensor input, int... size, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "Unset memory with the dtype of input.", kMethod, thunk<&new_empty>},
    {"new_full(Tensor input, int[] size, Scalar fill_value, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "One value with the dtype of input.", kMethod, thunk<&new_full>},
    {"arange(Scalar end, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "0, 1, ... below end.", kFunction | kOut,
     thunk<static_cast<Tensor (*)(Scalar, OptDType, bool)>(&arange)>},
    {"arange(Scalar start, Scalar end, Scalar step=1, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "start, start + step, ... below end; int64 for integers.", kFunction | kOut,
     thunk<static_cast<Tensor (*)(Scalar, Scalar, Scalar, OptDType, bool)>(&arange)>},
    {"linspace(Scalar start, Scalar end, int steps, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "`steps` evenly spaced values from start to end, both included.", kFunction | kOut,
     thunk<&linspace>},
};

}  // namespace

extern const OpFile create_ops;
const OpFile create_ops{kOps, kFunctions};

}  // namespace fluxion
