// softmax and log_softmax along one dim, and their gradients.
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/requirements.h"
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

// Bodies for rows and columns alike; `i` is a place in a pass.

template <class L>
void softmax_body(L& l) {
  Value most = largest(l);
  Value sum = l.reduce_sum([&](const auto& i) -> Term {
    Value e = loops::exp_nonpositive(l.load(0, i) - most);
    l.store(1, i, e);
    return e;
  });
  Value scale = loops::reciprocal(sum);
  l.each([&](const auto& i) { l.store(1, i, l.load(1, i) * scale); });
}

template <class L>
void log_softmax_body(L& l) {
  Value most = largest(l);
  Value log_sum = loops::log(sum_of_exponentials(l, most));
  l.each([&](const auto& i) { l.store(1, i, l.load(0, i) - most - log_sum); });
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

enum Variant : uint8_t { kByRows, kByColumns };

constexpr Slot kUnary[] = {Extent::element, Extent::element};
constexpr Slot kBinary[] = {Extent::element, Extent::element, Extent::element};
constexpr AlongPrograms kSoftmaxPrograms{{kByRows, 1, kUnary, softmax_body<Row>, 1.5},
                                         {kByColumns, 1, kUnary, softmax_body<Column>, 1.5}};
constexpr AlongPrograms kLogSoftmaxPrograms{{kByRows, 1, kUnary, log_softmax_body<Row>, 1.5},
                                            {kByColumns, 1, kUnary, log_softmax_body<Column>, 1.5}};
constexpr AlongPrograms kSoftmaxGradients{{kByRows, 2, kBinary, softmax_gradient<Row>},
                                          {kByColumns, 2, kBinary, softmax_gradient<Column>}};
constexpr AlongPrograms kLogSoftmaxGradients{
    {kByRows, 2, kBinary, log_softmax_gradient<Row>, 1},
    {kByColumns, 2, kBinary, log_softmax_gradient<Column>, 1}};
/// One element per row in, one out: all operands have the shape of the last input.
template <const AlongPrograms& P>
void eval_same_shape(const Eval& e) {
  const Tensor& x = e.in.back();
  ensure(e.out[0], x.sizes(), x.dtype());
  AlongDim a = along(x.sizes(), e.attrs<Along>().dim);
  DType compute = row_compute(x.dtype());
  if (e.in.size() == 1) run(e.op, P, compute, a, {&e.in[0], &e.out[0]});
  else run(e.op, P, compute, a, {&e.in[0], &e.in[1], &e.out[0]});
}

void infer_same_shape(const TypeRule& t) {
  require_dim(t, t.attrs<Along>().dim, std::max<size_t>(t.in.back().shape.size(), 1));
  require_shape(t, 0, t.in.back().shape);
  t.out[0] = t.in.back();
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
void compose_softmax_gradient(const Eval& e) {
  Tensor g = widen(e.in[0]), y = widen(e.in[1]);
  e.out[0] = rounded(mul(sub(g, sum_along(mul(g, y), e.attrs<Along>().dim)), y), e.in[1].dtype());
}
void compose_log_softmax_gradient(const Eval& e) {
  Tensor g = widen(e.in[0]), y = widen(e.in[1]);
  e.out[0] = rounded(sub(g, mul(exp(y), sum_along(g, e.attrs<Along>().dim))), e.in[1].dtype());
}
void samples(const OpDef& op, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (int64_t dim : {0, 1, 2}) {
      Along a{dim};
      const SampleSink::Input in[] = {{Shape{3, 5, 9}, t, -4, 4}, {Shape{3, 5, 9}, t, 0.05, 1}};
      sink.add(std::span(in, op.inputs), &a, sizeof a);
    }
}
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
                                 .kernels = kernels_along<kSoftmaxGradients>,
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
                         .kernels = kernels_along<kSoftmaxPrograms>,
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
                                    .kernels = kernels_along<kLogSoftmaxGradients>,
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
                            .kernels = kernels_along<kLogSoftmaxPrograms>,
                            .cost = rowwise_cost,
                            .samples = samples,
                            .max_ulp = 16};

namespace {

Tensor normalise(const OpDef& op, const Tensor& input, int64_t dim, OptDType dtype) {
  Tensor x = dtype && *dtype != input.dtype(op.name) ? to_dtype(input, *dtype) : input;
  if (!is_floating(x.dtype(op.name)))
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

namespace {

OpDef* const kOps[] = {&kSoftmax, &kSoftmaxBackward, &kLogSoftmax, &kLogSoftmaxBackward};

const Function kFunctions[] = {
    {"softmax(Tensor input, int dim, dtype? dtype=None) -> Tensor",
     "exp(x) / sum(exp(x)) along dim.", kFunction | kMethod | kNN, thunk<&softmax>},
    {"log_softmax(Tensor input, int dim, dtype? dtype=None) -> Tensor",
     "log(softmax(x)) along dim.", kFunction | kMethod | kNN, thunk<&log_softmax>},
    {"softmin(Tensor input, int dim, dtype? dtype=None) -> Tensor", "softmax(-x) along dim.", kNN,
     thunk<&softmin>},
};

}  // namespace

extern const OpFile softmax_ops;
const OpFile softmax_ops{kOps, kFunctions};

}  // namespace fluxion
