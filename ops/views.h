// Ops whose result shares the memory of their input.
#pragma once

#include "ops/op.h"

namespace fluxion {

extern OpDef kReshape, kExpand;

/// A view of `t` (linked to its base) with other geometry; offset in elements relative to t's first element.
Tensor make_view(const Tensor& t, Ints sizes, Ints strides, int64_t offset);

/// The strides that view a tensor of that geometry as `shape`; false if only a copy could.
bool view_strides(Ints sizes, Ints strides, Ints shape, int64_t* out);

/// The stride of every step-th index. A step that overflows leaves one index at most, so any stride does.
inline int64_t stride_of(int64_t stride, int64_t step) {
  int64_t s;
  return __builtin_mul_overflow(stride, step, &s) ? stride : s;
}

/// Resolves one -1 and checks the element count; raises with `op`.
Shape resolve_shape(const char* op, Ints shape, int64_t numel, Ints from);

}  // namespace fluxion
