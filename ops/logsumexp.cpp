// logsumexp over dims, and its gradient.
#include <cmath>

#include "ops/copy.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/requirements.h"
#include "ops/rowwise.h"

namespace fluxion {

using loops::Value;

namespace {

struct LogSumExp {
  int64_t dim, keepdim;
};
constexpr Field kLogSumExpFields[] = {
    {"dim", FieldKind::integer, offsetof(LogSumExp, dim), "the dim that is reduced, >= 0"},
    {"keepdim", FieldKind::boolean, offsetof(LogSumExp, keepdim), "keep it with size 1"}};

template <class L>
void logsumexp_body(L& l) {
  Value most = largest(l);
  Value result = loops::log(sum_of_exponentials(l, most)) + most;
  store_result(l, 1, loops::select(loops::abs(most) == most.like(INFINITY), most, result));
}

template <class L>
void logsumexp_gradient(L& l) {  // gradient, input, output -> gradient of the input
  Value g = l.load(0), total = l.load(2);
  l.each([&](const auto& i) { l.store(3, i, g * loops::exp(l.load(1, i) - total)); });
}

constexpr Slot kToRow[] = {Extent::element, Extent::row};
constexpr Slot kToColumn[] = {Extent::element, Extent::column};
constexpr Slot kFromRow[] = {Extent::row, Extent::element, Extent::row, Extent::element};
constexpr Slot kFromColumn[] = {Extent::column, Extent::element, Extent::column, Extent::element};

constexpr AlongPrograms kLogSumExpPrograms{{0, 1, kToRow, logsumexp_body<Row>, 1},
                                           {1, 1, kToColumn, logsumexp_body<Column>, 1}};
constexpr AlongPrograms kLogSumExpGradients{{0, 3, kFromRow, logsumexp_gradient<Row>, 1},
                                            {1, 3, kFromColumn, logsumexp_gradient<Column>, 1}};

void eval_logsumexp(const Eval& e) {
  const auto& a = e.attrs<LogSumExp>();
  const Tensor& x = e.in[0];
  ensure(e.out[0], without_dim(x.sizes(), a.dim, a.keepdim), x.dtype());
  run(e.op, kLogSumExpPrograms, row_compute(x.dtype()), along(x.sizes(), a.dim), {&x, &e.out[0]});
}

void eval_logsumexp_gradient(const Eval& e) {
  const Tensor& x = e.in[1];
  ensure(e.out[0], x.sizes(), x.dtype());
  run(e.op, kLogSumExpGradients, row_compute(x.dtype()), along(x.sizes(), e.attrs<LogSumExp>().dim),
      {&e.in[0], &x, &e.in[2], &e.out[0]});
}

Tensor sum_along(const Tensor& x, int64_t dim) { return sum(x, Ints(&dim, 1), true); }
Tensor max_along(const Tensor& x, int64_t dim) { return amax(x, Ints(&dim, 1), true); }

void compose_logsumexp(const Eval& e) {
  const auto& a = e.attrs<LogSumExp>();
  Tensor x = widen(e.in[0]), most = max_along(x, a.dim);
  Tensor result = add(log(sum_along(exp(sub(x, most)), a.dim)), most);
  result = where(eq(abs(most), number(INFINITY)), most, result);
  e.out[0] = rounded(a.keepdim ? result : squeeze(result, Ints(&a.dim, 1)), e.in[0].dtype());
}
void compose_logsumexp_gradient(const Eval& e) {
  const auto& a = e.attrs<LogSumExp>();
  Tensor g = widen(e.in[0]), x = widen(e.in[1]), total = widen(e.in[2]);
  if (!a.keepdim) g = unsqueeze(g, a.dim), total = unsqueeze(total, a.dim);
  e.out[0] = rounded(mul(g, exp(sub(x, total))), e.in[1].dtype());
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

constinit OpDef kLogSumExpBackward{
    .name = "logsumexp_backward",
    .doc = "g * exp(x - logsumexp).",
    .inputs = 3,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(LogSumExp),
    .fields = kLogSumExpFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<LogSumExp>();
          require_dim(t, a.dim, std::max<size_t>(t.in[1].shape.size(), 1));
          Shape entries = without_dim(t.in[1].shape, a.dim, a.keepdim);
          for (size_t i : {0, 2}) require_shape(t, i, entries);
          t.out[0] = t.in[1];
        },
    .eval = eval_logsumexp_gradient,
    .composite = compose_logsumexp_gradient,
    .kernels = kernels_along<kLogSumExpGradients>,
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
          require_dim(t, a.dim, std::max<size_t>(t.in[0].shape.size(), 1));
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
    .kernels = kernels_along<kLogSumExpPrograms>,
    .cost = rowwise_cost,
    .samples = logsumexp_samples,
    .max_ulp = 4};

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

OpDef* const kOps[] = {&kLogSumExp, &kLogSumExpBackward};

const Function kFunctions[] = {
    {"logsumexp(Tensor input, int[] dim, bool keepdim=False) -> Tensor",
     "log(sum(exp(x))) over dim, without overflow.", kFunction | kMethod, thunk<&logsumexp>},
};

}  // namespace

extern const OpFile logsumexp_ops;
const OpFile logsumexp_ops{kOps, kFunctions};

}  // namespace fluxion
