// The norm of many gradients together, and scaling them to a largest norm.
#include <cmath>
#include <vector>

#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/inplace.h"
#include "ops/optimizers.h"
#include "ops/requirements.h"
#include "ops/rowwise.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

using loops::Term;

namespace {

struct NormAttrs {
  double order;
  int64_t finite;
};
constexpr Field kNormFields[] = {
    {"order", FieldKind::real, offsetof(NormAttrs, order), "p of the p-norm, may be inf"},
    {"finite", FieldKind::boolean, offsetof(NormAttrs, finite), "raise for a norm of inf or NaN"}};

void squares(Row& r) {
  r.store_row(1, r.reduce_sum([&](const auto& i) -> Term { return r.load(0, i) * r.load(0, i); }));
}
constexpr Slot kSlots[] = {Extent::element, Extent::row};
constexpr double kSquareNanoseconds = 0.2;
constexpr RowProgram kSquares{0, 1, kSlots, squares, kSquareNanoseconds};

/// One tensor's sums of squares: one for each kFlatRow elements, 8 bytes apart for each tensor's first.
struct SquaresTask {
  const char* data;
  char* partials;
  int64_t n;
  DType dtype;
  kernels::Kernel kernel;

  int64_t rows() const { return flat_rows(n); }
  void run(int64_t begin, int64_t end) const {
    int64_t size = size_of(dtype), stride = kFlatRow;
    auto call = [&](int64_t row, int64_t count, int64_t length) {
      kernels::Buf args[] = {{const_cast<char*>(data) + row * kFlatRow * size, &stride},
                             {partials + row * size, nullptr}};
      int64_t sizes[] = {count, length};
      if (count) kernel(args, sizes, nullptr);
    };
    int64_t full = std::min(end, n / kFlatRow);
    call(begin, full - begin, kFlatRow);
    if (full < end) call(full, 1, n % kFlatRow);
  }
};

/// The sum of all squares: each tensor's by the numerics contract, those added in f64 in order.
double sum_of_squares(const OpDef& op, Tensors tensors) {
  std::vector<Tensor> kept;
  Small<SquaresTask, 16> tasks;
  int64_t rows = 0;
  for (const Tensor& t : tensors) {
    DType compute = row_compute(t.dtype());
    if (!t.numel()) continue;
    const Tensor* x = &t;
    if (t.dtype() != compute || !t.is_contiguous()) {
      kept.push_back(dense(to_dtype(t, compute)));
      x = &kept.back();
    }
    tasks.push_back({x->data<char>(), nullptr, x->numel(), compute, require_kernel(op, compute)});
    rows += tasks.back().rows();
  }
  Ref<Storage> memory = allocate(static_cast<size_t>(rows) * sizeof(double));
  char* at = memory->data;
  for (SquaresTask& t : tasks) {
    t.partials = at;
    at += t.rows() * static_cast<int64_t>(sizeof(double));
  }
  constexpr double kRowNanoseconds = kSquareNanoseconds * kFlatRow;
  LongWork work(kRowNanoseconds * static_cast<double>(rows));
  parallel(rows, 10, [&](int64_t begin, int64_t end) {
    int64_t first = 0;
    for (const SquaresTask& t : tasks) {
      int64_t from = std::max(begin - first, int64_t{0}), to = std::min(end - first, t.rows());
      if (from < to) t.run(from, to);
      first += t.rows();
    }
  });
  double total = 0;
  for (const SquaresTask& t : tasks) {
    auto fold = [&](auto sum) -> double {
      for (int64_t k = 0; k < t.rows(); ++k) sum += reinterpret_cast<decltype(sum)*>(t.partials)[k];
      return sum;
    };
    total += t.dtype == DType::f64 ? fold(0.0) : fold(0.0f);
  }
  return total;
}

/// The norm in other ops: each tensor's contribution, combined in f64.
Tensor composed_norm(Tensors tensors, double p) {
  Tensor total = scalar(0.0, DType::f64);
  for (const Tensor& t : tensors) {
    if (!t.numel()) continue;
    Tensor x = flatten(widen(t));
    bool most = std::isinf(p);
    Tensor part = most     ? amax(abs(x))
                  : p == 2 ? sum(mul(x, x), Ints({0}))
                           : sum(pow(abs(x), number(p)), Ints({0}));
    part = to_dtype(part, DType::f64);
    total = most ? maximum(total, part) : add(total, part);
  }
  total = std::isinf(p) ? total : p == 2 ? sqrt(total) : pow(total, number(1 / p));
  return to_dtype(total, tensors[0].dtype());
}

/// As Python writes a float.
std::string float_text(double v) {
  return std::isfinite(v) && v == std::floor(v) ? fmt::format("{:.1f}", v) : fmt::format("{}", v);
}

void refuse_nonfinite(const Tensor& norm, double order) {
  double v = norm.item();
  if (!std::isfinite(v))
    fail(ErrorKind::runtime,
         "the total norm of order {} is {}; pass error_if_nonfinite=False to scale by it anyway",
         float_text(order), float_text(v));
}

void norm_samples(const OpDef&, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (double order : {2.0, 1.0, 3.0, static_cast<double>(INFINITY)}) {
      NormAttrs a{order, 1};
      const SampleSink::Input in[] = {{Shape{5, 9}, t}, {Shape{0}, t}, {Shape{4}, DType::f32}};
      sink.add(in, &a, sizeof a);
    }
}

}  // namespace

constinit OpDef kTotalNorm{
    .name = "total_norm",
    .doc = "The p-norm of all elements of all tensors, in the dtype of the first.",
    .inputs = 255,
    .round = Round::fused,
    .space = Space::opaque,
    .attr_bytes = sizeof(NormAttrs),
    .fields = kNormFields,
    .infer =
        [](const TypeRule& t) {
          require(t, !t.in.empty(), "needs at least one tensor");
          require(t, t.attrs<NormAttrs>().order > 0, "the order must be positive");
          for (size_t i = 0; i < t.in.size(); ++i) require_floating(t, i);
          t.out[0] = {t.in[0].dtype, false, Shape{}};
        },
    .eval =
        [](const Eval& e) {
          NoGrad plain;
          const auto& a = e.attrs<NormAttrs>();
          DType dtype = e.in[0].dtype();
          Tensor norm = a.order == 2 ? scalar(std::sqrt(sum_of_squares(e.op, e.in)), dtype)
                                     : composed_norm(e.in, a.order);
          if (a.finite) refuse_nonfinite(norm, a.order);
          deliver(e.out[0], norm, dtype);
        },
    .composite = [](const Eval& e) { e.out[0] = composed_norm(e.in, e.attrs<NormAttrs>().order); },
    .kernels = [](const OpDef& op, KernelSink& sink) { emit(op, sink, kSquares); },
    .cost = cheap_cost,
    .samples = norm_samples,
    .max_ulp = 16};

namespace {

constexpr auto scaled = [](auto& b) { b.out(0, b.in(0) * b.param(0)); };
constexpr StepBody kScaled[] = {{0, 1, scalars_of<scaled>, step_tensors_of<scaled>}};
template <class T>
StepParams<T> scale_params(const StepAttrs&, const T& factor, const T&) {
  return {factor, T(0), T(0), T(0), T(0), T(0), T(0), T(0)};
}
constexpr StepRule kScaleRule{false, kScaled, scale_params<double>, scale_params<Expr>};

/// Times 1, in place.
bool changes_nothing(const Eval& e) {
  if (e.in.back().item() != 1) return false;
  for (size_t i = 0; i < e.out.size(); ++i)
    if (!e.out[i].is_same(e.in[i])) return false;
  return true;
}

constexpr Field kScaleFields[] = {
    {"variant", FieldKind::integer, offsetof(StepAttrs, variant), "always 0"}};

}  // namespace

constinit OpDef kScaleAll = step_op<kScaleRule>(
    {.name = "scale_all",
     .doc = "Many tensors times one factor: (tensors, factor) -> tensors.",
     .fields = kScaleFields,
     .eval =
         [](const Eval& e) {
           if (!changes_nothing(e)) eval_step(e, kScaleRule);
         },
     .cost = cheap_cost,
     .samples =
         [](const OpDef&, SampleSink& sink) {
           step_samples(sink, kScaleRule, [](const StepBody&) { return StepAttrs{}; });
         }});

Tensor _total_norm(Tensors tensors, double norm_type, bool error_if_nonfinite) {
  if (tensors.empty()) return zeros({}, default_dtype());
  if (!(norm_type > 0))
    fail(ErrorKind::value, "total_norm: norm_type must be positive, got {}", norm_type);
  for (const Tensor& t : tensors)
    if (!is_floating(t.dtype()))
      fail(ErrorKind::runtime, "total_norm: needs floating point tensors, got {}", type_text(t));
  NormAttrs a{norm_type, error_if_nonfinite};
  return apply(kTotalNorm, &a, tensors);
}

Tensor _clip_grad_norm_(Tensors grads, double max_norm, double norm_type, bool error_if_nonfinite) {
  NoGrad plain;
  Tensor norm = _total_norm(grads, norm_type, error_if_nonfinite);
  if (grads.empty()) return norm;
  Tensor factor = minimum(div(number(max_norm), add(norm, number(1e-6))), number(1));
  const Tensors lists[] = {grads};
  step_in_place(kScaleAll, StepAttrs{}, lists, {}, factor);
  return norm;
}

namespace {

OpDef* const kOps[] = {&kTotalNorm, &kScaleAll};

const Function kFunctions[] = {
    {"_total_norm(Tensor[] tensors, float norm_type=2.0, bool error_if_nonfinite=False) -> Tensor",
     "The p-norm of all elements of all tensors, in the dtype of the first.", kFunction | kPrivate,
     thunk<&_total_norm>},
    {"_clip_grad_norm_(Tensor[] grads, float max_norm, float norm_type=2.0, bool error_if_nonfinite=False) -> Tensor",
     "Scales gradients in place so that their total norm is at most max_norm; returns the norm they had.",
     kFunction | kPrivate, thunk<&_clip_grad_norm_>},
};

}  // namespace

extern const OpFile clip_grad_ops;
const OpFile clip_grad_ops{kOps, kFunctions};

}  // namespace fluxion
