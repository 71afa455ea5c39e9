// The norm of many gradients together, and scaling them to a largest norm.
#include <cmath>

#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/rowwise.h"
#include "tensor/thread_state.h"

namespace fluxion {

using loops::Term;
using loops::Value;

namespace {

void squares(Row& r) {
  r.store_row(1, r.reduce_sum([&](const auto& i) -> Term { return r.load(0, i) * r.load(0, i); }));
}
constexpr Slot kSlots[] = {Extent::element, Extent::row};
constexpr RowProgram kSquares{0, 1, kSlots, squares, 0.2};

double total_of_squares(const OpDef& op, const Tensor& t) {
  Tensor x = dense(t);
  DType compute = row_compute(x.dtype());
  Tensor partials = empty(Ints({flat_rows(x.numel())}), compute);
  run_flat(op, kSquares, compute, x.numel(), {&x, &partials});
  return sum_in_order(partials);
}

}  // namespace

constinit OpDef kSumSquares{
    .name = "sum_squares",
    .doc = "The sum of the squares of all elements.",
    .round = Round::fused,
    .space = Space::opaque,
    .infer = [](const TypeRule& t) { t.out[0] = {row_compute(t.in[0].dtype), false, Shape{}}; },
    .eval =
        [](const Eval& e) {
          double total = total_of_squares(e.op, e.in[0]);
          ensure(e.out[0], {}, row_compute(e.in[0].dtype()));
          store_double(e.out[0].data<char>(), e.out[0].dtype(), total);
        },
    .composite =
        [](const Eval& e) {
          Tensor x = flatten(widen(e.in[0]));
          e.out[0] = sum(mul(x, x), Ints({0}));
        },
    .kernels = [](const OpDef& op, KernelSink& sink) { emit(op, sink, kSquares); },
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
            const SampleSink::Input in[] = {{Shape{5, 9}, t}};
            sink.add(in, nullptr, 0);
          }
        },
    .max_ulp = 16};

namespace {

/// The p-norm of all elements of all tensors.
double total_norm(Tensors tensors, double p) {
  double total = 0;
  for (const Tensor& t : tensors) {
    if (t.numel() == 0) continue;
    if (p == 2) {
      total += total_of_squares(kSumSquares, t);
    } else if (std::isinf(p)) {
      double most = amax(abs(widen(t))).item();
      total = std::isnan(most) || most > total ? most : total;
    } else {
      total += sum(pow(abs(widen(t)), number(p))).item();
    }
  }
  return p == 2 ? std::sqrt(total) : std::isinf(p) ? total : std::pow(total, 1 / p);
}

}  // namespace

Tensor _clip_grad_norm_(Tensors grads, double max_norm, double norm_type) {
  NoGrad plain;
  if (grads.empty()) return zeros({}, default_dtype());
  if (!(norm_type > 0))
    fail(ErrorKind::value, "_clip_grad_norm_: norm_type must be positive, got {}", norm_type);
  DType dtype = grads[0].dtype();
  Tensor total = scalar(total_norm(grads, norm_type), dtype);
  double factor = max_norm / (load_double(total.data<char>(), dtype) + 1e-6);
  if (factor >= 1) return total;
  static const OpDef& product = *find_op("mul");
  for (const Tensor& g : grads) {
    const Tensor in[] = {g, scalar(factor, g.dtype())};
    begin_write(g.storage());
    run_elementwise(product, nullptr, g.dtype(), in, {&g, 1}, g.sizes());
  }
  return total;
}

namespace {

OpDef* const kOps[] = {&kSumSquares};

const Function kFunctions[] = {
    {"_clip_grad_norm_(Tensor[] grads, float max_norm, float norm_type=2.0) -> Tensor",
     "Scales gradients in place so that their total norm is at most max_norm; returns the norm they had.",
     kFunction | kPrivate, thunk<&_clip_grad_norm_>},
};

}  // namespace

extern const OpFile clip_grad_ops;
const OpFile clip_grad_ops{kOps, kFunctions};

}  // namespace fluxion
