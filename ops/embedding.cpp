// embedding: rows of a table by index. Its gradient adds to each row in the order of positions.
#include <cstring>
#include <vector>

#include "kernels/kernel.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/kernel_sink.h"
#include "ops/requirements.h"
#include "ops/rowwise.h"
#include "ops/scatter.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

struct EmbeddingAttrs {
  int64_t rows, padding_idx, by_frequency;
};
constexpr Field kFields[] = {
    {"rows", FieldKind::integer, offsetof(EmbeddingAttrs, rows), "rows of the table"},
    {"padding_idx", FieldKind::integer, offsetof(EmbeddingAttrs, padding_idx),
     "row that gets no gradient; -1: none"},
    {"by_frequency", FieldKind::boolean, offsetof(EmbeddingAttrs, by_frequency),
     "divide each row's gradient by its count"}};

/// The indices as dense int64, every one checked.
Tensor checked_indices(const Tensor& indices, int64_t rows) {
  Tensor t = dense(to_dtype(indices, DType::i64));
  const auto* at = t.data<int64_t>();
  for (int64_t k = 0; k < t.numel(); ++k)
    if (at[k] < 0 || at[k] >= rows) [[unlikely]]
      fail(ErrorKind::index, "embedding: index {} is out of range for a table of {} rows{}", at[k],
           rows, position_text(indices.sizes(), k));
  return t;
}

Shape looked_up_shape(Ints indices, int64_t width) {
  Shape shape(indices);
  shape.push_back(width);
  return shape;
}

void eval(const Eval& e) {
  Tensor table = dense(e.in[0]), indices = checked_indices(e.in[1], table.size(0));
  Tensor out = e.out[0].defined() && e.out[0].is_contiguous()
                   ? e.out[0]
                   : empty(looked_up_shape(indices.sizes(), table.size(1)), table.dtype());
  auto bytes = static_cast<size_t>(table.size(1) * size_of(table.dtype()));
  const auto* at = indices.data<int64_t>();
  LongWork work(static_cast<double>(out.nbytes()) * 0.1);
  parallel(indices.numel(), 65536 / static_cast<int64_t>(bytes + 1) + 1,
           [&](int64_t begin, int64_t end) {
             for (int64_t k = begin; k < end; ++k)
               std::memcpy(out.data<char>() + static_cast<size_t>(k) * bytes,
                           table.data<char>() + static_cast<size_t>(at[k]) * bytes, bytes);
           });
  if (e.out[0].defined() && !e.out[0].is_same(out)) copy_elements(out, e.out[0]);
  else e.out[0] = out;
}

/// Positions grouped by the row they name, each group in order.
struct Buckets {
  std::vector<int64_t> start, positions;
  Buckets(const int64_t* at, int64_t n, int64_t rows)
      : start(static_cast<size_t>(rows) + 1), positions(static_cast<size_t>(n)) {
    for (int64_t k = 0; k < n; ++k) ++start[static_cast<size_t>(at[k]) + 1];
    for (size_t r = 1; r < start.size(); ++r) start[r] += start[r - 1];
    std::vector<int64_t> next(start.begin(), start.end() - 1);
    for (int64_t k = 0; k < n; ++k)
      positions[static_cast<size_t>(next[static_cast<size_t>(at[k])]++)] = k;
  }
};

void eval_gradient(const Eval& e) {
  const auto& a = e.attrs<EmbeddingAttrs>();
  NoGrad plain;
  Tensor indices = checked_indices(e.in[1], a.rows), g = dense(widen(e.in[0]));
  int64_t width = g.size(-1), n = indices.numel();
  Tensor table = empty(Ints({a.rows, width}), g.dtype());
  Buckets buckets(indices.data<int64_t>(), n, a.rows);
  kernels::Kernel add_rows = require_kernel(kAdd, g.dtype());
  auto bytes = static_cast<size_t>(width * size_of(g.dtype()));
  LongWork work(static_cast<double>(table.numel() + g.numel()) * 0.2);
  parallel(a.rows, 65536 / static_cast<int64_t>(bytes + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      char* sum = table.data<char>() + static_cast<size_t>(row) * bytes;
      std::memset(sum, 0, bytes);
      if (row == a.padding_idx) continue;
      for (int64_t k = buckets.start[static_cast<size_t>(row)];
           k < buckets.start[static_cast<size_t>(row) + 1]; ++k) {
        char* more =
            g.data<char>() + static_cast<size_t>(buckets.positions[static_cast<size_t>(k)]) * bytes;
        kernels::Buf args[] = {{sum, nullptr}, {more, nullptr}, {sum, nullptr}};
        add_rows(args, &width, nullptr);
      }
    }
  });
  if (e.out[0].defined()) copy_elements(table, e.out[0]);
  else e.out[0] = rounded(table, e.in[0].dtype());
}

/// 1 for positions that do not name the padding row, broadcast over the width; undefined without padding.
Tensor not_padding(const Tensor& indices, const EmbeddingAttrs& a) {
  if (a.padding_idx < 0) return {};
  return unsqueeze(ne(indices, Scalar(a.padding_idx).tensor()), -1);
}
Tensor masked(const Tensor& x, const Tensor& keep) {
  return keep.defined() ? where(keep, x, zeros({}, x.dtype())) : x;
}

void compose_gradient(const Eval& e) {
  const auto& a = e.attrs<EmbeddingAttrs>();
  Tensor g = masked(widen(e.in[0]), not_padding(e.in[1], a)),
         indices = to_dtype(e.in[1], DType::i64);
  IndexAttrs put{{0}, 1};
  const Tensor at[] = {flatten(indices)};
  Tensor flat = reshape(g, Ints({indices.numel(), g.size(-1)}));
  e.out[0] =
      rounded(put_at(zeros(Ints({a.rows, g.size(-1)}), g.dtype()), put, at, flat), e.in[0].dtype());
}

/// How often each row is named, at least 1, as a column.
Tensor counts(const Tensor& indices, int64_t rows, DType dtype) {
  Tensor at = flatten(to_dtype(indices, DType::i64)), one = ones({}, dtype);
  return unsqueeze(maximum(scatter_into_zeros(Shape{rows}, 0, at, ones(at.sizes(), dtype)), one),
                   -1);
}

constexpr SaveRule kSaves[] = {{2, 0}, {}};

void samples(const OpDef& op, SampleSink& sink) {
  bool backward = op.composite == compose_gradient;
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (int64_t padding : {-1, 2}) {
      // Forward samples have no padding row: its gradient is zero by decree, not by calculus.
      if (std::string_view(op.name) == "embedding" && padding >= 0) continue;
      EmbeddingAttrs a{6, padding, 0};
      const SampleSink::Input in[] = {{backward ? Shape{3, 4, 5} : Shape{6, 5}, t},
                                      {Shape{3, 4}, DType::i64, 0, 5}};
      sink.add(in, &a, sizeof a);
    }
}

}  // namespace

extern OpDef kEmbedding;

constinit OpDef kEmbeddingBackward{
    .name = "embedding_backward",
    .doc = "Gradient rows added up, in the order of positions, of (g, indices).",
    .inputs = 2,
    .round = Round::fused,
    .space = Space::opaque,
    .attr_bytes = sizeof(EmbeddingAttrs),
    .fields = kFields,
    .infer =
        [](const TypeRule& t) {
          require_indices(t, 1);
          require_rank(t, 0, 1);
          require_shape(t, 0, looked_up_shape(t.in[1].shape, t.in[0].shape.back()));
          require(t, t.attrs<EmbeddingAttrs>().rows >= 0, "rows must not be negative");
          t.out[0] = {t.in[0].dtype, false,
                      Shape{t.attrs<EmbeddingAttrs>().rows, t.in[0].shape.back()}};
        },
    .eval = eval_gradient,
    .vjp =
        [](const Vjp& v) {
          const auto& a = v.attrs<EmbeddingAttrs>();
          v.result[0] = masked(apply(kEmbedding, a, {v.grad[0], v.in[1]}), not_padding(v.in[1], a));
        },
    .saves = kSaves,
    .composite = compose_gradient,
    .cost = cheap_cost,
    .samples = samples};

constinit OpDef kEmbedding{
    .name = "embedding",
    .doc = "Rows of a table at indices, of (table, indices).",
    .inputs = 2,
    .round = Round::fused,
    .space = Space::gather,
    .attr_bytes = sizeof(EmbeddingAttrs),
    .fields = kFields,
    .infer =
        [](const TypeRule& t) {
          require_indices(t, 1);
          require_rank(t, 0, 2, 2);
          require_rank(t, 1, 0, kMaxRank - 1);
          t.out[0] = {t.in[0].dtype, false, looked_up_shape(t.in[1].shape, t.in[0].shape[1])};
        },
    .eval = eval,
    .vjp =
        [](const Vjp& v) {
          const auto& a = v.attrs<EmbeddingAttrs>();
          v.result[0] = apply(kEmbeddingBackward, a, {v.grad[0], v.in[1]});
          if (a.by_frequency)
            v.result[0] = div(v.result[0], counts(v.in[1], a.rows, v.grad[0].dtype()));
        },
    .saves = kSaves,
    .composite =
        [](const Eval& e) {
          Tensor rows = index_select(e.in[0], 0, flatten(to_dtype(e.in[1], DType::i64)));
          e.out[0] = reshape(rows, looked_up_shape(e.in[1].sizes(), e.in[0].size(1)));
        },
    .cost = cheap_cost,
    .samples = samples};

namespace {

/// Scales rows whose norm exceeds max_norm back to it, in place.
void limit_norms(const Tensor& weight, const Tensor& indices, double max_norm, double norm_type) {
  NoGrad plain;
  Tensor at = flatten(checked_indices(indices, weight.size(0))), rows = index_select(weight, 0, at);
  Tensor length =
      pow(sum(pow(abs(rows), number(norm_type)), Ints({-1}), true), number(1 / norm_type));
  Tensor factor = where(gt(length, number(max_norm)),
                        div(number(max_norm), add(length, number(1e-7))), ones({}, length.dtype()));
  index_copy_(weight, 0, at, mul(rows, factor));
}

}  // namespace

Tensor embedding(const Tensor& indices, const Tensor& weight, OptInt padding_idx,
                 OptDouble max_norm, double norm_type, bool scale_grad_by_freq, bool sparse) {
  if (weight.dim() != 2)
    fail(ErrorKind::runtime, "embedding: weight must be a table (rows, width), got shape {}",
         shape_text(weight.sizes()));
  if (is_floating(indices.dtype()) || indices.dtype() == DType::bool_)
    fail(ErrorKind::runtime, "embedding: indices must have an integer dtype, got {}",
         name(indices.dtype()));
  if (sparse)
    fail(ErrorKind::not_implemented,
         "embedding: sparse gradients do not exist here; pass sparse=False for a dense one");
  int64_t rows = weight.size(0), padding = padding_idx.value_or(-1);
  if (padding_idx && (padding < -rows || padding >= rows))
    fail(ErrorKind::value, "embedding: padding_idx {} is out of range for a table of {} rows",
         padding, rows);
  if (padding_idx && padding < 0) padding += rows;
  if (max_norm) limit_norms(weight, indices, *max_norm, norm_type);
  return apply(kEmbedding, EmbeddingAttrs{rows, padding, scale_grad_by_freq}, {weight, indices});
}

namespace {

OpDef* const kOps[] = {&kEmbedding, &kEmbeddingBackward};

const Function kFunctions[] = {
    {"embedding(Tensor input, Tensor weight, int? padding_idx=None, float? max_norm=None, float norm_type=2.0, bool scale_grad_by_freq=False, bool sparse=False) -> Tensor",
     "Rows of weight (rows, width) at the indices input; the row padding_idx gets no gradient.",
     kFunction | kNN, thunk<&embedding>},
};

}  // namespace

extern const OpFile embedding_ops;
const OpFile embedding_ops{kOps, kFunctions};

}  // namespace fluxion
