// rms_norm: rows of the trailing dims brought to mean square 1 (Zhang & Sennrich 2019).
#include <limits>

#include "ops/norms.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"

namespace fluxion {

using loops::Term;
using loops::Value;

namespace {

/// x, [weight] -> y, 1 / sqrt(mean square + eps)
template <bool Weight>
void forward(Row& r) {
  Value squares = r.reduce_sum([&](const auto& i) -> Term { return r.load(0, i) * r.load(0, i); });
  Value scale = loops::rsqrt(squares / r.count() + r.param(0));
  r.each([&](const auto& i) {
    Value v = r.load(0, i) * scale;
    r.store(1 + Weight, i, Weight ? v * r.load(1, i) : v);
  });
  r.store_row(2 + Weight, scale);
}

/// g, x, scale, [weight] -> [gradient of x], [sum: gradient of weight]
template <bool Weight, bool Input, bool Sum>
void gradients(Row& r) {
  constexpr int dx = 3 + Weight, dweight = dx + Input;
  Value scale = r.load(2), stretch;
  auto weighted = [&](const auto& i) {
    return Weight ? r.load(0, i) * r.load(3, i) : r.load(0, i);
  };
  auto normal = [&](const auto& i) { return r.load(1, i) * scale; };
  if constexpr (Input)
    stretch =
        r.reduce_sum([&](const auto& i) -> Term { return weighted(i) * normal(i); }) / r.count();
  r.each([&](const auto& i) {
    if constexpr (Input) r.store(dx, i, (weighted(i) - normal(i) * stretch) * scale);
    if constexpr (Sum) r.store(dweight, i, r.load(dweight, i) + r.load(0, i) * normal(i));
  });
}

constexpr auto element = Extent::element, column = Extent::column, row = Extent::row;
constexpr Slot kPlain[] = {element, element, row};
constexpr Slot kWeighted[] = {element, column, element, row};
constexpr Slot kInput[] = {element, element, row, element};
constexpr Slot kWeightedInput[] = {element, element, row, column, element};
constexpr Slot kSum[] = {element, element, row, column};
constexpr Slot kAll[] = {element, element, row, column, element, column};

constexpr RowProgram kForward[] = {{0, 1, kPlain, forward<false>},
                                   {1, 2, kWeighted, forward<true>}};
constexpr RowProgram kGradients[] = {{0, 3, kInput, gradients<false, true, false>},
                                     {1, 4, kWeightedInput, gradients<true, true, false>},
                                     {2, 3, kSum, gradients<false, false, true>},
                                     {3, 4, kAll, gradients<true, true, true>}};

void eval(const Eval& e) {
  const auto& a = e.attrs<NormAttrs>();
  const Tensor& x = e.in[0];
  auto [rows, n] = rows_of(x.sizes(), static_cast<size_t>(a.dims));
  DType compute = row_compute(x.dtype());
  ensure(e.out[0], x.sizes(), x.dtype());
  ensure(e.out[1], statistics_shape(x.sizes(), a.dims), compute);
  TensorRefs operands{&x};
  operands.add_if(a.has_weight, &e.in.back());
  for (const Tensor& t : e.out) operands.add_if(true, &t);
  run(e.op, kForward[a.has_weight], compute, rows, n, operands, &a.eps);
}

void compose(const Eval& e) {
  const auto& a = e.attrs<NormAttrs>();
  const Tensor& x = e.in[0];
  auto [rows, n] = rows_of(x.sizes(), static_cast<size_t>(a.dims));
  Tensor flat = reshape(widen(x), Ints({rows, n})), count = number(static_cast<double>(n));
  Tensor scale = rsqrt(add(div(sum(mul(flat, flat), Ints({-1}), true), count), number(a.eps)));
  Tensor y = mul(flat, scale);
  if (a.has_weight) y = mul(y, reshape(widen(e.in[1]), Ints({n})));
  e.out[0] = rounded(reshape(y, x.sizes()), x.dtype());
  e.out[1] = reshape(scale, statistics_shape(x.sizes(), a.dims));
}

void eval_gradient(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<NormGradAttrs>();
  const Tensor &g = e.in[0], &x = e.in[1], &scale = e.in[2];
  auto [rows, n] = rows_of(x.sizes(), static_cast<size_t>(a.dims));
  DType compute = row_compute(x.dtype());
  bool weighted = a.has_weight && a.want_input;
  TensorRefs operands{&g, &x, &scale};
  operands.add_if(weighted, &e.in.back());
  if (a.want_input) ensure(e.out[0], x.sizes(), x.dtype());
  operands.add_if(a.want_input, &e.out[0]);
  if (!a.want_weight) return run(e.op, kGradients[weighted], compute, rows, n, operands);
  ensure(e.out[1], x.sizes().last(static_cast<size_t>(a.dims)), e.in.back().dtype());
  operands.add_if(true, &e.out[1]);
  run_column_sums(e.op, kGradients[a.want_input ? 3 : 2], compute, rows, n, operands);
}

void compose_gradient(const Eval& e) {
  const auto& a = e.attrs<NormGradAttrs>();
  const Tensor& x = e.in[1];
  auto [rows, n] = rows_of(x.sizes(), static_cast<size_t>(a.dims));
  auto flat = [&](const Tensor& t) { return reshape(widen(t), Ints({rows, n})); };
  Tensor g = flat(e.in[0]), scale = reshape(e.in[2], Ints({rows, 1})), normal = mul(flat(x), scale);
  if (a.want_input) {
    Tensor weighted = a.has_weight ? mul(g, reshape(widen(e.in[3]), Ints({n}))) : g;
    Tensor stretch =
        div(sum(mul(weighted, normal), Ints({-1}), true), number(static_cast<double>(n)));
    e.out[0] =
        rounded(reshape(mul(sub(weighted, mul(normal, stretch)), scale), x.sizes()), x.dtype());
  }
  if (a.want_weight)
    e.out[1] = rounded(
        reshape(sum(mul(g, normal), Ints({0})), x.sizes().last(static_cast<size_t>(a.dims))),
        e.in[3].dtype());
}

constexpr SaveRule kSaves[] = {{3, 2}, {1, 2}};

void vjp(const Vjp& v);

}  // namespace

constinit OpDef kRmsNormBackward{
    .name = "rms_norm_backward",
    .doc = "Gradients of rms_norm: (g, x, scale, [weight]) -> (dx, dweight).",
    .inputs = 255,
    .outputs = 2,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(NormGradAttrs),
    .fields = kNormGradFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<NormGradAttrs>();
          require_count(t, 3 + a.has_weight);
          require_norm_gradient(t, 1);
          require(t, !a.want_bias, "there is no bias");
          require(t, a.has_weight || !a.want_weight, "there is no weight");
          const Type& x = t.in[1];
          if (a.want_input) t.out[0] = x;
          if (a.want_weight)
            t.out[1] = {a.has_weight ? t.in[3].dtype : x.dtype, false,
                        Shape(Ints(x.shape).last(static_cast<size_t>(a.dims)))};
        },
    .eval = eval_gradient,
    .composite = compose_gradient,
    .kernels =
        [](const OpDef& op, KernelSink& sink) {
          for (const RowProgram& p : kGradients) emit(op, sink, p);
        },
    .cost = rowwise_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
            for (int64_t weighted : {0, 1}) {
              NormGradAttrs a{1, weighted, 1, weighted, 0};
              const SampleSink::Input in[] = {{Shape{4, 9}, t},
                                              {Shape{4, 9}, t},
                                              {Shape{4, 1}, row_compute(t), 0.5, 1.5},
                                              {Shape{9}, t, 0.5, 1.5}};
              sink.add(std::span(in, 3 + static_cast<size_t>(weighted)), &a, sizeof a);
            }
        },
    .max_ulp = 64};

constinit OpDef kRmsNorm{
    .name = "rms_norm",
    .doc = "x / sqrt(mean(x^2) + eps) * weight over the last dims; also 1 / sqrt(mean(x^2) + eps).",
    .inputs = 255,
    .outputs = 2,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(NormAttrs),
    .fields = kNormFields,
    .infer =
        [](const TypeRule& t) {
          const Type& x = t.in[0];
          require_norm(t);
          require(t, !t.attrs<NormAttrs>().has_bias, "there is no bias");
          t.out[0] = {x.dtype, false, x.shape};
          t.out[1] = {row_compute(x.dtype), false,
                      statistics_shape(x.shape, t.attrs<NormAttrs>().dims)};
        },
    .eval = eval,
    .vjp = vjp,
    .saves = kSaves,
    .composite = compose,
    .kernels =
        [](const OpDef& op, KernelSink& sink) {
          for (const RowProgram& p : kForward) emit(op, sink, p);
        },
    .cost = rowwise_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
            for (int64_t weighted : {0, 1}) {
              NormAttrs a{1e-5, 2, weighted, 0};
              const SampleSink::Input in[] = {{Shape{4, 3, 7}, t}, {Shape{3, 7}, t, 0.5, 1.5}};
              sink.add(std::span(in, 1 + static_cast<size_t>(weighted)), &a, sizeof a);
            }
        },
    .max_ulp = 16};

namespace {

void vjp(const Vjp& v) {
  const auto& a = v.attrs<NormAttrs>();
  const Tensor &x = v.in[0], &scale = v.out[1];
  NormGradAttrs wanted{a.dims, a.has_weight, v.needs(0), a.has_weight && v.needs(1), 0};
  Tensor out[2];
  if (v.grad[0].defined()) {
    const Tensor in[] = {v.grad[0], x, scale, a.has_weight ? v.in[1] : Tensor()};
    apply(kRmsNormBackward, &wanted, std::span(in, 3 + static_cast<size_t>(a.has_weight)), out);
  }
  if (v.grad[1].defined()) {  // of the scale; arrives when a gradient of ours is differentiated
    auto count = static_cast<double>(rows_of(x.sizes(), static_cast<size_t>(a.dims)).n);
    Tensor more = mul(mul(v.grad[1], mul(mul(scale, mul(scale, scale)), number(-1 / count))), x);
    out[0] = out[0].defined() ? add(out[0], more) : more;
  }
  if (v.needs(0)) v.result[0] = out[0];
  if (wanted.want_weight) v.result[1] = out[1];
}

/// torch.finfo(dtype).eps
double machine_epsilon(DType t) {
  switch (t) {
    case DType::f64: return 0x1p-52;
    case DType::f16: return 0x1p-10;
    case DType::bf16: return 0x1p-7;
    default: return 0x1p-23;
  }
}

}  // namespace

Tensor rms_norm(const Tensor& x, Ints normalized_shape, const Tensor& weight, OptDouble eps) {
  check_trailing_norm("rms_norm", x, normalized_shape, weight, {});
  NormAttrs a{eps.value_or(machine_epsilon(x.dtype())),
              static_cast<int64_t>(normalized_shape.size()), weight.defined(), 0};
  Tensor out[2];
  apply(kRmsNorm, &a, NormInputs(x, weight, {}), out);
  return out[0];
}

namespace {

OpDef* const kOps[] = {&kRmsNorm, &kRmsNormBackward};

const Function kFunctions[] = {
    {"rms_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, float? eps=None) -> Tensor",
     "Divides the last dims, of shape normalized_shape, by their root mean square, then scales by weight; "
     "eps None: the dtype's machine epsilon.",
     kFunction | kNN, thunk<&rms_norm>},
};

}  // namespace

extern const OpFile rms_norm_ops;
const OpFile rms_norm_ops{kOps, kFunctions};

}  // namespace fluxion
