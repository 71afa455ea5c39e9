// gather, scatter and their relatives as users call them.
#include "ops/scatter.h"

#include <cmath>
#include <limits>

#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/inplace.h"
#include "ops/promotion.h"

namespace fluxion {

using kernels::Combine;

namespace {

/// An axis and an index that fit: as many dims as x, and no longer than it in the other dims.
struct Along {
  Tensor x, index;
  int64_t axis;

  Along(const char* op, const Tensor& x_, int64_t dim, const Tensor& index_)
      : x(at_least_1d(op, x_)), index(at_least_1d(op, index_)), axis(wrap_dim(dim, x.dim(), op)) {
    check_index_dtype(op, index);
    if (index.numel() == 0 && index.dim() == 1 &&
        x.dim() != 1) {  // PyTorch takes an empty index of any rank
      Shape none(x.dim(), 0);
      index = reshape(index, none);
    }
    if (index.dim() != x.dim())
      fail(ErrorKind::runtime,
           "{}: the index must have as many dims as the tensor, {}, got shape {}", op, x.dim(),
           shape_text(index.sizes()));
    for (int64_t d = 0; d < x.dim(); ++d)
      if (d != axis && index.sizes()[d] > x.sizes()[d])
        fail(
            ErrorKind::runtime,
            "{}: the index of shape {} is longer in dim {} than the tensor of shape {}; only dim {} may be",
            op, shape_text(index.sizes()), d, shape_text(x.sizes()), axis);
  }
};

/// The part of the source that the index covers; a number as it is.
Tensor covered(const char* op, const Along& a, const Tensor& source) {
  Tensor v = matching(op, "src", source, a.x);
  if (v.dim() == 0) return v;
  if (v.dim() != a.index.dim())
    fail(ErrorKind::runtime, "{}: src must have as many dims as the index, {}, got shape {}", op,
         a.index.dim(), shape_text(v.sizes()));
  for (int64_t d = 0; d < v.dim(); ++d) {
    int64_t n = a.index.sizes()[d];
    if (n > v.sizes()[d])
      fail(ErrorKind::runtime, "{}: the index of shape {} is longer in dim {} than src of shape {}",
           op, shape_text(a.index.sizes()), d, shape_text(v.sizes()));
    if (n < v.sizes()[d]) v = narrow(v, d, 0, n);
  }
  return v;
}

Tensor put(const Tensor& x, const char* op, int64_t dim, const Tensor& index, const Tensor& source,
           Combine how) {
  Along a(op, x, dim, index);
  return reshape(scatter_at(a.x, a.axis, a.index, covered(op, a, source), how), x.sizes());
}

Tensor put_into(const Tensor& x, const char* op, int64_t dim, const Tensor& index,
                const Tensor& source, Combine how) {
  Along a(op, x, dim, index);
  const Tensor in[] = {a.x, a.index, covered(op, a, source)};
  ScatterAttrs attrs{a.axis, how};
  const OpDef& def = how <= Combine::add ? kScatter : kScatterReduce;
  if (x.dim(op)) return apply_into(x, def, &attrs, in);
  assign(x, reshape(apply(def, &attrs, in), x.sizes()));
  return x;
}

Combine scatter_mode(std::optional<std::string_view> reduce) {
  if (!reduce) return Combine::replace;
  if (*reduce == "add") return Combine::add;
  if (*reduce == "multiply") return Combine::multiply;
  fail(ErrorKind::runtime,
       "scatter: reduce must be 'add' or 'multiply', got '{}'. scatter_reduce has more", *reduce);
}

double extreme(DType t, bool lowest) {
  if (is_floating(t))
    return lowest ? -std::numeric_limits<double>::infinity()
                  : std::numeric_limits<double>::infinity();
  if (t == DType::bool_) return !lowest;
  double half = std::ldexp(1.0, static_cast<int>(8 * size_of(t)) - 1);
  if (t == DType::u8) return lowest ? 0 : 255;
  return lowest ? -half : half - 1;
}

/// What leaves the other operand as it is.
Tensor neutral(DType t, Combine how) {
  if (t == DType::i64 && how >= Combine::maximum)
    return scalar(how == Combine::maximum ? std::numeric_limits<int64_t>::min()
                                          : std::numeric_limits<int64_t>::max(),
                  t);
  switch (how) {
    case Combine::multiply: return scalar(1.0, t);
    case Combine::maximum: return scalar(extreme(t, true), t);
    case Combine::minimum: return scalar(extreme(t, false), t);
    default: return scalar(0.0, t);
  }
}

Tensor mean_of(const Along& a, const Tensor& sums, bool include_self) {
  Tensor count = expand(scalar(include_self ? 1.0 : 0.0, DType::i64), a.x.sizes());
  count = scatter_at(count, a.axis, a.index, scalar(1.0, DType::i64), Combine::add);
  count = clamp_min(count, Scalar(1).tensor());
  return is_floating(sums.dtype()) ? div(sums, to_dtype(count, sums.dtype()))
                                   : to_dtype(floor_divide(sums, count), sums.dtype());
}

struct Reduction {
  const char* name;
  Combine how;
};
constexpr Reduction kReductions[] = {{"sum", Combine::add},
                                     {"prod", Combine::multiply},
                                     {"mean", Combine::add},
                                     {"amax", Combine::maximum},
                                     {"amin", Combine::minimum}};

Combine reduction(std::string_view name) {
  for (const Reduction& r : kReductions)
    if (name == r.name) return r.how;
  fail(ErrorKind::runtime,
       "scatter_reduce: reduce must be 'sum', 'prod', 'mean', 'amax' or 'amin', got '{}'", name);
}

}  // namespace

Tensor gather(const Tensor& x, int64_t dim, const Tensor& index, bool) {
  Along a("gather", x, dim, index);
  Tensor y = gather_at(a.x, a.axis, a.index);
  return std::ranges::equal(y.sizes(), index.sizes()) ? y : reshape(y, index.sizes());
}

Tensor take_along_dim(const Tensor& x, const Tensor& indices, OptInt dim) {
  if (!dim) return gather(reshape(x, Shape{-1}), 0, reshape(indices, Shape{-1}));
  if (x.dim() != indices.dim())
    fail(ErrorKind::runtime,
         "take_along_dim: input and indices must have as many dims, got {} and {}",
         shape_text(x.sizes()), shape_text(indices.sizes()));
  int64_t axis = wrap_dim(*dim, x.dim(), "take_along_dim");
  Shape of_x(x.sizes()), of_index(indices.sizes());
  of_x[axis] = of_index[axis] = 1;
  Shape both = broadcast_shapes("take_along_dim", of_x, of_index), wide(both);
  both[axis] = x.sizes()[axis];
  wide[axis] = indices.sizes()[axis];
  return gather(expand(x, both), axis, expand(indices, wide));
}

Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src,
               std::optional<std::string_view> reduce) {
  return put(x, "scatter", dim, index, src, scatter_mode(reduce));
}
Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, Scalar value,
               std::optional<std::string_view> reduce) {
  return scatter(x, dim, index, value.tensor(), reduce);
}
Tensor scatter_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src,
                std::optional<std::string_view> reduce) {
  return put_into(x, "scatter_", dim, index, src, scatter_mode(reduce));
}
Tensor scatter_(const Tensor& x, int64_t dim, const Tensor& index, Scalar value,
                std::optional<std::string_view> reduce) {
  return scatter_(x, dim, index, value.tensor(), reduce);
}

Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  return put(x, "scatter_add", dim, index, src, Combine::add);
}
Tensor scatter_add_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  return put_into(x, "scatter_add_", dim, index, src, Combine::add);
}

Tensor scatter_reduce(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src,
                      std::string_view reduce, bool include_self) {
  Combine how = reduction(reduce);
  Along a("scatter_reduce", x, dim, index);
  Tensor values = covered("scatter_reduce", a, src), start = a.x;
  if (!include_self)
    start = scatter_at(a.x, a.axis, a.index, neutral(x.dtype(), how), Combine::replace);
  Tensor y = scatter_at(start, a.axis, a.index, values, how);
  return reshape(reduce == "mean" ? mean_of(a, y, include_self) : y, x.sizes());
}

namespace {

constexpr uint16_t kUsual = kFunction | kMethod;
using Text = std::optional<std::string_view>;
using PutTensor = Tensor (*)(const Tensor&, int64_t, const Tensor&, const Tensor&, Text);
using PutNumber = Tensor (*)(const Tensor&, int64_t, const Tensor&, Scalar, Text);

const Function kFunctions[] = {
    {"gather(Tensor input, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor",
     "out[i][j] = input[index[i][j]][j] for dim 0, and so on; the index's shape.", kUsual | kOut,
     thunk<&gather>},
    {"take_along_dim(Tensor input, Tensor indices, int? dim=None) -> Tensor",
     "gather with broadcasting: what argsort and argmax give selects with it.", kUsual | kOut,
     thunk<&take_along_dim>},
    {"scatter(Tensor input, int dim, Tensor index, Tensor src, *, str? reduce=None) -> Tensor",
     "input with out[index[i][j]][j] = src[i][j] for dim 0, and so on; the last one wins.",
     kUsual | kOut, thunk<static_cast<PutTensor>(&scatter)>},
    {"scatter(Tensor input, int dim, Tensor index, Scalar value, *, str? reduce=None) -> Tensor",
     "input with one value written at the index.", kUsual | kOut,
     thunk<static_cast<PutNumber>(&scatter)>},
    {"scatter_(Tensor input, int dim, Tensor index, Tensor src, *, str? reduce=None) -> Tensor",
     "Writes self[index[i][j]][j] = src[i][j] for dim 0, and so on.", kMethod,
     thunk<static_cast<PutTensor>(&scatter_)>},
    {"scatter_(Tensor input, int dim, Tensor index, Scalar value, *, str? reduce=None) -> Tensor",
     "Writes one value at the index.", kMethod, thunk<static_cast<PutNumber>(&scatter_)>},
    {"scatter_add(Tensor input, int dim, Tensor index, Tensor src) -> Tensor",
     "input with out[index[i][j]][j] += src[i][j] for dim 0, and so on, in order.", kUsual | kOut,
     thunk<&scatter_add>},
    {"scatter_add_(Tensor input, int dim, Tensor index, Tensor src) -> Tensor",
     "Adds src[i][j] to self[index[i][j]][j] for dim 0, and so on, in order.", kMethod,
     thunk<&scatter_add_>},
    {"scatter_reduce(Tensor input, int dim, Tensor index, Tensor src, str reduce, *, bool include_self=True) -> Tensor",
     "src reduced into input at the index: 'sum', 'prod', 'mean', 'amax' or 'amin'.",
     kUsual | kInplace | kOut, thunk<&scatter_reduce>},
};

}  // namespace

extern const OpFile scatter_ops;
const OpFile scatter_ops{{}, kFunctions};

}  // namespace fluxion
