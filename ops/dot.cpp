#include "ops/dot.h"

#include "kernels/gemm.h"
#include "loops/micro.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/promotion.h"
#include "ops/requirements.h"
#include "ops/rowwise.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

constexpr uint8_t kFinish = 128;  // variants from here on are finishers, by BiasSide

/// The dtype products are accumulated in.
DType contraction_dtype(DType t) {
  return t == DType::f64 || t == DType::i64 ? t : is_floating(t) ? DType::f32 : DType::i32;
}

int forms_of(DType compute) { return is_floating(compute) ? kernels::kTileForms : 2; }

/// fn(form, rows) for every tile of a compute dtype.
template <class Fn>
void each_tile(DType compute, bool wide, Fn fn) {
  for (int form = 0; form < forms_of(compute); ++form)
    for (int rows = 1; rows <= kernels::tile_size(compute, wide).rows; ++rows)
      fn(static_cast<kernels::TileForm>(form), rows);
}

void dot_kernels(const OpDef& op, KernelSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::i32, DType::i64})
    for (bool wide : {false, true})
      if (!wide || is_floating(t))
        each_tile(t, wide, [&](kernels::TileForm form, int rows) {
          sink.add(op, t, kernels::tile_variant(form, rows, wide), [&](std::string symbol) {
            return loops::contraction_tile(std::move(symbol), t, form, rows, wide);
          });
        });
  for (int k = 1; k < kDTypes; ++k)
    for (int side = 0; side < kernels::kBiasSides; ++side) {
      auto out = static_cast<DType>(k);
      sink.add(op, out, static_cast<uint8_t>(kFinish + side), [&](std::string symbol) {
        return loops::finish_tile(std::move(symbol), contraction_dtype(out), out,
                                  static_cast<kernels::BiasSide>(side));
      });
    }
}

/// Runs out = a b + bias with batch dims as they broadcast.
void run_gemm(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& out) {
  kernels::GemmArgs g{};
  int batch = out.dim() - 2;
  if (batch > kernels::kMaxBatchDims)
    fail(ErrorKind::not_implemented, "matmul: at most {} batch dims, got {}",
         kernels::kMaxBatchDims, batch);
  auto matrix = [&](const Tensor& t) {
    kernels::Matrix m{t.data(), t.strides()[t.dim() - 2], t.strides()[t.dim() - 1], {}};
    for (int d = 0; d < batch; ++d) {
      int own = d - (out.dim() - t.dim());
      m.batch_strides[d] = own < 0 || t.sizes()[own] == 1 ? 0 : t.strides()[own];
    }
    return m;
  };
  g.batch_dims = batch;
  for (int d = 0; d < batch; ++d) g.batch_sizes[d] = out.sizes()[d];
  g.m = out.sizes()[batch];
  g.n = out.sizes()[batch + 1];
  g.k = a.sizes()[a.dim() - 1];
  g.in = a.dtype();
  g.out = out.dtype();
  g.a = matrix(a);
  g.b = matrix(b);
  g.c = matrix(out);
  Tensor addend = bias.defined() ? dense(to_dtype(bias, contraction_dtype(a.dtype()))) : Tensor{};
  g.bias_side = bias.defined() ? kernels::BiasSide::columns : kernels::BiasSide::none;
  g.bias = bias.defined() ? addend.data() : nullptr;
  g.threads = num_threads();
  kernels::ContractionKernels k = contraction_kernels(a.dtype(), out.dtype());
  size_t bytes = kernels::gemm_workspace(g, k);
  Ref<Storage> workspace = allocate(bytes);
  LongWork busy(2.0 * static_cast<double>(out.numel()) * static_cast<double>(g.k) / 50);
  kernels::Ctx ctx = kernel_context(workspace->data, bytes);
  invariant(kernels::gemm(ctx, g, k) == kernels::kOk, "gemm");
}

DType result_dtype(const char* op, const Tensor& a, const Tensor& b) {
  if (a.dtype(op) != b.dtype(op))
    fail(ErrorKind::runtime,
         "{}: both operands must have one dtype, got {} and {}. Cast one with .to()", op,
         name(a.dtype()), name(b.dtype()));
  return a.dtype();
}

void infer_dot(const TypeRule& t) {
  for (size_t i : {0, 1}) require_rank(t, i, 2);
  require(t, t.in[0].dtype == t.in[1].dtype, "both inputs must have one dtype");
  require(t, t.in[0].shape.back() == t.in[1].shape[t.in[1].shape.size() - 2],
          "the last dim of the first input must equal the second last of the second");
  Shape a = t.in[0].shape, b = t.in[1].shape;
  Shape batch =
      broadcast_shapes("matmul", Ints(a).first(a.size() - 2), Ints(b).first(b.size() - 2));
  batch.push_back(a[a.size() - 2]);
  batch.push_back(b.back());
  t.out[0] = {t.in[0].dtype, false, batch};
}

void multiply(const Eval& e, Ints shape, const Tensor& a, const Tensor& b, const Tensor& bias) {
  bool direct = !e.out[0].defined();
  Tensor out = empty(shape, a.dtype());
  if (out.numel()) run_gemm(a, b, bias, out);
  if (direct) e.out[0] = out;
  else copy_elements(out, e.out[0]);
}

void eval_dot(const Eval& e) {
  const Tensor &a = e.in[0], &b = e.in[1];
  Shape shape =
      broadcast_shapes("matmul", a.sizes().first(a.dim() - 2), b.sizes().first(b.dim() - 2));
  shape.push_back(a.sizes()[a.dim() - 2]);
  shape.push_back(b.sizes()[b.dim() - 1]);
  multiply(e, shape, a, b, {});
}

double dot_cost(std::span<const Type> in, const void* attrs) {
  return cheap_cost(in, attrs) * static_cast<double>(in[1].shape.back());
}

void dot_samples(const OpDef& op, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i32, DType::i64,
                  DType::u8, DType::i8, DType::i16}) {
    SampleSink::Input plain[] = {{Shape{5, 7}, t}, {Shape{7, 3}, t}};
    sink.add(plain, nullptr, op.attr_bytes);
    SampleSink::Input batched[] = {{Shape{2, 1, 4, 3}, t}, {Shape{3, 3, 5}, t}};
    sink.add(batched, nullptr, op.attr_bytes);
  }
}

/// [m, k] with all leading dims joined.
Tensor as_matrix(const Tensor& x) {
  const int64_t shape[] = {-1, x.sizes()[x.dim() - 1]};
  return x.dim() == 2
             ? x
             : reshape(x, x.numel()
                              ? Ints(shape)
                              : Ints(Shape{element_count(x.sizes().first(x.dim() - 1)), shape[1]}));
}

void infer_linear(const TypeRule& t) {
  require_count(t, 2, 3);
  require_rank(t, 0, 1);
  require_rank(t, 1, 2, 2);
  require(t, t.in[0].dtype == t.in[1].dtype, "input and weight must have one dtype");
  require(t, t.in[0].shape.back() == t.in[1].shape[1], "the last dims must be equal");
  if (t.in.size() == 3) require_shape(t, 2, Shape{t.in[1].shape[0]});
  Shape s = t.in[0].shape;
  s.back() = t.in[1].shape[0];
  t.out[0] = {t.in[0].dtype, false, s};
}

void eval_linear(const Eval& e) {
  NoGrad plain;
  Tensor x = as_matrix(e.in[0]);
  const Tensor& w = e.in[1];
  Shape flat{x.sizes()[0], w.sizes()[0]}, shape(e.in[0].sizes());
  shape.back() = w.sizes()[0];
  Tensor out = empty(Ints(flat), x.dtype());
  if (out.numel()) run_gemm(x, t(w), e.in.size() > 2 ? e.in[2] : Tensor{}, out);
  out = alias(out, shape, row_major_strides(shape), 0);
  if (e.out[0].defined()) copy_elements(out, e.out[0]);
  else e.out[0] = out;
}

void vjp_linear(const Vjp& v) {
  const Tensor& g = v.grad[0];
  Tensor flat = as_matrix(g);
  if (v.needs(0)) v.result[0] = reshape(apply(kDot, {flat, v.in[1]}), v.in[0].sizes());
  if (v.needs(1)) v.result[1] = apply(kDot, {t(flat), as_matrix(v.in[0])});
  if (v.in.size() > 2 && v.needs(2)) v.result[2] = sum(flat, Shape{0});
}

void linear_samples(const OpDef&, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    SampleSink::Input with[] = {{Shape{2, 5, 7}, t}, {Shape{4, 7}, t}, {Shape{4}, t}};
    sink.add(with, nullptr, 0);
    sink.add(std::span(with, 2), nullptr, 0);
  }
}

/// A contraction without a free dim on the right is a reduction of rows.
constexpr Slot kVectorSlots[] = {Extent::element, Extent::column, Extent::row};
constexpr RowProgram kVectorProgram{0, 2, kVectorSlots,
                                    [](Row& r) {
                                      r.store_row(2, r.reduce_sum([&](const loops::Index& i) {
                                        return loops::Term(r.load(0, i), r.load(1, i));
                                      }));
                                    },
                                    0.15};

void infer_mv(const TypeRule& t) {
  require_rank(t, 0, 1);
  require_shape(t, 1, Shape{t.in[0].shape.back()});
  Shape shape = t.in[0].shape;
  shape.pop_back();
  t.out[0] = {t.in[0].dtype, false, shape};
}

void eval_mv(const Eval& e) {
  const Tensor& a = e.in[0];
  auto [rows, n] = rows_of(a.sizes(), 1);
  ensure(e.out[0], a.sizes().first(static_cast<size_t>(a.dim() - 1)), a.dtype());
  run(e.op, kVectorProgram, row_compute(a.dtype()), rows, n, {&a, &e.in[1], &e.out[0]});
}

void mv_samples(const OpDef&, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    SampleSink::Input in[] = {{Shape{3, 4, 37}, t}, {Shape{37}, t}};
    sink.add(in, nullptr, 0);
  }
}

constexpr SaveRule kLinearSaves[] = {{2, 0}, {1, 0}, {0, 0}};

}  // namespace

constinit OpDef kDot{
    .name = "dot_general",
    .doc = "Matrix products: the last dim of a with the next to last of b; batch dims broadcast.",
    .inputs = 2,
    .space = Space::contraction,
    .infer = infer_dot,
    .eval = eval_dot,
    .vjp =
        [](const Vjp& v) {
          if (v.needs(0)) v.result[0] = apply(kDot, {v.grad[0], transpose(v.in[1], -2, -1)});
          if (v.needs(1)) v.result[1] = apply(kDot, {transpose(v.in[0], -2, -1), v.grad[0]});
        },
    .saves = kSaveOther,
    .kernels = dot_kernels,
    .cost = dot_cost,
    .samples = dot_samples};

constinit OpDef kMatrixVector{
    .name = "matrix_vector",
    .doc = "Rows of a times the vector b: (a [..., m, k], b [k]) -> [..., m], summed in lanes.",
    .inputs = 2,
    .space = Space::contraction,
    .infer = infer_mv,
    .eval = eval_mv,
    .vjp =
        [](const Vjp& v) {
          const Tensor& g = v.grad[0];
          if (v.needs(0)) v.result[0] = mul(unsqueeze(g, -1), v.in[1]);
          if (v.needs(1))
            v.result[1] =
                apply(kMatrixVector, {t(as_matrix(v.in[0])), reshape(g, Shape{g.numel()})});
        },
    .saves = kSaveOther,
    .kernels = [](const OpDef& op, KernelSink& sink) { emit(op, sink, kVectorProgram); },
    .cost = cheap_cost,
    .samples = mv_samples};

constinit OpDef kLinear{.name = "linear",
                        .doc = "x W^T + b, the bias added before the one rounding.",
                        .inputs = 255,
                        .round = Round::fused,
                        .space = Space::contraction,
                        .infer = infer_linear,
                        .eval = eval_linear,
                        .vjp = vjp_linear,
                        .saves = kLinearSaves,
                        .cost = dot_cost,
                        .samples = linear_samples};

namespace {

kernels::Tiles find_tiles(DType compute) {
  bool wide = is_floating(compute) && kernels::has_wide_vectors();
  kernels::Tiles tiles{compute, kernels::tile_size(compute, wide), {}};
  each_tile(compute, wide, [&](kernels::TileForm form, int rows) {
    tiles.at[static_cast<int>(form)][rows - 1] =
        require_kernel(kDot, compute, kernels::tile_variant(form, rows, wide));
  });
  return tiles;
}

const kernels::Tiles& tiles_for(DType compute) {
  static const kernels::Tiles all[] = {find_tiles(DType::i32), find_tiles(DType::i64),
                                       find_tiles(DType::f32), find_tiles(DType::f64)};
  return all[2 * is_floating(compute) + (size_of(compute) == 8)];
}

}  // namespace

kernels::ContractionKernels contraction_kernels(DType in, DType out) {
  kernels::ContractionKernels k{tiles_for(contraction_dtype(in)), {}};
  for (int side = 0; side < kernels::kBiasSides; ++side)
    k.finish[side] = require_kernel(kDot, out, static_cast<uint8_t>(kFinish + side));
  return k;
}

namespace {

void check_inner(const char* op, const Tensor& a, const Tensor& b) {
  result_dtype(op, a, b);
  if (a.dtype(op) == DType::bool_)
    fail(ErrorKind::runtime, "{}: bool tensors have no products; cast them first", op);
  int64_t k = a.sizes()[a.dim() - 1], other = b.sizes(op)[b.dim() - 2];
  if (k != other)
    fail(
        ErrorKind::runtime,
        "{}: last dim of `input` {} must equal the first matrix dim of `other` {}: {} and {}. Transpose one?",
        op, shape_text(a.sizes()), shape_text(b.sizes()), k, other);
}

void check_rank(const char* op, const Tensor& x, int rank, const char* which) {
  if (x.dim(op) != rank)
    fail(ErrorKind::runtime, "{}: `{}` must have {} dims, got shape {}", op, which, rank,
         shape_text(x.sizes()));
}

}  // namespace

Tensor matmul(const Tensor& input, const Tensor& other) {
  if (input.dim() == 0 || other.dim() == 0)
    fail(ErrorKind::runtime, "matmul: both operands need at least 1 dim, got shapes {} and {}",
         shape_text(input.sizes()), shape_text(other.sizes()));
  Tensor a = input.dim() == 1 ? unsqueeze(input, 0) : input,
         b = other.dim() == 1 ? unsqueeze(other, 1) : other;
  check_inner("matmul", a, b);
  if (other.dim() == 1 && is_floating(a.dtype())) {
    Tensor y = apply(kMatrixVector, {a, other});
    return input.dim() == 1 ? squeeze(y, Shape{-1}) : y;
  }
  Tensor y;
  if (b.dim() == 2 && a.dim() > 2 && a.is_contiguous()) {  // one product of all rows
    Shape shape(a.sizes());
    shape.back() = b.sizes()[1];
    y = reshape(apply(kDot, {as_matrix(a), b}), shape);
  } else {
    y = apply(kDot, {a, b});
  }
  if (other.dim() == 1) y = squeeze(y, Shape{-1});
  if (input.dim() == 1) y = squeeze(y, Shape{other.dim() == 1 ? -1 : -2});
  return y;
}
Tensor mm(const Tensor& a, const Tensor& b) {
  check_rank("mm", a, 2, "input");
  check_rank("mm", b, 2, "mat2");
  check_inner("mm", a, b);
  return apply(kDot, {a, b});
}
Tensor bmm(const Tensor& a, const Tensor& b) {
  check_rank("bmm", a, 3, "input");
  check_rank("bmm", b, 3, "mat2");
  check_inner("bmm", a, b);
  if (a.sizes()[0] != b.sizes()[0])
    fail(ErrorKind::runtime, "bmm: batch sizes must be equal, got {} and {}", a.sizes()[0],
         b.sizes()[0]);
  return apply(kDot, {a, b});
}
Tensor mv(const Tensor& a, const Tensor& b) {
  check_rank("mv", a, 2, "input");
  check_rank("mv", b, 1, "vec");
  return matmul(a, b);
}
Tensor dot(const Tensor& a, const Tensor& b) {
  check_rank("dot", a, 1, "input");
  check_rank("dot", b, 1, "tensor");
  return matmul(a, b);
}
Tensor outer(const Tensor& a, const Tensor& b) {
  check_rank("outer", a, 1, "input");
  check_rank("outer", b, 1, "vec2");
  return mul(unsqueeze(a, 1), b);
}
Tensor addmm(const Tensor& x, const Tensor& a, const Tensor& b, Scalar beta, Scalar alpha) {
  Tensor y = mm(a, b);
  if (alpha.as_double() != 1) y = mul(y, alpha.tensor());
  return beta.as_double() == 0 ? y : add(y, x, beta);
}
Tensor baddbmm(const Tensor& x, const Tensor& a, const Tensor& b, Scalar beta, Scalar alpha) {
  Tensor y = bmm(a, b);
  if (alpha.as_double() != 1) y = mul(y, alpha.tensor());
  return beta.as_double() == 0 ? y : add(y, x, beta);
}
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (weight.dim() == 1 && x.dim() > 0)
    return squeeze(linear(x, unsqueeze(weight, 0), bias.defined() ? reshape(bias, Shape{1}) : bias),
                   Shape{-1});
  if (x.dim() == 0 || weight.dim() != 2)
    fail(ErrorKind::runtime,
         "linear: needs an input of at least 1 dim and a weight of 1 or 2, got {} and {}",
         shape_text(x.sizes()), shape_text(weight.sizes()));
  if (x.sizes()[x.dim() - 1] != weight.sizes()[1])
    fail(ErrorKind::runtime,
         "linear: last dim of `input` {} must equal in_features, the last dim of `weight` {}",
         shape_text(x.sizes()), shape_text(weight.sizes()));
  result_dtype("linear", x, weight);
  if (!bias.defined()) return apply(kLinear, {x, weight});
  if (bias.dim() != 1 || bias.sizes()[0] != weight.sizes()[0])
    fail(ErrorKind::runtime, "linear: `bias` must have shape ({},), got {}", weight.sizes()[0],
         shape_text(bias.sizes()));
  return apply(kLinear, {x, weight, bias});
}

namespace {

OpDef* const kOps[] = {&kDot, &kMatrixVector, &kLinear};
constexpr uint16_t kUsual = kFunction | kMethod | kOut;

const Function kFunctions[] = {
    {"matmul(Tensor input, Tensor other) -> Tensor",
     "The matrix product; batch dims broadcast, 1-dim operands are vectors.", kUsual,
     thunk<&matmul>},
    {"mm(Tensor input, Tensor mat2) -> Tensor", "The product of two matrices.", kUsual, thunk<&mm>},
    {"bmm(Tensor input, Tensor mat2) -> Tensor", "Products of two batches of matrices.", kUsual,
     thunk<&bmm>},
    {"mv(Tensor input, Tensor vec) -> Tensor", "A matrix times a vector.", kUsual, thunk<&mv>},
    {"dot(Tensor input, Tensor tensor) -> Tensor", "The inner product of two vectors.", kUsual,
     thunk<&dot>},
    {"outer(Tensor input, Tensor vec2) -> Tensor", "The outer product of two vectors.", kUsual,
     thunk<&outer>},
    {"addmm(Tensor input, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
     "beta * input + alpha * mat1 @ mat2.", kUsual, thunk<&addmm>},
    {"baddbmm(Tensor input, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
     "beta * input + alpha * batch1 @ batch2.", kUsual, thunk<&baddbmm>},
    {"linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor",
     "input @ weight^T + bias; weight [out, in].", kFunction | kNN, thunk<&linear>},
};

}  // namespace

extern const OpFile dot_ops;
const OpFile dot_ops{kOps, kFunctions};

}  // namespace fluxion
