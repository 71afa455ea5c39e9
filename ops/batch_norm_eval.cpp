// batch_norm with given statistics, and how training moves the running ones.
#include "ops/batch_norm.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"

namespace fluxion {

using loops::Value;

namespace {

constexpr auto column = Extent::column;

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

constexpr Slot kFactors[] = {column, column, column, column, column, column};

constexpr RowProgram kFactorsProgram{0, 4, kFactors, factors};
constexpr RowProgram kUpdateProgram{0, 4, kFactors, running_update};

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

constexpr Field kUpdateFields[] = {{"momentum", FieldKind::real, offsetof(UpdateAttrs, momentum),
                                    "share of the batch in the new running values"},
                                   {"unbias", FieldKind::real, offsetof(UpdateAttrs, unbias),
                                    "values / (values - 1) of a channel"}};

}  // namespace

constinit OpDef kBatchNormEval{
    .name = "batch_norm_eval",
    .doc =
        "fma(x, f, bias - mean * f) per channel, f = weight / sqrt(variance + eps); mean and variance are given.",
    .inputs = 255,
    .round = Round::fused,
    .space = Space::opaque,
    .attr_bytes = sizeof(NormAttrs),
    .fields = kNormFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<NormAttrs>();
          require_count(t, 3 + a.has_weight + a.has_bias);
          require_channels(t, 0, 1);
          t.out[0] = t.in[0];
        },
    .eval = eval_fixed,
    .composite =
        [](const Eval& e) {
          e.out[0] = compose_affine(e, e.attrs<NormAttrs>(), widen(e.in[1]), widen(e.in[2]), 3);
        },
    .kernels =
        [](const OpDef& op, KernelSink& sink) {
          emit(op, sink, kFactorsProgram);
          emit_affine(op, sink);
        },
    .cost = rowwise_cost,
    .samples = batch_norm_samples<2>,
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
    .infer =
        [](const TypeRule& t) {
          for (size_t i = 1; i < 4; ++i) require_shape(t, i, t.in[0].shape);
          t.out[0] = t.in[0], t.out[1] = t.in[1];
        },
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

}  // namespace fluxion
