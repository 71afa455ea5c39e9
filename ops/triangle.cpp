// Triangles of matrices.
#include <cstring>

#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/requirements.h"
#include "tensor/threads.h"

namespace fluxion {

extern OpDef kTriangle;

namespace {

struct TriangleAttrs {
  int64_t diagonal, upper;
};
constexpr Field kFields[] = {
    {"diagonal", FieldKind::integer, offsetof(TriangleAttrs, diagonal),
     "the bounding diagonal; positive: above the main one"},
    {"upper", FieldKind::boolean, offsetof(TriangleAttrs, upper),
     "keep what is on and above it, else on and below"},
};

/// Columns of a row that are kept: [first, last).
struct Kept {
  int64_t first, last;
};
Kept kept(const TriangleAttrs& a, int64_t row, int64_t columns) {
  auto edge = static_cast<int64_t>(std::clamp<__int128>(
      static_cast<__int128>(row) + a.diagonal + (a.upper ? 0 : 1), 0, columns));
  return a.upper ? Kept{edge, columns} : Kept{0, edge};
}

void eval_triangle(const Eval& e) {
  const auto& a = e.attrs<TriangleAttrs>();
  Tensor x = dense(e.in[0]);
  bool usable = e.out[0].defined() && e.out[0].is_contiguous();
  Tensor out = usable ? e.out[0] : empty(x.sizes(), x.dtype());
  int64_t columns = x.sizes().back(), rows = x.sizes()[x.dim() - 2], size = size_of(x.dtype());
  LongWork work(0.3 * static_cast<double>(x.numel()));
  parallel(columns ? x.numel() / columns : 0, 32768 / (columns + 1) + 1,
           [&](int64_t begin, int64_t end) {
             for (int64_t r = begin; r < end; ++r) {
               const Kept k = kept(a, r % rows, columns);
               const char* from = x.data<char>() + r * columns * size;
               char* to = out.data<char>() + r * columns * size;
               std::memmove(to + k.first * size, from + k.first * size,
                            static_cast<size_t>((k.last - k.first) * size));
               std::memset(to, 0, static_cast<size_t>(k.first * size));
               std::memset(to + k.last * size, 0, static_cast<size_t>((columns - k.last) * size));
             }
           });
  if (!e.out[0].defined()) e.out[0] = out;
  else if (!usable) copy_elements(out, e.out[0]);
}

void triangle_samples(const OpDef&, SampleSink& sink) {
  for (int t = 0; t < kDTypes; ++t)
    for (const TriangleAttrs& a :
         {TriangleAttrs{0, 0}, TriangleAttrs{1, 1}, TriangleAttrs{-2, 0}}) {
      SampleSink::Input in{Shape{2, 4, 5}, static_cast<DType>(t)};
      sink.add({&in, 1}, &a, sizeof a);
    }
}

Tensor triangle(const char* op, const Tensor& x, int64_t diagonal, bool upper) {
  if (x.dim(op) < 2)
    fail(ErrorKind::runtime, "{}: needs at least 2 dims, got shape {}", op, shape_text(x.sizes()));
  return apply(kTriangle, TriangleAttrs{diagonal, upper}, {x});
}

}  // namespace

constinit OpDef kTriangle{
    .name = "triangle",
    .doc = "Matrices with everything on one side of a diagonal set to 0.",
    .space = Space::rowwise,
    .attr_bytes = sizeof(TriangleAttrs),
    .fields = kFields,
    .infer =
        [](const TypeRule& t) {
          require_rank(t, 0, 2);
          int64_t diagonal = t.attrs<TriangleAttrs>().diagonal;
          require(t, diagonal > INT64_MIN / 2 && diagonal < INT64_MAX / 2,
                  "the diagonal is out of range");
          t.out[0] = {t.in[0].dtype, false, t.in[0].shape};
        },
    .eval = eval_triangle,
    .vjp = [](const Vjp& v) { v.result[0] = apply(v.op, v.attrs<TriangleAttrs>(), {v.grad[0]}); },
    .cost = [](std::span<const Type> in,
               const void*) { return static_cast<double>(element_count(in[0].shape)); },
    .samples = triangle_samples};

Tensor tril(const Tensor& x, int64_t diagonal) { return triangle("tril", x, diagonal, false); }
Tensor triu(const Tensor& x, int64_t diagonal) { return triangle("triu", x, diagonal, true); }

namespace {

/// Rows [first, last) that keep something, and how much they keep together.
struct KeptRows {
  int64_t first, last;
  __int128 count;
};
KeptRows kept_rows(const TriangleAttrs& a, int64_t rows, int64_t columns) {
  // the edge column of row r is r + shift, clamped to [0, columns]
  __int128 shift = static_cast<__int128>(a.diagonal) + (a.upper ? 0 : 1);
  auto rises = static_cast<int64_t>(std::clamp<__int128>(-shift, 0, rows)),
       tops = static_cast<int64_t>(std::clamp<__int128>(columns - shift, rises, rows));
  __int128 n = tops - rises, below = n * (rises + shift) + n * (n - 1) / 2;
  below += static_cast<__int128>(rows - tops) * columns;  // elements left of the edges
  if (a.upper) return {0, columns ? tops : 0, static_cast<__int128>(rows) * columns - below};
  return {rises, columns ? rows : rises, below};
}

/// The coordinates of a triangle of a (row, col) matrix: row numbers, then column numbers.
Tensor indices(const char* op, int64_t rows, int64_t columns, int64_t offset, bool upper,
               OptDType dtype) {
  if (rows < 0 || columns < 0)
    fail(ErrorKind::runtime, "{}: sizes must not be negative, got {} and {}", op, rows, columns);
  DType t = dtype.value_or(DType::i64);
  if (t != DType::i64 && t != DType::i32)
    fail(ErrorKind::runtime, "{}: dtype must be int64 or int32, got {}", op, name(t));
  TriangleAttrs a{offset, upper};
  KeptRows some = kept_rows(a, rows, columns);
  if (some.count > INT64_MAX / 16)
    fail(ErrorKind::runtime, "{}: a triangle of {} rows and {} columns has too many elements", op,
         rows, columns);
  auto count = static_cast<int64_t>(some.count);
  Tensor out = empty(Shape{2, count}, DType::i64);
  int64_t *row = out.data<int64_t>(), *column = row + count;
  for (int64_t r = some.first; r < some.last; ++r)
    for (int64_t c = kept(a, r, columns).first; c < kept(a, r, columns).last; ++c) {
      *row++ = r;
      *column++ = c;
    }
  return to_dtype(out, t);
}

}  // namespace

Tensor tril_indices(int64_t row, int64_t col, int64_t offset, OptDType dtype) {
  return indices("tril_indices", row, col, offset, false, dtype);
}
Tensor triu_indices(int64_t row, int64_t col, int64_t offset, OptDType dtype) {
  return indices("triu_indices", row, col, offset, true, dtype);
}

namespace {

OpDef* const kOps[] = {&kTriangle};
constexpr uint16_t kUsual = kFunction | kMethod | kInplace | kOut;

const Function kFunctions[] = {
    {"tril(Tensor input, int diagonal=0) -> Tensor",
     "The lower triangle of matrices, 0 above the diagonal.", kUsual, thunk<&tril>},
    {"triu(Tensor input, int diagonal=0) -> Tensor",
     "The upper triangle of matrices, 0 below the diagonal.", kUsual, thunk<&triu>},
    {"tril_indices(int row, int col, int offset=0, *, dtype? dtype=None, ignored? device=None, ignored? layout=None) -> Tensor",
     "The coordinates of a lower triangle, row numbers first.", kFunction, thunk<&tril_indices>},
    {"triu_indices(int row, int col, int offset=0, *, dtype? dtype=None, ignored? device=None, ignored? layout=None) -> Tensor",
     "The coordinates of an upper triangle, row numbers first.", kFunction, thunk<&triu_indices>},
};

}  // namespace

extern const OpFile triangle_ops;
const OpFile triangle_ops{kOps, kFunctions};

}  // namespace fluxion
