// One index per element along one axis.
#pragma once

#include "kernels/index.h"
#include "ops/op.h"

namespace fluxion {

struct ScatterAttrs {
  int64_t axis;
  kernels::Combine combine = kernels::Combine::replace;
};

extern OpDef kGather;   // (x, index) {axis} -> x at index along the axis
extern OpDef kScatter;  // (x, index, source) {axis, replace | add} -> x with source put in at index
extern OpDef kScatterReduce;  // the same for multiply | maximum | minimum

Tensor gather_at(const Tensor& x, int64_t axis, const Tensor& index);
/// The source has the index's shape, or is a single element.
Tensor scatter_at(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& source,
                  kernels::Combine combine);
/// Zeros of a shape with source added at index along the axis.
Tensor scatter_into_zeros(Ints shape, int64_t axis, const Tensor& index, const Tensor& source);

}  // namespace fluxion
