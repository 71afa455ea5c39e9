// Packing: strided elements of any memory dtype into panels of the dtype that contractions of it
// compute in.
#pragma once

#include "kernels/kernel.h"

namespace fluxion::kernels {

/// Element (lane, k) stands at data[lane * lane_stride + k * k_stride].
struct Lanes {
  const void* data;
  int64_t lane_stride, k_stride;
};

/// out[panel][k][width] with lane = panel * width + place; lanes that do not exist are zero. Needs
/// 8 elements of slack behind `out` if width is not a multiple of 8.
void pack_panels(Elem from, const Lanes& in, int64_t lanes, int64_t k, int width, void* out);

constexpr int64_t packed_elements(int64_t lanes, int64_t k, int width) {
  return (lanes + width - 1) / width * width * k + 8;
}

}  // namespace fluxion::kernels
