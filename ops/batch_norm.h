// Per-channel normalisation: x as [samples, channels, positions].
#pragma once

#include "ops/norms.h"

namespace fluxion {

/// Attributes of the gradient. Inputs: g, x, mean, variance, then weight where it exists.
struct BatchNormGradAttrs {
  double eps;  // a kernel parameter, so it comes first
  int64_t has_weight;
};

/// Attributes of batch_norm_update.
struct UpdateAttrs {
  double momentum, unbias;
};

extern OpDef kBatchNormBackward, kBatchNormEval, kBatchNormUpdate;

struct ChannelShape {
  int64_t samples, channels, positions;
};
inline ChannelShape channels_of(Ints shape) {
  return {shape[0], shape[1], element_count(shape.subspan(2))};
}

/// Type rules: input x has channels, inputs from `first` on one element for each.
void require_channels(const TypeRule& t, size_t x, size_t first);

/// A value per channel as one per channel of each sample, dense.
Tensor per_sample(const Tensor& t, const ChannelShape& s);
inline Tensor as_channels(const Tensor& x, const ChannelShape& s) {
  return reshape(x, Ints({s.samples, s.channels, s.positions}));
}
/// A value per channel as it broadcasts against x.
Tensor over_channels(const Tensor& t, const Tensor& x);

/// The tensor if it is there, else one value per channel.
Tensor or_constant(bool present, const Tensor& t, double value, int64_t channels, DType dtype);

/// Variants 3 and 4 of an op: y = fma(x, factor, offset), per channel.
void emit_affine(const OpDef& op, KernelSink& sink);
void run_affine(const OpDef& op, const Tensor& x, const Tensor& factor, const Tensor& offset,
                Tensor& y);
/// x normalised, scaled and shifted, in other ops; `fixed` inputs stand before weight and bias.
Tensor compose_affine(const Eval& e, const NormAttrs& a, const Tensor& mean, const Tensor& variance,
                      size_t fixed);

/// Samples of (x, `statistics` tensors of one element per channel, weight, bias).
template <size_t Statistics>
void batch_norm_samples(const OpDef&, SampleSink& sink) {
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

}  // namespace fluxion
