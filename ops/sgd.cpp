// Stochastic gradient descent with momentum, as torch.optim.SGD.
#include "ops/elementwise.h"
#include "ops/function.h"
#include "ops/optimizers.h"

namespace fluxion {

namespace {

enum Variant : uint8_t { kDecay = 1, kMomentum = 2, kNesterov = 4, kFirst = 8 };

template <uint8_t V>
constexpr auto body = [](auto& b) {
  auto p = b.in(0), g = b.in(1) * b.param(4);
  if constexpr (V & kDecay) g = g + p * b.param(3);
  if constexpr (V & kMomentum) {
    auto buffer = g;
    if constexpr (!(V & kFirst)) buffer = b.in(2) * b.param(1) + g * b.param(2);
    b.out(1, buffer);
    if constexpr (V & kNesterov) g = g + buffer * b.param(1);
    else g = buffer;
  }
  b.out(0, p - g * b.param(0));
};

template <uint8_t V>
constexpr StepBody step{V, V & kMomentum ? 3u : 2u, scalars_of<body<V>>, step_tensors_of<body<V>>};
constexpr StepBody kBodies[] = {step<0>, step<1>,  step<2>,  step<3>,  step<6>,
                                step<7>, step<10>, step<11>, step<14>, step<15>};

enum Option { kFactor, kDampening, kWeightDecay, kSign };
constexpr Field kFields[] = {
    {"momentum", FieldKind::real, 8 * kFactor, "factor of the old buffer"},
    {"dampening", FieldKind::real, 8 * kDampening, "1 - share of the gradient in the buffer"},
    {"weight_decay", FieldKind::real, 8 * kWeightDecay,
     "share of the parameter added to the gradient"},
    {"sign", FieldKind::real, 8 * kSign, "-1 to maximise"},
    {"variant", FieldKind::integer, offsetof(StepAttrs, variant),
     "bits: 1 decay, 2 momentum, 4 Nesterov, 8 first step"}};

/// lr, momentum, 1 - dampening, weight decay, sign of the gradient.
template <class T>
StepParams<T> params(const StepAttrs& a, const T& rate, const T&) {
  const double* o = a.options;
  return {rate, T(o[kFactor]), T(1 - o[kDampening]), T(o[kWeightDecay]), T(o[kSign]), T(0),
          T(0), T(0)};
}

constexpr StepRule kRule{false, kBodies, params<double>, params<Expr>};

}  // namespace

constinit OpDef kSgdStep = step_op<kRule>(
    {.name = "sgd_step",
     .doc =
         "One step of SGD over many parameters: (parameters, gradients, [momenta], lr) -> (parameters, [momenta]).",
     .fields = kFields,
     .cost = cheap_cost,
     .samples =
         [](const OpDef&, SampleSink& sink) {
           step_samples(sink, kRule, [](const StepBody& b) {
             return StepAttrs{{0.875, 0.25, 0.0625, 1}, b.variant};
           });
         },
     .max_ulp = 16});

void _fused_sgd_(Tensors params, Tensors grads, Tensors momentum_buffers, const Tensor& lr,
                 double momentum, double dampening, double weight_decay, bool nesterov,
                 bool maximize, bool first) {
  const Tensors lists[] = {params, grads, momentum_buffers};
  const char* const names[] = {"params", "grads", "momentum_buffers"};
  size_t used = momentum != 0 ? 3 : 2;
  check_lists("_fused_sgd_", std::span(lists, used), names);
  int64_t variant = (weight_decay != 0 ? kDecay : 0) | (momentum != 0 ? kMomentum : 0);
  if (momentum != 0) variant |= (nesterov ? kNesterov : 0) | (first ? kFirst : 0);
  StepAttrs a{{momentum, dampening, weight_decay, maximize ? -1.0 : 1.0}, variant};
  step_in_place(kSgdStep, a, std::span(lists, used), {}, lr);
}

namespace {

OpDef* const kOps[] = {&kSgdStep};

const Function kFunctions[] = {
    {"_fused_sgd_(Tensor[] params, Tensor[] grads, Tensor[] momentum_buffers, Number lr, float momentum, float dampening, float weight_decay, bool nesterov, bool maximize, bool first) -> ()",
     "One step of torch.optim.SGD over all parameters, in place. `first`: the buffers become the gradients.",
     kFunction | kPrivate, thunk<&_fused_sgd_>},
};

}  // namespace

extern const OpFile sgd_ops;
const OpFile sgd_ops{kOps, kFunctions};

}  // namespace fluxion
