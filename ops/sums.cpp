// Sums, products, extrema over dims.
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/promotion.h"
#include "ops/reduce.h"

namespace fluxion {

using loops::Binary;
using loops::Extent;
using loops::Term;
using loops::Value;

namespace {

enum class Fold : uint8_t { sum, prod, max, min, mean };

Fold fold_of(const OpDef& op);

Binary binary_of(Fold f) {
  return f == Fold::prod  ? Binary::mul
         : f == Fold::max ? Binary::max
         : f == Fold::min ? Binary::min
                          : Binary::add;
}

/// dtype of the result: sums and products of integers and bools are int64.
DType result_of(Fold f, DType t) {
  bool widens = f == Fold::sum || f == Fold::prod;
  return widens && !is_floating(t) ? DType::i64 : t;
}

/// The dtype the fold runs in.
loops::Elem fold_elem(Fold f, DType t) {
  DType r = result_of(f, t);
  return r == DType::bool_ ? DType::i32 : compute_dtype(r);
}

template <class Program, class At>
Value folded(const Program& p, Fold f, loops::Elem t, int arg) {
  Value v = p.reduce(binary_of(f), [&](const At& i) { return Term(p.load(arg, i)); });
  (void)t;
  return f == Fold::mean ? v / p.count() : v;
}

void fold_kernels(const OpDef& op, KernelSink& sink) {
  Fold f = fold_of(op);
  for (int k = 0; k < kDTypes; ++k) {
    auto t = static_cast<DType>(k);
    if (f == Fold::mean && !is_floating(t)) continue;
    loops::Elem in = t, out = result_of(f, t), compute = fold_elem(f, t);
    sink.add(op, t, kByRows, [&](std::string symbol) {
      return loops::rows(std::move(symbol), compute, {{in}, {out, Extent::row}},
                         [&](loops::Row& r) {
                           Value v = folded<loops::Row, loops::Index>(r, f, compute, 0);
                           if (out == loops::Elem::bool_) r.store_row(1, loops::nonzero(v));
                           else r.store_row(1, v);
                         });
    });
    sink.add(op, t, kByColumns, [&](std::string symbol) {
      return loops::columns(std::move(symbol), compute, {{in}, {out, Extent::column}},
                            [&](loops::Column& c) {
                              Value v = folded<loops::Column, Value>(c, f, compute, 0);
                              if (out == loops::Elem::bool_) c.store(1, loops::nonzero(v));
                              else c.store(1, v);
                            });
    });
  }
}

void infer_fold(const TypeRule& t) {
  require_reduction(t);
  t.out[0] = {result_of(fold_of(t.op), t.in[0].dtype), false,
              reduced_shape(t.in[0].shape, t.attrs<ReduceAttrs>())};
}

void eval_fold(const Eval& e) {
  const auto& a = e.attrs<ReduceAttrs>();
  const Tensor& x = e.in[0];
  if (!e.out[0].defined())
    e.out[0] = empty(reduced_shape(x.sizes(), a), result_of(fold_of(e.op), x.dtype()));
  if (e.out[0].is_contiguous()) return run_reduction(e.op, a, x, e.out);
  Tensor plain = empty(e.out[0].sizes(), e.out[0].dtype());
  run_reduction(e.op, a, x, {&plain, 1});
  copy_elements(plain, e.out[0]);
}

constexpr OpDef fold(OpDef d) {
  d.space = Space::reduction;
  d.attr_bytes = sizeof(ReduceAttrs);
  d.fields = kReduceFields;
  d.infer = infer_fold;
  d.eval = eval_fold;
  d.kernels = fold_kernels;
  d.cost = reduce_cost;
  d.samples = reduce_samples;
  return d;
}

Tensor spread(const Vjp& v, const Tensor& g) {
  return expand(unreduce(g, v.attrs<ReduceAttrs>(), v.in[0].sizes()), v.in[0].sizes());
}

int64_t reduced_count(Ints shape, const ReduceAttrs& a) {
  int64_t n = 1;
  for (int64_t d : Ints(a.dims)) n *= shape[d];
  return n;
}

/// Shared equally by all elements that attain the extremum, as PyTorch's amax.
void vjp_extremum(const Vjp& v) {
  const auto& a = v.attrs<ReduceAttrs>();
  Tensor hits = to_dtype(eq(v.in[0], unreduce(v.out[0], a, v.in[0].sizes())), v.grad[0].dtype());
  Tensor count = sum(hits, Ints(a.dims), true);
  v.result[0] = mul(hits, div(unreduce(v.grad[0], a, v.in[0].sizes()), count));
}

/// g * prod / x where x is nonzero; products of the others, by exclusive cumulative products, where it is not.
void vjp_prod(const Vjp& v) {
  const auto& a = v.attrs<ReduceAttrs>();
  Ints shape = v.in[0].sizes();
  Tensor x = v.in[0];
  int64_t n = reduced_count(shape, a);
  Shape order, back(shape.size());
  for (int64_t d = 0; d < x.dim(); ++d)
    if (std::ranges::find(Ints(a.dims), d) == Ints(a.dims).end()) order.push_back(d);
  size_t kept = order.size();
  for (int64_t d : Ints(a.dims)) order.push_back(d);
  for (size_t i = 0; i < order.size(); ++i) back[order[i]] = static_cast<int64_t>(i);
  Tensor moved = permute(x, order);
  Shape flat, moved_shape(moved.sizes());
  for (size_t i = 0; i < kept; ++i) flat.push_back(moved_shape[i]);
  flat.push_back(n);
  Tensor rows = reshape(moved, flat);
  int64_t last = static_cast<int64_t>(kept);
  Shape one_shape(flat);
  one_shape[kept] = 1;
  Tensor one = ones(one_shape, x.dtype());
  auto exclusive = [&](const Tensor& t) {
    const Tensor parts[] = {one, slice(cumprod(t, last), last, std::nullopt, n - 1, 1)};
    return cat(parts, last);
  };
  const int64_t dims[] = {last};
  Tensor others = mul(exclusive(rows), flip(exclusive(flip(rows, dims)), dims));
  Tensor g = permute(reshape(others, moved_shape), back);
  v.result[0] = mul(unreduce(v.grad[0], a, shape), g);
}

}  // namespace

constinit OpDef kSum = fold({.name = "reduce_sum",
                             .doc = "The sum over dims.",
                             .promotion = Promotion::promote,
                             .vjp = [](const Vjp& v) { v.result[0] = spread(v, v.grad[0]); }});
constinit OpDef kProd = fold({.name = "reduce_prod",
                              .doc = "The product over dims.",
                              .promotion = Promotion::promote,
                              .vjp = vjp_prod,
                              .saves = kSaveInput});
namespace {
constexpr SaveRule kSaveInOut[] = {{1, 1}};
}
constinit OpDef kMax = fold({.name = "reduce_max",
                             .doc = "The largest element over dims; NaN wins.",
                             .promotion = Promotion::promote,
                             .vjp = vjp_extremum,
                             .saves = kSaveInOut});
constinit OpDef kMin = fold({.name = "reduce_min",
                             .doc = "The smallest element over dims; NaN wins.",
                             .promotion = Promotion::promote,
                             .vjp = vjp_extremum,
                             .saves = kSaveInOut});
constinit OpDef kMean =
    fold({.name = "mean",
          .doc = "The mean over dims: the sum divided by the count.",
          .round = Round::fused,
          .promotion = Promotion::floating,
          .vjp =
              [](const Vjp& v) {
                double n =
                    static_cast<double>(reduced_count(v.in[0].sizes(), v.attrs<ReduceAttrs>()));
                v.result[0] = spread(v, div(v.grad[0], number(n)));
              },
          .composite =
              [](const Eval& e) {
                const auto& a = e.attrs<ReduceAttrs>();
                double n = static_cast<double>(reduced_count(e.in[0].sizes(), a));
                Tensor total = sum(widen(e.in[0]), Ints(a.dims), a.keepdim != 0);
                e.out[0] = rounded(div(total, number(n)), e.in[0].dtype());
              }});

namespace {

Fold fold_of(const OpDef& op) {
  return &op == &kSum    ? Fold::sum
         : &op == &kProd ? Fold::prod
         : &op == &kMax  ? Fold::max
         : &op == &kMin  ? Fold::min
                         : Fold::mean;
}

void refuse_empty(const char* op, const Tensor& x, const ReduceAttrs& a) {
  if (reduced_count(x.sizes(), a) == 0)
    fail(ErrorKind::runtime,
         "{}: cannot reduce over zero elements (shape {}, dims {}); there is no identity to return",
         op, shape_text(x.sizes()), shape_text(a.dims));
}

/// PyTorch's any and all of uint8 are uint8.
DType truth_of(const Tensor& x) { return x.dtype() == DType::u8 ? DType::u8 : DType::bool_; }

Tensor one_of(const Tensor& x, DType fallback, OptDType dtype) {
  return to_dtype(x, dtype.value_or(fallback));
}

}  // namespace

Tensor sum(const Tensor& x, OptInts dim, bool keepdim, OptDType dtype) {
  ReduceAttrs a = reduce_attrs("sum", x, dim, keepdim);
  Tensor y = apply(kSum, a, {dtype ? to_dtype(x, *dtype) : x});
  return dtype ? to_dtype(y, *dtype) : y;
}
Tensor prod(const Tensor& x, OptInts dim, bool keepdim, OptDType dtype) {
  ReduceAttrs a = reduce_attrs("prod", x, dim, keepdim);
  Tensor y = apply(kProd, a, {dtype ? to_dtype(x, *dtype) : x});
  return dtype ? to_dtype(y, *dtype) : y;
}
Tensor mean(const Tensor& x, OptInts dim, bool keepdim, OptDType dtype) {
  Tensor y = one_of(x, x.dtype(), dtype);
  if (!is_floating(y.dtype()))
    fail(ErrorKind::runtime,
         "mean: needs a floating dtype, got {}. Pass dtype=float32 or call .float() first",
         name(y.dtype()));
  return apply(kMean, reduce_attrs("mean", x, dim, keepdim), {y});
}
Tensor amax(const Tensor& x, OptInts dim, bool keepdim) {
  ReduceAttrs a = reduce_attrs("amax", x, dim, keepdim);
  refuse_empty("amax", x, a);
  return apply(kMax, a, {x});
}
Tensor amin(const Tensor& x, OptInts dim, bool keepdim) {
  ReduceAttrs a = reduce_attrs("amin", x, dim, keepdim);
  refuse_empty("amin", x, a);
  return apply(kMin, a, {x});
}
Tensor any(const Tensor& x, OptInts dim, bool keepdim) {
  Tensor b = x.dtype() == DType::bool_ ? x : ne(x, Scalar(0).tensor());
  ReduceAttrs a = reduce_attrs("any", x, dim, keepdim);
  if (reduced_count(x.sizes(), a) == 0)
    return full(reduced_shape(x.sizes(), a), Scalar(false), truth_of(x));
  return to_dtype(apply(kMax, a, {b}), truth_of(x));
}
Tensor all(const Tensor& x, OptInts dim, bool keepdim) {
  Tensor b = x.dtype() == DType::bool_ ? x : ne(x, Scalar(0).tensor());
  ReduceAttrs a = reduce_attrs("all", x, dim, keepdim);
  if (reduced_count(x.sizes(), a) == 0)
    return full(reduced_shape(x.sizes(), a), Scalar(true), truth_of(x));
  return to_dtype(apply(kMin, a, {b}), truth_of(x));
}
Tensor sum_to_size(const Tensor& x, Ints size) {
  if (std::ranges::equal(x.sizes(), size)) return x;
  if (!can_broadcast(size, x.sizes()))
    fail(ErrorKind::runtime, "sum_to_size: shape {} does not broadcast to {}", shape_text(size),
         shape_text(x.sizes()));
  Shape dims;
  size_t missing = x.dim() - size.size();
  for (size_t d = 0; d < static_cast<size_t>(x.dim()); ++d)
    if (d < missing || (size[d - missing] == 1 && x.sizes()[d] != 1))
      dims.push_back(static_cast<int64_t>(d));
  if (dims.empty()) return reshape(x, size);
  ReduceAttrs a = reduce_attrs("sum_to_size", x, Ints(dims), false);
  Tensor y = apply(kSum, a, {x});
  return std::ranges::equal(y.sizes(), size) ? y : reshape(y, size);
}

namespace {

OpDef* const kOps[] = {&kSum, &kProd, &kMax, &kMin, &kMean};
constexpr uint16_t kUsual = kFunction | kMethod | kOut;

const Function kFunctions[] = {
    {"sum(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
     "The sum over dims (all by default); int64 for integers and bools.", kUsual, thunk<&sum>},
    {"prod(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
     "The product over dims (all by default); int64 for integers and bools.", kUsual, thunk<&prod>},
    {"mean(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
     "The mean over dims (all by default). Raises for integer dtypes.", kUsual, thunk<&mean>},
    {"amax(Tensor input, int[]? dim=None, bool keepdim=False) -> Tensor",
     "The largest element over dims; ties share the gradient. Raises for empty dims.", kUsual,
     thunk<&amax>},
    {"amin(Tensor input, int[]? dim=None, bool keepdim=False) -> Tensor",
     "The smallest element over dims; ties share the gradient. Raises for empty dims.", kUsual,
     thunk<&amin>},
    {"any(Tensor input, int[]? dim=None, bool keepdim=False) -> Tensor",
     "Whether any element is nonzero.", kUsual, thunk<&any>},
    {"all(Tensor input, int[]? dim=None, bool keepdim=False) -> Tensor",
     "Whether all elements are nonzero.", kUsual, thunk<&all>},
    {"sum_to_size(Tensor input, int... size) -> Tensor",
     "Sums broadcast dims away until the shape is `size`.", kMethod, thunk<&sum_to_size>},
};

}  // namespace

extern const OpFile reduce_ops;
const OpFile reduce_ops{kOps, kFunctions};

}  // namespace fluxion
