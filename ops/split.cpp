// Cutting a tensor into views.
#include "base/checked.h"
#include "ops/functions.h"

namespace fluxion {

namespace {

using List = std::vector<Tensor>;

int64_t dim_of(const char* op, const Tensor& x, int64_t dim) {
  if (x.dim(op) == 0) fail(ErrorKind::runtime, "{}: a 0-dim tensor cannot be cut", op);
  return wrap_dim(dim, x.dim(), op);
}

constexpr int64_t kMostViews = 1 << 24;  // a longer list only fills the memory
void check_count(const char* op, int64_t views) {
  if (views > kMostViews)
    fail(ErrorKind::runtime, "{}: {} views are more than a list may hold, {}", op, views,
         kMostViews);
}

/// Views between ascending bounds.
List between(const Tensor& x, int64_t axis, Ints bounds) {
  List parts;
  for (size_t i = 0; i + 1 < bounds.size(); ++i)
    parts.push_back(narrow(x, axis, bounds[i], std::max<int64_t>(0, bounds[i + 1] - bounds[i])));
  return parts;
}

/// hsplit, vsplit and dsplit: an axis, or an error for too few dims.
int64_t axis_for(const char* op, const Tensor& x, int least, int64_t axis) {
  if (x.dim(op) < least)
    fail(ErrorKind::runtime, "{}: needs at least {} dims, got shape {}", op, least,
         shape_text(x.sizes()));
  return axis;
}

int64_t even(const char* op, const Tensor& x, int64_t axis, int64_t sections) {
  if (sections < 1 || x.sizes()[axis] % sections)
    fail(ErrorKind::runtime,
         "{}: dim {} of size {} cannot be cut into {} equal parts. Use tensor_split()", op, axis,
         x.sizes()[axis], sections);
  return sections;
}

}  // namespace

List split(const Tensor& x, int64_t split_size, int64_t dim) {
  int64_t axis = dim_of("split", x, dim), n = x.sizes()[axis];
  if (split_size < 0 || (split_size == 0 && n))
    fail(ErrorKind::runtime, "split: the size of a part must be positive, got {}", split_size);
  int64_t count = n ? (n - 1) / split_size + 1 : 1;
  check_count("split", count);
  List parts;
  for (int64_t i = 0; i < count; ++i)
    parts.push_back(narrow(x, axis, i * split_size, std::min(split_size, n - i * split_size)));
  return parts;
}

List split(const Tensor& x, Ints split_size, int64_t dim) {
  int64_t axis = dim_of("split", x, dim), sum = 0;
  Shape bounds{0};
  for (int64_t s : split_size) {
    if (s < 0)
      fail(ErrorKind::runtime, "split: sizes must not be negative, got {}", shape_text(split_size));
    bounds.push_back(sum = checked_add(sum, s));
  }
  if (sum != x.sizes()[axis])
    fail(ErrorKind::runtime, "split: sizes {} add up to {}, but dim {} has size {}",
         shape_text(split_size), sum, axis, x.sizes()[axis]);
  return between(x, axis, bounds);
}

List split_with_sizes(const Tensor& x, Ints sizes, int64_t dim) { return split(x, sizes, dim); }

List chunk(const Tensor& x, int64_t chunks, int64_t dim) {
  if (chunks < 1)
    fail(ErrorKind::runtime, "chunk: the number of chunks must be positive, got {}", chunks);
  int64_t axis = dim_of("chunk", x, dim), n = x.sizes()[axis],
          each = n / chunks + (n % chunks != 0);
  if (each == 0) check_count("chunk", chunks);
  if (each == 0) return List(static_cast<size_t>(chunks), narrow(x, axis, 0, 0));
  return split(x, each, axis);
}

List tensor_split(const Tensor& x, int64_t sections, int64_t dim) {
  int64_t axis = dim_of("tensor_split", x, dim), n = x.sizes()[axis];
  if (sections < 1)
    fail(ErrorKind::runtime, "tensor_split: the number of sections must be positive, got {}",
         sections);
  check_count("tensor_split", sections);
  Shape bounds{0};
  for (int64_t i = 0; i < sections; ++i)
    bounds.push_back(bounds.back() + n / sections + (i < n % sections));
  return between(x, axis, bounds);
}

List tensor_split(const Tensor& x, Ints indices, int64_t dim) {
  int64_t axis = dim_of("tensor_split", x, dim), n = x.sizes()[axis];
  Shape bounds{0};
  for (int64_t i : indices) bounds.push_back(std::clamp<int64_t>(i < 0 ? i + n : i, 0, n));
  bounds.push_back(n);
  return between(x, axis, bounds);
}

List hsplit(const Tensor& x, int64_t sections) {
  int64_t axis = axis_for("hsplit", x, 1, x.dim() > 1);
  return tensor_split(x, even("hsplit", x, axis, sections), axis);
}
List hsplit(const Tensor& x, Ints indices) {
  return tensor_split(x, indices, axis_for("hsplit", x, 1, x.dim() > 1));
}
List vsplit(const Tensor& x, int64_t sections) {
  int64_t axis = axis_for("vsplit", x, 2, 0);
  return tensor_split(x, even("vsplit", x, axis, sections), axis);
}
List vsplit(const Tensor& x, Ints indices) {
  return tensor_split(x, indices, axis_for("vsplit", x, 2, 0));
}
List dsplit(const Tensor& x, int64_t sections) {
  int64_t axis = axis_for("dsplit", x, 3, 2);
  return tensor_split(x, even("dsplit", x, axis, sections), axis);
}
List dsplit(const Tensor& x, Ints indices) {
  return tensor_split(x, indices, axis_for("dsplit", x, 3, 2));
}

List unbind(const Tensor& x, int64_t dim) {
  int64_t axis = dim_of("unbind", x, dim);
  check_count("unbind", x.sizes()[axis]);
  List parts;
  for (int64_t i = 0; i < x.sizes()[axis]; ++i) parts.push_back(select(x, axis, i));
  return parts;
}

namespace {

constexpr uint16_t kUsual = kFunction | kMethod;
using ByCount = List (*)(const Tensor&, int64_t, int64_t);
using ByList = List (*)(const Tensor&, Ints, int64_t);
using Halves = List (*)(const Tensor&, int64_t);
using Cuts = List (*)(const Tensor&, Ints);

const Function kFunctions[] = {
    {"split(Tensor tensor, int split_size, int dim=0) -> Tensor[]",
     "Views of split_size indices each; the last may have fewer.", kUsual,
     thunk<static_cast<ByCount>(&split)>},
    {"split(Tensor tensor, int[] split_size, int dim=0) -> Tensor[]",
     "Views of the given sizes, which must add up.", kUsual, thunk<static_cast<ByList>(&split)>},
    {"split_with_sizes(Tensor input, int[] split_sizes, int dim=0) -> Tensor[]", "split by a list.",
     kUsual, thunk<&split_with_sizes>},
    {"chunk(Tensor input, int chunks, int dim=0) -> Tensor[]",
     "At most `chunks` views of equal size; the last may be smaller.", kUsual, thunk<&chunk>},
    {"tensor_split(Tensor input, int sections, int dim=0) -> Tensor[]",
     "`sections` views whose sizes differ by at most one.", kUsual,
     thunk<static_cast<ByCount>(&tensor_split)>},
    {"tensor_split(Tensor input, int[] indices, int dim=0) -> Tensor[]",
     "Views cut at the given indices.", kUsual, thunk<static_cast<ByList>(&tensor_split)>},
    {"hsplit(Tensor input, int sections) -> Tensor[]",
     "Equal parts along dim 1 (dim 0 of 1-dim tensors).", kUsual,
     thunk<static_cast<Halves>(&hsplit)>},
    {"hsplit(Tensor input, int[] indices) -> Tensor[]", "Cut along dim 1 (dim 0 of 1-dim tensors).",
     kUsual, thunk<static_cast<Cuts>(&hsplit)>},
    {"vsplit(Tensor input, int sections) -> Tensor[]", "Equal parts along dim 0.", kUsual,
     thunk<static_cast<Halves>(&vsplit)>},
    {"vsplit(Tensor input, int[] indices) -> Tensor[]", "Cut along dim 0.", kUsual,
     thunk<static_cast<Cuts>(&vsplit)>},
    {"dsplit(Tensor input, int sections) -> Tensor[]", "Equal parts along dim 2.", kUsual,
     thunk<static_cast<Halves>(&dsplit)>},
    {"dsplit(Tensor input, int[] indices) -> Tensor[]", "Cut along dim 2.", kUsual,
     thunk<static_cast<Cuts>(&dsplit)>},
    {"unbind(Tensor input, int dim=0) -> Tensor[]", "The slices of a dim, without it.", kUsual,
     thunk<&unbind>},
};

}  // namespace

extern const OpFile split_ops;
const OpFile split_ops{{}, kFunctions};

}  // namespace fluxion
