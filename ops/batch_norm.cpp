// batch_norm (Ioffe & Szegedy 2015): statistics of each channel over the batch and all positions.
// Their definition depends on the shape only: mean and squared deviations of each sample's channel, joined over the
// samples by Chan's formula; inputs of rank 2 have one value per sample and go straight down the columns.
#include "ops/batch_norm.h"
#include "ops/requirements.h"

#include "ops/inplace.h"
#include "tensor/thread_state.h"

namespace fluxion {

using loops::Binary;
using loops::Term;
using loops::Value;

namespace {

constexpr auto element = Extent::element, column = Extent::column, row = Extent::row;

/// Rows are channels of samples: x -> mean, squared deviations
void sample_statistics(Row& r) {
  Value mean = r.reduce_sum([&](const auto& i) -> Term { return r.load(0, i); }) / r.count();
  Value squares = r.reduce_sum([&](const auto& i) -> Term {
    Value d = r.load(0, i) - mean;
    return d * d;
  });
  r.store_row(1, mean);
  r.store_row(2, squares);
}

/// param: eps, positions, values per channel.
struct Counts {
  double eps, positions, values;
};

/// Columns are channels: means, squares, weight, bias -> mean, variance, factor, offset
void join_samples(Column& c) {
  Value mean = c.reduce_sum([&](const auto& i) -> Term { return c.load(0, i); }) / c.count();
  auto sums = c.reduce({Binary::add, Binary::add}, [&](const auto& i) -> std::vector<Term> {
    Value d = c.load(0, i) - mean;
    return {c.load(1, i), d * d};
  });
  Value variance = (sums[0] + sums[1] * c.param(1)) / c.param(2);
  Value factor = c.load(2) * loops::rsqrt(variance + c.param(0));
  c.store(4, mean);
  c.store(5, variance);
  c.store(6, factor);
  c.store(7, c.load(3) - mean * factor);
}

/// Rank 2: x, weight, bias -> y, mean, variance
void forward_flat(Column& c) {
  Value mean = c.reduce_sum([&](const auto& i) -> Term { return c.load(0, i); }) / c.count();
  Value squares = c.reduce_sum([&](const auto& i) -> Term {
    Value d = c.load(0, i) - mean;
    return d * d;
  });
  Value variance = squares / c.count();
  Value factor = c.load(1) * loops::rsqrt(variance + c.param(0));
  Value offset = c.load(2) - mean * factor;
  c.each([&](const auto& i) { c.store(3, i, loops::fma(c.load(0, i), factor, offset)); });
  c.store(4, mean);
  c.store(5, variance);
}

constexpr Slot kSampleStatistics[] = {element, row, row};
constexpr Slot kJoin[] = {element, element, column, column, column, column, column, column};
constexpr Slot kFlat[] = {element, column, column, element, column, column};
constexpr RowProgram kSampleStatisticsProgram{0, 1, kSampleStatistics, sample_statistics};
constexpr ColumnProgram kJoinProgram{1, 4, kJoin, join_samples};
constexpr ColumnProgram kFlatProgram{2, 3, kFlat, forward_flat};
void eval_train(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<NormAttrs>();
  const Tensor& x = e.in[0];
  ChannelShape s = channels_of(x.sizes());
  DType compute = row_compute(x.dtype());
  Tensor weight = or_constant(a.has_weight, e.in[a.has_weight], 1, s.channels, compute);
  Tensor bias = or_constant(a.has_bias, e.in.back(), 0, s.channels, compute);
  for (int k : {1, 2}) ensure(e.out[k], Ints({s.channels}), compute);
  if (x.dim() == 2) {
    ensure(e.out[0], x.sizes(), x.dtype());
    return run(e.op, kFlatProgram, compute, 1, s.samples, s.channels,
               {&x, &weight, &bias, &e.out[0], &e.out[1], &e.out[2]}, &a.eps);
  }
  Counts counts{a.eps, static_cast<double>(s.positions),
                static_cast<double>(s.samples * s.positions)};
  Tensor means = empty(Ints({s.samples, s.channels}), compute),
         squares = empty(means.sizes(), compute);
  Tensor factor = empty(Ints({s.channels}), compute), offset = empty(Ints({s.channels}), compute);
  run(e.op, kSampleStatisticsProgram, compute, s.samples * s.channels, s.positions,
      {&x, &means, &squares});
  run(e.op, kJoinProgram, compute, 1, s.samples, s.channels,
      {&means, &squares, &weight, &bias, &e.out[1], &e.out[2], &factor, &offset}, &counts.eps);
  run_affine(e.op, x, factor, offset, e.out[0]);
}

void compose_train(const Eval& e) {
  ChannelShape s = channels_of(e.in[0].sizes());
  Tensor x = as_channels(widen(e.in[0]), s), samples = number(static_cast<double>(s.samples));
  static constexpr int64_t kFirst[] = {0};
  Ints first(kFirst);
  if (e.in[0].dim() == 2) {
    Tensor flat = squeeze(x, Ints({2})), mean = div(sum(flat, first), samples), d = sub(flat, mean);
    e.out[1] = mean;
    e.out[2] = div(sum(mul(d, d), first), samples);
  } else {
    auto positions = static_cast<double>(s.positions),
         values = positions * static_cast<double>(s.samples);
    Tensor means = div(sum(x, Ints({-1})), number(positions)), d = sub(x, unsqueeze(means, -1));
    Tensor squares = sum(sum(mul(d, d), Ints({-1})), first), mean = div(sum(means, first), samples);
    Tensor between = sub(means, mean);
    e.out[1] = mean;
    e.out[2] = div(add(squares, mul(sum(mul(between, between), first), number(positions))),
                   number(values));
  }
  e.out[0] = compose_affine(e, e.attrs<NormAttrs>(), e.out[1], e.out[2], 1);
}

void vjp_train(const Vjp& v) {
  const auto& a = v.attrs<NormAttrs>();
  const Tensor& x = v.in[0];
  bool bias = a.has_bias && v.needs(1 + static_cast<size_t>(a.has_weight));
  BatchNormGradAttrs wanted{a.eps, a.has_weight};
  Tensor out[3];
  if (v.grad[0].defined()) {
    const Tensor in[] = {v.grad[0], x, v.out[1], v.out[2], a.has_weight ? v.in[1] : Tensor()};
    apply(kBatchNormBackward, &wanted, std::span(in, 4 + static_cast<size_t>(a.has_weight)), out);
  }
  // the statistics are outputs too; their gradients arrive when a gradient of ours is differentiated
  ChannelShape s = channels_of(x.sizes());
  Tensor values = number(static_cast<double>(s.samples * s.positions));
  auto accumulate = [&](const Tensor& t) { out[0] = out[0].defined() ? add(out[0], t) : t; };
  if (v.grad[1].defined()) accumulate(expand(over_channels(div(v.grad[1], values), x), x.sizes()));
  if (v.grad[2].defined())
    accumulate(mul(over_channels(div(mul(v.grad[2], number(2)), values), x),
                   sub(x, over_channels(v.out[1], x))));
  if (v.needs(0)) v.result[0] = out[0];
  if (a.has_weight && v.needs(1)) v.result[1] = out[1];
  if (bias) v.result[1 + a.has_weight] = out[2];
}

constexpr SaveRule kSaves[] = {{3, 6}};  // every gradient comes from the one op

}  // namespace

constinit OpDef kBatchNorm{
    .name = "batch_norm",
    .doc =
        "(x - mean) / sqrt(variance + eps) * weight + bias per channel (dim 1); also the batch's mean and variance.",
    .inputs = 255,
    .outputs = 3,
    .round = Round::fused,
    .space = Space::opaque,
    .attr_bytes = sizeof(NormAttrs),
    .fields = kNormFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<NormAttrs>();
          require_count(t, 1 + a.has_weight + a.has_bias);
          require_channels(t, 0, 1);
          Type s{row_compute(t.in[0].dtype), false, Shape{t.in[0].shape[1]}};
          t.out[0] = {t.in[0].dtype, false, t.in[0].shape}, t.out[1] = s, t.out[2] = s;
        },
    .eval = eval_train,
    .vjp = vjp_train,
    .saves = kSaves,
    .composite = compose_train,
    .kernels =
        [](const OpDef& op, KernelSink& sink) {
          emit(op, sink, kSampleStatisticsProgram);
          emit(op, sink, kJoinProgram);
          emit(op, sink, kFlatProgram);
          emit_affine(op, sink);
        },
    .cost = rowwise_cost,
    .samples = batch_norm_samples<0>,
    .max_ulp = 64};

Tensor batch_norm(const Tensor& x, const Tensor& running_mean, const Tensor& running_var,
                  const Tensor& weight, const Tensor& bias, bool training, double momentum,
                  double eps) {
  if (x.dim() < 2)
    fail(ErrorKind::runtime,
         "batch_norm: the input must be (N, C, ...), of rank 2 or more, got shape {}",
         shape_text(x.sizes()));
  if (!is_floating(x.dtype()))
    fail(ErrorKind::runtime,
         "batch_norm: needs a floating point input, got {}. Cast it with .float() first",
         name(x.dtype()));
  const Tensor* given[] = {&running_mean, &running_var, &weight, &bias};
  const char* const names[] = {"running_mean", "running_var", "weight", "bias"};
  for (int k = 0; k < 4; ++k)
    check_per_channel("batch_norm", names[k], *given[k], x.size(1), x.sizes());
  NormAttrs a{eps, 0, weight.defined(), bias.defined()};
  if (!training) {
    if (!running_mean.defined() || !running_var.defined())
      fail(ErrorKind::runtime,
           "batch_norm: running_mean and running_var must be given when training is False");
    Tensor in[5] = {x, running_mean, running_var};
    size_t n = 3;
    if (weight.defined()) in[n++] = weight;
    if (bias.defined()) in[n++] = bias;
    Tensor y;
    apply(kBatchNormEval, &a, std::span(in, n), std::span(&y, 1));
    return y;
  }
  int64_t values = x.numel() / std::max<int64_t>(x.size(1), 1);
  if (values == 1)
    fail(ErrorKind::value,
         "batch_norm: training needs more than one value per channel, got input of shape {}. "
         "Use a larger batch or call eval()",
         shape_text(x.sizes()));
  Tensor out[3];
  apply(kBatchNorm, &a, NormInputs(x, weight, bias), out);
  if (running_mean.defined() && running_var.defined()) {
    NoGrad plain;
    auto n = static_cast<double>(values);
    UpdateAttrs u{momentum, n / (n - 1)};
    const Tensor in[] = {running_mean, running_var, out[1], out[2]};
    const Tensor updated[] = {running_mean, running_var};
    apply_onto(updated, kBatchNormUpdate, &u, in);
  }
  return out[0];
}

namespace {

OpDef* const kOps[] = {&kBatchNorm, &kBatchNormBackward, &kBatchNormEval, &kBatchNormUpdate};

const Function kFunctions[] = {
    {"batch_norm(Tensor input, Tensor? running_mean, Tensor? running_var, Tensor? weight=None, Tensor? bias=None, "
     "bool training=False, float momentum=0.1, float eps=1e-05) -> Tensor",
     "Normalises each channel (dim 1) by the batch's mean and variance if training, and moves the running ones "
     "towards them in place (unbiased variance); else by the running ones.",
     kFunction | kNN, thunk<&batch_norm>},
};

}  // namespace

extern const OpFile batch_norm_ops;
const OpFile batch_norm_ops{kOps, kFunctions};

}  // namespace fluxion
