// Distinct elements, in terms of sorting and comparing neighbours.
#include <algorithm>

#include "base/checked.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/scatter.h"

namespace fluxion {

namespace {

/// The input as rows, one per thing to compare.
struct Rows {
  Tensor matrix;  // [n, width]
  Shape shape;    // of the input with the compared dim first
  int64_t dim = 0;
  bool flat;

  Rows(const char* op, const Tensor& x, OptInt given) : flat(!given) {
    if (flat) {
      matrix = reshape(x, Shape{-1, 1});
      return;
    }
    dim = wrap_dim(*given, x.dim(), op);
    if (x.dim() == 0) fail(ErrorKind::index, "{}: a 0-dim tensor has no dim", op);
    Tensor front = movedim(x, Shape{dim}, Shape{0});
    shape = Shape(front.sizes());
    int64_t width = 1;
    for (size_t d = 1; d < shape.size(); ++d) width = checked_mul(width, shape[d]);
    matrix = reshape(front, Shape{shape[0], width});
  }
  Tensor restore(const Tensor& rows) const {
    if (flat) return reshape(rows, Shape{-1});
    Shape to = shape;
    to[0] = rows.size(0);
    return movedim(reshape(rows, to), Shape{0}, Shape{dim});
  }
};

Tensor at(const Tensor& x, const Tensor& list) { return index_at(x, {0}, {&list, 1}); }

/// The rows in lexicographic order, and where they stood: stable sorts from the last column to the first.
std::tuple<Tensor, Tensor> sorted_rows(const Tensor& matrix) {
  if (matrix.size(1) == 1) {
    auto [values, order] = sort(reshape(matrix, Shape{-1}));
    return {reshape(values, Shape{-1, 1}), order};
  }
  Tensor order = arange(Scalar(0), Scalar(matrix.size(0)), Scalar(1), DType::i64);
  if (matrix.numel() == 0) return {matrix, order};
  for (int64_t c = matrix.size(1); c-- > 0;)
    order = at(order, argsort(at(select(matrix, 1, c), order)));
  return {at(matrix, order), order};
}

/// True where a row differs from the one before it.
Tensor group_starts(const Tensor& matrix) {
  int64_t n = matrix.size(0);
  Tensor first = ones(Shape{std::min<int64_t>(n, 1)}, DType::bool_);
  if (n < 2) return first;
  Tensor differs = ne(narrow(matrix, 0, 1, n - 1), narrow(matrix, 0, 0, n - 1));
  differs = matrix.size(1) == 1 ? reshape(differs, Shape{-1}) : any(differs, Shape{1});
  const Tensor parts[] = {first, differs};
  return cat(parts);
}

/// The first row of each group of equal neighbours. `order`: where the rows stood, undefined if there.
std::vector<Tensor> distinct(const Rows& rows, const Tensor& matrix, const Tensor& order,
                             Ints inverse_shape, bool return_inverse, bool return_counts) {
  int64_t n = matrix.size(0);
  Tensor starts = group_starts(matrix), places = select(nonzero(starts), 1, 0);
  std::vector<Tensor> result{rows.restore(at(matrix, places))};
  if (return_inverse) {
    Tensor group = sub(cumsum(starts, 0), Scalar(1).tensor());
    if (order.defined())
      group = scatter_at(zeros(Shape{n}, DType::i64), 0, order, group, kernels::Combine::replace);
    result.push_back(reshape(group, inverse_shape));
  }
  if (return_counts) {
    const Tensor ends[] = {places, full(Shape{1}, Scalar(n), DType::i64)};
    result.push_back(diff(cat(ends)));
  }
  return result;
}

Shape inverse_shape(const Tensor& x, const Rows& rows) {
  return rows.flat ? Shape(x.sizes()) : Shape{rows.matrix.size(0)};
}

}  // namespace

std::vector<Tensor> unique(const Tensor& x, bool, bool return_inverse, bool return_counts,
                           OptInt dim) {
  Rows rows("unique", x, dim);
  auto [matrix, order] = sorted_rows(rows.matrix);
  return distinct(rows, matrix, order, inverse_shape(x, rows), return_inverse, return_counts);
}

std::vector<Tensor> unique_consecutive(const Tensor& x, bool return_inverse, bool return_counts,
                                       OptInt dim) {
  Rows rows("unique_consecutive", x, dim);
  return distinct(rows, rows.matrix, {}, inverse_shape(x, rows), return_inverse, return_counts);
}

namespace {

/// A tuple of what was asked for, or the values alone.
template <auto F>
void call_unique(Arg* args, Result& result) {
  thunk<F>(args, result);
  if (result.tensors.size() == 1) detail::to_result(Tensor(result.tensors[0]), result);
}

const Function kFunctions[] = {
    {"unique(Tensor input, bool sorted=True, bool return_inverse=False, bool return_counts=False, int? dim=None) -> Tensor[]",
     "The distinct elements (or slices of a dim) in order; on request where each element went, and how often each occurs.",
     kFunction | kMethod, call_unique<&unique>},
    {"unique_consecutive(Tensor input, bool return_inverse=False, bool return_counts=False, int? dim=None) -> Tensor[]",
     "The elements (or slices of a dim) that differ from the one before; on request groups and counts.",
     kFunction | kMethod, call_unique<&unique_consecutive>},
};

}  // namespace

extern const OpFile unique_ops;
const OpFile unique_ops{{}, kFunctions};

}  // namespace fluxion
