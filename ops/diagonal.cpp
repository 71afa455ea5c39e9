// Diagonals: views of them, and matrices that have them.
#include "base/checked.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/region.h"
#include "ops/requirements.h"
#include "ops/views.h"

namespace fluxion {

namespace {

struct DiagonalAttrs {
  int64_t offset, dim1, dim2;
};
constexpr Field kFields[] = {
    {"offset", FieldKind::integer, offsetof(DiagonalAttrs, offset),
     "which diagonal; positive: above the main one"},
    {"dim1", FieldKind::integer, offsetof(DiagonalAttrs, dim1), "the dim of rows"},
    {"dim2", FieldKind::integer, offsetof(DiagonalAttrs, dim2), "the dim of columns"},
};

/// The diagonal's geometry: both dims vanish, the diagonal comes last.
struct Geometry {
  Shape sizes, strides;
  int64_t offset = 0;

  Geometry(const DiagonalAttrs& a, Ints x, Ints x_strides) {
    for (int64_t d = 0; d < static_cast<int64_t>(x.size()); ++d)
      if (d != a.dim1 && d != a.dim2) {
        sizes.push_back(x[d]);
        strides.push_back(x_strides[d]);
      }
    int64_t rows = x[a.dim1] + std::min<int64_t>(a.offset, 0),
            columns = x[a.dim2] - std::max<int64_t>(a.offset, 0);
    int64_t n = std::max<int64_t>(0, std::min(rows, columns));
    if (n) offset = a.offset >= 0 ? a.offset * x_strides[a.dim2] : -a.offset * x_strides[a.dim1];
    sizes.push_back(n);
    strides.push_back(x_strides[a.dim1] + x_strides[a.dim2]);
  }
};

void infer_diagonal(const TypeRule& t) {
  const auto& a = t.attrs<DiagonalAttrs>();
  for (int64_t d : {a.dim1, a.dim2}) require_dim(t, d, t.in[0].shape.size());
  require(t, a.dim1 != a.dim2, "the two dims must differ");
  require(t, a.offset > INT64_MIN, "the offset is out of range");
  t.out[0] = {
      t.in[0].dtype, false,
      Geometry(t.attrs<DiagonalAttrs>(), t.in[0].shape, row_major_strides(t.in[0].shape)).sizes};
}

void eval_diagonal(const Eval& e) {
  const Tensor& x = e.in[0];
  Geometry g(e.attrs<DiagonalAttrs>(), x.sizes(), x.strides());
  Tensor view = make_view(x, g.sizes, g.strides, g.offset);
  if (e.out[0].defined()) copy_elements(view, e.out[0]);
  else e.out[0] = view;
}

void vjp_diagonal(const Vjp& v) {
  Ints shape = v.in[0].sizes();
  Geometry g(v.attrs<DiagonalAttrs>(), shape, row_major_strides(shape));
  v.result[0] = embed(v.grad[0], shape, g.strides, g.offset);
}

void diagonal_samples(const OpDef&, SampleSink& sink) {
  for (const DiagonalAttrs& a :
       {DiagonalAttrs{0, 0, 1}, DiagonalAttrs{1, 2, 0}, DiagonalAttrs{-2, 1, 2}}) {
    SampleSink::Input in{Shape{3, 4, 5}};
    sink.add({&in, 1}, &a, sizeof a);
  }
}

DiagonalAttrs resolved(const char* op, int64_t offset, int64_t dim1, int64_t dim2, int64_t rank) {
  DiagonalAttrs a{offset, wrap_dim(dim1, rank, op), wrap_dim(dim2, rank, op)};
  if (rank < 2) fail(ErrorKind::runtime, "{}: needs at least 2 dims, got {}", op, rank);
  if (a.dim1 == a.dim2)
    fail(ErrorKind::runtime, "{}: dim1 and dim2 must differ, both are {}", op, a.dim1);
  return a;
}

}  // namespace

constinit OpDef kDiagonal{.name = "diagonal",
                          .doc = "A view of a diagonal; it is the last dim.",
                          .view = true,
                          .space = Space::movement,
                          .attr_bytes = sizeof(DiagonalAttrs),
                          .fields = kFields,
                          .infer = infer_diagonal,
                          .eval = eval_diagonal,
                          .vjp = vjp_diagonal,
                          .cost = [](std::span<const Type>, const void*) { return 0.0; },
                          .samples = diagonal_samples};

Tensor diagonal(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2) {
  return apply(kDiagonal, resolved("diagonal", offset, dim1, dim2, x.dim()), {x});
}

Tensor diag_embed(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2) {
  if (x.dim() == 0)
    fail(ErrorKind::runtime, "diag_embed: needs at least one dim, got a 0-dim tensor");
  DiagonalAttrs a = resolved("diag_embed", offset, dim1, dim2, x.dim() + 1);
  int64_t away = offset < 0 ? checked_mul(-1, offset) : offset,
          side = checked_add(x.sizes().back(), away), next = 0;
  Shape shape;
  for (int64_t d = 0; d <= x.dim(); ++d)
    shape.push_back(d == a.dim1 || d == a.dim2 ? side : x.sizes()[next++]);
  Geometry g(a, shape, row_major_strides(shape));
  return embed(x, shape, g.strides, g.offset);
}

Tensor diag(const Tensor& x, int64_t diagonal_) {
  if (x.dim() == 1) return diag_embed(x, diagonal_);
  if (x.dim() == 2) return clone(diagonal(x, diagonal_));
  fail(
      ErrorKind::runtime,
      "diag: needs 1 dim (the diagonal) or 2 (a matrix), got shape {}. Use diagonal() or diag_embed()",
      shape_text(x.sizes()));
}
Tensor diagflat(const Tensor& x, int64_t offset) {
  return diag_embed(reshape(x, Shape{-1}), offset);
}

Tensor trace(const Tensor& x) {
  if (x.dim() != 2)
    fail(ErrorKind::runtime, "trace: needs a matrix, got shape {}", shape_text(x.sizes()));
  return sum(diagonal(x));
}

Tensor eye(int64_t n, OptInt m, OptDType dtype, bool requires_grad) {
  int64_t columns = m.value_or(n);
  if (n < 0 || columns < 0)
    fail(ErrorKind::runtime, "eye: sizes must not be negative, got {} and {}", n, columns);
  DType t = dtype.value_or(default_dtype());
  Tensor y = embed(ones(Shape{std::min(n, columns)}, t), Shape{n, columns},
                   Shape{checked_add(columns, 1)}, 0);
  return requires_grad ? y.set_requires_grad(true) : y;
}

namespace {

OpDef* const kOps[] = {&kDiagonal};
constexpr uint16_t kUsual = kFunction | kMethod;

const Function kFunctions[] = {
    {"diagonal(Tensor input, int offset=0, int dim1=0, int dim2=1) -> Tensor",
     "A view of a diagonal of two dims, as the last dim.", kUsual, thunk<&diagonal>},
    {"diag_embed(Tensor input, int offset=0, int dim1=-2, int dim2=-1) -> Tensor",
     "Matrices with the last dim as a diagonal, else 0.", kUsual, thunk<&diag_embed>},
    {"diag(Tensor input, int diagonal=0) -> Tensor",
     "The matrix with a diagonal, or the diagonal of a matrix.", kUsual | kOut, thunk<&diag>},
    {"diagflat(Tensor input, int offset=0) -> Tensor",
     "The matrix with all elements as its diagonal.", kUsual, thunk<&diagflat>},
    {"trace(Tensor input) -> Tensor", "The sum of the main diagonal of a matrix.", kUsual,
     thunk<&trace>},
    {"eye(int n, int? m=None, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "An (n, m) matrix with ones on the diagonal, else 0.", kFunction | kOut, thunk<&eye>},
};

}  // namespace

extern const OpFile diagonal_ops;
const OpFile diagonal_ops{kOps, kFunctions};

}  // namespace fluxion
