// Sliding windows: Tensor.unfold, and patches of images as columns.
#include "base/checked.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/pad.h"
#include "ops/requirements.h"
#include "ops/views.h"

namespace fluxion {

namespace {

struct UnfoldAttrs {
  int64_t dim, size, step;
};
constexpr Field kFields[] = {
    {"dim", FieldKind::integer, offsetof(UnfoldAttrs, dim), "the dim that windows slide along"},
    {"size", FieldKind::integer, offsetof(UnfoldAttrs, size),
     "elements of a window, a new last dim"},
    {"step", FieldKind::integer, offsetof(UnfoldAttrs, step), "distance of windows"},
};

int64_t window_count(int64_t n, const UnfoldAttrs& a) { return (n - a.size) / a.step + 1; }

void infer_unfold(const TypeRule& t) {
  const auto& a = t.attrs<UnfoldAttrs>();
  require_dim(t, a.dim, t.in[0].shape.size());
  require(t, a.size >= 0 && a.size <= t.in[0].shape[a.dim], "a window must lie within its dim");
  require(t, a.step > 0 && moderate(a.step), "the step must be positive");
  require_rank(t, 0, 1, kMaxRank - 1);
  t.out[0] = {t.in[0].dtype, false, t.in[0].shape};
  t.out[0].shape[a.dim] = window_count(t.in[0].shape[a.dim], a);
  t.out[0].shape.push_back(a.size);
}

void eval_unfold(const Eval& e) {
  const auto& a = e.attrs<UnfoldAttrs>();
  const Tensor& x = e.in[0];
  Shape sizes(x.sizes()), strides(x.strides());
  sizes.push_back(a.size);
  strides.push_back(strides[a.dim]);
  sizes[a.dim] = window_count(sizes[a.dim], a);
  strides[a.dim] = stride_of(strides[a.dim], a.step);
  Tensor view = make_view(x, sizes, strides, 0);
  if (e.out[0].defined()) copy_elements(view, e.out[0]);
  else e.out[0] = view;
}

/// places[window, k]: where element k of a window stands.
Tensor window_places(int64_t windows, int64_t size, int64_t step, int64_t dilation) {
  Tensor places = empty(Shape{windows, size}, DType::i64);
  auto* to = places.data<int64_t>();
  if (places.numel() == 0) return places;
  for (int64_t w = 0; w < windows; ++w)
    for (int64_t k = 0; k < size; ++k) *to++ = w * step + k * dilation;
  return places;
}

/// Zeros of a shape with windows [..., window, k, ...] added where they stand in dim.
Tensor add_windows(const Tensor& windows, Ints shape, int64_t dim, const Tensor& places) {
  return put_at(expand(zeros({}, windows.dtype()), shape), {{dim}, 1}, {&places, 1}, windows);
}

void vjp_unfold(const Vjp& v) {
  const auto& a = v.attrs<UnfoldAttrs>();
  Tensor g = movedim(v.grad[0], Shape{-1}, Shape{a.dim + 1});
  Ints shape = v.in[0].sizes();
  v.result[0] =
      add_windows(g, shape, a.dim, window_places(window_count(shape[a.dim], a), a.size, a.step, 1));
}

void unfold_samples(const OpDef&, SampleSink& sink) {
  for (const UnfoldAttrs& a : {UnfoldAttrs{0, 3, 1}, UnfoldAttrs{1, 2, 3}}) {
    SampleSink::Input in{Shape{5, 6}};
    sink.add({&in, 1}, &a, sizeof a);
  }
}

}  // namespace

constinit OpDef kUnfold{
    .name = "unfold",
    .doc = "A view of the windows that slide along a dim; a window is the last dim.",
    .view = true,
    .space = Space::window,
    .attr_bytes = sizeof(UnfoldAttrs),
    .fields = kFields,
    .infer = infer_unfold,
    .eval = eval_unfold,
    .vjp = vjp_unfold,
    .cost = [](std::span<const Type>, const void*) { return 0.0; },
    .samples = unfold_samples};

Tensor unfold(const Tensor& x, int64_t dimension, int64_t size, int64_t step) {
  Tensor in = x.dim() ? x : reshape(x, Shape{1});
  int64_t dim = wrap_dim(dimension, in.dim(), "unfold"), n = in.sizes()[dim];
  if (size < 0 || size > n)
    fail(ErrorKind::runtime, "unfold: a window of size {} does not fit dim {} of size {}", size,
         dim, n);
  if (step < 1) fail(ErrorKind::runtime, "unfold: the step must be positive, got {}", step);
  return apply(kUnfold, UnfoldAttrs{dim, size, step}, {in});
}

namespace {

/// One number, or one per spatial dim.
struct Pair {
  int64_t v[2];
  Pair(const char* op, const char* what, Ints given, int64_t least) {
    if (given.size() != 1 && given.size() != 2)
      fail(ErrorKind::runtime, "{}: {} must be one or two ints, got {}", op, what,
           shape_text(given));
    for (size_t i = 0; i < 2; ++i) {
      v[i] = given[given.size() == 1 ? 0 : i];
      if (v[i] < least)
        fail(ErrorKind::runtime, "{}: {} must be at least {}, got {}", op, what, least,
             shape_text(given));
    }
  }
};

struct Blocks {
  Pair kernel, dilation, padding, stride;
  int64_t count[2] = {};

  Blocks(const char* op, Ints k, Ints d, Ints p, Ints s, Ints size)
      : kernel(op, "kernel_size", k, 1),
        dilation(op, "dilation", d, 1),
        padding(op, "padding", p, 0),
        stride(op, "stride", s, 1) {
    for (int i = 0; i < 2; ++i) {
      int64_t reach = checked_add(checked_mul(dilation.v[i], kernel.v[i] - 1), 1),
              room = checked_add(size[i], checked_mul(2, padding.v[i]));
      if (reach > room)
        fail(ErrorKind::runtime, "{}: a block of reach {} does not fit size {} with padding {}", op,
             reach, size[i], padding.v[i]);
      count[i] = (room - reach) / stride.v[i] + 1;
    }
  }
  Tensor places(int i) const {  // [kernel, count]
    return transpose(window_places(count[i], kernel.v[i], stride.v[i], dilation.v[i]), 0, 1);
  }
};

}  // namespace

Tensor unfold(const Tensor& x, Ints kernel_size, Ints dilation, Ints padding, Ints stride) {
  if (x.dim() != 3 && x.dim() != 4)
    fail(ErrorKind::runtime, "unfold: needs (N, C, H, W) or (C, H, W), got shape {}",
         shape_text(x.sizes()));
  if (x.dim() == 3)
    return select(unfold(unsqueeze(x, 0), kernel_size, dilation, padding, stride), 0, 0);
  Blocks b("unfold", kernel_size, dilation, padding, stride, x.sizes().subspan(2));
  Tensor y = pad(x, Shape{b.padding.v[1], b.padding.v[1], b.padding.v[0], b.padding.v[0]});
  Tensor rows = b.places(0), columns = b.places(1);
  y = index_at(y, {2}, {&rows, 1});     // N C kh bh W
  y = index_at(y, {4}, {&columns, 1});  // N C kh bh kw bw
  y = permute(y, Shape{0, 1, 2, 4, 3, 5});
  int64_t block = checked_mul(b.kernel.v[0], b.kernel.v[1]);
  return reshape(y, Shape{x.sizes()[0], checked_mul(x.sizes()[1], block),
                          checked_mul(b.count[0], b.count[1])});
}

Tensor fold(const Tensor& x, Ints output_size, Ints kernel_size, Ints dilation, Ints padding,
            Ints stride) {
  if (x.dim() != 2 && x.dim() != 3)
    fail(ErrorKind::runtime, "fold: needs (N, C * block, L) or (C * block, L), got shape {}",
         shape_text(x.sizes()));
  if (x.dim() == 2)
    return select(fold(unsqueeze(x, 0), output_size, kernel_size, dilation, padding, stride), 0, 0);
  Pair size("fold", "output_size", output_size, 1);
  Blocks b("fold", kernel_size, dilation, padding, stride, size.v);
  int64_t block = checked_mul(b.kernel.v[0], b.kernel.v[1]), n = x.sizes()[0],
          blocks = checked_mul(b.count[0], b.count[1]), channels = x.sizes()[1] / block;
  if (x.sizes()[1] % block || x.sizes()[2] != blocks)
    fail(ErrorKind::runtime, "fold: needs (N, C * {}, {}) for these sizes, got shape {}", block,
         blocks, shape_text(x.sizes()));
  int64_t height = size.v[0] + 2 * b.padding.v[0], width = size.v[1] + 2 * b.padding.v[1];
  Tensor y = reshape(x, Shape{n, channels, b.kernel.v[0], b.kernel.v[1], b.count[0], b.count[1]});
  y = permute(y, Shape{0, 1, 2, 4, 3, 5});
  y = add_windows(y, Shape{n, channels, b.kernel.v[0], b.count[0], width}, 4, b.places(1));
  y = add_windows(y, Shape{n, channels, height, width}, 2, b.places(0));
  return pad(y, Shape{-b.padding.v[1], -b.padding.v[1], -b.padding.v[0], -b.padding.v[0]});
}

namespace {

OpDef* const kOps[] = {&kUnfold};

using Windows = Tensor (*)(const Tensor&, int64_t, int64_t, int64_t);
using Columns = Tensor (*)(const Tensor&, Ints, Ints, Ints, Ints);

const Function kFunctions[] = {
    {"unfold(Tensor input, int dimension, int size, int step) -> Tensor",
     "A view of all windows of `size` elements along a dim, `step` apart; a window is the last dim.",
     kMethod, thunk<static_cast<Windows>(&unfold)>},
    {"unfold(Tensor input, int[] kernel_size, int[] dilation=1, int[] padding=0, int[] stride=1) -> Tensor",
     "Blocks of images (N, C, H, W) as columns (N, C * kh * kw, L).", kNN,
     thunk<static_cast<Columns>(&unfold)>},
    {"fold(Tensor input, int[] output_size, int[] kernel_size, int[] dilation=1, int[] padding=0, int[] stride=1) -> Tensor",
     "Columns (N, C * kh * kw, L) summed into images (N, C, H, W).", kNN, thunk<&fold>},
};

}  // namespace

extern const OpFile window_ops;
const OpFile window_ops{kOps, kFunctions};

}  // namespace fluxion
