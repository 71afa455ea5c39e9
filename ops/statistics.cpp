// Variance, standard deviation, norms.
#include <algorithm>
#include <cmath>

#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/reduce.h"

namespace fluxion {

using loops::Extent;
using loops::Term;
using loops::Value;

namespace {

/// Two passes: the mean, then the sum of squared deviations over (count - correction).
template <class Program, class At>
Value variance(const Program& p) {
  Value mean = p.reduce_sum([&](const At& i) { return Term(p.load(0, i)); }) / p.count();
  Value squares = p.reduce_sum([&](const At& i) {
    Value d = p.load(0, i) - mean;
    return Term(d * d);
  });
  Value freedom = p.count() - p.param(0);
  return squares /
         loops::maximum(freedom, freedom.like(0));  // never negative: NaN where there is too little
}

void variance_kernels(const OpDef& op, KernelSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    loops::Elem compute = compute_dtype(t);
    sink.add(op, t, kByRows, [&](std::string symbol) {
      return loops::rows(std::move(symbol), compute, {{t}, {t, Extent::row}}, [](loops::Row& r) {
        r.store_row(1, variance<loops::Row, loops::Index>(r));
      });
    });
    sink.add(op, t, kByColumns, [&](std::string symbol) {
      return loops::columns(
          std::move(symbol), compute, {{t}, {t, Extent::column}},
          [](loops::Column& c) { c.store(1, variance<loops::Column, Value>(c)); });
    });
  }
}

double degrees_of_freedom(Ints shape, const ReduceAttrs& a) {
  double n = 1;
  for (int64_t d : Ints(a.dims)) n *= static_cast<double>(shape[d]);
  return std::max(n - a.correction, 0.0);
}

}  // namespace

constinit OpDef kVar{
    .name = "var",
    .doc = "The variance over dims: squared deviations from the mean over (count - correction).",
    .round = Round::fused,
    .space = Space::reduction,
    .promotion = Promotion::floating,
    .attr_bytes = sizeof(ReduceAttrs),
    .fields = kReduceFields,
    .infer =
        [](const TypeRule& t) {
          require_reduction(t);
          t.out[0] = {t.in[0].dtype, false, reduced_shape(t.in[0].shape, t.attrs<ReduceAttrs>())};
        },
    .eval =
        [](const Eval& e) {
          const auto& a = e.attrs<ReduceAttrs>();
          if (!e.out[0].defined())
            e.out[0] = empty(reduced_shape(e.in[0].sizes(), a), e.in[0].dtype());
          run_reduction(e.op, a, e.in[0], e.out);
        },
    .vjp =
        [](const Vjp& v) {
          const auto& a = v.attrs<ReduceAttrs>();
          const Tensor& x = v.in[0];
          Tensor centred = sub(x, mean(x, Ints(a.dims), true));
          v.result[0] = mul(
              mul(unreduce(v.grad[0], a, x.sizes()), number(2 / degrees_of_freedom(x.sizes(), a))),
              centred);
        },
    .saves = kSaveInput,
    .composite =
        [](const Eval& e) {
          const auto& a = e.attrs<ReduceAttrs>();
          Tensor x = widen(e.in[0]), d = sub(x, mean(x, Ints(a.dims), true));
          Tensor squares = sum(mul(d, d), Ints(a.dims), a.keepdim != 0);
          e.out[0] =
              rounded(div(squares, number(degrees_of_freedom(x.sizes(), a))), e.in[0].dtype());
        },
    .kernels = variance_kernels,
    .cost = reduce_cost,
    .samples = reduce_samples};

namespace {

/// sqrt with the gradient 0 at 0, PyTorch's choice for std and norm.
Tensor flat_root(const Tensor& x) { return sqrt(where(eq(x, number(0)), number(0), x)); }

}  // namespace

Tensor var(const Tensor& x, OptInts dim, OptDouble correction, bool keepdim, OptBool unbiased) {
  if (!is_floating(x.dtype()))
    fail(ErrorKind::runtime, "var: needs a floating dtype, got {}. Call .float() first",
         name(x.dtype()));
  ReduceAttrs a = reduce_attrs("var", x, dim, keepdim);
  a.correction = correction.value_or(unbiased.value_or(true) ? 1 : 0);
  return apply(kVar, a, {x});
}
Tensor std(const Tensor& x, OptInts dim, OptDouble correction, bool keepdim, OptBool unbiased) {
  return flat_root(var(x, dim, correction, keepdim, unbiased));
}
Tensor var(const Tensor& x, OptInts dim, bool unbiased, bool keepdim) {
  return var(x, dim, std::nullopt, keepdim, unbiased);
}
Tensor std(const Tensor& x, OptInts dim, bool unbiased, bool keepdim) {
  return fluxion::std(x, dim, std::nullopt, keepdim, unbiased);
}
std::tuple<Tensor, Tensor> var_mean(const Tensor& x, OptInts dim, OptDouble correction,
                                    bool keepdim, OptBool unbiased) {
  return {var(x, dim, correction, keepdim, unbiased), mean(x, dim, keepdim)};
}
std::tuple<Tensor, Tensor> std_mean(const Tensor& x, OptInts dim, OptDouble correction,
                                    bool keepdim, OptBool unbiased) {
  return {fluxion::std(x, dim, correction, keepdim, unbiased), mean(x, dim, keepdim)};
}

Tensor norm(const Tensor& x, OptDouble p, OptInts dim, bool keepdim, OptDType dtype) {
  Tensor y = dtype ? to_dtype(x, *dtype) : x;
  if (!is_floating(y.dtype()))
    fail(ErrorKind::runtime, "norm: needs a floating dtype, got {}", name(y.dtype()));
  double order = p.value_or(2);
  if (order == INFINITY) return amax(abs(y), dim, keepdim);
  if (order == -INFINITY) return amin(abs(y), dim, keepdim);
  if (order == 0) return to_dtype(sum(ne(y, number(0)), dim, keepdim), y.dtype());
  if (order == 1) return sum(abs(y), dim, keepdim);
  if (order == 2) return flat_root(sum(mul(y, y), dim, keepdim));
  Tensor total = sum(pow(abs(y), number(order)), dim, keepdim);
  return pow(where(eq(total, number(0)), number(0), total), number(1 / order));
}

namespace {

OpDef* const kOps[] = {&kVar};
using Full = Tensor (*)(const Tensor&, OptInts, OptDouble, bool, OptBool);
using Legacy = Tensor (*)(const Tensor&, OptInts, bool, bool);

const Function kFunctions[] = {
    {"var(Tensor input, int[]? dim=None, *, float? correction=None, bool keepdim=False, bool? unbiased=None) -> Tensor",
     "The variance over dims; correction 1 by default (Bessel).", kFunction | kMethod | kOut,
     thunk<static_cast<Full>(&var)>},
    {"var(Tensor input, int[]? dim, bool unbiased, bool keepdim=False) -> Tensor",
     "The variance over dims; Bessel's correction if unbiased.", kFunction | kMethod | kOut,
     thunk<static_cast<Legacy>(&var)>},
    {"std(Tensor input, int[]? dim=None, *, float? correction=None, bool keepdim=False, bool? unbiased=None) -> Tensor",
     "The standard deviation, sqrt(var).", kFunction | kMethod | kOut,
     thunk<static_cast<Full>(&fluxion::std)>},
    {"std(Tensor input, int[]? dim, bool unbiased, bool keepdim=False) -> Tensor",
     "The standard deviation; Bessel's correction if unbiased.", kFunction | kMethod | kOut,
     thunk<static_cast<Legacy>(&fluxion::std)>},
    {"var_mean(Tensor input, int[]? dim=None, *, float? correction=None, bool keepdim=False, bool? unbiased=None) -> (Tensor var, Tensor mean)",
     "Variance and mean over dims.", kFunction, thunk<&var_mean>},
    {"std_mean(Tensor input, int[]? dim=None, *, float? correction=None, bool keepdim=False, bool? unbiased=None) -> (Tensor std, Tensor mean)",
     "Standard deviation and mean over dims.", kFunction, thunk<&std_mean>},
    {"norm(Tensor input, float? p=2, int[]? dim=None, bool keepdim=False, dtype? dtype=None) -> Tensor",
     "The p-norm over dims (all by default); p may be inf, -inf or 0.", kFunction | kMethod,
     thunk<&norm>},
};

}  // namespace

extern const OpFile statistics_ops;
const OpFile statistics_ops{kOps, kFunctions};

}  // namespace fluxion
