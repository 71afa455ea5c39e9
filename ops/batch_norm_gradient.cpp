// The gradient of batch_norm in training.
#include "ops/batch_norm.h"
#include "ops/copy.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"

namespace fluxion {

using loops::Binary;
using loops::Term;
using loops::Value;

namespace {

constexpr auto element = Extent::element, column = Extent::column, row = Extent::row;

/// Rows are channels of samples: g, x, mean, variance -> sum of g, sum of g * normalised x
void sample_sums(Row& r) {
  Value mean = r.load(2), scale = loops::rsqrt(r.load(3) + r.param(0));
  auto sums = r.reduce({Binary::add, Binary::add}, [&](const auto& i) -> std::vector<Term> {
    Value g = r.load(0, i);
    return {g, g * ((r.load(1, i) - mean) * scale)};
  });
  r.store_row(4, sums[0]);
  r.store_row(5, sums[1]);
}

/// param: eps, values per channel.
struct Counts {
  double eps, values;
};

/// Columns are channels: sample sums, variance, weight -> dbias, dweight, dbias / values, dweight / values, factor
void join_sums(Column& c) {
  auto sums = c.reduce({Binary::add, Binary::add}, [&](const auto& i) -> std::vector<Term> {
    return {c.load(0, i), c.load(1, i)};
  });
  c.store(4, sums[0]);
  c.store(5, sums[1]);
  c.store(6, sums[0] / c.param(1));
  c.store(7, sums[1] / c.param(1));
  c.store(8, c.load(3) * loops::rsqrt(c.load(2) + c.param(0)));
}

/// g, x, mean, variance, drift, stretch, factor -> gradient of x
void input_gradient(Row& r) {
  Value mean = r.load(2), scale = loops::rsqrt(r.load(3) + r.param(0));
  Value drift = r.load(4), stretch = r.load(5), factor = r.load(6);
  r.each([&](const auto& i) {
    r.store(7, i, (r.load(0, i) - drift - (r.load(1, i) - mean) * scale * stretch) * factor);
  });
}

/// Rank 2, columns are channels: g, x, mean, variance, weight -> gradients of x, weight, bias
void flat_gradient(Column& c) {
  Value mean = c.load(2), scale = loops::rsqrt(c.load(3) + c.param(0)), factor = c.load(4) * scale;
  auto normal = [&](const auto& i) { return (c.load(1, i) - mean) * scale; };
  auto sums = c.reduce({Binary::add, Binary::add}, [&](const auto& i) -> std::vector<Term> {
    Value g = c.load(0, i);
    return {g, g * normal(i)};
  });
  Value drift = sums[0] / c.count(), stretch = sums[1] / c.count();
  c.each(
      [&](const auto& i) { c.store(5, i, (c.load(0, i) - drift - normal(i) * stretch) * factor); });
  c.store(6, sums[1]);
  c.store(7, sums[0]);
}

constexpr Slot kSampleSums[] = {element, element, row, row, row, row};
constexpr Slot kJoin[] = {element, element, column, column, column, column, column, column, column};
constexpr Slot kInputGradient[] = {element, element, row, row, row, row, row, element};
constexpr Slot kFlat[] = {element, element, column, column, column, element, column, column};

constexpr RowProgram kSampleSumsProgram{0, 4, kSampleSums, sample_sums};
constexpr ColumnProgram kJoinProgram{1, 4, kJoin, join_sums};
constexpr RowProgram kInputGradientProgram{2, 7, kInputGradient, input_gradient};
constexpr ColumnProgram kFlatProgram{3, 5, kFlat, flat_gradient};

void eval(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<BatchNormGradAttrs>();
  const Tensor &g = e.in[0], &x = e.in[1], &mean = e.in[2], &variance = e.in[3];
  ChannelShape s = channels_of(x.sizes());
  DType compute = row_compute(x.dtype());
  const Shape channels{s.channels};
  Tensor weight = a.has_weight ? e.in[4] : ones(channels, compute);
  ensure(e.out[0], x.sizes(), x.dtype());
  for (int k : {1, 2}) ensure(e.out[k], channels, weight.dtype());
  if (x.dim() == 2)
    return run(e.op, kFlatProgram, compute, 1, s.samples, s.channels,
               {&g, &x, &mean, &variance, &weight, &e.out[0], &e.out[1], &e.out[2]}, &a.eps);
  Counts counts{a.eps, static_cast<double>(s.samples * s.positions)};
  Tensor means = per_sample(mean, s), variances = per_sample(variance, s);
  Tensor sums = empty(means.sizes(), compute), products = empty(means.sizes(), compute);
  run(e.op, kSampleSumsProgram, compute, s.samples * s.channels, s.positions,
      {&g, &x, &means, &variances, &sums, &products}, &a.eps);
  Tensor drift = empty(channels, compute), stretch = empty(channels, compute),
         factor = empty(channels, compute);
  run(e.op, kJoinProgram, compute, 1, s.samples, s.channels,
      {&sums, &products, &variance, &weight, &e.out[2], &e.out[1], &drift, &stretch, &factor},
      &counts.eps);
  drift = per_sample(drift, s), stretch = per_sample(stretch, s), factor = per_sample(factor, s);
  run(e.op, kInputGradientProgram, compute, s.samples * s.channels, s.positions,
      {&g, &x, &means, &variances, &drift, &stretch, &factor, &e.out[0]}, &a.eps);
}

void compose(const Eval& e) {
  const auto& a = e.attrs<BatchNormGradAttrs>();
  ChannelShape s = channels_of(e.in[1].sizes());
  Tensor g = as_channels(widen(e.in[0]), s), x = as_channels(widen(e.in[1]), s);
  Tensor mean = unsqueeze(e.in[2], -1), scale = rsqrt(add(e.in[3], number(a.eps)));
  Tensor normal = mul(sub(x, mean), unsqueeze(scale, -1));
  auto total = [&](const Tensor& t) { return sum(sum(t, Ints({-1})), Ints({0})); };
  Tensor dbias = total(g), dweight = total(mul(g, normal));
  Tensor values = number(static_cast<double>(s.samples * s.positions));
  Tensor factor = a.has_weight ? mul(widen(e.in[4]), scale) : scale;
  Tensor dx = sub(sub(g, unsqueeze(div(dbias, values), -1)),
                  mul(normal, unsqueeze(div(dweight, values), -1)));
  DType weight_dtype = a.has_weight ? e.in[4].dtype() : e.in[2].dtype();
  e.out[0] = rounded(reshape(mul(dx, unsqueeze(factor, -1)), e.in[1].sizes()), e.in[1].dtype());
  e.out[1] = rounded(dweight, weight_dtype);
  e.out[2] = rounded(dbias, weight_dtype);
}

constexpr Field kFields[] = {
    {"eps", FieldKind::real, offsetof(BatchNormGradAttrs, eps), "added to the variance"},
    {"has_weight", FieldKind::boolean, offsetof(BatchNormGradAttrs, has_weight),
     "whether the last input is the weight"}};

}  // namespace

constinit OpDef kBatchNormBackward{
    .name = "batch_norm_backward",
    .doc = "Gradients of batch_norm: (g, x, mean, variance, [weight]) -> (dx, dweight, dbias).",
    .inputs = 255,
    .outputs = 3,
    .round = Round::fused,
    .space = Space::opaque,
    .attr_bytes = sizeof(BatchNormGradAttrs),
    .fields = kFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<BatchNormGradAttrs>();
          require_count(t, 4 + a.has_weight);
          require_channels(t, 1, 2);
          require_shape(t, 0, t.in[1].shape);
          Type w{a.has_weight ? t.in[4].dtype : row_compute(t.in[1].dtype), false,
                 Shape{t.in[1].shape[1]}};
          t.out[0] = t.in[1], t.out[1] = w, t.out[2] = w;
        },
    .eval = eval,
    .composite = compose,
    .kernels =
        [](const OpDef& op, KernelSink& sink) {
          emit(op, sink, kSampleSumsProgram);
          emit(op, sink, kJoinProgram);
          emit(op, sink, kInputGradientProgram);
          emit(op, sink, kFlatProgram);
        },
    .cost = rowwise_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
            for (const Shape& shape : {Shape{6, 5}, Shape{3, 5, 4}})
              for (size_t weighted : {0, 1}) {
                BatchNormGradAttrs a{1e-5, static_cast<int64_t>(weighted)};
                SampleSink::Input per_channel{Shape{5}, row_compute(t), 0.5, 1.5};
                const SampleSink::Input in[] = {
                    {shape, t}, {shape, t}, per_channel, per_channel, per_channel};
                sink.add(std::span(in, 4 + weighted), &a, sizeof a);
              }
        },
    .max_ulp = 64};

}  // namespace fluxion
