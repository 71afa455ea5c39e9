// Smooth activations: gelu, silu, mish, softplus, logsigmoid and the elu family.
#include <cmath>

#include "ops/activation.h"
#include "ops/normal_cdf.h"

namespace fluxion {

namespace {

constexpr double kInverseSqrtTwoPi = 0.3989422804014327;  // 1 / sqrt(2 pi)
constexpr double kTanhScale = 0.7978845608028654;         // sqrt(2 / pi)
constexpr double kTanhCubic = 0.044715;

constexpr auto gelu_body = [](auto& b) {
  auto x = b.in(0);
  return x * normal_cdf(x);
};
constexpr auto gelu_gradient = [](auto& b) {
  auto g = b.in(0), x = b.in(1);
  auto density = exp(x * x * -0.5) * kInverseSqrtTwoPi;
  return g * (normal_cdf(x) + x * density);
};

// Hendrycks & Gimpel's approximation, 0.5 z (1 + tanh u) = z sigmoid(2u).
constexpr auto gelu_tanh_body = [](auto& b) {
  auto x = b.in(0);
  return x * sigmoid(x * ((x * x * kTanhCubic + 1) * (2 * kTanhScale)));
};
constexpr auto gelu_tanh_gradient = [](auto& b) {
  auto g = b.in(0), x = b.in(1);
  auto square = x * x;
  auto s = sigmoid(x * ((square * kTanhCubic + 1) * (2 * kTanhScale)));
  auto slope = (square * (3 * kTanhCubic) + 1) * (2 * kTanhScale);
  return g * (s + x * slope * (s * (1 - s)));
};

constexpr auto silu_body = [](auto& b) {
  auto x = b.in(0);
  return x / (exp(-x) + 1);
};
constexpr auto silu_gradient = [](auto& b) {
  auto g = b.in(0), x = b.in(1);
  auto s = sigmoid(x);
  return g * (s * (x * (1 - s) + 1));
};

/// log(1 + exp(x)) without overflow.
template <class V>
V softplus_of(V x) {
  return maximum(0, x) + log1p(exp(-abs(x)));
}

constexpr auto mish_body = [](auto& b) {
  auto x = b.in(0);
  return x * tanh(softplus_of(x));
};
constexpr auto mish_gradient = [](auto& b) {
  auto g = b.in(0), x = b.in(1);
  auto t = tanh(softplus_of(x));
  return g * (t + x * sigmoid(x) * (1 - t * t));
};

constexpr auto softplus_body = [](auto& b) {
  auto x = b.in(0), scaled = x * b.param(0);
  return select(scaled > b.param(1), x, softplus_of(scaled) / b.param(0));
};
constexpr auto softplus_gradient = [](auto& b) {
  auto g = b.in(0), scaled = b.in(1) * b.param(0);
  return select(scaled > b.param(1), g, g * sigmoid(scaled));
};

constexpr auto logsigmoid_body = [](auto& b) { return -softplus_of(-b.in(0)); };
constexpr auto logsigmoid_gradient = [](auto& b) { return b.in(0) * sigmoid(-b.in(1)); };

// param: alpha, scale, input_scale
constexpr auto elu_body = [](auto& b) {
  auto x = b.in(0);
  return select(x > 0, x * b.param(1), expm1(x * b.param(2)) * b.param(0) * b.param(1));
};
constexpr auto elu_gradient = [](auto& b) {
  auto g = b.in(0), x = b.in(1);
  auto slope = exp(x * b.param(2)) * b.param(0) * b.param(1) * b.param(2);
  return select(x > 0, g * b.param(1), g * slope);
};

struct Softplus {
  double beta, threshold;
};
constexpr Field kSoftplusFields[] = {{"beta", FieldKind::real, offsetof(Softplus, beta),
                                      "factor of the input; the result is divided by it"},
                                     {"threshold", FieldKind::real, offsetof(Softplus, threshold),
                                      "where beta * x exceeds this, the result is x"}};

struct Elu {
  double alpha, scale, input_scale;
};
constexpr Field kEluFields[] = {
    {"alpha", FieldKind::real, offsetof(Elu, alpha), "the limit for x -> -inf is -alpha * scale"},
    {"scale", FieldKind::real, offsetof(Elu, scale), "factor of the result"},
    {"input_scale", FieldKind::real, offsetof(Elu, input_scale), "factor of negative inputs"}};

constexpr Softplus kSoftplusSample{2, 3};
constexpr Elu kEluSample{1.5, 1.25, 0.75};

}  // namespace

constinit OpDef kGeluBackward = activation_gradient<gelu_gradient>(
    {.name = "gelu_backward",
     .doc = "g * (Phi(x) + x * phi(x)), the normal distribution's cumulative and density.",
     .max_ulp = 8});
constinit OpDef kGelu = activation<gelu_body, kGeluBackward>(
    {.name = "gelu",
     .doc = "x * Phi(x), Phi the normal distribution's cumulative (Hendrycks & Gimpel 2016).",
     .max_ulp = 4});

constinit OpDef kGeluTanhBackward = activation_gradient<gelu_tanh_gradient>(
    {.name = "gelu_tanh_backward", .doc = "The gradient of gelu_tanh.", .max_ulp = 24});
constinit OpDef kGeluTanh = activation<gelu_tanh_body, kGeluTanhBackward>(
    {.name = "gelu_tanh",
     .doc = "x * sigmoid(2u), u = sqrt(2 / pi) * (x + 0.044715 x^3): gelu's tanh approximation.",
     .max_ulp = 24});

constinit OpDef kSiluBackward = activation_gradient<silu_gradient>(
    {.name = "silu_backward", .doc = "g * s * (1 + x * (1 - s)), s = sigmoid(x).", .max_ulp = 8});
constinit OpDef kSilu = activation<silu_body, kSiluBackward>(
    {.name = "silu", .doc = "x / (1 + exp(-x)).", .max_ulp = 3});

constinit OpDef kMishBackward = activation_gradient<mish_gradient>(
    {.name = "mish_backward", .doc = "The gradient of mish.", .max_ulp = 8});
constinit OpDef kMish = activation<mish_body, kMishBackward>(
    {.name = "mish", .doc = "x * tanh(softplus(x)) (Misra 2019).", .max_ulp = 4});

constinit OpDef kSoftplusBackward = activation_gradient<softplus_gradient, kSoftplusSample>(
    {.name = "softplus_backward",
     .doc = "g * sigmoid(beta * x); g above the threshold.",
     .attr_bytes = sizeof(Softplus),
     .fields = kSoftplusFields,
     .max_ulp = 3});
constinit OpDef kSoftplus = activation<softplus_body, kSoftplusBackward, kSoftplusSample>(
    {.name = "softplus",
     .doc = "log(1 + exp(beta * x)) / beta; x where beta * x > threshold.",
     .attr_bytes = sizeof(Softplus),
     .fields = kSoftplusFields,
     .max_ulp = 3});

constinit OpDef kLogSigmoidBackward = activation_gradient<logsigmoid_gradient>(
    {.name = "logsigmoid_backward", .doc = "g * sigmoid(-x).", .max_ulp = 3});
constinit OpDef kLogSigmoid = activation<logsigmoid_body, kLogSigmoidBackward>(
    {.name = "logsigmoid", .doc = "log(sigmoid(x)) without overflow.", .max_ulp = 3});

constinit OpDef kEluBackward =
    activation_gradient<elu_gradient, kEluSample>({.name = "elu_backward",
                                                   .doc = "The gradient of elu.",
                                                   .attr_bytes = sizeof(Elu),
                                                   .fields = kEluFields,
                                                   .max_ulp = 6});
constinit OpDef kElu = activation<elu_body, kEluBackward, kEluSample>(
    {.name = "elu",
     .doc = "scale * x above 0, scale * alpha * (exp(input_scale * x) - 1) below.",
     .attr_bytes = sizeof(Elu),
     .fields = kEluFields,
     .max_ulp = 3});

Tensor gelu(const Tensor& x, std::string_view approximate) {
  if (approximate == "none") return apply(kGelu, {x});
  if (approximate == "tanh") return apply(kGeluTanh, {x});
  fail(ErrorKind::value, "gelu: approximate must be 'none' or 'tanh', got '{}'", approximate);
}
Tensor silu(const Tensor& x) { return apply(kSilu, {x}); }
Tensor mish(const Tensor& x) { return apply(kMish, {x}); }
Tensor softplus(const Tensor& x, double beta, double threshold) {
  return apply(kSoftplus, Softplus{beta, threshold}, {x});
}
Tensor logsigmoid(const Tensor& x) { return apply(kLogSigmoid, {x}); }
Tensor elu(const Tensor& x, double alpha) { return apply(kElu, Elu{alpha, 1, 1}, {x}); }
Tensor selu(const Tensor& x) {
  return apply(kElu, Elu{1.6732632423543772, 1.0507009873554805, 1}, {x});
}
Tensor celu(const Tensor& x, double alpha) {
  if (alpha == 0) fail(ErrorKind::runtime, "celu: alpha must not be 0; it divides the input");
  return apply(kElu, Elu{alpha, 1, 1 / alpha}, {x});
}

namespace {

OpDef* const kOps[] = {&kGelu,     &kGeluBackward,     &kGeluTanh,   &kGeluTanhBackward,
                       &kSilu,     &kSiluBackward,     &kMish,       &kMishBackward,
                       &kSoftplus, &kSoftplusBackward, &kLogSigmoid, &kLogSigmoidBackward,
                       &kElu,      &kEluBackward};

constexpr uint16_t kUsual = kFunction | kNN;

const Function kFunctions[] = {
    {"gelu(Tensor input, *, str approximate='none') -> Tensor",
     "x * Phi(x) with the normal distribution's cumulative Phi; approximate='tanh' uses tanh.",
     kUsual, thunk<&gelu>},
    {"silu(Tensor input) -> Tensor", "x * sigmoid(x).", kUsual, thunk<&silu>},
    {"mish(Tensor input) -> Tensor", "x * tanh(softplus(x)).", kUsual, thunk<&mish>},
    {"softplus(Tensor input, float beta=1, float threshold=20) -> Tensor",
     "log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold.", kUsual,
     thunk<&softplus>},
    {"logsigmoid(Tensor input) -> Tensor", "log(sigmoid(x)).", kUsual, thunk<&logsigmoid>},
    {"elu(Tensor input, float alpha=1.0) -> Tensor", "x above 0, alpha * (exp(x) - 1) below.",
     kUsual, thunk<&elu>},
    {"selu(Tensor input) -> Tensor",
     "elu scaled to keep mean 0 and variance 1 (Klambauer et al. 2017).", kUsual | kInplace,
     thunk<&selu>},
    {"celu(Tensor input, float alpha=1.0) -> Tensor",
     "max(0, x) + min(0, alpha * (exp(x / alpha) - 1)).", kUsual | kInplace, thunk<&celu>},
};

}  // namespace

extern const OpFile activation_ops;
const OpFile activation_ops{kOps, kFunctions};

}  // namespace fluxion
