// Per-channel normalisation: x as [samples, channels, positions].
#pragma once

#include "ops/norms.h"

namespace fluxion {

/// Attributes of the gradient. Inputs: g, x, mean, variance, then weight where it exists.
struct BatchNormGradAttrs {
  double eps;  // a kernel parameter, so it comes first
  int64_t has_weight;
};

extern OpDef kBatchNormBackward;

struct ChannelShape {
  int64_t samples, channels, positions;
};
inline ChannelShape channels_of(Ints shape) {
  return {shape[0], shape[1], element_count(shape.subspan(2))};
}

/// A value per channel as one per channel of each sample, dense.
Tensor per_sample(const Tensor& t, const ChannelShape& s);
inline Tensor as_channels(const Tensor& x, const ChannelShape& s) {
  return reshape(x, Ints({s.samples, s.channels, s.positions}));
}
/// A value per channel as it broadcasts against x.
Tensor over_channels(const Tensor& t, const Tensor& x);

}  // namespace fluxion
