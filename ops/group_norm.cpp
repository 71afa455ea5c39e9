// group_norm: groups of channels of each sample brought to mean 0 and variance 1 (Wu & He 2018).
#include "ops/copy.h"
#include "ops/norms.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"

namespace fluxion {

using loops::Binary;
using loops::Term;
using loops::Value;

namespace {

constexpr auto element = Extent::element, row = Extent::row;

/// Rows are groups: x -> mean, 1 / sqrt(variance + eps)
void statistics(Row& r) {
  Value mean = r.reduce_sum([&](const auto& i) -> Term { return r.load(0, i); }) / r.count();
  Value squares = r.reduce_sum([&](const auto& i) -> Term {
    Value d = r.load(0, i) - mean;
    return d * d;
  });
  r.store_row(1, mean);
  r.store_row(2, loops::rsqrt(squares / r.count() + r.param(0)));
}

/// Rows are channels: x, mean, scale, [weight], [bias] -> y
template <bool Weight, bool Bias>
void forward(Row& r) {
  Value mean = r.load(1), scale = r.load(2);
  Value weight = Weight ? r.load(3) : Value(), bias = Bias ? r.load(3 + Weight) : Value();
  r.each([&](const auto& i) {
    Value v = (r.load(0, i) - mean) * scale;
    if constexpr (Weight) v = v * weight;
    if constexpr (Bias) v = v + bias;
    r.store(3 + Weight + Bias, i, v);
  });
}

/// Rows are channels: g, x, mean, scale -> sum of g, sum of g * normalised x
void channel_sums(Row& r) {
  Value mean = r.load(2), scale = r.load(3);
  auto sums = r.reduce({Binary::add, Binary::add}, [&](const auto& i) -> std::vector<Term> {
    Value g = r.load(0, i);
    return {g, g * ((r.load(1, i) - mean) * scale)};
  });
  r.store_row(4, sums[0]);
  r.store_row(5, sums[1]);
}

/// Rows are channels: g, x, mean, scale, weight, drift, stretch -> gradient of x
void input_gradient(Row& r) {
  Value mean = r.load(2), scale = r.load(3), weight = r.load(4), drift = r.load(5),
        stretch = r.load(6);
  r.each([&](const auto& i) {
    r.store(7, i,
            (r.load(0, i) * weight - drift - (r.load(1, i) - mean) * scale * stretch) * scale);
  });
}

constexpr Slot kStatistics[] = {element, row, row};
constexpr Slot kForwardSlots[][6] = {{element, row, row, element, row, row},
                                     {element, row, row, row, element, row},
                                     {element, row, row, row, element, row},
                                     {element, row, row, row, row, element}};
constexpr Slot kSums[] = {element, element, row, row, row, row};
constexpr Slot kInputGradient[] = {element, element, row, row, row, row, row, element};

constexpr std::span<const Slot> forward_slots(size_t variant, size_t n) {
  return std::span(kForwardSlots[variant], n);
}
constexpr RowProgram kForwardPrograms[] = {{0, 3, forward_slots(0, 4), forward<false, false>},
                                           {1, 4, forward_slots(1, 5), forward<true, false>},
                                           {2, 4, forward_slots(2, 5), forward<false, true>},
                                           {3, 5, forward_slots(3, 6), forward<true, true>}};
constexpr RowProgram kStatisticsProgram{4, 1, kStatistics, statistics};
constexpr RowProgram kSumsProgram{0, 4, kSums, channel_sums};
constexpr RowProgram kInputGradientProgram{1, 7, kInputGradient, input_gradient};

/// x as [samples, groups, channels of a group, positions].
struct Groups {
  int64_t samples, groups, members, positions;
  int64_t channels() const { return groups * members; }
  int64_t rows() const { return samples * channels(); }
  int64_t values() const { return members * positions; }
};
Groups groups_of(Ints shape, int64_t groups) {
  return {shape[0], groups, shape[1] / groups, element_count(shape.subspan(2))};
}

void require_groups(const TypeRule& t, size_t x, int64_t groups) {
  require_floating(t, x);
  require_rank(t, x, 2);
  require(t, groups > 0 && t.in[x].shape[1] % groups == 0, "the groups must divide the channels");
}

/// One value per group as one per channel of each sample, dense.
Tensor per_channel(const Tensor& t, const Groups& s) {
  return dense(
      expand(reshape(t, Ints({s.samples, s.groups, 1})), Ints({s.samples, s.groups, s.members})));
}
/// One value per channel as one per channel of each sample, dense.
Tensor per_sample(const Tensor& t, const Groups& s) {
  return dense(expand(t, Ints({s.samples, s.channels()})));
}

void eval(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<NormAttrs>();
  const Tensor& x = e.in[0];
  Groups s = groups_of(x.sizes(), a.dims);
  DType compute = row_compute(x.dtype());
  ensure(e.out[0], x.sizes(), x.dtype());
  for (int k : {1, 2}) ensure(e.out[k], Ints({s.samples, s.groups}), compute);
  run(e.op, kStatisticsProgram, compute, s.samples * s.groups, s.values(),
      {&x, &e.out[1], &e.out[2]}, &a.eps);
  Tensor mean = per_channel(e.out[1], s), scale = per_channel(e.out[2], s);
  Tensor weight = a.has_weight ? per_sample(e.in[1], s) : Tensor(),
         bias = a.has_bias ? per_sample(e.in.back(), s) : Tensor();
  TensorRefs operands{&x, &mean, &scale};
  operands.add_if(a.has_weight, &weight);
  operands.add_if(a.has_bias, &bias);
  operands.add_if(true, &e.out[0]);
  run(e.op, kForwardPrograms[a.has_weight + 2 * a.has_bias], compute, s.rows(), s.positions,
      operands);
}

void compose(const Eval& e) {
  const auto& a = e.attrs<NormAttrs>();
  const Tensor& x = e.in[0];
  Groups s = groups_of(x.sizes(), a.dims);
  Tensor flat = reshape(widen(x), Ints({s.samples * s.groups, s.values()}));
  Tensor count = number(static_cast<double>(s.values()));
  Tensor mean = div(sum(flat, Ints({-1}), true), count), d = sub(flat, mean);
  Tensor scale = rsqrt(add(div(sum(mul(d, d), Ints({-1}), true), count), number(a.eps)));
  Tensor y = reshape(mul(d, scale), Ints({s.samples, s.channels(), s.positions}));
  if (a.has_weight) y = mul(y, unsqueeze(widen(e.in[1]), -1));
  if (a.has_bias) y = add(y, unsqueeze(widen(e.in.back()), -1));
  e.out[0] = rounded(reshape(y, x.sizes()), x.dtype());
  e.out[1] = reshape(mean, Ints({s.samples, s.groups}));
  e.out[2] = reshape(scale, Ints({s.samples, s.groups}));
}

void eval_gradient(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<NormGradAttrs>();
  const Tensor &g = e.in[0], &x = e.in[1];
  Groups s = groups_of(x.sizes(), a.dims);
  DType compute = row_compute(x.dtype());
  Tensor mean = per_channel(e.in[2], s), scale = per_channel(e.in[3], s);
  Tensor sums = empty(Ints({s.samples, s.channels()}), compute),
         products = empty(sums.sizes(), compute);
  run(e.op, kSumsProgram, compute, s.rows(), s.positions,
      {&g, &x, &mean, &scale, &sums, &products});
  if (a.want_input) {
    ensure(e.out[0], x.sizes(), x.dtype());
    Tensor weight = a.has_weight ? per_sample(widen(e.in[4]), s) : ones(sums.sizes(), compute);
    auto share = [&](const Tensor& t) {
      Tensor total =
          sum(reshape(mul(t, weight), Ints({s.samples, s.groups, s.members})), Ints({-1}));
      return per_channel(div(total, number(static_cast<double>(s.values()))), s);
    };
    Tensor drift = share(sums), stretch = share(products);
    run(e.op, kInputGradientProgram, compute, s.rows(), s.positions,
        {&g, &x, &mean, &scale, &weight, &drift, &stretch, &e.out[0]});
  }
  DType dtype = a.has_weight ? e.in[4].dtype() : x.dtype();
  if (a.want_weight) e.out[1] = to_dtype(sum(products, Ints({0})), dtype);
  if (a.want_bias) e.out[2] = to_dtype(sum(sums, Ints({0})), dtype);
}

void compose_gradient(const Eval& e) {
  const auto& a = e.attrs<NormGradAttrs>();
  const Tensor& x = e.in[1];
  Groups s = groups_of(x.sizes(), a.dims);
  Shape shape{s.samples, s.groups, s.members, s.positions};
  Tensor g = reshape(widen(e.in[0]), shape),
         mean = reshape(e.in[2], Ints({s.samples, s.groups, 1, 1}));
  Tensor scale = reshape(e.in[3], mean.sizes()),
         normal = mul(sub(reshape(widen(x), shape), mean), scale);
  Tensor sums = sum(g, Ints({-1})),
         products = sum(mul(g, normal), Ints({-1}));  // [samples, groups, members]
  if (a.want_input) {
    Tensor weight = a.has_weight ? reshape(widen(e.in[4]), Ints({s.groups, s.members}))
                                 : ones({}, sums.dtype());
    auto share = [&](const Tensor& t) {
      return unsqueeze(
          div(sum(mul(t, weight), Ints({-1}), true), number(static_cast<double>(s.values()))), -1);
    };
    Tensor weighted = a.has_weight ? mul(g, unsqueeze(weight, -1)) : g;
    Tensor dx = mul(sub(sub(weighted, share(sums)), mul(normal, share(products))), scale);
    e.out[0] = rounded(reshape(dx, x.sizes()), x.dtype());
  }
  DType dtype = a.has_weight ? e.in[4].dtype() : x.dtype();
  auto per_channel_sum = [&](const Tensor& t) {
    return rounded(reshape(sum(t, Ints({0})), Ints({s.channels()})), dtype);
  };
  if (a.want_weight) e.out[1] = per_channel_sum(products);
  if (a.want_bias) e.out[2] = per_channel_sum(sums);
}

constexpr SaveRule kSaves[] = {{3, 6}, {1, 6}, {1, 6}};

void vjp(const Vjp& v);

}  // namespace

constinit OpDef kGroupNormBackward{
    .name = "group_norm_backward",
    .doc = "Gradients of group_norm: (g, x, mean, scale, [weight]) -> (dx, dweight, dbias).",
    .inputs = 255,
    .outputs = 3,
    .round = Round::fused,
    .space = Space::opaque,
    .attr_bytes = sizeof(NormGradAttrs),
    .fields = kNormGradFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<NormGradAttrs>();
          require_count(t, 4 + a.has_weight);
          require_groups(t, 1, a.dims);
          require_shape(t, 0, t.in[1].shape);
          for (size_t i : {2, 3}) require_elements(t, i, t.in[1].shape[0] * a.dims);
          if (a.has_weight) require_shape(t, 4, Shape{t.in[1].shape[1]});
          Type w{a.has_weight ? t.in[4].dtype : t.in[1].dtype, false, Shape{t.in[1].shape[1]}};
          if (a.want_input) t.out[0] = t.in[1];
          if (a.want_weight) t.out[1] = w;
          if (a.want_bias) t.out[2] = w;
        },
    .eval = eval_gradient,
    .composite = compose_gradient,
    .kernels =
        [](const OpDef& op, KernelSink& sink) {
          emit(op, sink, kSumsProgram);
          emit(op, sink, kInputGradientProgram);
        },
    .cost = rowwise_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
            for (int64_t weighted : {0, 1}) {
              NormGradAttrs a{2, weighted, 1, 1, 1};
              SampleSink::Input statistic{Shape{3, 2}, row_compute(t), 0.5, 1.5};
              const SampleSink::Input in[] = {{Shape{3, 4, 5}, t},
                                              {Shape{3, 4, 5}, t},
                                              statistic,
                                              statistic,
                                              {Shape{4}, t, 0.5, 1.5}};
              sink.add(std::span(in, 4 + static_cast<size_t>(weighted)), &a, sizeof a);
            }
        },
    .max_ulp = 64};

constinit OpDef kGroupNorm{
    .name = "group_norm",
    .doc =
        "(x - mean) / sqrt(variance + eps) over each group of channels of each sample, * weight + bias per channel.",
    .inputs = 255,
    .outputs = 3,
    .round = Round::fused,
    .space = Space::opaque,
    .attr_bytes = sizeof(NormAttrs),
    .fields = kNormFields,
    .infer =
        [](const TypeRule& t) {
          const Type& x = t.in[0];
          const auto& a = t.attrs<NormAttrs>();
          require_count(t, 1 + a.has_weight + a.has_bias);
          require_groups(t, 0, a.dims);
          for (size_t i = 1; i < t.in.size(); ++i) require_shape(t, i, Shape{x.shape[1]});
          Type s{row_compute(x.dtype), false, Shape{x.shape[0], t.attrs<NormAttrs>().dims}};
          t.out[0] = {x.dtype, false, x.shape}, t.out[1] = s, t.out[2] = s;
        },
    .eval = eval,
    .vjp = vjp,
    .saves = kSaves,
    .composite = compose,
    .kernels =
        [](const OpDef& op, KernelSink& sink) {
          for (const RowProgram& p : kForwardPrograms) emit(op, sink, p);
          emit(op, sink, kStatisticsProgram);
        },
    .cost = rowwise_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
            for (int64_t variant : {0, 1, 2, 3}) {
              NormAttrs a{1e-5, 2, variant & 1, variant >> 1};
              const SampleSink::Input in[] = {
                  {Shape{3, 4, 5}, t}, {Shape{4}, t, 0.5, 1.5}, {Shape{4}, t, 0.5, 1.5}};
              sink.add(std::span(in, 1 + static_cast<size_t>((variant & 1) + (variant >> 1))), &a,
                       sizeof a);
            }
        },
    .max_ulp = 64};

namespace {

void vjp(const Vjp& v) {
  const auto& a = v.attrs<NormAttrs>();
  const Tensor &x = v.in[0], &mean = v.out[1], &scale = v.out[2];
  bool bias = a.has_bias && v.needs(1 + static_cast<size_t>(a.has_weight));
  NormGradAttrs wanted{a.dims, a.has_weight, v.needs(0), a.has_weight && v.needs(1), bias};
  Tensor out[3];
  if (v.grad[0].defined()) {
    const Tensor in[] = {v.grad[0], x, mean, scale, a.has_weight ? v.in[1] : Tensor()};
    apply(kGroupNormBackward, &wanted, std::span(in, 4 + static_cast<size_t>(a.has_weight)), out);
  }
  // the statistics are outputs too; their gradients arrive when a gradient of ours is differentiated
  Groups s = groups_of(x.sizes(), a.dims);
  Tensor count = number(static_cast<double>(s.values()));
  auto grouped = [&](const Tensor& t) { return reshape(t, Ints({s.samples, s.groups, 1, 1})); };
  auto accumulate = [&](const Tensor& t) {
    Tensor more = reshape(t, x.sizes());
    out[0] = out[0].defined() ? add(out[0], more) : more;
  };
  Shape shape{s.samples, s.groups, s.members, s.positions};
  if (v.grad[1].defined()) accumulate(expand(grouped(div(v.grad[1], count)), shape));
  if (v.grad[2].defined()) {
    Tensor slope = neg(div(mul(v.grad[2], mul(scale, mul(scale, scale))), count));
    accumulate(mul(grouped(slope), sub(reshape(x, shape), grouped(mean))));
  }
  if (v.needs(0)) v.result[0] = out[0];
  if (wanted.want_weight) v.result[1] = out[1];
  if (bias) v.result[1 + a.has_weight] = out[2];
}

}  // namespace

Tensor group_norm(const Tensor& x, int64_t num_groups, const Tensor& weight, const Tensor& bias,
                  double eps) {
  if (x.dim() < 2)
    fail(ErrorKind::runtime,
         "group_norm: the input must be (N, C, ...), of rank 2 or more, got shape {}",
         shape_text(x.sizes()));
  if (num_groups < 1 || x.size(1) % num_groups)
    fail(ErrorKind::runtime,
         "group_norm: channels (dim 1) must be divisible by num_groups {}, got input of shape {}",
         num_groups, shape_text(x.sizes()));
  if (!is_floating(x.dtype()))
    fail(ErrorKind::runtime,
         "group_norm: needs a floating point input, got {}. Cast it with .float() first",
         name(x.dtype()));
  check_per_channel("group_norm", "weight", weight, x.size(1), x.sizes());
  check_per_channel("group_norm", "bias", bias, x.size(1), x.sizes());
  NormAttrs a{eps, num_groups, weight.defined(), bias.defined()};
  Tensor out[3];
  apply(kGroupNorm, &a, NormInputs(x, weight, bias), out);
  return out[0];
}

namespace {

OpDef* const kOps[] = {&kGroupNorm, &kGroupNormBackward};

const Function kFunctions[] = {
    {"group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-05) -> Tensor",
     "Brings num_groups groups of channels (dim 1) of each sample to mean 0 and variance 1, then scales and shifts each "
     "channel.",
     kFunction | kNN, thunk<&group_norm>},
};

}  // namespace

extern const OpFile group_norm_ops;
const OpFile group_norm_ops{kOps, kFunctions};

}  // namespace fluxion
