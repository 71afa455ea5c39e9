// Adam (Kingma & Ba 2015), AMSGrad and AdamW (Loshchilov & Hutter 2019), as torch.optim.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/function.h"
#include "ops/optimizers.h"

namespace fluxion {

namespace {

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
constexpr StepBody step{V, V & kAmsgrad ? 5u : 4u, scalars_of<body<V>>, step_tensors_of<body<V>>};
constexpr StepBody kBodies[] = {step<0>, step<1>, step<2>, step<4>, step<5>, step<6>};

enum Option { kBeta1, kBeta2, kEps, kWeightDecay, kSign };
constexpr Field kFields[] = {
    {"beta1", FieldKind::real, 8 * kBeta1, "share of the old first moment"},
    {"beta2", FieldKind::real, 8 * kBeta2, "share of the old second moment"},
    {"eps", FieldKind::real, 8 * kEps, "added to the denominator"},
    {"weight_decay", FieldKind::real, 8 * kWeightDecay, "share of the parameter"},
    {"sign", FieldKind::real, 8 * kSign, "-1 to maximise"},
    {"variant", FieldKind::integer, offsetof(StepAttrs, variant),
     "bits: 1 decay, 2 decoupled decay, 4 AMSGrad"}};

/// 1 - beta1, beta2, 1 - beta2, sqrt(1 - beta2^step), eps, lr / (1 - beta1^step), decay, sign of the gradient.
template <class T>
StepParams<T> params(const StepAttrs& a, const T& rate, const T& step) {
  using std::sqrt;
  double beta1 = a.options[kBeta1], beta2 = a.options[kBeta2], decay = a.options[kWeightDecay];
  auto [power1, power2] = powers(beta1, beta2, step);
  return {T(1 - beta1),
          T(beta2),
          T(1 - beta2),
          T(sqrt(1 - power2)),
          T(a.options[kEps]),
          T(rate / (1 - power1)),
          a.variant & kDecoupled ? T(1 - rate * decay) : T(decay),
          T(a.options[kSign])};
}

constexpr StepRule kRule{true, kBodies, params<double>, params<Expr>};

}  // namespace

constinit OpDef kAdamStep = step_op<kRule>(
    {.name = "adam_step",
     .doc =
         "One step of Adam over many parameters: (parameters, gradients, m, v, [largest v], steps, lr) -> (parameters, m, v, [largest v], steps + 1).",
     .fields = kFields,
     .cost = cheap_cost,
     .samples =
         [](const OpDef&, SampleSink& sink) {
           step_samples(sink, kRule, [](const StepBody& b) {
             return StepAttrs{{0.875, 0.75, 1e-3, 0.0625, 1}, b.variant};
           });
         },
     .max_ulp = 64});

void _fused_adam_(Tensors params, Tensors grads, Tensors exp_avgs, Tensors exp_avg_sqs,
                  Tensors max_exp_avg_sqs, Tensors steps, const Tensor& lr, double beta1,
                  double beta2, double eps, double weight_decay, bool amsgrad, bool maximize,
                  bool decoupled) {
  const Tensors lists[] = {params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs};
  const char* const names[] = {"params", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"};
  size_t used = amsgrad ? 5 : 4;
  check_lists("_fused_adam_", std::span(lists, used), names);
  if (steps.size() != params.size())
    fail(ErrorKind::value, "_fused_adam_: steps must have as many tensors as params, {}, got {}",
         params.size(), steps.size());
  for (size_t i = 0; i < steps.size(); ++i)
    if (steps[i].numel() != 1)
      fail(ErrorKind::value, "_fused_adam_: steps[{}] must hold one number, got {}", i,
           type_text(steps[i]));
  int64_t variant = (weight_decay == 0 ? 0
                     : decoupled       ? kDecoupled
                                       : kDecay) |
                    (amsgrad ? kAmsgrad : 0);
  StepAttrs a{{beta1, beta2, eps, weight_decay, maximize ? -1.0 : 1.0}, variant};
  step_in_place(kAdamStep, a, std::span(lists, used), steps, lr);
}

namespace {

OpDef* const kOps[] = {&kAdamStep};

const Function kFunctions[] = {
    {"_fused_adam_(Tensor[] params, Tensor[] grads, Tensor[] exp_avgs, Tensor[] exp_avg_sqs, Tensor[] max_exp_avg_sqs, Tensor[] steps, Number lr, float beta1, float beta2, float eps, float weight_decay, bool amsgrad, bool maximize, bool decoupled) -> ()",
     "One step of torch.optim.Adam (AdamW if decoupled) over all parameters, in place; counts up steps.",
     kFunction | kPrivate, thunk<&_fused_adam_>},
};

}  // namespace

extern const OpFile adam_ops;
const OpFile adam_ops{kOps, kFunctions};

}  // namespace fluxion
