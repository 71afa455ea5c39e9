// x[i, mask, :, j]: NumPy's and PyTorch's advanced indexing in terms of index and index_put.
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/inplace.h"
#include "ops/views.h"

namespace fluxion {

namespace {

/// Masks replaced by positions; `x` is a view of the indexed tensor that `dims` refer to.
struct Normal {
  Tensor x;
  Dims dims;
  std::vector<Tensor> indices;

  void add(const Tensor& index) {
    dims.v[dims.n++] = next++;
    indices.push_back(index);
  }
  int64_t next = 0;
};

int64_t dims_taken(const Tensor& index) {
  return !index.defined()                                              ? 1
         : index.dtype() == DType::bool_ || index.dtype() == DType::u8 ? index.dim()
                                                                       : 1;
}

void check_count(const Tensor& x, Tensors indices) {
  int64_t taken = 0;
  for (const Tensor& t : indices) taken += dims_taken(t);
  if (taken > x.dim())
    fail(ErrorKind::index, "too many indices: {} for a tensor of {} dims, shape {}", taken, x.dim(),
         shape_text(x.sizes()));
}

void check_mask_shape(const Tensor& x, const Tensor& mask, int64_t first) {
  for (int64_t d = 0; d < mask.dim(); ++d)
    if (mask.sizes()[d] != x.sizes()[first + d])
      fail(
          ErrorKind::index,
          "the mask's shape {} does not match the indexed tensor's shape {} at dim {}: {} is not {}",
          shape_text(mask.sizes()), shape_text(x.sizes()), first + d, mask.sizes()[d],
          x.sizes()[first + d]);
}

/// Whether dims [first, first + n) can be viewed as one.
bool joinable(const Tensor& x, int64_t first, int64_t n) {
  for (int64_t d = first; d + 1 < first + n; ++d)
    if (x.strides()[d] != x.sizes()[d + 1] * x.strides()[d + 1]) return false;
  return true;
}

void add_mask(Normal& n, const Tensor& given) {
  Tensor mask = given.dtype() == DType::bool_ ? given : to_dtype(given, DType::bool_);
  if (mask.dim() == 0) {  // a new dim of size 1, kept or dropped
    n.x = unsqueeze(n.x, n.next);
    return n.add(select(nonzero(reshape(mask, Shape{1})), 1, 0));
  }
  check_mask_shape(n.x, mask, n.next);
  if (mask.dim() > 1 && joinable(n.x, n.next, mask.dim())) {
    n.x = flatten(n.x, n.next, n.next + mask.dim() - 1);
    mask = reshape(mask, Shape{-1});
  }
  Tensor rows = nonzero(mask);
  for (int64_t d = 0; d < mask.dim(); ++d) n.add(select(rows, 1, d));
}

Normal normalised(const Tensor& x, Tensors indices) {
  check_count(x, indices);
  Normal n{x, {}, {}};
  for (const Tensor& t : indices) {
    if (!t.defined()) {
      ++n.next;
    } else if (t.dtype() == DType::bool_ || t.dtype() == DType::u8) {
      add_mask(n, t);
    } else if (t.dtype() == DType::i64 || t.dtype() == DType::i32) {
      n.add(t);
    } else if (is_integral(t.dtype())) {
      n.add(to_dtype(t, DType::i64));
    } else {
      fail(
          ErrorKind::index,
          "a tensor used as an index must be an integer or bool tensor, got {}. Convert it with .long()",
          name(t.dtype()));
    }
  }
  return n;
}

/// Without the leading dims of size 1 that the indexing result does not have, as PyTorch allows.
Tensor fitted(const Tensor& values, const Tensor& x, const Normal& n) {
  int64_t widest = 0;
  for (const Tensor& t : n.indices) widest = std::max<int64_t>(widest, t.dim());
  int64_t rank = widest + n.x.dim() - static_cast<int64_t>(n.dims.size()),
          extra = values.dim() - rank;
  Tensor v =
      matching("index_put", "values", values.dim() == 0 ? to_dtype(values, x.dtype()) : values, x);
  if (extra <= 0) return v;
  for (int64_t d = 0; d < extra; ++d)
    if (v.sizes()[d] != 1) return v;
  return reshape(v, v.sizes().subspan(static_cast<size_t>(extra)));
}

}  // namespace

Tensor index(const Tensor& x, Tensors indices) {
  Normal n = normalised(x, indices);
  return n.indices.empty() ? identity(n.x) : index_at(n.x, n.dims, n.indices);
}

Tensor index_put(const Tensor& x, Tensors indices, const Tensor& values, bool accumulate) {
  Normal n = normalised(x, indices);
  if (n.indices.empty())
    return accumulate ? add(x, values) : expand(to_dtype(values, x.dtype()), x.sizes());
  return reshape(put_at(n.x, {n.dims, accumulate}, n.indices, fitted(values, x, n)), x.sizes());
}

Tensor index_put_(const Tensor& x, Tensors indices, const Tensor& values, bool accumulate) {
  const Tensor written[] = {x, values};
  if (write_is_tracked(x, written)) {
    assign(x, index_put(x, indices, values, accumulate));
    return x;
  }
  Normal n = normalised(x, indices);
  if (n.indices.empty()) {
    assign(x, accumulate ? add(x, values) : values);
    return x;
  }
  std::vector<Tensor> in{n.x, fitted(values, x, n)};
  in.insert(in.end(), n.indices.begin(), n.indices.end());
  IndexAttrs a{n.dims, accumulate};
  apply_into(n.x, kIndexPut, &a, in);
  return x;
}

namespace {

const Function kFunctions[] = {
    {"index(Tensor input, Tensor[] indices) -> Tensor",
     "The elements at index tensors, one per leading dim; bool tensors are masks.", kPrivate,
     thunk<&index>},
    {"index_put(Tensor input, Tensor[] indices, Tensor values, bool accumulate=False) -> Tensor",
     "input with values put at (or added to) the places that index tensors name.",
     kFunction | kMethod, thunk<&index_put>},
    {"index_put_(Tensor input, Tensor[] indices, Tensor values, bool accumulate=False) -> Tensor",
     "Writes values at (or adds them to) the places that index tensors name.", kMethod,
     thunk<&index_put_>},
};

}  // namespace

extern const OpFile advanced_index_ops;
const OpFile advanced_index_ops{{}, kFunctions};

}  // namespace fluxion
