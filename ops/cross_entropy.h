// Cross entropy of logits with the classes along dim 1 (dim 0 for rank 1).
#pragma once

#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/losses.h"
#include "ops/rowwise.h"

namespace fluxion {

/// Inputs: logits, target, then class weights where they exist.
struct CrossEntropyAttrs {
  double label_smoothing;
  int64_t ignore_index, reduction, has_weight;
};
inline constexpr Field kCrossEntropyFields[] = {
    {"label_smoothing", FieldKind::real, offsetof(CrossEntropyAttrs, label_smoothing),
     "share of the target spread evenly over the classes"},
    {"ignore_index", FieldKind::integer, offsetof(CrossEntropyAttrs, ignore_index),
     "target value of entries that do not count"},
    {"reduction", FieldKind::integer, offsetof(CrossEntropyAttrs, reduction),
     "0 none, 1 mean (weighted), 2 sum"},
    {"has_weight", FieldKind::boolean, offsetof(CrossEntropyAttrs, has_weight),
     "whether the last input weighs the classes"},
};

extern OpDef kCrossEntropy, kSoftCrossEntropy;

inline int64_t class_dim(const Tensor& logits) { return logits.dim() > 1 ? 1 : 0; }
/// The shape of a per-class tensor that broadcasts against the logits.
Shape class_shape(const Tensor& logits);
/// Weights (ones if there are none) in the compute dtype; one copy per outer index where the classes are not last.
Tensor class_weights(const Tensor* weight, const AlongDim& a, DType compute);
/// Loss per entry to the op's first output.
Tensor reduce_entries(const Tensor& entries, const Tensor& total, int64_t reduction);
/// The gradient of each entry, dense, from the gradient of the first output.
Tensor entry_gradients(const Tensor& g, const Tensor& total, int64_t reduction, Ints shape);

}  // namespace fluxion
