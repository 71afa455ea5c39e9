// batch_norm (Ioffe & Szegedy 2015): statistics of each channel over the batch and all positions.
// Their definition depends on the shape only: mean and squared deviations of each sample's channel, joined over the
// samples by Chan's formula; inputs of rank 2 have one value per sample and go straight down the columns.
#include "ops/batch_norm.h"

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

/// x, factor, offset -> y; factor and offset per row, or per column
void affine_by_rows(Row& r) {
  Value factor = r.load(1), offset = r.load(2);
  r.each([&](const auto& i) { r.store(3, i, loops::fma(r.load(0, i), factor, offset)); });
}
void affine_by_columns(Row& r) {
  r.each(
      [&](const auto& i) { r.store(3, i, loops::fma(r.load(0, i), r.load(1, i), r.load(2, i))); });
}

/// One row of channels: mean, variance, weight, bias -> factor, offset
void factors(Row& r) {
  r.each([&](const auto& i) {
    Value factor = r.load(2, i) * loops::rsqrt(r.load(1, i) + r.param(0));
    r.store(4, i, factor);
    r.store(5, i, r.load(3, i) - r.load(0, i) * factor);
  });
}

/// running mean and variance, batch mean and variance -> the new running ones; param: momentum, values / (values - 1)
void running_update(Row& r) {
  Value keep = 1 - r.param(0);
  r.each([&](const auto& i) {
    r.store(4, i, r.load(0, i) * keep + r.load(2, i) * r.param(0));
    r.store(5, i, r.load(1, i) * keep + r.load(3, i) * r.param(1) * r.param(0));
  });
}

constexpr Slot kSampleStatistics[] = {element, row, row};
constexpr Slot kJoin[] = {element, element, column, column, column, column, column, column};
constexpr Slot kFlat[] = {element, column, column, element, column, column};
constexpr Slot kAffineRows[] = {element, row, row, element};
constexpr Slot kAffineColumns[] = {element, column, column, element};
constexpr Slot kFactors[] = {column, column, column, column, column, column};

constexpr RowProgram kSampleStatisticsProgram{0, 1, kSampleStatistics, sample_statistics};
constexpr ColumnProgram kJoinProgram{1, 4, kJoin, join_samples};
constexpr ColumnProgram kFlatProgram{2, 3, kFlat, forward_flat};
constexpr RowProgram kAffineByRows{3, 3, kAffineRows, affine_by_rows};
constexpr RowProgram kAffineByColumns{4, 3, kAffineColumns, affine_by_columns};
constexpr RowProgram kFactorsProgram{0, 4, kFactors, factors};
constexpr RowProgram kUpdateProgram{0, 4, kFactors, running_update};

Tensor or_constant(bool present, const Tensor& t, double value, int64_t channels, DType dtype) {
  return present ? t : full(Ints({channels}), value, dtype);
}

/// y = x * factor + offset, per channel.
void run_affine(const OpDef& op, const Tensor& x, const Tensor& factor, const Tensor& offset,
                Tensor& y) {
  ChannelShape s = channels_of(x.sizes());
  DType compute = row_compute(x.dtype());
  ensure(y, x.sizes(), x.dtype());
  if (x.dim() == 2)
    return run(op, kAffineByColumns, compute, s.samples, s.channels, {&x, &factor, &offset, &y});
  Tensor f = per_sample(factor, s), o = per_sample(offset, s);
  run(op, kAffineByRows, compute, s.samples * s.channels, s.positions, {&x, &f, &o, &y});
}

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

/// x * weight / sqrt(variance + eps) + the offset that belongs to it, in other ops.
Tensor compose_affine(const Eval& e, const NormAttrs& a, const Tensor& mean, const Tensor& variance,
                      size_t fixed) {
  const Tensor& x = e.in[0];
  ChannelShape s = channels_of(x.sizes());
  DType compute = row_compute(x.dtype());
  Tensor weight =
      widen(or_constant(a.has_weight, e.in[fixed - 1 + a.has_weight], 1, s.channels, compute));
  Tensor bias = widen(or_constant(a.has_bias, e.in.back(), 0, s.channels, compute));
  Tensor factor = mul(weight, rsqrt(add(variance, number(a.eps)))),
         offset = sub(bias, mul(mean, factor));
  Tensor y = _fma(as_channels(widen(x), s), unsqueeze(factor, -1), unsqueeze(offset, -1));
  return rounded(reshape(y, x.sizes()), x.dtype());
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

void eval_fixed(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<NormAttrs>();
  const Tensor& x = e.in[0];
  int64_t channels = x.size(1);
  DType compute = row_compute(x.dtype());
  Tensor weight = or_constant(a.has_weight, e.in[2 + a.has_weight], 1, channels, compute);
  Tensor bias = or_constant(a.has_bias, e.in.back(), 0, channels, compute);
  Tensor factor = empty(Ints({channels}), compute), offset = empty(Ints({channels}), compute);
  run(e.op, kFactorsProgram, compute, 1, channels,
      {&e.in[1], &e.in[2], &weight, &bias, &factor, &offset}, &a.eps);
  run_affine(e.op, x, factor, offset, e.out[0]);
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

constexpr SaveRule kSaves[] = {{3, 6}, {1, 6}, {}};

struct UpdateAttrs {
  double momentum, unbias;
};
constexpr Field kUpdateFields[] = {{"momentum", FieldKind::real, offsetof(UpdateAttrs, momentum),
                                    "share of the batch in the new running values"},
                                   {"unbias", FieldKind::real, offsetof(UpdateAttrs, unbias),
                                    "values / (values - 1) of a channel"}};

/// Samples of (x, `statistics` tensors of one element per channel, weight, bias).
template <size_t Statistics>
void samples(const OpDef&, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const Shape& shape : {Shape{6, 5}, Shape{3, 5, 4}, Shape{2, 5, 3, 3}})
      for (size_t affine : {0, 1}) {
        NormAttrs a{1e-5, 0, static_cast<int64_t>(affine), static_cast<int64_t>(affine)};
        SampleSink::Input per_channel{Shape{5}, row_compute(t), 0.5, 1.5};
        const SampleSink::Input in[] = {
            {shape, t}, per_channel, per_channel, per_channel, per_channel};
        sink.add(std::span(in, 1 + Statistics + 2 * affine), &a, sizeof a);
      }
}

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
          emit(op, sink, kAffineByRows);
          emit(op, sink, kAffineByColumns);
        },
    .cost = rowwise_cost,
    .samples = samples<0>,
    .max_ulp = 64};

constinit OpDef kBatchNormEval{
    .name = "batch_norm_eval",
    .doc =
        "fma(x, f, bias - mean * f) per channel, f = weight / sqrt(variance + eps); mean and variance are given.",
    .inputs = 255,
    .round = Round::fused,
    .space = Space::opaque,
    .attr_bytes = sizeof(NormAttrs),
    .fields = kNormFields,
    .infer = [](const TypeRule& t) { t.out[0] = t.in[0]; },
    .eval = eval_fixed,
    .composite =
        [](const Eval& e) {
          e.out[0] = compose_affine(e, e.attrs<NormAttrs>(), widen(e.in[1]), widen(e.in[2]), 3);
        },
    .kernels =
        [](const OpDef& op, KernelSink& sink) {
          emit(op, sink, kFactorsProgram);
          emit(op, sink, kAffineByRows);
          emit(op, sink, kAffineByColumns);
        },
    .cost = rowwise_cost,
    .samples = samples<2>,
    .max_ulp = 16};

constinit OpDef kBatchNormUpdate{
    .name = "batch_norm_update",
    .doc =
        "Running mean and variance moved towards the batch's: r * (1 - momentum) + b * momentum.",
    .inputs = 4,
    .outputs = 2,
    .round = Round::fused,
    .space = Space::elementwise,
    .attr_bytes = sizeof(UpdateAttrs),
    .fields = kUpdateFields,
    .infer = [](const TypeRule& t) { t.out[0] = t.in[0], t.out[1] = t.in[1]; },
    .eval =
        [](const Eval& e) {
          for (int k : {0, 1}) ensure(e.out[k], e.in[k].sizes(), e.in[k].dtype());
          run(e.op, kUpdateProgram, row_compute(e.in[0].dtype()), 1, e.in[0].numel(),
              {&e.in[0], &e.in[1], &e.in[2], &e.in[3], &e.out[0], &e.out[1]},
              &e.attrs<UpdateAttrs>().momentum);
        },
    .kernels = [](const OpDef& op, KernelSink& sink) { emit(op, sink, kUpdateProgram); },
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          UpdateAttrs a{0.125, 1.25};
          const SampleSink::Input in[] = {{Shape{7}}, {Shape{7}}, {Shape{7}}, {Shape{7}}};
          sink.add(in, &a, sizeof a);
        },
    .max_ulp = 4};

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
    Tensor updated[] = {running_mean, running_var};
    for (const Tensor& t : updated) begin_write(t.storage());
    apply(kBatchNormUpdate, &u, in, updated);
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
