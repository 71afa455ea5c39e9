// Running sums, products and extrema along the middle dim of dense [outer, length, inner], strictly in order.
#pragma once

#include "kernels/kernel.h"

namespace fluxion::kernels {

struct ScanShape {
  int64_t outer, length, inner;
};
enum class ScanKind : uint8_t { sum, product };

/// out[t] = out[t - 1] + in[t], or * in[t]; from the end if `reverse`. Not for bool and half types (kNoKernel).
int scan(const Ctx& ctx, ScanKind kind, Elem elem, const char* in, char* out,
         const ScanShape& shape, bool reverse);

/// out[t] = in[t] + factor[t] * out[t - 1], product and sum each rounded; factor[0] (the last if `reverse`) is unused.
/// f32 and f64 only (kNoKernel).
int scan_linear(const Ctx& ctx, Elem elem, const char* factor, const char* in, char* out,
                const ScanShape& shape, bool reverse);

/// The extremum so far and where it stands (the last of equal ones, as PyTorch has it); once NaN it stays NaN.
/// All types.
void scan_extremum(const Ctx& ctx, Elem elem, bool maximum, const char* in, char* values,
                   int64_t* indices, const ScanShape& shape);

}  // namespace fluxion::kernels
