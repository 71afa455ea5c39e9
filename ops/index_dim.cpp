// Reading and writing whole slices of one dim by an index list.
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/inplace.h"

namespace fluxion {

namespace {

/// The index as a list, and the tensor with at least one dim.
struct Slices {
  Tensor x, list;
  int64_t dim;

  Slices(const char* op, const Tensor& x_, int64_t dim_, const Tensor& index)
      : x(x_.dim() ? x_ : reshape(x_, Shape{1})), list(index), dim(wrap_dim(dim_, x.dim(), op)) {
    check_index_dtype(op, index);
    if (index.dim() > 1)
      fail(ErrorKind::index, "{}: the index must have at most one dim, got shape {}", op,
           shape_text(index.sizes()));
    if (index.dim() == 0) list = reshape(index, Shape{1});
  }
  IndexAttrs attrs(bool accumulate) const { return {{dim}, accumulate}; }
  Shape source_shape() const {
    Shape s(x.sizes());
    s[dim] = list.numel();
    return s;
  }
};

Tensor checked_source(const char* op, const Slices& s, const Tensor& source) {
  Tensor v = matching(op, "source", source, s.x);
  if (v.dim() == 0) v = reshape(v, Shape{1});
  if (!std::ranges::equal(v.sizes(), Ints(s.source_shape())))
    fail(ErrorKind::index,
         "{}: source must have shape {} (the tensor's, with {} entries along dim {}), got {}", op,
         shape_text(s.source_shape()), s.list.numel(), s.dim, shape_text(v.sizes()));
  return v;
}

Tensor scaled(const Tensor& v, Scalar alpha) {
  return alpha.as_double() == 1 ? v : mul(v, alpha.tensor());
}

Tensor put_slices(const Tensor& x, const Slices& s, const Tensor& values, bool accumulate) {
  return reshape(put_at(s.x, s.attrs(accumulate), {&s.list, 1}, values), x.sizes());
}

Tensor put_slices_into(const Tensor& x, const Slices& s, const Tensor& values, bool accumulate) {
  const Tensor in[] = {x, values, s.list};
  IndexAttrs a = s.attrs(accumulate);
  if (x.dim()) return apply_into(x, kIndexPut, &a, in);
  assign(x, put_slices(x, s, values, accumulate));
  return x;
}

}  // namespace

Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index) {
  Slices s("index_select", x, dim, index);
  Tensor rows = index_at(s.x, {s.dim}, {&s.list, 1});
  return x.dim() ? rows : reshape(rows, index.numel() == 1 ? Ints{} : rows.sizes());
}

Tensor index_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source,
                 Scalar alpha) {
  Slices s("index_add", x, dim, index);
  return put_slices(x, s, scaled(checked_source("index_add", s, source), alpha), true);
}
Tensor index_add_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source,
                  Scalar alpha) {
  Slices s("index_add_", x, dim, index);
  return put_slices_into(x, s, scaled(checked_source("index_add_", s, source), alpha), true);
}

Tensor index_copy(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  Slices s("index_copy", x, dim, index);
  return put_slices(x, s, checked_source("index_copy", s, source), false);
}
Tensor index_copy_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  Slices s("index_copy_", x, dim, index);
  return put_slices_into(x, s, checked_source("index_copy_", s, source), false);
}

Tensor index_fill(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& value) {
  return put_slices(x, Slices("index_fill", x, dim, index),
                    fill_value("index_fill", value, x.dtype()), false);
}
Tensor index_fill_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& value) {
  return put_slices_into(x, Slices("index_fill_", x, dim, index),
                         fill_value("index_fill_", value, x.dtype()), false);
}

Tensor index_reduce(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source,
                    std::string_view reduce, bool include_self) {
  Slices s("index_reduce", x, dim, index);
  Tensor v = checked_source("index_reduce", s, source);
  Shape line(s.x.dim(), 1);
  line[s.dim] = s.list.numel();
  Tensor places = expand(reshape(s.list, line), v.sizes());
  return reshape(scatter_reduce(s.x, s.dim, places, v, reduce, include_self), x.sizes());
}

Tensor take(const Tensor& x, const Tensor& index) {
  check_index_dtype("take", index);
  return index_at(reshape(x, Shape{-1}), {0}, {&index, 1});
}

Tensor put(const Tensor& x, const Tensor& index, const Tensor& source, bool accumulate) {
  check_index_dtype("put", index);
  Tensor values = matching("put", "source", source, x);
  if (values.numel() != index.numel())
    fail(ErrorKind::index, "put: source must have as many elements as the index, {}, got {}",
         index.numel(), values.numel());
  Tensor flat = reshape(x, Shape{-1}), v = reshape(values, index.sizes());
  return reshape(put_at(flat, {{0}, accumulate}, {&index, 1}, v), x.sizes());
}

namespace {

constexpr uint16_t kUsual = kFunction | kMethod;

const Function kFunctions[] = {
    {"index_select(Tensor input, int dim, Tensor index) -> Tensor",
     "The slices of a dim that a list of indices names.", kUsual | kOut, thunk<&index_select>},
    {"index_add(Tensor input, int dim, Tensor index, Tensor source, *, Scalar alpha=1) -> Tensor",
     "input with alpha * source added to the slices that the index names, in its order.",
     kUsual | kOut, thunk<&index_add>},
    {"index_add_(Tensor input, int dim, Tensor index, Tensor source, *, Scalar alpha=1) -> Tensor",
     "Adds alpha * source to the slices that the index names.", kMethod, thunk<&index_add_>},
    {"index_copy(Tensor input, int dim, Tensor index, Tensor source) -> Tensor",
     "input with the slices that the index names replaced by those of source.", kUsual | kOut,
     thunk<&index_copy>},
    {"index_copy_(Tensor input, int dim, Tensor index, Tensor source) -> Tensor",
     "Writes the slices of source where the index says.", kMethod, thunk<&index_copy_>},
    {"index_fill(Tensor input, int dim, Tensor index, Number value) -> Tensor",
     "input with the slices that the index names filled with a value.", kUsual, thunk<&index_fill>},
    {"index_fill_(Tensor input, int dim, Tensor index, Number value) -> Tensor",
     "Fills the slices that the index names with a value.", kMethod, thunk<&index_fill_>},
    {"index_reduce(Tensor input, int dim, Tensor index, Tensor source, str reduce, *, bool include_self=True) -> Tensor",
     "Slices of source reduced into those that the index names: 'prod', 'mean', 'amax' or 'amin'.",
     kUsual | kInplace, thunk<&index_reduce>},
    {"take(Tensor input, Tensor index) -> Tensor",
     "The elements at positions in row-major order; the index's shape.", kUsual | kOut,
     thunk<&take>},
    {"put(Tensor input, Tensor index, Tensor source, bool accumulate=False) -> Tensor",
     "input with source put at (or added to) positions in row-major order.", kUsual | kInplace,
     thunk<&put>},
};

}  // namespace

extern const OpFile index_dim_ops;
const OpFile index_dim_ops{{}, kFunctions};

}  // namespace fluxion
