// Strided copies of elements of one size.
#pragma once

#include "kernels/tile.h"

namespace fluxion::kernels {

/// out[i] = in[i] over `sizes`; strides in elements of `size` bytes. The regions must not overlap.
void copy_strided(const Ctx& ctx, int size, char* out, const int64_t* out_strides, const char* in,
                  const int64_t* in_strides, int rank, const int64_t* sizes);

}  // namespace fluxion::kernels
