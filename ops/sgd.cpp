// Stochastic gradient descent with momentum, as torch.optim.SGD.
#include "ops/elementwise.h"
#include "ops/function.h"
#include "ops/optimizers.h"

namespace fluxion {

namespace {

// params: lr, momentum, 1 - dampening, weight decay, sign of the gradient
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
constexpr StepBody step{V, V & kMomentum ? 3u : 2u, scalars_of<body<V>>, composites_of<body<V>>};
constexpr StepBody kBodies[] = {step<0>, step<1>,  step<2>,  step<3>,  step<6>,
                                step<7>, step<10>, step<11>, step<14>, step<15>};

constexpr Field kFields[] = {
    {"lr", FieldKind::real, 0, "learning rate"},
    {"momentum", FieldKind::real, 8, "factor of the old buffer"},
    {"keep", FieldKind::real, 16, "1 - dampening"},
    {"weight_decay", FieldKind::real, 24, "share of the parameter added to the gradient"},
    {"sign", FieldKind::real, 32, "-1 to maximise"},
    {"variant", FieldKind::integer, offsetof(StepAttrs, variant),
     "bits: 1 decay, 2 momentum, 4 Nesterov, 8 first step"}};

}  // namespace

constinit OpDef kSgdStep{
    .name = "sgd_step",
    .doc = "One step of SGD: (parameter, gradient, [momentum]) -> (parameter, [momentum]).",
    .inputs = 255,
    .outputs = 2,
    .round = Round::fused,
    .space = Space::elementwise,
    .attr_bytes = sizeof(StepAttrs),
    .fields = kFields,
    .infer =
        [](const TypeRule& t) {
          require_step(t, kBodies);
          t.out[0] = t.in[0];
          if (t.in.size() > 2) t.out[1] = t.in[2];
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
              StepAttrs a{{0.125, 0.875, 0.75, 0.0625, 1}, b.variant};
              const SampleSink::Input in[] = {{Shape{5, 7}, t}, {Shape{5, 7}, t}, {Shape{5, 7}, t}};
              sink.add(std::span(in, b.tensors), &a, sizeof a);
            }
        },
    .max_ulp = 16};

void _fused_sgd_(Tensors params, Tensors grads, Tensors momentum_buffers, double lr,
                 double momentum, double dampening, double weight_decay, bool nesterov,
                 bool maximize, bool first) {
  const Tensors lists[] = {params, grads, momentum_buffers};
  const char* const names[] = {"params", "grads", "momentum_buffers"};
  size_t used = momentum != 0 ? 3 : 2;
  check_lists("_fused_sgd_", std::span(lists, used), names);
  int64_t variant = (weight_decay != 0 ? kDecay : 0) | (momentum != 0 ? kMomentum : 0);
  if (momentum != 0) variant |= (nesterov ? kNesterov : 0) | (first ? kFirst : 0);
  StepAttrs a{{lr, momentum, 1 - dampening, weight_decay, maximize ? -1.0 : 1.0}, variant};
  sweep(kSgdStep, std::span(lists, used), [&](size_t) { return a; });
}

namespace {

OpDef* const kOps[] = {&kSgdStep};

const Function kFunctions[] = {
    {"_fused_sgd_(Tensor[] params, Tensor[] grads, Tensor[] momentum_buffers, float lr, float momentum, float dampening, float weight_decay, bool nesterov, bool maximize, bool first) -> ()",
     "One step of torch.optim.SGD over all parameters, in place. `first`: the buffers become the gradients.",
     kFunction | kPrivate, thunk<&_fused_sgd_>},
};

}  // namespace

extern const OpFile sgd_ops;
const OpFile sgd_ops{kOps, kFunctions};

}  // namespace fluxion
