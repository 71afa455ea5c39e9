// Losses with a scalar body of (input, target): smooth_l1, huber and binary cross entropy.
#include "ops/activation.h"
#include "ops/losses.h"

namespace fluxion {

namespace {

// param: beta
constexpr auto smooth_l1_body = [](auto& b) {
  auto d = abs(b.in(0) - b.in(1));
  return select(d < b.param(0), d * d * 0.5 / b.param(0), (d * 2 - b.param(0)) * 0.5);
};
constexpr auto smooth_l1_gradient = [](auto& b) {
  auto g = b.in(0), d = b.in(1) - b.in(2);
  return select(abs(d) < b.param(0), g * (d / b.param(0)), select(d > 0, g, -g));
};

// param: delta
constexpr auto huber_body = [](auto& b) {
  auto d = abs(b.in(0) - b.in(1));
  return select(d <= b.param(0), d * d * 0.5, (d * 2 - b.param(0)) * 0.5 * b.param(0));
};
constexpr auto huber_gradient = [](auto& b) {
  auto g = b.in(0), d = b.in(1) - b.in(2);
  auto edge = g * b.param(0);
  return select(abs(d) <= b.param(0), g * d, select(d > 0, edge, -edge));
};

// Logarithms are at least -100, as in PyTorch.
constexpr auto bce_body = [](auto& b) {
  auto x = b.in(0), t = b.in(1);
  return (t - 1) * maximum(-100, log1p(-x)) - t * maximum(-100, log(x));
};
constexpr auto bce_gradient = [](auto& b) {
  auto x = b.in(1);
  return b.in(0) * ((x - b.in(2)) / maximum(1e-12, (1 - x) * x));
};
constexpr auto bce_target_gradient = [](auto& b) {
  auto x = b.in(1);
  return b.in(0) * (maximum(-100, log1p(-x)) - maximum(-100, log(x)));
};

constexpr auto bce_logits_body = [](auto& b) {
  auto x = b.in(0);
  return maximum(0, x) - x * b.in(1) + log1p(exp(-abs(x)));
};
constexpr auto bce_logits_gradient = [](auto& b) { return b.in(0) * (sigmoid(b.in(1)) - b.in(2)); };

struct Knee {
  double at;
};
constexpr Field kKneeFields[] = {{"at", FieldKind::real, offsetof(Knee, at),
                                  "the difference where the parabola meets the straight line"}};
constexpr Knee kKneeSample{0.75};

/// Probabilities and targets, or anything for differences.
template <auto A>
void pair_samples(const OpDef& op, SampleSink& sink) {
  static constexpr auto attrs = A;
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 7}, Shape{}, Shape{0, 4}}) {
      const SampleSink::Input in[] = {{shape, t}, {shape, t, 0.1, 0.9}, {shape, t, 0.1, 0.9}};
      sink.add(std::span(in).last(op.inputs), op.attr_bytes ? &attrs : nullptr, op.attr_bytes);
    }
}

template <auto F, auto A = 0>
constexpr OpDef pair_op(OpDef d, Promotion p) {
  d.promotion = p;
  d.round = Round::fused;
  d.saves =
      p == Promotion::floating ? std::span<const SaveRule>(kSaveBoth) : std::span<const SaveRule>();
  d.scalar = scalar_of<F>;
  d.composite = composite_of<F>;
  d.samples = pair_samples<A>;
  return elementwise(d);
}
/// G(g, input, target) is the gradient of the input; a difference's target gets its negative.
template <auto F, auto A = 0>
constexpr OpDef pair_loss(OpDef d) {
  d.inputs = 2;
  return pair_op<F, A>(d, Promotion::floating);
}
template <auto F, auto A = 0>
constexpr OpDef pair_gradient(OpDef d) {
  d.inputs = 3;
  return pair_op<F, A>(d, Promotion::gradient);
}

Tensor gradient_by(const OpDef& op, const Vjp& v) {
  const Tensor in[] = {v.grad[0], v.in[0], v.in[1]};
  return apply(op, v.attr_data, in);
}
template <OpDef& G>
void vjp_of_difference(const Vjp& v) {
  Tensor dx = gradient_by(G, v);
  if (v.needs(0)) v.result[0] = dx;
  if (v.needs(1)) v.result[1] = neg(dx);
}

}  // namespace

constinit OpDef kSmoothL1Backward = pair_gradient<smooth_l1_gradient, kKneeSample>(
    {.name = "smooth_l1_backward",
     .doc = "g * d / at within the knee, else g * sign(d).",
     .attr_bytes = sizeof(Knee),
     .fields = kKneeFields});
constinit OpDef kSmoothL1 = pair_loss<smooth_l1_body, kKneeSample>(
    {.name = "smooth_l1",
     .doc = "d^2 / (2 at) where d = |x - target| < at, else d - at / 2.",
     .attr_bytes = sizeof(Knee),
     .fields = kKneeFields,
     .vjp = vjp_of_difference<kSmoothL1Backward>});

constinit OpDef kHuberBackward =
    pair_gradient<huber_gradient, kKneeSample>({.name = "huber_backward",
                                                .doc = "g * d limited to [-at, at].",
                                                .attr_bytes = sizeof(Knee),
                                                .fields = kKneeFields});
constinit OpDef kHuber = pair_loss<huber_body, kKneeSample>(
    {.name = "huber",
     .doc = "d^2 / 2 where d = |x - target| <= at, else at * (d - at / 2).",
     .attr_bytes = sizeof(Knee),
     .fields = kKneeFields,
     .vjp = vjp_of_difference<kHuberBackward>});

constinit OpDef kBceTargetBackward = pair_gradient<bce_target_gradient>(
    {.name = "bce_target_backward", .doc = "g * (log(1 - x) - log(x)).", .max_ulp = 8});
constinit OpDef kBceBackward = pair_gradient<bce_gradient>(
    {.name = "bce_backward", .doc = "g * (x - target) / max(x * (1 - x), 1e-12)."});
constinit OpDef kBce = pair_loss<bce_body>(
    {.name = "bce",
     .doc = "-target * log(x) - (1 - target) * log(1 - x), logarithms at least -100.",
     .vjp =
         [](const Vjp& v) {
           if (v.needs(0)) v.result[0] = gradient_by(kBceBackward, v);
           if (v.needs(1)) v.result[1] = gradient_by(kBceTargetBackward, v);
         },
     .max_ulp = 8});

constinit OpDef kBceLogitsBackward = pair_gradient<bce_logits_gradient>(
    {.name = "bce_logits_backward", .doc = "g * (sigmoid(x) - target).", .max_ulp = 16});
constinit OpDef kBceLogits =
    pair_loss<bce_logits_body>({.name = "bce_logits",
                                .doc = "max(x, 0) - x * target + log(1 + exp(-|x|)).",
                                .vjp =
                                    [](const Vjp& v) {
                                      if (v.needs(0))
                                        v.result[0] = gradient_by(kBceLogitsBackward, v);
                                      if (v.needs(1)) v.result[1] = neg(mul(v.grad[0], v.in[0]));
                                    },
                                .max_ulp = 8});

namespace {

void require_shape(const char* op, const Tensor& input, const Tensor& target) {
  if (!std::ranges::equal(input.sizes(op), target.sizes(op)))
    fail(ErrorKind::value, "{}: target must have the input's shape {}, got {}", op,
         shape_text(input.sizes()), shape_text(target.sizes()));
}
Tensor finish(const Tensor& values, const Tensor& weight, Reduction r) {
  return reduced(weight.defined() ? mul(values, weight) : values, r);
}

}  // namespace

Tensor smooth_l1_loss(const Tensor& input, const Tensor& target, OptBool size_average,
                      OptBool reduce, std::string_view reduction, double beta) {
  if (!(beta >= 0))
    fail(ErrorKind::runtime, "smooth_l1_loss: beta must not be negative, got {}", beta);
  Reduction r = reduction_of("smooth_l1_loss", reduction, size_average, reduce);
  if (beta == 0) return reduced(abs(sub(input, target)), r);
  return reduced(apply(kSmoothL1, Knee{beta}, {input, target}), r);
}

Tensor huber_loss(const Tensor& input, const Tensor& target, std::string_view reduction,
                  double delta, const Tensor& weight) {
  if (!(delta > 0)) fail(ErrorKind::runtime, "huber_loss: delta must be positive, got {}", delta);
  Reduction r = reduction_of("huber_loss", reduction);
  Tensor values = apply(kHuber, Knee{delta}, {input, target});
  return finish(values, weight, r);
}

Tensor binary_cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight,
                            OptBool size_average, OptBool reduce, std::string_view reduction) {
  Reduction r = reduction_of("binary_cross_entropy", reduction, size_average, reduce);
  require_shape("binary_cross_entropy", input, target);
  return finish(apply(kBce, {input, target}), weight, r);
}

Tensor binary_cross_entropy_with_logits(const Tensor& input, const Tensor& target,
                                        const Tensor& weight, OptBool size_average, OptBool reduce,
                                        std::string_view reduction, const Tensor& pos_weight) {
  Reduction r = reduction_of("binary_cross_entropy_with_logits", reduction, size_average, reduce);
  require_shape("binary_cross_entropy_with_logits", input, target);
  if (!pos_weight.defined()) return finish(apply(kBceLogits, {input, target}), weight, r);
  Tensor factor = add(mul(sub(pos_weight, number(1)), target), number(1));
  Tensor values = sub(mul(sub(number(1), target), input), mul(factor, logsigmoid(input)));
  return finish(values, weight, r);
}

namespace {

OpDef* const kOps[] = {&kSmoothL1,    &kSmoothL1Backward,  &kHuber,     &kHuberBackward,    &kBce,
                       &kBceBackward, &kBceTargetBackward, &kBceLogits, &kBceLogitsBackward};

const Function kFunctions[] = {
    {"smooth_l1_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean', float beta=1.0) -> Tensor",
     "d^2 / (2 beta) where d = |input - target| < beta, else d - beta / 2; reduced.", kNN,
     thunk<&smooth_l1_loss>},
    {"huber_loss(Tensor input, Tensor target, str reduction='mean', float delta=1.0, Tensor? weight=None) -> Tensor",
     "d^2 / 2 where d = |input - target| <= delta, else delta * (d - delta / 2); reduced.", kNN,
     thunk<&huber_loss>},
    {"binary_cross_entropy(Tensor input, Tensor target, Tensor? weight=None, bool? size_average=None, bool? reduce=None, str reduction='mean') -> Tensor",
     "Cross entropy of probabilities with target probabilities, elementwise; logarithms are at least -100.",
     kNN, thunk<&binary_cross_entropy>},
    {"binary_cross_entropy_with_logits(Tensor input, Tensor target, Tensor? weight=None, bool? size_average=None, bool? reduce=None, str reduction='mean', Tensor? pos_weight=None) -> Tensor",
     "binary_cross_entropy(sigmoid(input), target) without overflow; pos_weight weighs positives.",
     kFunction | kNN, thunk<&binary_cross_entropy_with_logits>},
};

}  // namespace

extern const OpFile pair_loss_ops;
const OpFile pair_loss_ops{kOps, kFunctions};

}  // namespace fluxion
