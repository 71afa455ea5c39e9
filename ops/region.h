// Reading and overwriting the part of a tensor that a view covers: how history follows writes through views.
#pragma once

#include "ops/op.h"

namespace fluxion {

/// A view's geometry relative to its base, both in elements.
struct Region {
  Dims base_strides, sizes, strides;
  int64_t offset;
};

Region region_of(const Tensor& view, const Tensor& base);

/// Zeros of a shape with a region filled in.
struct Embedding {
  Dims base_sizes;
  Region region;
};
/// Zeros of shape `base`, with `value` where a view of its shape with these strides and this offset lies.
Tensor embed(const Tensor& value, Ints base, Ints strides, int64_t offset);

extern OpDef kEmbedRegion;  // (value) -> zeros with value added in the region
extern OpDef kTakeRegion;   // (base) -> the region's elements
extern OpDef kPutRegion;    // (base, value) -> base with the region replaced
extern OpDef kAsStrided;    // (base) -> a view of the region

}  // namespace fluxion
