// layer_norm: rows of the trailing dims brought to mean 0 and variance 1 (Ba et al. 2016).
#include "ops/norms.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"

namespace fluxion {

using loops::Binary;
using loops::Term;
using loops::Value;

namespace {

/// x, [weight], [bias] -> y, mean, 1 / sqrt(variance + eps)
template <bool Weight, bool Bias>
void forward(Row& r) {
  constexpr int weight = 1, bias = 1 + Weight, y = 1 + Weight + Bias;
  Value mean = r.reduce_sum([&](const auto& i) -> Term { return r.load(0, i); }) / r.count();
  Value squares = r.reduce_sum([&](const auto& i) -> Term {
    Value d = r.load(0, i) - mean;
    return d * d;
  });
  Value scale = loops::rsqrt(squares / r.count() + r.param(0));
  r.each([&](const auto& i) {
    Value v = (r.load(0, i) - mean) * scale;
    if constexpr (Weight) v = v * r.load(weight, i);
    if constexpr (Bias) v = v + r.load(bias, i);
    r.store(y, i, v);
  });
  r.store_row(y + 1, mean);
  r.store_row(y + 2, scale);
}

/// g, x, mean, scale, [weight] -> [gradient of x], [sums: gradients of weight and bias]
template <bool Weight, bool Input, bool Sums>
void gradients(Row& r) {
  constexpr int dx = 4 + Weight, dweight = dx + Input, dbias = dweight + 1;
  Value mean = r.load(2), scale = r.load(3), drift, stretch;
  auto weighted = [&](const auto& i) {
    return Weight ? r.load(0, i) * r.load(4, i) : r.load(0, i);
  };
  auto normal = [&](const auto& i) { return (r.load(1, i) - mean) * scale; };
  if constexpr (Input) {
    auto sums = r.reduce({Binary::add, Binary::add}, [&](const auto& i) -> std::vector<Term> {
      Value g = weighted(i);
      return {g, g * normal(i)};
    });
    drift = sums[0] / r.count(), stretch = sums[1] / r.count();
  }
  r.each([&](const auto& i) {
    if constexpr (Input) r.store(dx, i, (weighted(i) - drift - normal(i) * stretch) * scale);
    if constexpr (Sums) {
      r.store(dweight, i, r.load(dweight, i) + r.load(0, i) * normal(i));
      r.store(dbias, i, r.load(dbias, i) + r.load(0, i));
    }
  });
}

constexpr auto element = Extent::element, column = Extent::column, row = Extent::row;
constexpr Slot kPlain[] = {element, element, row, row};
constexpr Slot kOne[] = {element, column, element, row, row};
constexpr Slot kBoth[] = {element, column, column, element, row, row};
constexpr Slot kInput[] = {element, element, row, row, element};
constexpr Slot kWeightedInput[] = {element, element, row, row, column, element};
constexpr Slot kSums[] = {element, element, row, row, column, column};
constexpr Slot kAll[] = {element, element, row, row, element, column, column};
constexpr Slot kWeightedAll[] = {element, element, row, row, column, element, column, column};

constexpr RowProgram kForward[] = {{0, 1, kPlain, forward<false, false>},
                                   {1, 2, kOne, forward<true, false>},
                                   {2, 2, kOne, forward<false, true>},
                                   {3, 3, kBoth, forward<true, true>}};
constexpr RowProgram kGradients[] = {{0, 4, kInput, gradients<false, true, false>},
                                     {1, 5, kWeightedInput, gradients<true, true, false>},
                                     {2, 4, kSums, gradients<false, false, true>},
                                     {3, 4, kAll, gradients<false, true, true>},
                                     {4, 5, kWeightedAll, gradients<true, true, true>}};

void eval(const Eval& e) {
  const auto& a = e.attrs<NormAttrs>();
  const Tensor& x = e.in[0];
  auto [rows, n] = rows_of(x.sizes(), static_cast<size_t>(a.dims));
  DType compute = row_compute(x.dtype());
  ensure(e.out[0], x.sizes(), x.dtype());
  for (int k : {1, 2}) ensure(e.out[k], statistics_shape(x.sizes(), a.dims), compute);
  TensorRefs operands{};
  for (const Tensor& t : e.in) operands.add_if(true, &t);
  for (const Tensor& t : e.out) operands.add_if(true, &t);
  run(e.op, kForward[a.has_weight + 2 * a.has_bias], compute, rows, n, operands, &a.eps);
}

void compose(const Eval& e) {
  const auto& a = e.attrs<NormAttrs>();
  const Tensor& x = e.in[0];
  auto [rows, n] = rows_of(x.sizes(), static_cast<size_t>(a.dims));
  Tensor flat = reshape(widen(x), Ints({rows, n})), count = number(static_cast<double>(n));
  Tensor mean = div(sum(flat, Ints({-1}), true), count), d = sub(flat, mean);
  Tensor scale = rsqrt(add(div(sum(mul(d, d), Ints({-1}), true), count), number(a.eps)));
  Tensor y = mul(d, scale);
  if (a.has_weight) y = mul(y, reshape(widen(e.in[1]), Ints({n})));
  if (a.has_bias) y = add(y, reshape(widen(e.in.back()), Ints({n})));
  e.out[0] = rounded(reshape(y, x.sizes()), x.dtype());
  e.out[1] = reshape(mean, statistics_shape(x.sizes(), a.dims));
  e.out[2] = reshape(scale, statistics_shape(x.sizes(), a.dims));
}

void eval_gradient(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<NormGradAttrs>();
  const Tensor &g = e.in[0], &x = e.in[1], &mean = e.in[2], &scale = e.in[3];
  auto [rows, n] = rows_of(x.sizes(), static_cast<size_t>(a.dims));
  DType compute = row_compute(x.dtype());
  bool sums = a.want_weight || a.want_bias, weighted = a.has_weight && a.want_input;
  TensorRefs operands{&g, &x, &mean, &scale};
  operands.add_if(weighted, &e.in.back());
  if (a.want_input) ensure(e.out[0], x.sizes(), x.dtype());
  operands.add_if(a.want_input, &e.out[0]);
  if (!sums) return run(e.op, kGradients[weighted], compute, rows, n, operands);
  for (int k : {1, 2}) {
    ensure(e.out[k], x.sizes().last(static_cast<size_t>(a.dims)),
           a.has_weight ? e.in.back().dtype() : x.dtype());
    operands.add_if(true, &e.out[k]);
  }
  run_column_sums(e.op, kGradients[a.want_input ? 3 + weighted : 2], compute, rows, n, operands);
}

void compose_gradient(const Eval& e) {
  const auto& a = e.attrs<NormGradAttrs>();
  const Tensor& x = e.in[1];
  auto [rows, n] = rows_of(x.sizes(), static_cast<size_t>(a.dims));
  auto flat = [&](const Tensor& t) { return reshape(widen(t), Ints({rows, n})); };
  Tensor g = flat(e.in[0]), mean = reshape(e.in[2], Ints({rows, 1})),
         scale = reshape(e.in[3], Ints({rows, 1}));
  Tensor normal = mul(sub(flat(x), mean), scale), count = number(static_cast<double>(n));
  if (a.want_input) {
    Tensor weighted = a.has_weight ? mul(g, reshape(widen(e.in[4]), Ints({n}))) : g;
    Tensor drift = div(sum(weighted, Ints({-1}), true), count);
    Tensor stretch = div(sum(mul(weighted, normal), Ints({-1}), true), count);
    Tensor dx = mul(sub(sub(weighted, drift), mul(normal, stretch)), scale);
    e.out[0] = rounded(reshape(dx, x.sizes()), x.dtype());
  }
  if (a.want_weight || a.want_bias) {
    DType dtype = a.has_weight ? e.in[4].dtype() : x.dtype();
    Ints shape = x.sizes().last(static_cast<size_t>(a.dims));
    e.out[1] = rounded(reshape(sum(mul(g, normal), Ints({0})), shape), dtype);
    e.out[2] = rounded(reshape(sum(g, Ints({0})), shape), dtype);
  }
}

constexpr SaveRule kSaves[] = {{3, 6}, {1, 6}};

/// The statistics are outputs too; their gradients arrive when a gradient of ours is differentiated.
Tensor through_statistics(const Vjp& v, Tensor dx) {
  const Tensor &x = v.in[0], &mean = v.out[1], &scale = v.out[2];
  auto [rows, n] = rows_of(x.sizes(), static_cast<size_t>(v.attrs<NormAttrs>().dims));
  Tensor count = number(static_cast<double>(n));
  auto accumulate = [&](const Tensor& t) { dx = dx.defined() ? add(dx, t) : t; };
  if (v.grad[1].defined()) accumulate(expand(div(v.grad[1], count), x.sizes()));
  if (v.grad[2].defined())
    accumulate(mul(neg(div(mul(v.grad[2], mul(scale, mul(scale, scale))), count)), sub(x, mean)));
  return dx;
}

void vjp(const Vjp& v);

}  // namespace

constinit OpDef kLayerNormBackward{
    .name = "layer_norm_backward",
    .doc = "Gradients of layer_norm: (g, x, mean, scale, [weight]) -> (dx, dweight, dbias).",
    .inputs = 255,
    .outputs = 3,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(NormGradAttrs),
    .fields = kNormGradFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<NormGradAttrs>();
          require_count(t, 4 + a.has_weight);
          require_norm_gradient(t, 2);
          const Type& x = t.in[1];
          Type w{a.has_weight ? t.in[4].dtype : x.dtype, false,
                 Shape(Ints(x.shape).last(static_cast<size_t>(a.dims)))};
          if (a.want_input) t.out[0] = x;
          if (a.want_weight || a.want_bias) t.out[1] = w, t.out[2] = w;
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
              NormGradAttrs a{1, weighted, 1, 1, 1};
              DType s = row_compute(t);
              const SampleSink::Input in[] = {{Shape{4, 9}, t},
                                              {Shape{4, 9}, t},
                                              {Shape{4, 1}, s, -0.5, 0.5},
                                              {Shape{4, 1}, s, 0.5, 1.5},
                                              {Shape{9}, t, 0.5, 1.5}};
              sink.add(std::span(in, 4 + static_cast<size_t>(weighted)), &a, sizeof a);
            }
        },
    .max_ulp = 64};

constinit OpDef kLayerNorm{
    .name = "layer_norm",
    .doc =
        "(x - mean) / sqrt(variance + eps) * weight + bias over the last dims; also mean and 1 / sqrt(variance + eps).",
    .inputs = 255,
    .outputs = 3,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(NormAttrs),
    .fields = kNormFields,
    .infer =
        [](const TypeRule& t) {
          const Type& x = t.in[0];
          require_norm(t);
          Type s{row_compute(x.dtype), false, statistics_shape(x.shape, t.attrs<NormAttrs>().dims)};
          t.out[0] = {x.dtype, false, x.shape}, t.out[1] = s, t.out[2] = s;
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
            for (int64_t variant : {0, 1, 2, 3}) {
              NormAttrs a{1e-5, 2, variant & 1, variant >> 1};
              const SampleSink::Input in[] = {
                  {Shape{4, 3, 7}, t}, {Shape{3, 7}, t, 0.5, 1.5}, {Shape{3, 7}, t}};
              sink.add(std::span(in, 1 + static_cast<size_t>((variant & 1) + (variant >> 1))), &a,
                       sizeof a);
            }
        },
    .max_ulp = 64};

namespace {

void vjp(const Vjp& v) {
  const auto& a = v.attrs<NormAttrs>();
  bool bias = a.has_bias && v.needs(1 + static_cast<size_t>(a.has_weight));
  NormGradAttrs wanted{a.dims, a.has_weight, v.needs(0), a.has_weight && v.needs(1), bias};
  Tensor out[3];
  if (v.grad[0].defined()) {
    const Tensor in[] = {v.grad[0], v.in[0], v.out[1], v.out[2], a.has_weight ? v.in[1] : Tensor()};
    apply(kLayerNormBackward, &wanted, std::span(in, 4 + static_cast<size_t>(a.has_weight)), out);
  }
  if (v.needs(0)) v.result[0] = through_statistics(v, out[0]);
  if (wanted.want_weight) v.result[1] = out[1];
  if (bias) v.result[1 + a.has_weight] = out[2];
}

}  // namespace

Tensor layer_norm(const Tensor& x, Ints normalized_shape, const Tensor& weight, const Tensor& bias,
                  double eps) {
  check_trailing_norm("layer_norm", x, normalized_shape, weight, bias);
  NormAttrs a{eps, static_cast<int64_t>(normalized_shape.size()), weight.defined(), bias.defined()};
  Tensor out[3];
  apply(kLayerNorm, &a, NormInputs(x, weight, bias), out);
  return out[0];
}

namespace {

OpDef* const kOps[] = {&kLayerNorm, &kLayerNormBackward};

const Function kFunctions[] = {
    {"layer_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1e-05) -> Tensor",
     "Brings the last dims, of shape normalized_shape, to mean 0 and variance 1, then scales by weight and adds bias.",
     kFunction | kNN, thunk<&layer_norm>},
};

}  // namespace

extern const OpFile layer_norm_ops;
const OpFile layer_norm_ops{kOps, kFunctions};

}  // namespace fluxion
