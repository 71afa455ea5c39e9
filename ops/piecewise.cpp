// Activations made of straight lines, and those that are short expressions of other ops.
#include <cmath>

#include "ops/activation.h"

namespace fluxion {

namespace {

constexpr auto relu_body = [](auto& b) { return maximum(0, b.in(0)); };
constexpr auto relu_gradient = [](auto& b) {
  return select(b.in(1) <= 0, 0, b.in(0));
};  // of the output

constexpr auto leaky_relu_body = [](auto& b) {
  auto x = b.in(0);
  return select(x > 0, x, x * b.param(0));
};
constexpr auto leaky_relu_gradient = [](auto& b) {
  auto g = b.in(0);
  return select(b.in(1) > 0, g, g * b.param(0));
};

// param: min, max
constexpr auto hardtanh_body = [](auto& b) {
  return minimum(b.param(1), maximum(b.param(0), b.in(0)));
};
constexpr auto hardtanh_gradient = [](auto& b) {
  auto x = b.in(1);
  return select((x <= b.param(0)) | (x >= b.param(1)), 0, b.in(0));
};

constexpr auto hardsigmoid_body = [](auto& b) { return minimum(6, maximum(0, b.in(0) + 3)) / 6; };
constexpr auto hardsigmoid_gradient = [](auto& b) {
  auto x = b.in(1);
  return select((x <= -3) | (x >= 3), 0, b.in(0) / 6);
};

constexpr auto hardswish_body = [](auto& b) {
  auto x = b.in(0);
  return x * minimum(6, maximum(0, x + 3)) / 6;
};
constexpr auto hardswish_gradient = [](auto& b) {
  auto g = b.in(0), x = b.in(1);
  return select(x <= -3, 0, select(x >= 3, g, g * (x / 3 + 0.5)));
};

struct Slope {
  double negative_slope;
};
constexpr Field kSlopeFields[] = {{"negative_slope", FieldKind::real,
                                   offsetof(Slope, negative_slope), "factor of negative inputs"}};

struct Bounds {
  double min_val, max_val;
};
constexpr Field kBoundsFields[] = {
    {"min_val", FieldKind::real, offsetof(Bounds, min_val), "least result"},
    {"max_val", FieldKind::real, offsetof(Bounds, max_val), "largest result"}};

constexpr Slope kSlopeSample{0.25};
constexpr Bounds kBoundsSample{-1.5, 2.5};

}  // namespace

constinit OpDef kReluBackward = activation_gradient<relu_gradient>(
    {.name = "relu_backward", .doc = "g where the output y is above 0 (or NaN), else 0."});
constinit OpDef kRelu = activation<relu_body, kReluBackward>({.name = "relu",
                                                              .doc = "max(x, 0); NaN stays NaN.",
                                                              .promotion = Promotion::promote,
                                                              .vjp = vjp_of_output<kReluBackward>,
                                                              .saves = kSaveOutput});

constinit OpDef kLeakyReluBackward =
    activation_gradient<leaky_relu_gradient, kSlopeSample>({.name = "leaky_relu_backward",
                                                            .doc = "The gradient of leaky_relu.",
                                                            .attr_bytes = sizeof(Slope),
                                                            .fields = kSlopeFields});
constinit OpDef kLeakyRelu = activation<leaky_relu_body, kLeakyReluBackward, kSlopeSample>(
    {.name = "leaky_relu",
     .doc = "x above 0, negative_slope * x below.",
     .attr_bytes = sizeof(Slope),
     .fields = kSlopeFields});

constinit OpDef kHardtanhBackward = activation_gradient<hardtanh_gradient, kBoundsSample>(
    {.name = "hardtanh_backward",
     .doc = "g strictly between the bounds, else 0.",
     .attr_bytes = sizeof(Bounds),
     .fields = kBoundsFields});
constinit OpDef kHardtanh = activation<hardtanh_body, kHardtanhBackward, kBoundsSample>(
    {.name = "hardtanh",
     .doc = "x limited to [min_val, max_val].",
     .attr_bytes = sizeof(Bounds),
     .fields = kBoundsFields});

constinit OpDef kHardsigmoidBackward = activation_gradient<hardsigmoid_gradient>(
    {.name = "hardsigmoid_backward", .doc = "g / 6 strictly between -3 and 3, else 0."});
constinit OpDef kHardsigmoid = activation<hardsigmoid_body, kHardsigmoidBackward>(
    {.name = "hardsigmoid", .doc = "x + 3 limited to [0, 6], / 6."});

constinit OpDef kHardswishBackward = activation_gradient<hardswish_gradient>(
    {.name = "hardswish_backward", .doc = "The gradient of hardswish."});
constinit OpDef kHardswish = activation<hardswish_body, kHardswishBackward>(
    {.name = "hardswish", .doc = "x * hardsigmoid(x) (Howard et al. 2019)."});

Tensor relu(const Tensor& x) {
  if (x.dtype() == DType::bool_)
    fail(ErrorKind::runtime, "relu: a bool tensor has no relu; cast it with .to() first");
  return apply(kRelu, {x});
}
Tensor leaky_relu(const Tensor& x, double negative_slope) {
  return apply(kLeakyRelu, Slope{negative_slope}, {x});
}
Tensor hardtanh(const Tensor& x, double min_val, double max_val) {
  if (min_val > max_val)
    fail(ErrorKind::value, "hardtanh: min_val {} must not exceed max_val {}", min_val, max_val);
  return apply(kHardtanh, Bounds{min_val, max_val}, {x});
}
Tensor relu6(const Tensor& x) { return hardtanh(x, 0, 6); }
Tensor hardsigmoid(const Tensor& x) { return apply(kHardsigmoid, {x}); }
Tensor hardswish(const Tensor& x) { return apply(kHardswish, {x}); }
Tensor softsign(const Tensor& x) { return div(x, add(abs(x), number(1))); }
Tensor tanhshrink(const Tensor& x) { return sub(x, tanh(x)); }
Tensor threshold(const Tensor& x, double threshold, double value) {
  return where(le(x, number(threshold)), number(value), x);
}
Tensor softshrink(const Tensor& x, double lambd) {
  if (!(lambd >= 0))
    fail(ErrorKind::runtime, "softshrink: lambd must not be negative, got {}", lambd);
  Tensor shrunk = where(lt(x, number(-lambd)), add(x, number(lambd)), mul(x, number(0)));
  return where(gt(x, number(lambd)), sub(x, number(lambd)), shrunk);
}
Tensor hardshrink(const Tensor& x, double lambd) {
  return where(le(abs(x), number(lambd)), zeros({}, x.dtype()), x);
}
Tensor prelu(const Tensor& x, const Tensor& weight) {
  int64_t channels = x.dim() >= 2 ? x.size(1) : 1;
  if (weight.dim() > 1 || (weight.numel() != 1 && weight.numel() != channels))
    fail(
        ErrorKind::runtime,
        "prelu: weight must have 1 element or one per channel (dim 1 of the input), {}; got shape {}",
        channels, shape_text(weight.sizes()));
  Shape shape(std::max(x.dim(), 1), 1);
  shape[x.dim() >= 2 ? 1 : 0] = weight.numel();
  return where(gt(x, number(0)), x, mul(reshape(weight, x.dim() ? Ints(shape) : Ints{}), x));
}
Tensor glu(const Tensor& x, int64_t dim) {
  dim = wrap_dim(dim, x.dim(), "glu");
  if (x.size(dim) % 2)
    fail(ErrorKind::runtime,
         "glu: the size of dim {} must be even to be halved, got {} of shape {}", dim, x.size(dim),
         shape_text(x.sizes()));
  int64_t half = x.size(dim) / 2;
  return mul(narrow(x, dim, 0, half), sigmoid(narrow(x, dim, half, half)));
}

namespace {

OpDef* const kOps[] = {&kRelu,      &kReluBackward,     &kLeakyRelu,   &kLeakyReluBackward,
                       &kHardtanh,  &kHardtanhBackward, &kHardsigmoid, &kHardsigmoidBackward,
                       &kHardswish, &kHardswishBackward};

constexpr uint16_t kUsual = kFunction | kNN;

const Function kFunctions[] = {
    {"relu(Tensor input) -> Tensor", "max(x, 0).", kUsual | kMethod | kInplace, thunk<&relu>},
    {"leaky_relu(Tensor input, float negative_slope=0.01) -> Tensor",
     "x above 0, negative_slope * x below.", kUsual, thunk<&leaky_relu>},
    {"hardtanh(Tensor input, float min_val=-1.0, float max_val=1.0) -> Tensor",
     "x limited to [min_val, max_val].", kUsual, thunk<&hardtanh>},
    {"relu6(Tensor input) -> Tensor", "x limited to [0, 6].", kUsual, thunk<&relu6>},
    {"hardsigmoid(Tensor input) -> Tensor", "x + 3 limited to [0, 6], / 6.", kUsual,
     thunk<&hardsigmoid>},
    {"hardswish(Tensor input) -> Tensor", "x * hardsigmoid(x).", kUsual, thunk<&hardswish>},
    {"softsign(Tensor input) -> Tensor", "x / (1 + |x|).", kUsual, thunk<&softsign>},
    {"tanhshrink(Tensor input) -> Tensor", "x - tanh(x).", kUsual, thunk<&tanhshrink>},
    {"threshold(Tensor input, float threshold, float value) -> Tensor",
     "x above the threshold, else value.", kUsual, thunk<&threshold>},
    {"softshrink(Tensor input, float lambd=0.5) -> Tensor",
     "x moved towards 0 by lambd, 0 within it.", kUsual, thunk<&softshrink>},
    {"hardshrink(Tensor input, float lambd=0.5) -> Tensor", "x where |x| > lambd, else 0.", kUsual,
     thunk<&hardshrink>},
    {"prelu(Tensor input, Tensor weight) -> Tensor",
     "x above 0, weight * x below; one weight or one per channel (dim 1).", kUsual | kMethod,
     thunk<&prelu>},
    {"glu(Tensor input, int dim=-1) -> Tensor",
     "The first half of dim times the sigmoid of the second.", kUsual, thunk<&glu>},
};

}  // namespace

extern const OpFile piecewise_ops;
const OpFile piecewise_ops{kOps, kFunctions};

}  // namespace fluxion
