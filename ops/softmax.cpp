// softmax, log_softmax and logsumexp along one dim, and their gradients.
#include <cmath>

#include "loops/math.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/rowwise.h"

namespace fluxion {

using loops::Term;
using loops::Value;

namespace {

struct Along {
  int64_t dim;
};
constexpr Field kFields[] = {
    {"dim", FieldKind::integer, offsetof(Along, dim), "the dim that is normalised, >= 0"}};

struct LogSumExp {
  int64_t dim, keepdim;
};
constexpr Field kLogSumExpFields[] = {
    {"dim", FieldKind::integer, offsetof(LogSumExp, dim), "the dim that is reduced, >= 0"},
    {"keepdim", FieldKind::boolean, offsetof(LogSumExp, keepdim), "keep it with size 1"}};

// Bodies for rows and columns alike; `i` is a place in a pass.

template <class L>
void softmax_body(L& l) {
  Value most = l.reduce_max([&](const auto& i) -> Term { return l.load(0, i); });
  Value sum = l.reduce_sum([&](const auto& i) -> Term {
    Value e = loops::exp_nonpositive(l.load(0, i) - most);
    l.store(1, i, e);
    return e;
  });
  Value scale = loops::reciprocal(sum);
  l.each([&](const auto& i) { l.store(1, i, l.load(1, i) * scale); });
}

template <class L>
Value sum_of_exponentials(L& l, Value most) {
  return l.reduce_sum(
      [&](const auto& i) -> Term { return loops::exp_nonpositive(l.load(0, i) - most); });
}

template <class L>
void log_softmax_body(L& l) {
  Value most = l.reduce_max([&](const auto& i) -> Term { return l.load(0, i); });
  Value log_sum = loops::log(sum_of_exponentials(l, most));
  l.each([&](const auto& i) { l.store(1, i, l.load(0, i) - most - log_sum); });
}

template <class L>
void logsumexp_body(L& l) {
  Value most = l.reduce_max([&](const auto& i) -> Term { return l.load(0, i); });
  Value result = loops::log(sum_of_exponentials(l, most)) + most;
  store_result(l, 1, loops::select(loops::abs(most) == most.like(INFINITY), most, result));
}

template <class L>
void softmax_gradient(L& l) {  // gradient, output -> gradient of the input
  Value dot = l.reduce_sum([&](const auto& i) -> Term { return l.load(0, i) * l.load(1, i); });
  l.each([&](const auto& i) { l.store(2, i, (l.load(0, i) - dot) * l.load(1, i)); });
}

template <class L>
void log_softmax_gradient(L& l) {
  Value sum = l.reduce_sum([&](const auto& i) -> Term { return l.load(0, i); });
  l.each([&](const auto& i) { l.store(2, i, l.load(0, i) - loops::exp(l.load(1, i)) * sum); });
}

template <class L>
void logsumexp_gradient(L& l) {  // gradient, input, output -> gradient of the input
  Value g = l.load(0), total = l.load(2);
  l.each([&](const auto& i) { l.store(3, i, g * loops::exp(l.load(1, i) - total)); });
}

enum Variant : uint8_t { kByRows, kByColumns };

constexpr Slot kUnary[] = {Extent::element, Extent::element};
constexpr Slot kBinary[] = {Extent::element, Extent::element, Extent::element};
constexpr Slot kToRow[] = {Extent::element, Extent::row};
constexpr Slot kToColumn[] = {Extent::element, Extent::column};
constexpr Slot kFromRow[] = {Extent::row, Extent::element, Extent::row, Extent::element};
constexpr Slot kFromColumn[] = {Extent::column, Extent::element, Extent::column, Extent::element};

/// The two programs of one body.
struct Pair {
  RowProgram rows;
  ColumnProgram columns;
};
constexpr Pair kSoftmaxPrograms{{kByRows, 1, kUnary, softmax_body<Row>, 1.5},
                                {kByColumns, 1, kUnary, softmax_body<Column>, 1.5}};
constexpr Pair kLogSoftmaxPrograms{{kByRows, 1, kUnary, log_softmax_body<Row>, 1.5},
                                   {kByColumns, 1, kUnary, log_softmax_body<Column>, 1.5}};
constexpr Pair kLogSumExpPrograms{{kByRows, 1, kToRow, logsumexp_body<Row>, 1},
                                  {kByColumns, 1, kToColumn, logsumexp_body<Column>, 1}};
constexpr Pair kSoftmaxGradients{{kByRows, 2, kBinary, softmax_gradient<Row>},
                                 {kByColumns, 2, kBinary, softmax_gradient<Column>}};
constexpr Pair kLogSoftmaxGradients{{kByRows, 2, kBinary, log_softmax_gradient<Row>, 1},
                                    {kByColumns, 2, kBinary, log_softmax_gradient<Column>, 1}};
constexpr Pair kLogSumExpGradients{{kByRows, 3, kFromRow, logsumexp_gradient<Row>, 1},
                                   {kByColumns, 3, kFromColumn, logsumexp_gradient<Column>, 1}};

template <const Pair& P>
void kernels_of(const OpDef& op, KernelSink& sink) {
  emit(op, sink, P.rows);
  emit(op, sink, P.columns);
}

/// One element per row in, one out: all operands have the shape of the last input.
template <const Pair& P>
void eval_same_shape(const Eval& e) {
  const Tensor& x = e.in.back();
  ensure(e.out[0], x.sizes(), x.dtype());
  AlongDim a = along(x.sizes(), e.attrs<Along>().dim);
  DType compute = row_compute(x.dtype());
  if (e.in.size() == 1) run(e.op, P.rows, P.columns, compute, a, {&e.in[0], &e.out[0]});
  else run(e.op, P.rows, P.columns, compute, a, {&e.in[0], &e.in[1], &e.out[0]});
}

void infer_same_shape(const TypeRule& t) { t.out[0] = t.in.back(); }

void eval_logsumexp(const Eval& e) {
  const auto& a = e.attrs<LogSumExp>();
  const Tensor& x = e.in[0];
  ensure(e.out[0], without_dim(x.sizes(), a.dim, a.keepdim), x.dtype());
  run(e.op, kLogSumExpPrograms.rows, kLogSumExpPrograms.columns, row_compute(x.dtype()),
      along(x.sizes(), a.dim), {&x, &e.out[0]});
}

void eval_logsumexp_gradient(const Eval& e) {
  const Tensor& x = e.in[1];
  ensure(e.out[0], x.sizes(), x.dtype());
  run(e.op, kLogSumExpGradients.rows, kLogSumExpGradients.columns, row_compute(x.dtype()),
      along(x.sizes(), e.attrs<LogSumExp>().dim), {&e.in[0], &x, &e.in[2], &e.out[0]});
}

// The meanings in other ops.

Tensor sum_along(const Tensor& x, int64_t dim) { return sum(x, Ints(&dim, 1), true); }
Tensor max_along(const Tensor& x, int64_t dim) { return amax(x, Ints(&dim, 1), true); }

void compose_softmax(const Eval& e) {
  int64_t dim = e.attrs<Along>().dim;
  Tensor x = widen(e.in[0]), ex = exp(sub(x, max_along(x, dim)));
  e.out[0] = rounded(mul(ex, reciprocal(sum_along(ex, dim))), e.in[0].dtype());
}
void compose_log_softmax(const Eval& e) {
  int64_t dim = e.attrs<Along>().dim;
  Tensor x = widen(e.in[0]), shifted = sub(x, max_along(x, dim));
  e.out[0] = rounded(sub(shifted, log(sum_along(exp(shifted), dim))), e.in[0].dtype());
}
void compose_logsumexp(const Eval& e) {
  const auto& a = e.attrs<LogSumExp>();
  Tensor x = widen(e.in[0]), most = max_along(x, a.dim);
  Tensor result = add(log(sum_along(exp(sub(x, most)), a.dim)), most);
  result = where(eq(abs(most), number(INFINITY)), most, result);
  e.out[0] = rounded(a.keepdim ? result : squeeze(result, Ints(&a.dim, 1)), e.in[0].dtype());
}
void compose_softmax_gradient(const Eval& e) {
  Tensor g = widen(e.in[0]), y = widen(e.in[1]);
  e.out[0] = rounded(mul(sub(g, sum_along(mul(g, y), e.attrs<Along>().dim)), y), e.in[1].dtype());
}
void compose_log_softmax_gradient(const Eval& e) {
  Tensor g = widen(e.in[0]), y = widen(e.in[1]);
  e.out[0] = rounded(sub(g, mul(exp(y), sum_along(g, e.attrs<Along>().dim))), e.in[1].dtype());
}
void compose_logsumexp_gradient(const Eval& e) {
  const auto& a = e.attrs<LogSumExp>();
  Tensor g = widen(e.in[0]), x = widen(e.in[1]), total = widen(e.in[2]);
  if (!a.keepdim) g = unsqueeze(g, a.dim), total = unsqueeze(total, a.dim);
  e.out[0] = rounded(mul(g, exp(sub(x, total))), e.in[1].dtype());
}

void samples(const OpDef& op, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (int64_t dim : {0, 1, 2}) {
      Along a{dim};
      const SampleSink::Input in[] = {{Shape{3, 5, 9}, t, -4, 4}, {Shape{3, 5, 9}, t, 0.05, 1}};
      sink.add(std::span(in, op.inputs), &a, sizeof a);
    }
}
void logsumexp_samples(const OpDef& op, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (int64_t dim : {0, 1, 2}) {
      LogSumExp a{dim, 1};
      Shape reduced = without_dim(Shape{3, 5, 9}, dim, true);
      const SampleSink::Input one[] = {{Shape{3, 5, 9}, t, -4, 4}};
      const SampleSink::Input all[] = {{reduced, t, -1, 1}, one[0], {reduced, t, 4, 6}};
      sink.add(op.inputs == 1 ? std::span<const SampleSink::Input>(one) : all, &a, sizeof a);
    }
}

constexpr SaveRule kSaveInputAndOutput[] = {{1, 1}};

}  // namespace

constinit OpDef kSoftmaxBackward{.name = "softmax_backward",
                                 .doc = "(g - sum(g * y)) * y along dim.",
                                 .inputs = 2,
                                 .round = Round::fused,
                                 .space = Space::rowwise,
                                 .attr_bytes = sizeof(Along),
                                 .fields = kFields,
                                 .infer = infer_same_shape,
                                 .eval = eval_same_shape<kSoftmaxGradients>,
                                 .composite = compose_softmax_gradient,
                                 .kernels = kernels_of<kSoftmaxGradients>,
                                 .cost = rowwise_cost,
                                 .samples = samples,
                                 .max_ulp = 64};

constinit OpDef kSoftmax{.name = "softmax",
                         .doc = "exp(x - max) / sum(exp(x - max)) along dim.",
                         .round = Round::fused,
                         .space = Space::rowwise,
                         .attr_bytes = sizeof(Along),
                         .fields = kFields,
                         .infer = infer_same_shape,
                         .eval = eval_same_shape<kSoftmaxPrograms>,
                         .vjp =
                             [](const Vjp& v) {
                               v.result[0] =
                                   apply(kSoftmaxBackward, v.attrs<Along>(), {v.grad[0], v.out[0]});
                             },
                         .saves = kSaveOutput,
                         .composite = compose_softmax,
                         .kernels = kernels_of<kSoftmaxPrograms>,
                         .cost = rowwise_cost,
                         .samples = samples,
                         .max_ulp = 8};

constinit OpDef kLogSoftmaxBackward{.name = "log_softmax_backward",
                                    .doc = "g - exp(y) * sum(g) along dim.",
                                    .inputs = 2,
                                    .round = Round::fused,
                                    .space = Space::rowwise,
                                    .attr_bytes = sizeof(Along),
                                    .fields = kFields,
                                    .infer = infer_same_shape,
                                    .eval = eval_same_shape<kLogSoftmaxGradients>,
                                    .composite = compose_log_softmax_gradient,
                                    .kernels = kernels_of<kLogSoftmaxGradients>,
                                    .cost = rowwise_cost,
                                    .samples = samples,
                                    .max_ulp = 64};

constinit OpDef kLogSoftmax{.name = "log_softmax",
                            .doc = "x - max - log(sum(exp(x - max))) along dim.",
                            .round = Round::fused,
                            .space = Space::rowwise,
                            .attr_bytes = sizeof(Along),
                            .fields = kFields,
                            .infer = infer_same_shape,
                            .eval = eval_same_shape<kLogSoftmaxPrograms>,
                            .vjp =
                                [](const Vjp& v) {
                                  v.result[0] = apply(kLogSoftmaxBackward, v.attrs<Along>(),
                                                      {v.grad[0], v.out[0]});
                                },
                            .saves = kSaveOutput,
                            .composite = compose_log_softmax,
                            .kernels = kernels_of<kLogSoftmaxPrograms>,
                            .cost = rowwise_cost,
                            .samples = samples,
                            .max_ulp = 16};

constinit OpDef kLogSumExpBackward{.name = "logsumexp_backward",
                                   .doc = "g * exp(x - logsumexp).",
                                   .inputs = 3,
                                   .round = Round::fused,
                                   .space = Space::rowwise,
                                   .attr_bytes = sizeof(LogSumExp),
                                   .fields = kLogSumExpFields,
                                   .infer = [](const TypeRule& t) { t.out[0] = t.in[1]; },
                                   .eval = eval_logsumexp_gradient,
                                   .composite = compose_logsumexp_gradient,
                                   .kernels = kernels_of<kLogSumExpGradients>,
                                   .cost = rowwise_cost,
                                   .samples = logsumexp_samples,
                                   .max_ulp = 8};

constinit OpDef kLogSumExp{
    .name = "logsumexp",
    .doc = "log(sum(exp(x))) along dim, without overflow.",
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(LogSumExp),
    .fields = kLogSumExpFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<LogSumExp>();
          t.out[0] = {t.in[0].dtype, false, without_dim(t.in[0].shape, a.dim, a.keepdim)};
        },
    .eval = eval_logsumexp,
    .vjp =
        [](const Vjp& v) {
          v.result[0] =
              apply(kLogSumExpBackward, v.attrs<LogSumExp>(), {v.grad[0], v.in[0], v.out[0]});
        },
    .saves = kSaveInputAndOutput,
    .composite = compose_logsumexp,
    .kernels = kernels_of<kLogSumExpPrograms>,
    .cost = rowwise_cost,
    .samples = logsumexp_samples,
    .max_ulp = 4};

namespace {

Tensor normalise(const OpDef& op, const Tensor& input, int64_t dim, OptDType dtype) {
  Tensor x = dtype ? to_dtype(input, *dtype) : input;
  if (!is_floating(x.dtype()))
    fail(ErrorKind::runtime,
         "{}: needs a floating point tensor, got {}. Pass dtype=float32 or cast it first", op.name,
         name(x.dtype()));
  return apply(op, Along{wrap_dim(dim, std::max(x.dim(), 1), op.name)}, {x});
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t dim, OptDType dtype) {
  return normalise(kSoftmax, x, dim, dtype);
}
Tensor log_softmax(const Tensor& x, int64_t dim, OptDType dtype) {
  return normalise(kLogSoftmax, x, dim, dtype);
}
Tensor softmin(const Tensor& x, int64_t dim, OptDType dtype) { return softmax(neg(x), dim, dtype); }

Tensor logsumexp(const Tensor& input, Ints dims, bool keepdim) {
  Tensor x = is_floating(input.dtype()) ? input : to_dtype(input, default_dtype());
  int64_t rank = std::max(x.dim(), 1);
  if (dims.size() == 1)
    return apply(kLogSumExp, LogSumExp{wrap_dim(dims[0], rank, "logsumexp"), keepdim}, {x});
  // several dims (none: all): one row of them, in logical order
  bool gone[kMaxRank] = {};
  for (int64_t d : dims) gone[wrap_dim(d, rank, "logsumexp")] = true;
  Shape order, reduced, kept_shape(x.sizes());
  for (int64_t d = 0; d < x.dim(); ++d) {
    bool reduces = dims.empty() || gone[d];
    (reduces ? reduced : order).push_back(d);
    if (reduces) kept_shape[d] = 1;
  }
  auto kept = static_cast<int64_t>(order.size());
  for (int64_t d : reduced) order.push_back(d);
  Tensor result = logsumexp(flatten(permute(x, order), kept, -1), Ints({-1}), false);
  result = reshape(result, kept_shape);
  return keepdim ? result : squeeze(result, OptInts(reduced));
}

namespace {

OpDef* const kOps[] = {&kSoftmax,   &kSoftmaxBackward,  &kLogSoftmax, &kLogSoftmaxBackward,
                       &kLogSumExp, &kLogSumExpBackward};

const Function kFunctions[] = {
    {"softmax(Tensor input, int dim, dtype? dtype=None) -> Tensor",
     "exp(x) / sum(exp(x)) along dim.", kFunction | kMethod | kNN, thunk<&softmax>},
    {"log_softmax(Tensor input, int dim, dtype? dtype=None) -> Tensor",
     "log(softmax(x)) along dim.", kFunction | kMethod | kNN, thunk<&log_softmax>},
    {"softmin(Tensor input, int dim, dtype? dtype=None) -> Tensor", "softmax(-x) along dim.", kNN,
     thunk<&softmin>},
    {"logsumexp(Tensor input, int[] dim, bool keepdim=False) -> Tensor",
     "log(sum(exp(x))) over dim, without overflow.", kFunction | kMethod, thunk<&logsumexp>},
};

}  // namespace

extern const OpFile softmax_ops;
const OpFile softmax_ops{kOps, kFunctions};

}  // namespace fluxion
