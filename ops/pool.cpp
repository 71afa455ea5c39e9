// Max and average pooling of [n, c, h, w].
#include "kernels/pool.h"

#include "base/checked.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

struct PoolAttrs {
  int64_t kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, oh, ow, include_pad,
      divisor, h, w;
};
constexpr Field kFields[] = {
    {"kh", FieldKind::integer, offsetof(PoolAttrs, kh), "window height"},
    {"kw", FieldKind::integer, offsetof(PoolAttrs, kw), "window width"},
    {"stride_h", FieldKind::integer, offsetof(PoolAttrs, stride_h), "step down"},
    {"stride_w", FieldKind::integer, offsetof(PoolAttrs, stride_w), "step across"},
    {"pad_h", FieldKind::integer, offsetof(PoolAttrs, pad_h), "padding above and below"},
    {"pad_w", FieldKind::integer, offsetof(PoolAttrs, pad_w), "padding left and right"},
    {"dilation_h", FieldKind::integer, offsetof(PoolAttrs, dilation_h), "distance of taps down"},
    {"dilation_w", FieldKind::integer, offsetof(PoolAttrs, dilation_w), "distance of taps across"},
    {"oh", FieldKind::integer, offsetof(PoolAttrs, oh), "result height"},
    {"ow", FieldKind::integer, offsetof(PoolAttrs, ow), "result width"},
    {"include_pad", FieldKind::boolean, offsetof(PoolAttrs, include_pad), "average counts padding"},
    {"divisor", FieldKind::integer, offsetof(PoolAttrs, divisor),
     "average divides by this unless 0"},
    {"h", FieldKind::integer, offsetof(PoolAttrs, h), "input height"},
    {"w", FieldKind::integer, offsetof(PoolAttrs, w), "input width"},
};

kernels::PoolShape shape_of(const PoolAttrs& a, const Tensor& t) {
  return {t.sizes()[0] * t.sizes()[1],
          a.h,
          a.w,
          a.oh,
          a.ow,
          a.kh,
          a.kw,
          a.stride_h,
          a.stride_w,
          a.pad_h,
          a.pad_w,
          a.dilation_h,
          a.dilation_w,
          a.include_pad != 0,
          a.divisor,
          t.dtype()};
}

/// Dense, in the dtype windows are computed in.
Tensor computed(const Tensor& x) {
  NoGrad plain;
  return dense(to_dtype(x, compute_dtype(x.dtype())));
}

Shape pooled(const PoolAttrs& a, Ints x) { return Shape{x[0], x[1], a.oh, a.ow}; }

void eval_max(const Eval& e) {
  const auto& a = e.attrs<PoolAttrs>();
  Tensor x = computed(e.in[0]);
  Shape s = pooled(a, x.sizes());
  Tensor y = empty(s, x.dtype()), place = empty(s, DType::i64);
  LongWork busy(static_cast<double>(y.numel()) * static_cast<double>(a.kh) *
                static_cast<double>(a.kw));
  if (y.numel())
    kernels::max_pool(kernel_context(), shape_of(a, x), x.data(), y.data(), place.data<int64_t>());
  deliver(e.out[0], y, e.in[0].dtype());
  deliver(e.out[1], place, DType::i64);
}

void eval_avg(const Eval& e) {
  const auto& a = e.attrs<PoolAttrs>();
  Tensor x = computed(e.in[0]);
  Tensor y = empty(pooled(a, x.sizes()), x.dtype());
  if (y.numel()) kernels::avg_pool(kernel_context(), shape_of(a, x), x.data(), y.data());
  deliver(e.out[0], y, e.in[0].dtype());
}

void eval_avg_gradient(const Eval& e) {
  const auto& a = e.attrs<PoolAttrs>();
  Tensor g = computed(e.in[0]);
  Tensor gx;
  {
    NoGrad plain;
    gx = zeros(Shape{g.sizes()[0], g.sizes()[1], a.h, a.w}, g.dtype());
  }
  if (g.numel()) kernels::avg_pool_gradient(kernel_context(), shape_of(a, g), g.data(), gx.data());
  deliver(e.out[0], gx, e.in[0].dtype());
}

/// Places come from max_pool, or from a file.
void check_places(const Tensor& place, int64_t plane) {
  const auto* at = place.data<int64_t>();
  int64_t most = -1;
  for (int64_t i = 0; i < place.numel(); ++i) most = std::max(most, at[i]);
  if (most >= plane)
    fail(ErrorKind::index, "max_pool_gradient: place {} is out of range for {} elements", most,
         plane);
}

void eval_max_gradient(const Eval& e) {
  const auto& a = e.attrs<PoolAttrs>();
  Tensor g = computed(e.in[0]), place = dense(e.in[1]), gx;
  {
    NoGrad plain;
    gx = zeros(Shape{g.sizes()[0], g.sizes()[1], a.h, a.w}, g.dtype());
  }
  check_places(place, a.h * a.w);
  if (g.numel())
    kernels::max_pool_gradient(kernel_context(), shape_of(a, g), g.data(), place.data<int64_t>(),
                               gx.data());
  deliver(e.out[0], gx, e.in[0].dtype());
}

/// What stood at the places that won.
void vjp_max_gradient(const Vjp& v) {
  Ints x = v.grad[0].sizes(), y = v.in[1].sizes();
  Tensor planes = reshape(v.grad[0], Shape{x[0], x[1], x[2] * x[3]}),
         places = reshape(v.in[1], Shape{y[0], y[1], y[2] * y[3]});
  v.result[0] = reshape(gather(planes, 2, places), y);
}

/// Windows that start within the image, or in the padding before it.
void require_pool(const TypeRule& t) {
  const auto& a = t.attrs<PoolAttrs>();
  for (size_t i = 0; i < t.in.size(); ++i) require_rank(t, i, 4, 4);
  require_floating(t, 0);
  for (int64_t v : {a.kh, a.kw, a.stride_h, a.stride_w, a.dilation_h, a.dilation_w})
    require(t, v > 0 && moderate(v), "windows, strides and dilations must be positive");
  for (int64_t v : {a.pad_h, a.pad_w, a.oh, a.ow, a.h, a.w})
    require(t, v >= 0 && moderate(v), "paddings and sizes must not be negative");
  require(t,
          a.dilation_h * (a.kh - 1) < a.h + 2 * a.pad_h &&
              a.dilation_w * (a.kw - 1) < a.w + 2 * a.pad_w,
          "a window must fit into the padded image");
  require(t, __int128{a.h} * a.w < INT32_MAX, "the image is too large");
  require(t, (a.oh - 1) * a.stride_h <= a.h + a.pad_h && (a.ow - 1) * a.stride_w <= a.w + a.pad_w,
          "the windows must start within the image");
}

void infer_gradient(const TypeRule& t) {
  const auto& a = t.attrs<PoolAttrs>();
  require_pool(t);
  for (size_t i = 0; i < t.in.size(); ++i)
    require_shape(t, i, Shape{t.in[0].shape[0], t.in[0].shape[1], a.oh, a.ow});
  if (t.in.size() > 1) require(t, t.in[1].dtype == DType::i64, "the places must be i64");
  t.out[0] = {t.in[0].dtype, false, Shape{t.in[0].shape[0], t.in[0].shape[1], a.h, a.w}};
}

double pool_cost(std::span<const Type> in, const void* a) { return 4 * cheap_cost(in, a); }

constexpr PoolAttrs kSample{2, 2, 2, 2, 0, 0, 1, 1, 2, 3, 1, 0, 4, 6};
void samples(const OpDef& op, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    SampleSink::Input pooled{Shape{2, 3, 2, 3}, t},
        in[] = {{Shape{2, 3, 4, 6}, t}, {Shape{2, 3, 2, 3}, DType::i64, 0, 23}};
    if (op.eval == eval_max_gradient || op.eval == eval_avg_gradient) in[0] = pooled;
    sink.add(std::span(in, op.inputs), &kSample, sizeof kSample);
  }
}

constexpr SaveRule kSavePlace[] = {{0, 2}}, kSavePlaceInput[] = {{2, 0}};

constexpr OpDef pool_op(OpDef d) {
  d.space = Space::window;
  d.attr_bytes = sizeof(PoolAttrs);
  d.fields = kFields;
  d.cost = pool_cost;
  d.samples = samples;
  return d;
}

}  // namespace

extern OpDef kMaxPoolGradient, kAvgPoolGradient;

constinit OpDef kMaxPool =
    pool_op({.name = "max_pool",
             .doc = "The largest element of each window and its flat place in the plane.",
             .outputs = 2,
             .infer =
                 [](const TypeRule& t) {
                   const auto& a = t.attrs<PoolAttrs>();
                   require_pool(t);
                   require_shape(t, 0, Shape{t.in[0].shape[0], t.in[0].shape[1], a.h, a.w});
                   Shape s = pooled(a, t.in[0].shape);
                   t.out[0] = {t.in[0].dtype, false, s};
                   t.out[1] = {DType::i64, false, s};
                 },
             .eval = eval_max,
             .vjp =
                 [](const Vjp& v) {
                   if (v.grad[0].defined())
                     v.result[0] =
                         apply(kMaxPoolGradient, v.attrs<PoolAttrs>(), {v.grad[0], v.out[1]});
                 },
             .saves = kSavePlace});
constinit OpDef kMaxPoolGradient =
    pool_op({.name = "max_pool_gradient",
             .doc = "Each window's gradient at the place that won: (g, place).",
             .inputs = 2,
             .infer = infer_gradient,
             .eval = eval_max_gradient,
             .vjp = vjp_max_gradient,
             .saves = kSavePlaceInput});
constinit OpDef kAvgPool =
    pool_op({.name = "avg_pool",
             .doc = "The mean of each window.",
             .infer =
                 [](const TypeRule& t) {
                   const auto& a = t.attrs<PoolAttrs>();
                   require_pool(t);
                   require_shape(t, 0, Shape{t.in[0].shape[0], t.in[0].shape[1], a.h, a.w});
                   t.out[0] = {t.in[0].dtype, false, pooled(a, t.in[0].shape)};
                 },
             .eval = eval_avg,
             .vjp =
                 [](const Vjp& v) {
                   v.result[0] = apply(kAvgPoolGradient, v.attrs<PoolAttrs>(), {v.grad[0]});
                 }});
constinit OpDef kAvgPoolGradient =
    pool_op({.name = "avg_pool_gradient",
             .doc = "The gradient of avg_pool.",
             .infer = infer_gradient,
             .eval = eval_avg_gradient,
             .vjp = [](const Vjp& v) {
               v.result[0] = apply(kAvgPool, v.attrs<PoolAttrs>(), {v.grad[0]});
             }});

namespace {

int64_t pooled_size(int64_t in, int64_t k, int64_t stride, int64_t pad, int64_t dilation,
                    bool ceil_mode) {
  using Wide = __int128;
  Wide reach = static_cast<Wide>(in) + 2 * static_cast<Wide>(pad) -
               static_cast<Wide>(dilation) * (k - 1) - 1 + (ceil_mode ? stride - 1 : 0);
  Wide n = reach < 0 ? 0 : reach / stride + 1;
  if (ceil_mode && (n - 1) * stride >= static_cast<Wide>(in) + pad)
    --n;  // a window must start inside
  return static_cast<int64_t>(std::min<Wide>(n, INT64_MAX));
}

PoolAttrs attrs_for(const char* op, const Tensor& x, Ints kernel, OptInts given_stride,
                    Ints padding, Ints dilation, bool ceil_mode) {
  if (x.dim(op) != 4 || !is_floating(x.dtype()))
    fail(ErrorKind::runtime, "{}: needs a floating tensor [n, c, h, w] or [c, h, w], got {}", op,
         type_text(x));
  Ints stride = given_stride && !given_stride->empty() ? *given_stride : kernel;
  for (Ints v : {kernel, stride, padding, dilation})
    if (v.size() != 1 && v.size() != 2)
      fail(ErrorKind::runtime, "{}: window arguments are one or two integers, got {}", op,
           shape_text(v));
  PoolAttrs a{kernel[0],
              kernel.back(),
              stride[0],
              stride.back(),
              padding[0],
              padding.back(),
              dilation[0],
              dilation.back(),
              0,
              0,
              1,
              0,
              x.sizes()[2],
              x.sizes()[3]};
  if (a.kh < 1 || a.kw < 1 || a.stride_h < 1 || a.stride_w < 1 || a.dilation_h < 1 ||
      a.dilation_w < 1)
    fail(ErrorKind::runtime, "{}: kernel_size, stride and dilation must be at least 1", op);
  if (a.pad_h < 0 || a.pad_w < 0 || a.pad_h > a.kh / 2 || a.pad_w > a.kw / 2)
    fail(ErrorKind::runtime, "{}: padding {} must be between 0 and half of kernel_size {}", op,
         shape_text(padding), shape_text(kernel));
  a.oh = pooled_size(a.h, a.kh, a.stride_h, a.pad_h, a.dilation_h, ceil_mode);
  a.ow = pooled_size(a.w, a.kw, a.stride_w, a.pad_w, a.dilation_w, ceil_mode);
  if (a.oh < 1 || a.ow < 1)
    fail(ErrorKind::runtime, "{}: the window {} does not fit the input {}", op, shape_text(kernel),
         shape_text(x.sizes()));
  // Steps beyond the input are never gone; shortened, they cannot overflow.
  auto within = [](int64_t step, int64_t size, int64_t pad) {
    return std::min(step, std::max<int64_t>(1, checked_add(size, checked_mul(2, pad))));
  };
  a.stride_h = within(a.stride_h, a.h, a.pad_h), a.stride_w = within(a.stride_w, a.w, a.pad_w);
  a.dilation_h = within(a.dilation_h, a.h, a.pad_h);
  a.dilation_w = within(a.dilation_w, a.w, a.pad_w);
  return a;
}

Tensor batched(const char* op, const Tensor& x) { return x.dim(op) == 3 ? unsqueeze(x, 0) : x; }
Tensor unbatched(const Tensor& y, const Tensor& like) {
  return like.dim() == 3 ? squeeze(y, Shape{0}) : y;
}

}  // namespace

std::tuple<Tensor, Tensor> max_pool2d_with_indices(const Tensor& input, Ints kernel_size,
                                                   OptInts stride, Ints padding, Ints dilation,
                                                   bool ceil_mode) {
  Tensor x = batched("max_pool2d", input);
  PoolAttrs a = attrs_for("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode);
  if (x.numel() && a.h * a.w > INT32_MAX)
    fail(ErrorKind::not_implemented,
         "max_pool2d: planes of {} x {} have 2^31 elements or more. Pool parts of them", a.h, a.w);
  Tensor out[2];
  apply(kMaxPool, &a, {&x, 1}, out);
  return {unbatched(out[0], input), unbatched(out[1], input)};
}
Tensor max_pool2d(const Tensor& input, Ints kernel_size, OptInts stride, Ints padding,
                  Ints dilation, bool ceil_mode) {
  return std::get<0>(
      max_pool2d_with_indices(input, kernel_size, stride, padding, dilation, ceil_mode));
}
Tensor avg_pool2d(const Tensor& input, Ints kernel_size, OptInts stride, Ints padding,
                  bool ceil_mode, bool count_include_pad, OptInt divisor_override) {
  if (divisor_override == 0) fail(ErrorKind::runtime, "avg_pool2d: divisor_override must not be 0");
  Tensor x = batched("avg_pool2d", input);
  PoolAttrs a = attrs_for("avg_pool2d", x, kernel_size, stride, padding, Shape{1}, ceil_mode);
  a.include_pad = count_include_pad;
  a.divisor = divisor_override.value_or(0);
  return unbatched(apply(kAvgPool, a, {x}), input);
}

namespace {

/// [.., c, l] as [.., c, 1, l].
Shape flat_window(const char* op, Ints v, int64_t one) {
  if (v.size() != 1)
    fail(ErrorKind::runtime, "{}: window arguments are one integer, got {}", op, shape_text(v));
  return Shape{one, v[0]};
}

Tensor flat_input(const char* op, const Tensor& x) {
  if ((x.dim(op) != 2 && x.dim() != 3) || !is_floating(x.dtype()))
    fail(ErrorKind::runtime, "{}: needs a floating tensor [n, c, l] or [c, l], got {}", op,
         type_text(x));
  return unsqueeze(x, -2);
}

}  // namespace

std::tuple<Tensor, Tensor> max_pool1d_with_indices(const Tensor& input, Ints kernel_size,
                                                   OptInts stride, Ints padding, Ints dilation,
                                                   bool ceil_mode) {
  constexpr const char* op = "max_pool1d";
  auto [y, place] = max_pool2d_with_indices(
      flat_input(op, input), flat_window(op, kernel_size, 1),
      flat_window(op, stride && !stride->empty() ? *stride : kernel_size, 1),
      flat_window(op, padding, 0), flat_window(op, dilation, 1), ceil_mode);
  return {squeeze(y, Shape{-2}), squeeze(place, Shape{-2})};
}
Tensor max_pool1d(const Tensor& input, Ints kernel_size, OptInts stride, Ints padding,
                  Ints dilation, bool ceil_mode) {
  return std::get<0>(
      max_pool1d_with_indices(input, kernel_size, stride, padding, dilation, ceil_mode));
}
Tensor avg_pool1d(const Tensor& input, Ints kernel_size, OptInts stride, Ints padding,
                  bool ceil_mode, bool count_include_pad) {
  constexpr const char* op = "avg_pool1d";
  return squeeze(avg_pool2d(flat_input(op, input), flat_window(op, kernel_size, 1),
                            flat_window(op, stride && !stride->empty() ? *stride : kernel_size, 1),
                            flat_window(op, padding, 0), ceil_mode, count_include_pad),
                 Shape{-2});
}

namespace {

OpDef* const kOps[] = {&kMaxPool, &kMaxPoolGradient, &kAvgPool, &kAvgPoolGradient};

const Function kFunctions[] = {
    {"max_pool2d(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, int[] dilation=1, bool ceil_mode=False) -> Tensor",
     "The largest element of each window; NaN wins.", kFunction | kNN, thunk<&max_pool2d>},
    {"max_pool2d_with_indices(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, int[] dilation=1, bool ceil_mode=False) -> (Tensor output, Tensor indices)",
     "max_pool2d and the flat place of each maximum in its plane.", kFunction | kNN,
     thunk<&max_pool2d_with_indices>},
    {"avg_pool2d(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, bool ceil_mode=False, bool count_include_pad=True, int? divisor_override=None) -> Tensor",
     "The mean of each window.", kFunction | kNN, thunk<&avg_pool2d>},
    {"max_pool1d(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, int[] dilation=1, bool ceil_mode=False) -> Tensor",
     "The largest element of each window of the last dim.", kFunction | kNN, thunk<&max_pool1d>},
    {"max_pool1d_with_indices(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, int[] dilation=1, bool ceil_mode=False) -> (Tensor output, Tensor indices)",
     "max_pool1d and the place of each maximum.", kFunction | kNN, thunk<&max_pool1d_with_indices>},
    {"avg_pool1d(Tensor input, int[] kernel_size, int[]? stride=None, int[] padding=0, bool ceil_mode=False, bool count_include_pad=True) -> Tensor",
     "The mean of each window of the last dim.", kFunction | kNN, thunk<&avg_pool1d>},
};

}  // namespace

extern const OpFile pool_ops;
const OpFile pool_ops{kOps, kFunctions};

}  // namespace fluxion
