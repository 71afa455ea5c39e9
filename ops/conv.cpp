// 2-D and 1-D convolution and its gradients: three ops closed under differentiation.
#include "kernels/conv.h"

#include <algorithm>

#include "base/checked.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/dot.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

struct ConvAttrs {
  int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
  int64_t size_h, size_w;  // of the result of a gradient: input planes or taps
};
constexpr Field kFields[] = {
    {"stride_h", FieldKind::integer, offsetof(ConvAttrs, stride_h), "step of the window down"},
    {"stride_w", FieldKind::integer, offsetof(ConvAttrs, stride_w), "step of the window across"},
    {"pad_h", FieldKind::integer, offsetof(ConvAttrs, pad_h), "zeros above and below"},
    {"pad_w", FieldKind::integer, offsetof(ConvAttrs, pad_w), "zeros left and right"},
    {"dilation_h", FieldKind::integer, offsetof(ConvAttrs, dilation_h), "distance of taps down"},
    {"dilation_w", FieldKind::integer, offsetof(ConvAttrs, dilation_w), "distance of taps across"},
    {"groups", FieldKind::integer, offsetof(ConvAttrs, groups), "channel groups that do not mix"},
    {"size_h", FieldKind::integer, offsetof(ConvAttrs, size_h),
     "height of a gradient's result, else 0"},
    {"size_w", FieldKind::integer, offsetof(ConvAttrs, size_w),
     "width of a gradient's result, else 0"},
};

int64_t out_size(int64_t in, int64_t taps, int64_t stride, int64_t pad, int64_t dilation) {
  return (in + 2 * pad - dilation * (taps - 1) - 1) / stride + 1;
}

kernels::ConvShape shape_of(const ConvAttrs& a, Ints x, Ints w, Ints y, DType t) {
  return {x[0],    x[1],    x[2],         x[3],         y[1],       y[2],
          y[3],    w[2],    w[3],         a.groups,     a.stride_h, a.stride_w,
          a.pad_h, a.pad_w, a.dilation_h, a.dilation_w, t,          num_threads()};
}

Shape conv_shape(const ConvAttrs& a, Ints x, Ints w) {
  return Shape{x[0], w[0], out_size(x[2], w[2], a.stride_h, a.pad_h, a.dilation_h),
               out_size(x[3], w[3], a.stride_w, a.pad_w, a.dilation_w)};
}
Shape input_shape(const ConvAttrs& a, Ints g, Ints w) {
  return Shape{g[0], w[1] * a.groups, a.size_h, a.size_w};
}
Shape weight_shape(const ConvAttrs& a, Ints g, Ints x) {
  return Shape{g[1], x[1] / a.groups, a.size_h, a.size_w};
}

/// Both inputs are images or taps, the attributes are those of windows.
void require_windows(const TypeRule& t) {
  const auto& a = t.attrs<ConvAttrs>();
  for (size_t i : {0, 1}) require_rank(t, i, 4, 4);
  require_floating(t, 0);
  require(t, t.in[0].dtype == t.in[1].dtype, "both inputs must have one dtype");
  for (int64_t v : {a.stride_h, a.stride_w, a.dilation_h, a.dilation_w, a.groups})
    require(t, v > 0 && moderate(v), "strides, dilations and groups must be positive");
  for (int64_t v : {a.pad_h, a.pad_w, a.size_h, a.size_w})
    require(t, v >= 0 && moderate(v), "paddings and sizes must not be negative");
  for (size_t i : {0, 1})
    for (int64_t s : t.in[i].shape) require(t, moderate(s), "the images are too large");
}

void require_conv(const TypeRule& t, Ints x, Ints w) {
  const auto& a = t.attrs<ConvAttrs>();
  require_windows(t);
  require(t, x[1] % a.groups == 0 && w[0] % a.groups == 0 && w[1] * a.groups == x[1],
          "the channels must fit the groups");
  require(t, w[0] > 0 && w[1] > 0 && w[2] > 0 && w[3] > 0, "there must be channels and taps");
  require(t,
          a.dilation_h * (w[2] - 1) < x[2] + 2 * a.pad_h &&
              a.dilation_w * (w[3] - 1) < x[3] + 2 * a.pad_w,
          "a window must fit into the padded image");
}

using Query = size_t (*)(const kernels::ConvShape&, const kernels::ContractionKernels&);

/// Allocates workspace and result, runs `call(ctx, kernels, result memory)`.
template <class Call>
void run(const Eval& e, const kernels::ConvShape& s, Query query, Ints shape, DType dtype,
         Call call) {
  kernels::ContractionKernels k = contraction_kernels(dtype, dtype);
  Tensor out = empty(shape, dtype);  // first: raises for sizes that the query could not count
  size_t bytes = out.numel() ? query(s, k) : 0;
  Ref<Storage> workspace = allocate(bytes);
  double work = 2.0 * static_cast<double>(s.n * s.oc) * static_cast<double>(s.oh) *
                static_cast<double>(s.ow) * static_cast<double>(s.c / s.groups) *
                static_cast<double>(s.kh) * static_cast<double>(s.kw);
  {
    LongWork busy(work / 50);
    kernels::Ctx ctx = kernel_context(workspace->data, bytes);
    invariant(call(ctx, k, out.data()) == kernels::kOk, "convolution");
  }
  if (e.out[0].defined()) copy_elements(out, e.out[0]);
  else e.out[0] = out;
}

void eval_conv(const Eval& e) {
  const auto& a = e.attrs<ConvAttrs>();
  Tensor x = dense(e.in[0]), w = dense(e.in[1]), bias;
  NoGrad plain;
  if (e.in.size() > 2) bias = dense(to_dtype(e.in[2], compute_dtype(x.dtype())));
  Shape y = conv_shape(a, x.sizes(), w.sizes());
  kernels::ConvShape s = shape_of(a, x.sizes(), w.sizes(), y, x.dtype());
  run(e, s, kernels::conv_workspace, y, x.dtype(),
      [&](kernels::Ctx& ctx, const auto& k, void* out) {
        return element_count(y) == 0 ? 0
                                     : kernels::conv(ctx, s, k, x.data(), w.data(),
                                                     bias.defined() ? bias.data() : nullptr, out);
      });
}

void eval_input_gradient(const Eval& e) {
  const auto& a = e.attrs<ConvAttrs>();
  Tensor g = dense(e.in[0]), w = dense(e.in[1]);
  Shape x = input_shape(a, g.sizes(), w.sizes());
  kernels::ConvShape s = shape_of(a, x, w.sizes(), g.sizes(), g.dtype());
  run(e, s, kernels::conv_input_gradient_workspace, x, g.dtype(),
      [&](kernels::Ctx& ctx, const auto& k, void* out) {
        return element_count(x) == 0
                   ? 0
                   : kernels::conv_input_gradient(ctx, s, k, g.data(), w.data(), out);
      });
}

void eval_weight_gradient(const Eval& e) {
  const auto& a = e.attrs<ConvAttrs>();
  Tensor g = dense(e.in[0]), x = dense(e.in[1]);
  Shape w = weight_shape(a, g.sizes(), x.sizes());
  kernels::ConvShape s = shape_of(a, x.sizes(), w, g.sizes(), g.dtype());
  run(e, s, kernels::conv_weight_gradient_workspace, w, g.dtype(),
      [&](kernels::Ctx& ctx, const auto& k, void* out) {
        return element_count(w) == 0
                   ? 0
                   : kernels::conv_weight_gradient(ctx, s, k, g.data(), x.data(), out);
      });
}

double conv_cost(std::span<const Type> in, const void* attrs) {
  return 100 * cheap_cost(in, attrs);
}

ConvAttrs sized(ConvAttrs a, Ints shape) {
  a.size_h = shape[2];
  a.size_w = shape[3];
  return a;
}

void samples(const OpDef& op, SampleSink& sink);
constexpr SaveRule kConvSaves[] = {{2, 0}, {1, 0}, {0, 0}};

constexpr OpDef conv_op(OpDef d) {
  d.space = Space::window;
  d.attr_bytes = sizeof(ConvAttrs);
  d.fields = kFields;
  d.saves = kConvSaves;
  d.cost = conv_cost;
  d.samples = samples;
  return d;
}

}  // namespace

extern OpDef kConvInputGradient, kConvWeightGradient;

constinit OpDef kConv = conv_op(
    {.name = "conv",
     .doc =
         "Cross-correlation of [n, c, h, w] with [oc, c / groups, kh, kw], plus a bias per channel.",
     .inputs = 255,
     .infer =
         [](const TypeRule& t) {
           require_count(t, 2, 3);
           require_conv(t, t.in[0].shape, t.in[1].shape);
           if (t.in.size() == 3) require_shape(t, 2, Shape{t.in[1].shape[0]});
           t.out[0] = {t.in[0].dtype, false,
                       conv_shape(t.attrs<ConvAttrs>(), t.in[0].shape, t.in[1].shape)};
         },
     .eval = eval_conv,
     .vjp =
         [](const Vjp& v) {
           const auto& a = v.attrs<ConvAttrs>();
           if (v.needs(0))
             v.result[0] =
                 apply(kConvInputGradient, sized(a, v.in[0].sizes()), {v.grad[0], v.in[1]});
           if (v.needs(1))
             v.result[1] =
                 apply(kConvWeightGradient, sized(a, v.in[1].sizes()), {v.grad[0], v.in[0]});
           if (v.in.size() > 2 && v.needs(2)) v.result[2] = sum(v.grad[0], Shape{0, 2, 3});
         }});

constinit OpDef kConvInputGradient =
    conv_op({.name = "conv_input_gradient",
             .doc = "The gradient of conv with respect to its input.",
             .inputs = 2,
             .infer =
                 [](const TypeRule& t) {
                   require_windows(t);
                   Shape x = input_shape(t.attrs<ConvAttrs>(), t.in[0].shape, t.in[1].shape);
                   require_conv(t, x, t.in[1].shape);
                   require_shape(t, 0, conv_shape(t.attrs<ConvAttrs>(), x, t.in[1].shape));
                   t.out[0] = {t.in[0].dtype, false,
                               input_shape(t.attrs<ConvAttrs>(), t.in[0].shape, t.in[1].shape)};
                 },
             .eval = eval_input_gradient,
             .vjp =
                 [](const Vjp& v) {
                   const auto& a = v.attrs<ConvAttrs>();
                   if (v.needs(0)) v.result[0] = apply(kConv, a, {v.grad[0], v.in[1]});
                   if (v.needs(1))
                     v.result[1] = apply(kConvWeightGradient, sized(a, v.in[1].sizes()),
                                         {v.in[0], v.grad[0]});
                 }});

constinit OpDef kConvWeightGradient =
    conv_op({.name = "conv_weight_gradient",
             .doc = "The gradient of conv with respect to its weight.",
             .inputs = 2,
             .infer =
                 [](const TypeRule& t) {
                   require_windows(t);
                   Shape w = weight_shape(t.attrs<ConvAttrs>(), t.in[0].shape, t.in[1].shape);
                   require_conv(t, t.in[1].shape, w);
                   require_shape(t, 0, conv_shape(t.attrs<ConvAttrs>(), t.in[1].shape, w));
                   t.out[0] = {t.in[0].dtype, false,
                               weight_shape(t.attrs<ConvAttrs>(), t.in[0].shape, t.in[1].shape)};
                 },
             .eval = eval_weight_gradient,
             .vjp =
                 [](const Vjp& v) {
                   const auto& a = v.attrs<ConvAttrs>();
                   if (v.needs(0)) v.result[0] = apply(kConv, a, {v.in[1], v.grad[0]});
                   if (v.needs(1))
                     v.result[1] =
                         apply(kConvInputGradient, sized(a, v.in[1].sizes()), {v.in[0], v.grad[0]});
                 }});

namespace {

void samples(const OpDef& op, SampleSink& sink) {
  ConvAttrs cases[] = {{1, 1, 1, 1, 1, 1, 1, 0, 0}, {2, 1, 0, 1, 1, 2, 2, 0, 0}};
  for (const ConvAttrs& c : cases)
    for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
      Shape x{2, 4, 6, 5}, w{4, 4 / c.groups, 3, 2}, y = conv_shape(c, x, w);
      SampleSink::Input ix{x, t}, iw{w, t}, iy{y, t}, bias{Shape{4}, t};
      if (&op == &kConv) {
        SampleSink::Input in[] = {ix, iw, bias};
        sink.add(in, &c, sizeof c);
        sink.add(std::span(in, 2), &c, sizeof c);
      } else {
        ConvAttrs a = sized(c, &op == &kConvInputGradient ? Ints(x) : Ints(w));
        SampleSink::Input in[] = {iy, &op == &kConvInputGradient ? iw : ix};
        sink.add(in, &a, sizeof a);
      }
    }
}

/// One number for both dims, or two.
void pair(const char* op, const char* what, Ints v, int64_t least, int64_t* h, int64_t* w) {
  if (v.size() != 1 && v.size() != 2)
    fail(ErrorKind::runtime, "{}: {} must be one or two integers, got {}", op, what, shape_text(v));
  *h = v[0];
  *w = v.back();
  if (*h < least || *w < least)
    fail(ErrorKind::runtime, "{}: {} must be at least {}, got {}", op, what, least, shape_text(v));
}

/// Raises unless the taps fit the padded input. A stride or a dilation beyond the input is shortened: it is never gone.
void fit_window(const char* op, Ints x, Ints w, int dim, int64_t pad, int64_t* stride,
                int64_t* dilation) {
  __int128 room = static_cast<__int128>(x[dim]) + 2 * static_cast<__int128>(pad),
           reach = static_cast<__int128>(*dilation) * (w[dim] - 1) + 1;
  if (room > INT64_MAX)
    fail(ErrorKind::runtime, "{}: padding {} of an input {} has more elements than fit in 64 bits",
         op, pad, shape_text(x));
  if (reach > room)
    fail(ErrorKind::runtime, "{}: the kernel {} is larger than the padded input {}", op,
         shape_text(w), shape_text(x));
  int64_t most = std::max<int64_t>(1, static_cast<int64_t>(room));
  *stride = std::min(*stride, most);
  *dilation = std::min(*dilation, most);
}

/// What an even kernel with padding='same' adds behind the input before the symmetric rest; `amounts` are pad()'s.
Tensor same_padded(const char* op, const Tensor& input, const Tensor& weight, Ints stride,
                   Ints dilation, Shape* padding) {
  size_t dims = static_cast<size_t>(weight.dim(op)) - 2;
  if (std::ranges::any_of(stride, [](int64_t s) { return s != 1; }))
    fail(ErrorKind::value, "{}: padding='same' needs stride 1, got {}", op, shape_text(stride));
  if (dilation.size() != 1 && dilation.size() != dims)
    fail(ErrorKind::runtime, "{}: dilation must be one or {} integers, got {}", op, dims,
         shape_text(dilation));
  Shape extra;
  for (size_t d = 0; d < dims; ++d) {
    int64_t step = dilation[dilation.size() == 1 ? 0 : d], taps = weight.sizes()[2 + d];
    int64_t total = taps ? checked_mul(step, taps - 1) : 0;
    padding->push_back(total / 2);
    extra.insert(0, total % 2);
    extra.insert(0, 0);
  }
  bool even = std::ranges::any_of(Ints(extra), [](int64_t e) { return e != 0; });
  return even ? pad(input, extra) : input;
}

using Convolution = Tensor (*)(const Tensor&, const Tensor&, const Tensor&, Ints, Ints, Ints,
                               int64_t);

Tensor named_padding(const char* op, Convolution conv, const Tensor& input, const Tensor& weight,
                     const Tensor& bias, Ints stride, std::string_view padding, Ints dilation,
                     int64_t groups) {
  int64_t none = 0;
  if (padding == "valid")
    return conv(input, weight, bias, stride, Ints(&none, 1), dilation, groups);
  if (padding != "same")
    fail(ErrorKind::value, "{}: padding must be 'same', 'valid' or integers, got '{}'", op,
         padding);
  if (weight.dim(op) < 3 || weight.dim() > 4)  // conv() says what it needs
    return conv(input, weight, bias, stride, Ints(&none, 1), dilation, groups);
  Shape sides;
  Tensor x = same_padded(op, input, weight, stride, dilation, &sides);
  return conv(x, weight, bias, stride, sides, dilation, groups);
}

}  // namespace

Tensor conv2d(const Tensor& input, const Tensor& weight, const Tensor& bias, Ints stride,
              Ints padding, Ints dilation, int64_t groups) {
  if ((input.dim() != 4 && input.dim() != 3) || weight.dim() != 4)
    fail(
        ErrorKind::runtime,
        "conv2d: needs input [n, c, h, w] or [c, h, w] and weight [oc, c / groups, kh, kw], got {} and {}",
        shape_text(input.sizes()), shape_text(weight.sizes()));
  if (input.dim() == 3)
    return squeeze(conv2d(unsqueeze(input, 0), weight, bias, stride, padding, dilation, groups),
                   Shape{0});
  ConvAttrs a{};
  pair("conv2d", "stride", stride, 1, &a.stride_h, &a.stride_w);
  pair("conv2d", "padding", padding, 0, &a.pad_h, &a.pad_w);
  pair("conv2d", "dilation", dilation, 1, &a.dilation_h, &a.dilation_w);
  a.groups = groups;
  Ints x = input.sizes(), w = weight.sizes();
  if (groups < 1) fail(ErrorKind::runtime, "conv2d: groups must be positive, got {}", groups);
  if (w[0] % groups || x[1] != checked_mul(w[1], groups))
    fail(
        ErrorKind::runtime,
        "conv2d: input has {} channels, weight {} with groups={} needs {}; out channels must divide by groups",
        x[1], shape_text(w), groups, w[1] * groups);
  if (input.dtype() != weight.dtype() || !is_floating(input.dtype()))
    fail(ErrorKind::runtime, "conv2d: input and weight must have one floating dtype, got {} and {}",
         name(input.dtype()), name(weight.dtype()));
  if (bias.defined() && (bias.dim() != 1 || bias.sizes()[0] != w[0]))
    fail(ErrorKind::runtime, "conv2d: bias must have shape ({},), got {}", w[0],
         shape_text(bias.sizes()));
  fit_window("conv2d", x, w, 2, a.pad_h, &a.stride_h, &a.dilation_h);
  fit_window("conv2d", x, w, 3, a.pad_w, &a.stride_w, &a.dilation_w);
  double height = static_cast<double>(x[2]) + 2 * static_cast<double>(a.pad_h),
         width = static_cast<double>(x[3]) + 2 * static_cast<double>(a.pad_w);
  if (height * width * static_cast<double>(x[1]) > 0x1p44)
    fail(ErrorKind::memory, "conv2d: an input {} with padding {} does not fit the memory",
         shape_text(x), shape_text(padding));
  return bias.defined() ? apply(kConv, a, {input, weight, bias}) : apply(kConv, a, {input, weight});
}

Tensor conv1d(const Tensor& input, const Tensor& weight, const Tensor& bias, Ints stride,
              Ints padding, Ints dilation, int64_t groups) {
  if ((input.dim() != 3 && input.dim() != 2) || weight.dim() != 3)
    fail(ErrorKind::runtime,
         "conv1d: needs input [n, c, l] or [c, l] and weight [oc, c / groups, k], got {} and {}",
         shape_text(input.sizes()), shape_text(weight.sizes()));
  for (Ints v : {stride, padding, dilation})
    if (v.size() != 1)
      fail(ErrorKind::runtime, "conv1d: stride, padding and dilation must be one integer, got {}",
           shape_text(v));
  const int64_t s[] = {1, stride[0]}, p[] = {0, padding[0]}, d[] = {1, dilation[0]};
  return squeeze(conv2d(unsqueeze(input, -2), unsqueeze(weight, -2), bias, s, p, d, groups),
                 Shape{-2});
}

Tensor conv2d(const Tensor& input, const Tensor& weight, const Tensor& bias, Ints stride,
              Text padding, Ints dilation, int64_t groups) {
  return named_padding("conv2d", &conv2d, input, weight, bias, stride, padding, dilation, groups);
}
Tensor conv1d(const Tensor& input, const Tensor& weight, const Tensor& bias, Ints stride,
              Text padding, Ints dilation, int64_t groups) {
  return named_padding("conv1d", &conv1d, input, weight, bias, stride, padding, dilation, groups);
}

namespace {

using Named = Tensor (*)(const Tensor&, const Tensor&, const Tensor&, Ints, Text, Ints, int64_t);

OpDef* const kOps[] = {&kConv, &kConvInputGradient, &kConvWeightGradient};

const Function kFunctions[] = {
    {"conv2d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, int[] padding=0, int[] dilation=1, int groups=1) -> Tensor",
     "2-D convolution (cross-correlation) of [n, c, h, w] with [oc, c / groups, kh, kw].",
     kFunction | kNN, thunk<static_cast<Convolution>(&conv2d)>},
    {"conv2d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, str padding='valid', int[] dilation=1, int groups=1) -> Tensor",
     "2-D convolution without padding ('valid') or with as much as keeps the size ('same').",
     kFunction | kNN, thunk<static_cast<Named>(&conv2d)>},
    {"conv1d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, int[] padding=0, int[] dilation=1, int groups=1) -> Tensor",
     "1-D convolution (cross-correlation) of [n, c, l] with [oc, c / groups, k].", kFunction | kNN,
     thunk<static_cast<Convolution>(&conv1d)>},
    {"conv1d(Tensor input, Tensor weight, Tensor? bias=None, int[] stride=1, str padding='valid', int[] dilation=1, int groups=1) -> Tensor",
     "1-D convolution without padding ('valid') or with as much as keeps the size ('same').",
     kFunction | kNN, thunk<static_cast<Named>(&conv1d)>},
};

}  // namespace

extern const OpFile conv_ops;
const OpFile conv_ops{kOps, kFunctions};

}  // namespace fluxion
