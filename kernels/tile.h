// The tile driver: runs a dense elementwise kernel over operands of any strides, dtypes and broadcasts.
// Operands that are not dense in the kernel's dtype are gathered and converted 512 elements at a time.
#pragma once

#include "kernels/kernel.h"

namespace fluxion::kernels {

inline constexpr int kTile = 512;
inline constexpr int kMaxOperands = 8;
inline constexpr int kMaxLoops = 16;

/// One operand as it lies in memory. Strides in elements, 0 where it is broadcast.
struct TileOperand {
  char* data;
  Elem elem;
  const int64_t* strides;
};

struct TileCall {
  /// By ElementwiseClass; the scalar classes may be null. Arguments: inputs, then outputs; sizes = {n, linear index of the
  /// first element}.
  Kernel kernel[3];
  const void* params;
  int inputs, outputs;
  Elem reads[kMaxOperands];  // what the kernel takes, per operand (inputs, then outputs)
  int64_t grain;             // least elements per parallel chunk
  /// Dense conversion kernel between two dtypes.
  Kernel (*convert)(Elem from, Elem to);
};

/// Runs the call over the iteration space `sizes` (row-major logical order). Operands: inputs, then outputs.
/// An output may be the same memory as an input only with the same strides.
int run_tiles(const Ctx& ctx, const TileCall& call, const TileOperand* operands, int rank,
              const int64_t* sizes);

/// Collapses dims that are contiguous in every operand; strides[k] belongs to operand k. Returns the new rank.
int merge_dims(int operands, int rank, int64_t* sizes, int64_t (*strides)[kMaxLoops]);

}  // namespace fluxion::kernels
