// Pooling windows over planes [planes, h, w].
#pragma once

#include "kernels/kernel.h"

namespace fluxion::kernels {

struct PoolShape {
  int64_t planes, h, w, oh, ow;
  int64_t kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  bool count_include_pad;
  int64_t divisor;  // 0: the number of elements
  Elem elem;        // f32 or f64
};

/// The largest element of each window (NaN wins) and its flat place in the plane, which has less
/// than 2^31 elements; padding never wins.
void max_pool(const Ctx&, const PoolShape&, const void* x, void* y, int64_t* place);
/// Adds each window's g to the place that won, window after window; gx starts as zeros.
void max_pool_gradient(const Ctx&, const PoolShape&, const void* g, const int64_t* place, void* gx);
/// The mean of each window.
void avg_pool(const Ctx&, const PoolShape&, const void* x, void* y);
/// Spreads g evenly over the windows; gx starts as zeros.
void avg_pool_gradient(const Ctx&, const PoolShape&, const void* g, void* gx);

}  // namespace fluxion::kernels
