// What the normalisations share.
#pragma once

#include "loops/math.h"
#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/rowwise.h"

namespace fluxion {

/// Attributes of layer_norm, rms_norm and group_norm. Inputs: x, then weight and bias where they exist.
struct NormAttrs {
  double eps;    // a kernel parameter, so it comes first
  int64_t dims;  // how many trailing dims are normalised; of group_norm: how many groups
  int64_t has_weight, has_bias;
};
/// Attributes of their gradients. Inputs: g, x, the statistics, then weight where it exists.
struct NormGradAttrs {
  int64_t dims, has_weight;
  int64_t want_input, want_weight, want_bias;  // results nobody wants stay undefined
};
inline constexpr Field kNormFields[] = {
    {"eps", FieldKind::real, offsetof(NormAttrs, eps), "added to the variance or mean square"},
    {"dims", FieldKind::integer, offsetof(NormAttrs, dims),
     "how many trailing dims are normalised, or how many groups"},
    {"has_weight", FieldKind::boolean, offsetof(NormAttrs, has_weight),
     "whether an input scales the result"},
    {"has_bias", FieldKind::boolean, offsetof(NormAttrs, has_bias),
     "whether the last input is added to the result"},
};

inline constexpr Field kNormGradFields[] = {
    {"dims", FieldKind::integer, offsetof(NormGradAttrs, dims),
     "how many trailing dims are normalised, or how many groups"},
    {"has_weight", FieldKind::boolean, offsetof(NormGradAttrs, has_weight),
     "whether the last input is the weight"},
    {"want_input", FieldKind::boolean, offsetof(NormGradAttrs, want_input),
     "compute the gradient of the input"},
    {"want_weight", FieldKind::boolean, offsetof(NormGradAttrs, want_weight),
     "compute the gradient of the weight"},
    {"want_bias", FieldKind::boolean, offsetof(NormGradAttrs, want_bias),
     "compute the gradient of the bias"},
};

/// x, and those of weight and bias that are defined.
class NormInputs {
 public:
  NormInputs(const Tensor& x, const Tensor& weight, const Tensor& bias) : tensors_{x} {
    if (weight.defined()) tensors_[count_++] = weight;
    if (bias.defined()) tensors_[count_++] = bias;
  }
  operator Tensors() const { return {tensors_, count_}; }

 private:
  Tensor tensors_[3];
  size_t count_ = 1;
};

/// Type rules: x ends with normalized dims that weight and bias have too.
void require_norm(const TypeRule& t);
/// Type rules of the gradients: g, x, `statistics` tensors of one element per row, weight.
void require_norm_gradient(const TypeRule& t, size_t statistics);
/// x.shape with the last `dims` sizes 1.
Shape statistics_shape(Ints shape, int64_t dims);
/// Raises unless x is floating and ends with `normalized_shape`, which weight and bias have too.
void check_trailing_norm(const char* op, const Tensor& x, Ints normalized_shape,
                         const Tensor& weight, const Tensor& bias);
/// Raises unless a given weight or bias has one element per channel.
void check_per_channel(const char* op, const char* argument, const Tensor& t, int64_t channels,
                       Ints shape);

}  // namespace fluxion
