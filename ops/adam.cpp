// Adam (Kingma & Ba 2015), AMSGrad and AdamW (Loshchilov & Hutter 2019), as torch.optim.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/function.h"
#include "ops/optimizers.h"

namespace fluxion {

namespace {

// params: 1 - beta1, beta2, 1 - beta2, sqrt(1 - beta2^step), eps, lr / (1 - beta1^step), decay, sign of the gradient
enum Variant : uint8_t { kDecay = 1, kDecoupled = 2, kAmsgrad = 4 };

template <uint8_t V>
constexpr auto body = [](auto& b) {
  auto p = b.in(0), g = b.in(1) * b.param(7);
  if constexpr (V & kDecay) g = g + p * b.param(6);
  if constexpr (V & kDecoupled) p = p * b.param(6);
  auto m = b.in(2), v = b.in(3);
  m = m + (g - m) * b.param(0);
  v = v * b.param(1) + g * b.param(2) * g;
  b.out(1, m);
  b.out(2, v);
  if constexpr (V & kAmsgrad) {
    v = maximum(b.in(4), v);
    b.out(3, v);
  }
  b.out(0, p - m / (sqrt(v) / b.param(3) + b.param(4)) * b.param(5));
};

template <uint8_t V>
constexpr StepBody step{V, V & kAmsgrad ? 5u : 4u, scalars_of<body<V>>, composites_of<body<V>>};
constexpr StepBody kBodies[] = {step<0>, step<1>, step<2>, step<4>, step<5>, step<6>};

constexpr Field kFields[] = {
    {"one_minus_beta1", FieldKind::real, 0, "share of the gradient in the new first moment"},
    {"beta2", FieldKind::real, 8, "share of the old second moment"},
    {"one_minus_beta2", FieldKind::real, 16,
     "share of the squared gradient in the new second moment"},
    {"correction2", FieldKind::real, 24, "sqrt(1 - beta2^step)"},
    {"eps", FieldKind::real, 32, "added to the denominator"},
    {"step_size", FieldKind::real, 40, "lr / (1 - beta1^step)"},
    {"decay", FieldKind::real, 48, "weight decay, or 1 - lr * weight decay where decoupled"},
    {"sign", FieldKind::real, 56, "-1 to maximise"},
    {"variant", FieldKind::integer, offsetof(StepAttrs, variant),
     "bits: 1 decay, 2 decoupled decay, 4 AMSGrad"}};

}  // namespace

constinit OpDef kAdamStep{
    .name = "adam_step",
    .doc =
        "One step of Adam: (parameter, gradient, m, v, [largest v]) -> (parameter, m, v, [largest v]).",
    .inputs = 255,
    .outputs = 4,
    .round = Round::fused,
    .space = Space::elementwise,
    .attr_bytes = sizeof(StepAttrs),
    .fields = kFields,
    .infer =
        [](const TypeRule& t) {
          require_step(t, kBodies);
          t.out[0] = t.in[0];
          for (size_t k = 2; k < t.in.size(); ++k) t.out[k - 1] = t.in[k];
        },
    .eval = eval_step,
    .composite = [](const Eval& e) { compose_step(e, kBodies); },
    .kernels =
        [](const OpDef& op, KernelSink& sink) {
          for (const StepBody& b : kBodies) emit_step(op, sink, b);
        },
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (DType t : {DType::f32, DType::f64, DType::bf16})
            for (const StepBody& b : kBodies) {
              double decay = b.variant & kDecoupled ? 0.9375 : 0.0625;
              StepAttrs a{{0.125, 0.75, 0.25, 0.5, 1e-3, 0.0625, decay, 1}, b.variant};
              const SampleSink::Input any{Shape{5, 7}, t}, square{Shape{5, 7}, t, 0, 1};
              const SampleSink::Input in[] = {any, any, any, square, square};
              sink.add(std::span(in, b.tensors), &a, sizeof a);
            }
        },
    .max_ulp = 64};

void _fused_adam_(Tensors params, Tensors grads, Tensors exp_avgs, Tensors exp_avg_sqs,
                  Tensors max_exp_avg_sqs, Tensors steps, double lr, double beta1, double beta2,
                  double eps, double weight_decay, bool amsgrad, bool maximize, bool decoupled) {
  const Tensors lists[] = {params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs};
  const char* const names[] = {"params", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"};
  size_t used = amsgrad ? 5 : 4;
  check_lists("_fused_adam_", std::span(lists, used), names);
  if (steps.size() != params.size())
    fail(ErrorKind::value, "_fused_adam_: steps must have as many tensors as params, {}, got {}",
         params.size(), steps.size());
  int64_t variant = (weight_decay == 0 ? 0
                     : decoupled       ? kDecoupled
                                       : kDecay) |
                    (amsgrad ? kAmsgrad : 0);
  StepAttrs a{{1 - beta1, beta2, 1 - beta2, 0, eps, 0,
               decoupled ? 1 - lr * weight_decay : weight_decay, maximize ? -1.0 : 1.0},
              variant};
  double corrected = -1;  // the step that the corrections in `a` belong to
  sweep(kAdamStep, std::span(lists, used), [&](size_t i) {
    const Tensor& counter = steps[i];
    double step = load_double(counter.data<char>(), counter.dtype()) + 1;
    begin_write(counter.storage());
    store_double(counter.data<char>(), counter.dtype(), step);
    if (step != corrected) {
      a.params[3] = std::sqrt(1 - std::pow(beta2, step));
      a.params[5] = lr / (1 - std::pow(beta1, step));
      corrected = step;
    }
    return a;
  });
}

namespace {

OpDef* const kOps[] = {&kAdamStep};

const Function kFunctions[] = {
    {"_fused_adam_(Tensor[] params, Tensor[] grads, Tensor[] exp_avgs, Tensor[] exp_avg_sqs, Tensor[] max_exp_avg_sqs, Tensor[] steps, float lr, float beta1, float beta2, float eps, float weight_decay, bool amsgrad, bool maximize, bool decoupled) -> ()",
     "One step of torch.optim.Adam (AdamW if decoupled) over all parameters, in place; counts up steps.",
     kFunction | kPrivate, thunk<&_fused_adam_>},
};

}  // namespace

extern const OpFile adam_ops;
const OpFile adam_ops{kOps, kFunctions};

}  // namespace fluxion
