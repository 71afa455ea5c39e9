#include "ops/views.h"

#include <algorithm>

#include "base/checked.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/promotion.h"
#include "ops/region.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"

namespace fluxion {

Tensor make_view(const Tensor& t, Ints sizes, Ints strides, int64_t offset) {
  Impl* p = new_impl(t.dtype(), static_cast<int>(sizes.size()));
  Tensor out{Ref<Impl>::adopt(p)};
  std::copy(sizes.begin(), sizes.end(), p->sizes());
  std::copy(strides.begin(), strides.end(), p->strides());
  Impl& from = *t.impl();
  p->storage = from.storage;
  p->data = from.data + offset * size_of(from.dtype);
  p->base = from.base && from.base->storage == from.storage ? from.base : t.ref();
  p->flags = from.flags & (kWeak | kInference | kNoGradView);
  if (!thread_state().grad_enabled) p->flags |= kNoGradView;
  refresh_geometry(*p);
  return out;
}

bool view_strides(Ints sizes, Ints strides, Ints shape, int64_t* out) {
  int64_t d = static_cast<int64_t>(shape.size()) - 1;
  int64_t numel = element_count(sizes);
  if (numel == 0) {
    Shape s = row_major_strides(shape);
    std::copy(s.begin(), s.end(), out);
    return true;
  }
  int64_t chunk_stride = sizes.empty() ? 1 : strides.back(), chunk = 1, viewed = 1;
  for (int64_t i = static_cast<int64_t>(sizes.size()) - 1; i >= 0; --i) {
    chunk *= sizes[i];
    bool ends = i == 0 || (sizes[i - 1] != 1 && strides[i - 1] != chunk * chunk_stride);
    if (!ends) continue;
    while (d >= 0 && (viewed < chunk || shape[d] == 1)) {
      out[d] = viewed * chunk_stride;
      viewed *= shape[d--];
    }
    if (viewed != chunk) return false;
    if (i > 0) {
      chunk_stride = strides[i - 1];
      chunk = viewed = 1;
    }
  }
  for (; d >= 0; --d) out[d] = viewed * chunk_stride;  // leading ones
  return true;
}

namespace {

void check_rank(size_t rank) {
  if (rank > kMaxRank)
    fail(ErrorKind::runtime, "a tensor may have at most {} dims, got {}", kMaxRank, rank);
}

}  // namespace

Shape resolve_shape(const char* op, Ints shape, int64_t numel, Ints from) {
  check_rank(shape.size());
  Shape out(shape);
  int64_t known = 1;
  int unknown = -1;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == -1 && unknown < 0) {
      unknown = static_cast<int>(i);
    } else if (shape[i] < 0) {
      fail(ErrorKind::runtime, "{}: shape {} may hold one -1 and no other negative size", op,
           shape_text(shape));
    } else {
      known = checked_mul(known, shape[i]);
    }
  }
  if (unknown >= 0 && known != 0 && numel % known == 0) out[unknown] = numel / known;
  else if (unknown >= 0 || known != numel)
    fail(ErrorKind::runtime, "{}: shape {} does not fit a tensor of shape {} with {} elements", op,
         shape_text(shape), shape_text(from), numel);
  return out;
}

namespace {

struct ShapeAttrs {
  Dims shape;
};
constexpr Field kShapeFields[] = {
    {"shape", FieldKind::dims, offsetof(ShapeAttrs, shape), "sizes of the result"}};
struct PermuteAttrs {
  Dims dims;
};
constexpr Field kPermuteFields[] = {
    {"dims", FieldKind::dims, offsetof(PermuteAttrs, dims), "source dim of each result dim"}};
struct SliceAttrs {
  int64_t dim, start, length, step;
};
constexpr Field kSliceFields[] = {
    {"dim", FieldKind::integer, offsetof(SliceAttrs, dim), "sliced dim"},
    {"start", FieldKind::integer, offsetof(SliceAttrs, start), "first index"},
    {"length", FieldKind::integer, offsetof(SliceAttrs, length), "number of indices"},
    {"step", FieldKind::integer, offsetof(SliceAttrs, step),
     "distance of indices, may be negative"},
};
struct SelectAttrs {
  int64_t dim, index;
};
constexpr Field kSelectFields[] = {
    {"dim", FieldKind::integer, offsetof(SelectAttrs, dim), "removed dim"},
    {"index", FieldKind::integer, offsetof(SelectAttrs, index), "position in it"}};

void deliver(const Eval& e, const Tensor& view) { deliver(e.out[0], view, view.dtype()); }

void infer_shape(const TypeRule& t) {
  t.out[0] = {t.in[0].dtype, t.in[0].weak, Shape(t.attrs<ShapeAttrs>().shape)};
}

void infer_reshape(const TypeRule& t) {
  Ints shape = t.attrs<ShapeAttrs>().shape;
  require(t, std::ranges::all_of(shape, [](int64_t s) { return s >= 0; }),
          "sizes must not be negative");
  require(t, element_count(shape) == element_count(t.in[0].shape),
          "the shape must have as many elements as the input");
  infer_shape(t);
}

void infer_expand(const TypeRule& t) {
  require(t, broadcasts_to(t.in[0].shape, t.attrs<ShapeAttrs>().shape),
          "only dims of size 1 expand");
  infer_shape(t);
}

/// As view_strides; a row-major tensor always fits.
bool strides_as(const Tensor& x, Ints shape, int64_t* out) {
  if (!x.is_contiguous()) return view_strides(x.sizes(), x.strides(), shape, out);
  int64_t n = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    out[d] = n;
    n *= std::max<int64_t>(shape[d], 1);
  }
  return true;
}

void eval_reshape(const Eval& e) {
  const Tensor& x = e.in[0];
  const Dims& shape = e.attrs<ShapeAttrs>().shape;
  int64_t strides[kMaxRank];
  bool fits = strides_as(x, shape, strides);
  invariant(fits, "reshape of a tensor that needs a copy");
  deliver(e, make_view(x, shape, {strides, shape.size()}, 0));
}

void eval_expand(const Eval& e) {
  const Tensor& x = e.in[0];
  const Dims& shape = e.attrs<ShapeAttrs>().shape;
  int64_t strides[kMaxRank];
  size_t missing = shape.size() - x.dim();
  for (size_t d = 0; d < shape.size(); ++d)
    strides[d] = d < missing || (x.sizes()[d - missing] == 1 && shape[d] != 1)
                     ? 0
                     : x.strides()[d - missing];
  deliver(e, make_view(x, shape, {strides, shape.size()}, 0));
}

void infer_permute(const TypeRule& t) {
  Dims dims = t.attrs<PermuteAttrs>().dims;
  std::sort(dims.v, dims.v + dims.n);
  require_ascending(t, dims, t.in[0].shape.size());
  require(t, dims.size() == t.in[0].shape.size(), "every dim must be named once");
  Shape s;
  for (int64_t d : Ints(t.attrs<PermuteAttrs>().dims)) s.push_back(t.in[0].shape[d]);
  t.out[0] = {t.in[0].dtype, t.in[0].weak, s};
}

void eval_permute(const Eval& e) {
  const Tensor& x = e.in[0];
  int64_t sizes[kMaxRank], strides[kMaxRank];
  size_t n = 0;
  for (int64_t d : Ints(e.attrs<PermuteAttrs>().dims)) {
    sizes[n] = x.sizes()[d];
    strides[n++] = x.strides()[d];
  }
  deliver(e, make_view(x, {sizes, n}, {strides, n}, 0));
}

void vjp_permute(const Vjp& v) {
  const Dims& dims = v.attrs<PermuteAttrs>().dims;
  PermuteAttrs inverse{dims};
  for (size_t i = 0; i < dims.size(); ++i) inverse.dims.v[dims[i]] = static_cast<int64_t>(i);
  v.result[0] = apply(v.op, inverse, {v.grad[0]});
}

void infer_slice(const TypeRule& t) {
  const auto& a = t.attrs<SliceAttrs>();
  require_dim(t, a.dim, t.in[0].shape.size());
  auto last = static_cast<__int128>(a.start) + static_cast<__int128>(a.length - 1) * a.step;
  int64_t n = t.in[0].shape[a.dim];
  require(t, a.length >= 0 && a.step != 0 && moderate(a.step), "no slice of a tensor");
  require(t, a.length == 0 || (a.start >= 0 && a.start < n && last >= 0 && last < n),
          "the slice must lie within its dim");
  t.out[0] = t.in[0];
  t.out[0].shape[a.dim] = a.length;
}

void eval_slice(const Eval& e) {
  const auto& a = e.attrs<SliceAttrs>();
  const Tensor& x = e.in[0];
  int64_t sizes[kMaxRank], strides[kMaxRank];
  std::ranges::copy(x.sizes(), sizes);
  std::ranges::copy(x.strides(), strides);
  int64_t offset = a.length ? a.start * strides[a.dim] : 0;
  sizes[a.dim] = a.length;
  strides[a.dim] = stride_of(strides[a.dim], a.step);
  size_t n = x.dim();
  deliver(e, make_view(x, {sizes, n}, {strides, n}, offset));
}

void vjp_slice(const Vjp& v) {
  const auto& a = v.attrs<SliceAttrs>();
  Shape strides = row_major_strides(v.in[0].sizes());
  int64_t offset = a.length ? a.start * strides[a.dim] : 0;
  strides[a.dim] = stride_of(strides[a.dim], a.step);
  v.result[0] = embed(v.grad[0], v.in[0].sizes(), strides, offset);
}

void infer_select(const TypeRule& t) {
  const auto& a = t.attrs<SelectAttrs>();
  require_dim(t, a.dim, t.in[0].shape.size());
  require(t, a.index >= 0 && a.index < t.in[0].shape[a.dim], "the index must lie within its dim");
  t.out[0] = t.in[0];
  t.out[0].shape.erase(t.attrs<SelectAttrs>().dim);
}

void eval_select(const Eval& e) {
  const auto& a = e.attrs<SelectAttrs>();
  const Tensor& x = e.in[0];
  int64_t sizes[kMaxRank], strides[kMaxRank];
  size_t n = 0;
  for (int d = 0; d < x.dim(); ++d) {
    if (d == a.dim) continue;
    sizes[n] = x.sizes()[d];
    strides[n++] = x.strides()[d];
  }
  deliver(e, make_view(x, {sizes, n}, {strides, n}, a.index * x.strides()[a.dim]));
}

void vjp_select(const Vjp& v) {
  const auto& a = v.attrs<SelectAttrs>();
  Shape strides = row_major_strides(v.in[0].sizes());
  int64_t offset = a.index * strides[a.dim];
  strides.erase(a.dim);
  v.result[0] = embed(v.grad[0], v.in[0].sizes(), strides, offset);
}

double free_cost(std::span<const Type>, const void*) { return 0; }

void view_samples(const OpDef& op, SampleSink& sink);

constexpr OpDef view_op(OpDef d) {
  d.view = true;
  d.space = Space::movement;
  d.cost = free_cost;
  d.samples = view_samples;
  return d;
}

}  // namespace

constinit OpDef kReshape =
    view_op({.name = "reshape",
             .doc = "The same elements in row-major order under another shape.",
             .attr_bytes = sizeof(ShapeAttrs),
             .fields = kShapeFields,
             .infer = infer_reshape,
             .eval = eval_reshape,
             .vjp = [](const Vjp& v) { v.result[0] = reshape(v.grad[0], v.in[0].sizes()); }});
constinit OpDef kExpand =
    view_op({.name = "expand",
             .doc = "Broadcast to a larger shape.",
             .attr_bytes = sizeof(ShapeAttrs),
             .fields = kShapeFields,
             .infer = infer_expand,
             .eval = eval_expand,
             .vjp = [](const Vjp& v) { v.result[0] = sum_to_size(v.grad[0], v.in[0].sizes()); }});
constinit OpDef kPermute = view_op({.name = "permute",
                                    .doc = "Dims in another order.",
                                    .attr_bytes = sizeof(PermuteAttrs),
                                    .fields = kPermuteFields,
                                    .infer = infer_permute,
                                    .eval = eval_permute,
                                    .vjp = vjp_permute});
constinit OpDef kSlice = view_op({.name = "slice",
                                  .doc = "Every step-th index of a dim from start on.",
                                  .attr_bytes = sizeof(SliceAttrs),
                                  .fields = kSliceFields,
                                  .infer = infer_slice,
                                  .eval = eval_slice,
                                  .vjp = vjp_slice});
constinit OpDef kSelectIndex = view_op({.name = "select",
                                        .doc = "One index of a dim; the dim vanishes.",
                                        .attr_bytes = sizeof(SelectAttrs),
                                        .fields = kSelectFields,
                                        .infer = infer_select,
                                        .eval = eval_select,
                                        .vjp = vjp_select});

namespace {

void view_samples(const OpDef& op, SampleSink& sink) {
  SampleSink::Input x{Shape{4, 6}};
  auto add = [&](const auto& attrs) { sink.add({&x, 1}, &attrs, sizeof attrs); };
  if (&op == &kReshape) {
    add(ShapeAttrs{{3, 8}});
    add(ShapeAttrs{{24}});
  } else if (&op == &kExpand) {
    add(ShapeAttrs{{2, 4, 6}});
  } else if (&op == &kPermute) {
    add(PermuteAttrs{{1, 0}});
  } else if (&op == &kSlice) {
    add(SliceAttrs{1, 1, 2, 2});
    add(SliceAttrs{0, 3, 4, -1});
  } else {
    add(SelectAttrs{0, 2});
  }
}

}  // namespace

Tensor view_as(const Tensor& x, const Tensor& other) { return view(x, other.sizes()); }

Tensor view(const Tensor& x, Ints size) {
  Shape shape = resolve_shape("view", size, x.numel(), x.sizes());
  int64_t strides[kMaxRank];
  if (!strides_as(x, shape, strides))
    fail(
        ErrorKind::runtime,
        "view: a tensor of shape {} with strides {} cannot be viewed as {} without a copy. Use reshape() instead",
        shape_text(x.sizes()), shape_text(x.strides()), shape_text(shape));
  return apply(kReshape, ShapeAttrs{Ints(shape)}, {x});
}

Tensor reshape(const Tensor& x, Ints shape) {
  Shape to = resolve_shape("reshape", shape, x.numel(), x.sizes());
  int64_t strides[kMaxRank];
  const Tensor& source = strides_as(x, to, strides) ? x : contiguous(x);
  return apply(kReshape, ShapeAttrs{Ints(to)}, {source});
}
Tensor reshape_as(const Tensor& x, const Tensor& other) { return reshape(x, other.sizes()); }

Tensor expand(const Tensor& x, Ints size) {
  if (size.size() < static_cast<size_t>(x.dim()))
    fail(ErrorKind::runtime, "expand: {} has fewer dims than the tensor's shape {}",
         shape_text(size), shape_text(x.sizes()));
  ShapeAttrs a{size};
  size_t missing = size.size() - x.dim();
  for (size_t d = 0; d < size.size(); ++d) {
    int64_t have = d < missing ? 1 : x.sizes()[d - missing];
    if (size[d] == -1 && d >= missing) a.shape.v[d] = have;
    else if (size[d] < 0 || (have != 1 && have != size[d]))
      fail(
          ErrorKind::runtime,
          "expand: size {} of dim {} does not match the tensor's size {}; only dims of size 1 expand "
          "(tensor {}, wanted {})",
          size[d], d, have, shape_text(x.sizes()), shape_text(size));
  }
  return apply(kExpand, a, {x});
}
Tensor expand_as(const Tensor& x, const Tensor& other) { return expand(x, other.sizes()); }
Tensor broadcast_to(const Tensor& x, Ints size) { return expand(x, size); }

Tensor permute(const Tensor& x, Ints dims) {
  if (static_cast<int>(dims.size()) != x.dim())
    fail(ErrorKind::runtime, "permute: {} names {} dims, the tensor has {}", shape_text(dims),
         dims.size(), x.dim());
  PermuteAttrs a{dims};
  uint32_t seen = 0;
  for (size_t i = 0; i < dims.size(); ++i) {
    int64_t d = a.dims.v[i] = wrap_dim(dims[i], x.dim(), "permute");
    if (seen >> d & 1)
      fail(ErrorKind::runtime, "permute: dim {} is named twice in {}", d, shape_text(dims));
    seen |= 1u << d;
  }
  return apply(kPermute, a, {x});
}

Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1) {
  int64_t a = wrap_dim(dim0, x.dim(), "transpose"), b = wrap_dim(dim1, x.dim(), "transpose");
  PermuteAttrs p;
  p.dims.n = static_cast<uint8_t>(x.dim());
  for (int64_t i = 0; i < x.dim(); ++i) p.dims.v[i] = i == a ? b : i == b ? a : i;
  return apply(kPermute, p, {x});
}
Tensor t(const Tensor& x) {
  if (x.dim() > 2)
    fail(ErrorKind::runtime, "t: needs at most 2 dims, got shape {}; use transpose() or mT",
         shape_text(x.sizes()));
  return x.dim() < 2 ? identity(x) : transpose(x, 0, 1);
}
Tensor movedim(const Tensor& x, Ints source, Ints destination) {
  if (source.size() != destination.size())
    fail(ErrorKind::runtime, "movedim: source {} and destination {} must be equally long",
         shape_text(source), shape_text(destination));
  Shape order(std::max(x.dim(), 1), -1);
  uint32_t moved = 0;
  for (size_t i = 0; i < source.size(); ++i) {
    int64_t from = wrap_dim(source[i], x.dim(), "movedim"),
            to = wrap_dim(destination[i], x.dim(), "movedim");
    if (order[to] >= 0 || moved >> from & 1)
      fail(ErrorKind::runtime, "movedim: repeated dim in source or destination");
    order[to] = from;
    moved |= 1u << from;
  }
  if (x.dim() == 0) return identity(x);
  int64_t next = 0;
  for (int64_t& d : order) {
    if (d >= 0) continue;
    while (moved >> next & 1) ++next;
    d = next++;
  }
  return permute(x, order);
}

Tensor unsqueeze(const Tensor& x, int64_t dim) {
  int64_t rank = x.dim(), d = dim < 0 ? dim + rank + 1 : dim;
  if (d < 0 || d > rank)
    fail(ErrorKind::index,
         "unsqueeze: dim {} is out of range for a tensor of rank {}; expected {} to {}", dim, rank,
         -rank - 1, rank);
  check_rank(static_cast<size_t>(rank) + 1);
  ShapeAttrs a{x.sizes()};
  ++a.shape.n;
  for (int64_t i = x.dim(); i > d; --i) a.shape.v[i] = a.shape.v[i - 1];
  a.shape.v[d] = 1;
  return apply(kReshape, a, {x});
}
Tensor squeeze(const Tensor& x, OptInts dim) {
  uint32_t drop = dim ? 0 : ~0u;
  if (dim)
    for (int64_t d : *dim) drop |= 1u << wrap_dim(d, x.dim(), "squeeze");
  ShapeAttrs a{};
  for (int i = 0; i < x.dim(); ++i)
    if (x.sizes()[i] != 1 || !(drop >> i & 1)) a.shape.v[a.shape.n++] = x.sizes()[i];
  return apply(kReshape, a, {x});
}
Tensor flatten(const Tensor& x, int64_t start_dim, int64_t end_dim) {
  int64_t first = wrap_dim(start_dim, x.dim(), "flatten"),
          last = wrap_dim(end_dim, x.dim(), "flatten");
  if (first > last)
    fail(ErrorKind::runtime, "flatten: start_dim {} must not come after end_dim {}", start_dim,
         end_dim);
  if (x.dim() == 0) return reshape(x, Shape{1});
  Shape shape;
  int64_t joined = 1;
  for (int64_t i = 0; i < x.dim(); ++i) {
    if (i < first || i > last) shape.push_back(x.sizes()[i]);
    else if (joined = checked_mul(joined, x.sizes()[i]); i == last) shape.push_back(joined);
  }
  return reshape(x, shape);
}
Tensor unflatten(const Tensor& x, int64_t dim, Ints sizes) {
  if (x.dim() == 0) fail(ErrorKind::index, "unflatten: a 0-dim tensor has no dim to split");
  int64_t d = wrap_dim(dim, x.dim(), "unflatten");
  Shape inner = resolve_shape("unflatten", sizes, x.sizes()[d], Ints(&x.sizes()[d], 1)), shape;
  for (int64_t i = 0; i < x.dim(); ++i) {
    if (i != d) shape.push_back(x.sizes()[i]);
    else
      for (int64_t s : inner) shape.push_back(s);
  }
  return view(x, shape);
}
Tensor ravel(const Tensor& x) { return reshape(contiguous(x), Shape{-1}); }

Tensor select(const Tensor& x, int64_t dim, int64_t index) {
  if (x.dim() == 0)
    fail(ErrorKind::index,
         "select: a 0-dim tensor has no dim to index; use x.item() for its value");
  int64_t d = wrap_dim(dim, x.dim(), "select"), n = x.sizes()[d];
  if (index < -n || index >= n)
    fail(ErrorKind::index, "index {} is out of range for dim {} of size {}", index, d, n);
  return apply(kSelectIndex, SelectAttrs{d, index < 0 ? index + n : index}, {x});
}

Tensor slice(const Tensor& x, int64_t dim, OptInt start, OptInt stop, int64_t step) {
  if (x.dim() == 0) fail(ErrorKind::index, "slice: a 0-dim tensor has no dim to slice");
  if (step == 0) fail(ErrorKind::value, "slice: step must not be 0");
  int64_t d = wrap_dim(dim, x.dim(), "slice"), n = x.sizes()[d];
  int64_t lowest = step > 0 ? 0 : -1, highest = step > 0 ? n : n - 1;
  auto bound = [&](OptInt given, int64_t fallback) {
    if (!given) return fallback;
    int64_t v = *given < 0 ? *given + n : *given;
    return std::clamp(v, lowest, highest);
  };
  int64_t from = bound(start, step > 0 ? 0 : n - 1), to = bound(stop, step > 0 ? n : -1);
  int64_t way = step > 0 ? to - from : from - to, length = way > 0 ? 1 : 0;
  uint64_t pace = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  if (way > 0) length += static_cast<int64_t>(static_cast<uint64_t>(way - 1) / pace);
  return apply(kSlice, SliceAttrs{d, from, length, step}, {x});
}
Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length) {
  int64_t d = wrap_dim(dim, x.dim(), "narrow"), n = x.sizes()[d];
  int64_t from = start < 0 ? start + n : start;
  if (length < 0 || from < 0 || from > n || length > n - from)
    fail(ErrorKind::runtime, "narrow: start {} and length {} exceed dim {} of size {}", start,
         length, d, n);
  return slice(x, d, from, from + length, 1);
}
Tensor detach(const Tensor& x) { return x.detach(); }

namespace {

OpDef* const kOps[] = {&kReshape, &kExpand, &kPermute, &kSlice, &kSelectIndex};

const Function kFunctions[] = {
    {"view(Tensor input, int... size) -> Tensor",
     "The same memory under another shape; raises if that needs a copy.", kMethod, thunk<&view>},
    {"view_as(Tensor input, Tensor other) -> Tensor", "view(other.shape).", kMethod,
     thunk<&view_as>},
    {"reshape(Tensor input, int... shape) -> Tensor",
     "Another shape; a view if possible, else a copy. One size may be -1.", kFunction | kMethod,
     thunk<&reshape>},
    {"reshape_as(Tensor input, Tensor other) -> Tensor", "reshape(other.shape).", kMethod,
     thunk<&reshape_as>},
    {"expand(Tensor input, int... size) -> Tensor",
     "Dims of size 1 repeated without copying; -1 keeps a size.", kMethod, thunk<&expand>},
    {"expand_as(Tensor input, Tensor other) -> Tensor", "expand(other.shape).", kMethod,
     thunk<&expand_as>},
    {"broadcast_to(Tensor input, int[] size) -> Tensor", "The tensor broadcast to a shape.",
     kFunction | kMethod, thunk<&broadcast_to>},
    {"permute(Tensor input, int... dims) -> Tensor", "A view with dims in the given order.",
     kFunction | kMethod, thunk<&permute>},
    {"transpose(Tensor input, int dim0, int dim1) -> Tensor", "A view with two dims exchanged.",
     kFunction | kMethod, thunk<&transpose>},
    {"swapaxes(Tensor input, int axis0, int axis1) -> Tensor", "transpose.", kFunction | kMethod,
     thunk<&transpose>},
    {"swapdims(Tensor input, int dim0, int dim1) -> Tensor", "transpose.", kFunction | kMethod,
     thunk<&transpose>},
    {"t(Tensor input) -> Tensor", "The transpose of a matrix.", kFunction | kMethod, thunk<&t>},
    {"movedim(Tensor input, int[] source, int[] destination) -> Tensor",
     "A view with dims moved to other places.", kFunction | kMethod, thunk<&movedim>},
    {"moveaxis(Tensor input, int[] source, int[] destination) -> Tensor", "movedim.",
     kFunction | kMethod, thunk<&movedim>},
    {"unsqueeze(Tensor input, int dim) -> Tensor", "A view with a dim of size 1 inserted.",
     kFunction | kMethod, thunk<&unsqueeze>},
    {"squeeze(Tensor input, int[]? dim=None) -> Tensor",
     "A view without (the given) dims of size 1.", kFunction | kMethod, thunk<&squeeze>},
    {"flatten(Tensor input, int start_dim=0, int end_dim=-1) -> Tensor",
     "Dims start_dim to end_dim joined into one.", kFunction | kMethod, thunk<&flatten>},
    {"unflatten(Tensor input, int dim, int[] sizes) -> Tensor", "One dim split into several.",
     kFunction | kMethod, thunk<&unflatten>},
    {"ravel(Tensor input) -> Tensor", "reshape(-1).", kFunction | kMethod, thunk<&ravel>},
    {"select(Tensor input, int dim, int index) -> Tensor",
     "A view at one index of a dim. Raises IndexError.", kFunction | kMethod, thunk<&select>},
    {"slice(Tensor input, int dim, int? start=None, int? stop=None, int step=1) -> Tensor",
     "A view of a Python slice of a dim; negative steps are views too.", kFunction | kPrivate,
     thunk<&slice>},
    {"narrow(Tensor input, int dim, int start, int length) -> Tensor",
     "A view of `length` indices from start on.", kFunction | kMethod, thunk<&narrow>},
    {"detach(Tensor input) -> Tensor", "The same memory without history.", kFunction | kMethod,
     thunk<&detach>},
};

}  // namespace

extern const OpFile view_ops;
const OpFile view_ops{kOps, kFunctions};

}  // namespace fluxion
