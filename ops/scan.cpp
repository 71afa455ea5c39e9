// Running sums, products and extrema along a dim, strictly in order.
#include "kernels/scan.h"

#include <cmath>
#include <cstring>

#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/pad.h"
#include "ops/requirements.h"
#include "ops/scan.h"
#include "ops/scatter.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

struct ScanAttrs {
  int64_t axis, reverse = 0;
};
constexpr Field kFields[] = {
    {"axis", FieldKind::integer, offsetof(ScanAttrs, axis), "the dim walked along"},
    {"reverse", FieldKind::boolean, offsetof(ScanAttrs, reverse),
     "from the last element to the first"},
};

kernels::ScanShape around(const Tensor& x, int64_t axis) {
  size_t a = static_cast<size_t>(axis);
  return {element_count(x.sizes().first(a)), x.sizes()[a], element_count(x.sizes().subspan(a + 1))};
}

/// Row-major, half types as f32.
Tensor operand(const Tensor& x) {
  if (!is_half(x.dtype())) return dense(x);
  Tensor wide = empty(x.sizes(), DType::f32);
  copy_elements(x, wide);
  return wide;
}

/// Row-major memory of the operands' dtype; deliver() rounds it into the result.
Tensor memory_for(const Tensor& result, const Tensor& like) {
  bool usable = result.defined() && result.is_contiguous() && result.dtype() == like.dtype();
  return usable ? result : empty(like.sizes(), like.dtype());
}

template <kernels::ScanKind kind>
void eval_scan(const Eval& e) {
  const auto& a = e.attrs<ScanAttrs>();
  Tensor x = operand(e.in[0]), y = memory_for(e.out[0], x);
  LongWork work(2.0 * static_cast<double>(x.numel()));
  int status = kernels::scan(kernel_context(), kind, x.dtype(), x.data<char>(), y.data<char>(),
                             around(x, a.axis), a.reverse);
  invariant(status == kernels::kOk, e.op.name);
  deliver(e.out[0], y, e.in[0].dtype());
}

void eval_linear(const Eval& e) {
  const auto& a = e.attrs<ScanAttrs>();
  Tensor factor = operand(e.in[1]), x = operand(e.in[0]), y = memory_for(e.out[0], x);
  LongWork work(4.0 * static_cast<double>(x.numel()));
  int status = kernels::scan_linear(kernel_context(), x.dtype(), factor.data<char>(),
                                    x.data<char>(), y.data<char>(), around(x, a.axis), a.reverse);
  invariant(status == kernels::kOk, e.op.name);
  deliver(e.out[0], y, e.in[0].dtype());
}

template <bool maximum>
void eval_extremum(const Eval& e) {
  Tensor x = dense(e.in[0]);
  Tensor values = empty(x.sizes(), x.dtype()), indices = empty(x.sizes(), DType::i64);
  LongWork work(2.0 * static_cast<double>(x.numel()));
  kernels::scan_extremum(kernel_context(), x.dtype(), maximum, x.data<char>(), values.data<char>(),
                         indices.data<int64_t>(), around(x, e.attrs<ScanAttrs>().axis));
  const Tensor* results[] = {&values, &indices};
  for (size_t k = 0; k < 2; ++k)
    if (e.out[k].defined()) copy_elements(*results[k], e.out[k]);
    else e.out[k] = *results[k];
}

}  // namespace

extern OpDef kCumsum, kCumprod, kCummax, kCummin, kLinearRecurrence;

Tensor linear_recurrence(const Tensor& x, const Tensor& factor, int64_t axis, bool reverse) {
  return apply(kLinearRecurrence, ScanAttrs{axis, reverse}, {x, factor});
}

namespace {

/// Element t of the result is element t - by (in walking order) of x; `fill` where there is none.
Tensor delayed(const Tensor& x, const ScanAttrs& a, int64_t by, double fill) {
  return shifted(x, a.axis, a.reverse ? -by : by, fill);
}

void vjp_cumsum(const Vjp& v) {
  const auto& a = v.attrs<ScanAttrs>();
  v.result[0] = apply(kCumsum, ScanAttrs{a.axis, !a.reverse}, {v.grad[0]});
}

/// dx[t] = (product before t) * (g[t] + x[t+1] * (g[t+1] + ...)): no division, so right where x is zero.
void vjp_cumprod(const Vjp& v) {
  const auto& a = v.attrs<ScanAttrs>();
  Tensor later = linear_recurrence(v.grad[0], delayed(v.in[0], a, -1, 1), a.axis, !a.reverse);
  v.result[0] = mul(delayed(v.out[0], a, 1, 1), later);
}

void vjp_linear(const Vjp& v) {
  const auto& a = v.attrs<ScanAttrs>();
  Tensor g = linear_recurrence(v.grad[0], delayed(v.in[1], a, -1, 1), a.axis, !a.reverse);
  if (v.needs(0)) v.result[0] = g;
  if (v.needs(1)) v.result[1] = mul(g, delayed(v.out[0], a, 1, 0));
}

void vjp_extremum(const Vjp& v) {
  if (v.grad[0].defined())
    v.result[0] =
        scatter_into_zeros(v.in[0].sizes(), v.attrs<ScanAttrs>().axis, v.out[1], v.grad[0]);
}

void infer_same(const TypeRule& t) {
  require_dim(t, t.attrs<ScanAttrs>().axis, t.in[0].shape.size());
  for (const Type& in : t.in)
    require(t, in.dtype == t.in[0].dtype && in.shape == t.in[0].shape,
            "the inputs must have one type");
  if (t.in.size() > 1 || t.op.promotion == Promotion::floating) require_floating(t, 0);
  require(t, t.out.size() > 1 || t.in[0].dtype != DType::bool_, "bools have no sums");
  t.out[0] = {t.in[0].dtype, false, t.in[0].shape};
}
void infer_pair(const TypeRule& t) {
  infer_same(t);
  t.out[1] = {DType::i64, false, t.in[0].shape};
}

double scan_cost(std::span<const Type> in, const void*) {
  return 4.0 * static_cast<double>(element_count(in[0].shape));
}

void scan_samples(const OpDef& op, SampleSink& sink) {
  bool floats = op.inputs == 2 || op.promotion == Promotion::floating, sums = op.outputs == 1;
  bool reverses = sums && op.promotion != Promotion::floating;
  for (int t = floats ? static_cast<int>(DType::f16) : sums; t < kDTypes; ++t)
    for (int64_t axis = 0; axis < 2; ++axis) {
      ScanAttrs a{axis, reverses && axis};
      SampleSink::Input in[] = {{Shape{3, 5}, static_cast<DType>(t), 0.5, 1.5},
                                {Shape{3, 5}, static_cast<DType>(t), 0.5, 1.5}};
      sink.add({in, op.inputs}, &a, sizeof a);
    }
}

constexpr SaveRule kSaveBothSides[] = {{1, 1}};
constexpr SaveRule kSaveFactor[] = {{2, 0}, {2, 1}};
constexpr SaveRule kSaveIndices[] = {{0, 2}};

constexpr OpDef scan_op(OpDef d) {
  d.attr_bytes = sizeof(ScanAttrs);
  d.fields = kFields;
  d.infer = d.outputs == 2 ? infer_pair : infer_same;
  d.cost = scan_cost;
  d.samples = scan_samples;
  return d;
}

}  // namespace

namespace {

/// Each step is the op logaddexp over all lines.
void eval_logcumsumexp(const Eval& e) {
  NoGrad plain;
  int64_t axis = e.attrs<ScanAttrs>().axis;
  Tensor x = dense(movedim(operand(e.in[0]), {axis}, {0}));
  Tensor y = empty(x.sizes(), x.dtype());
  kernels::Kernel next = require_kernel(kLogaddexp, x.dtype());
  int64_t steps = x.size(0), width = x.numel() / std::max<int64_t>(steps, 1);
  LongWork work(8.0 * static_cast<double>(x.numel()));
  parallel(width, 4096 / std::max<int64_t>(steps, 1) + 1, [&](int64_t begin, int64_t end) {
    int64_t size = size_of(x.dtype()), count = end - begin;
    for (int64_t t = 0; t < steps; ++t) {
      int64_t at = (t * width + begin) * size;
      char *from = x.data<char>() + at, *to = y.data<char>() + at;
      if (t == 0) {
        std::memcpy(to, from, static_cast<size_t>(count * size));
        continue;
      }
      kernels::Buf args[] = {{to - width * size, nullptr}, {from, nullptr}, {to, nullptr}};
      next(args, &count, nullptr);
    }
  });
  deliver(e.out[0], dense(movedim(y, {0}, {axis})), e.in[0].dtype());
}

/// G[t] = g[t] + exp(y[t] - y[t+1]) G[t+1] from the end; the gradient is G exp(x - y).
void vjp_logcumsumexp(const Vjp& v) {
  int64_t axis = v.attrs<ScanAttrs>().axis;
  const Tensor &x = v.in[0], &y = v.out[0];
  if (x.numel() == 0) {
    v.result[0] = v.grad[0];
    return;
  }
  Tensor none = eq(y, number(-INFINITY)), level = where(none, number(0), y);
  int64_t rest = x.size(axis) - 1;
  Tensor last = narrow(level, axis, rest, 1);
  const Tensor parts[] = {narrow(level, axis, 1, rest), last};
  Tensor factor = where(none, number(0), exp(sub(level, cat(parts, axis))));
  Tensor total = apply(kLinearRecurrence, ScanAttrs{axis, 1}, {v.grad[0], factor});
  v.result[0] = mul(total, where(none, number(0), exp(sub(x, level))));
}

}  // namespace

constinit OpDef kLogcumsumexp = scan_op({.name = "logcumsumexp",
                                         .doc = "y[t] = logaddexp(y[t-1], x[t]) along an axis.",
                                         .promotion = Promotion::floating,
                                         .eval = eval_logcumsumexp,
                                         .vjp = vjp_logcumsumexp,
                                         .saves = kSaveBothSides,
                                         .max_ulp = 16});
constinit OpDef kCumsum = scan_op({.name = "cumsum",
                                   .doc = "y[t] = y[t-1] + x[t] along an axis.",
                                   .eval = eval_scan<kernels::ScanKind::sum>,
                                   .vjp = vjp_cumsum});
constinit OpDef kCumprod = scan_op({.name = "cumprod",
                                    .doc = "y[t] = y[t-1] * x[t] along an axis.",
                                    .eval = eval_scan<kernels::ScanKind::product>,
                                    .vjp = vjp_cumprod,
                                    .saves = kSaveBothSides});
constinit OpDef kCummax =
    scan_op({.name = "cummax",
             .doc = "The greatest element so far along an axis and its last place.",
             .outputs = 2,
             .eval = eval_extremum<true>,
             .vjp = vjp_extremum,
             .saves = kSaveIndices});
constinit OpDef kCummin =
    scan_op({.name = "cummin",
             .doc = "The least element so far along an axis and its last place.",
             .outputs = 2,
             .eval = eval_extremum<false>,
             .vjp = vjp_extremum,
             .saves = kSaveIndices});
constinit OpDef kLinearRecurrence = scan_op(
    {.name = "linear_recurrence",
     .doc = "y[t] = x[t] + factor[t] * y[t-1] along an axis: the gradient of cumprod, and its own.",
     .inputs = 2,
     .eval = eval_linear,
     .vjp = vjp_linear,
     .saves = kSaveFactor});

namespace {

using Pair = std::tuple<Tensor, Tensor>;

/// Integers and bools accumulate as int64; 0-dim tensors stay as they are.
Tensor accumulated(const OpDef& op, const Tensor& x, int64_t dim, OptDType dtype) {
  int64_t axis = wrap_dim(dim, x.dim(op.name), op.name);
  DType t = dtype ? *dtype : is_floating(x.dtype()) ? x.dtype() : DType::i64;
  Tensor in = to_dtype(x, t == DType::bool_ ? DType::i64 : t);
  Tensor y = x.dim() ? apply(op, ScanAttrs{axis}, {in})
                     : reshape(apply(op, ScanAttrs{0}, {reshape(in, Shape{1})}), Ints{});
  return to_dtype(y, t);
}

Pair extremum(const OpDef& op, const Tensor& x, int64_t dim) {
  ScanAttrs a{wrap_dim(dim, x.dim(op.name), op.name)};
  Tensor in = x.dim() ? x : reshape(x, Shape{1}), out[2];
  apply(op, &a, {&in, 1}, out);
  if (x.dim()) return {out[0], out[1]};
  return {reshape(out[0], Ints{}), reshape(out[1], Ints{})};
}

}  // namespace

Tensor cumsum(const Tensor& x, int64_t dim, OptDType dtype) {
  return accumulated(kCumsum, x, dim, dtype);
}
Tensor cumprod(const Tensor& x, int64_t dim, OptDType dtype) {
  return accumulated(kCumprod, x, dim, dtype);
}
Tensor logcumsumexp(const Tensor& x, int64_t dim) {
  if (!is_floating(x.dtype()))
    fail(ErrorKind::runtime, "logcumsumexp: needs a floating dtype, got {}. Call .float() first",
         name(x.dtype()));
  return accumulated(kLogcumsumexp, x, dim, std::nullopt);
}
Pair cummax(const Tensor& x, int64_t dim) { return extremum(kCummax, x, dim); }
Pair cummin(const Tensor& x, int64_t dim) { return extremum(kCummin, x, dim); }

Tensor diff(const Tensor& x, int64_t n, int64_t dim, const Tensor& prepend, const Tensor& append) {
  if (x.dim() == 0) fail(ErrorKind::runtime, "diff: needs at least one dim, got a 0-dim tensor");
  if (n < 0) fail(ErrorKind::runtime, "diff: the order n must not be negative, got {}", n);
  int64_t axis = wrap_dim(dim, x.dim(), "diff");
  Tensor y = x;
  if (prepend.defined() || append.defined()) {
    std::vector<Tensor> parts;
    for (const Tensor* t : {&prepend, &x, &append})
      if (t->defined()) parts.push_back(*t);
    y = cat(parts, axis);
  }
  for (; n > 0 && y.sizes()[axis] > 0; --n) {
    int64_t rest = y.sizes()[axis] - 1;
    Tensor after = narrow(y, axis, 1, rest), before = narrow(y, axis, 0, rest);
    y = y.dtype() == DType::bool_ ? ne(after, before) : sub(after, before);
  }
  return y;
}

namespace {

OpDef* const kOps[] = {&kCumsum, &kCumprod, &kCummax, &kCummin, &kLinearRecurrence, &kLogcumsumexp};

constexpr uint16_t kUsual = kFunction | kMethod | kOut;

const Function kFunctions[] = {
    {"cumsum(Tensor input, int dim, *, dtype? dtype=None) -> Tensor",
     "The running sum along a dim, in order. Integers sum as int64.", kUsual | kInplace,
     thunk<&cumsum>},
    {"cumprod(Tensor input, int dim, *, dtype? dtype=None) -> Tensor",
     "The running product along a dim, in order. Integers multiply as int64.", kUsual | kInplace,
     thunk<&cumprod>},
    {"logcumsumexp(Tensor input, int dim) -> Tensor",
     "The logarithm of the running sum of exponentials along a dim, in order.", kUsual,
     thunk<&logcumsumexp>},
    {"cummax(Tensor input, int dim) -> (Tensor values, Tensor indices)",
     "The greatest element so far along a dim, and its last place.", kUsual, thunk<&cummax>},
    {"cummin(Tensor input, int dim) -> (Tensor values, Tensor indices)",
     "The least element so far along a dim, and its last place.", kUsual, thunk<&cummin>},
    {"diff(Tensor input, int n=1, int dim=-1, Tensor? prepend=None, Tensor? append=None) -> Tensor",
     "The n-th differences of neighbours along a dim.", kUsual, thunk<&diff>},
};

}  // namespace

extern const OpFile scan_ops;
const OpFile scan_ops{kOps, kFunctions};

}  // namespace fluxion
