// Matrix products: C = A B (+ bias), any strides, batched. Blocking, packing and threads around
// emitted tiles.
#pragma once

#include "kernels/tiles.h"

namespace fluxion::kernels {

inline constexpr int kMaxBatchDims = 6;

/// Strides in elements. The stride of a batch dim may be 0.
struct Matrix {
  const void* data;
  int64_t row_stride, column_stride;
  int64_t batch_strides[kMaxBatchDims];
};

struct GemmArgs {
  int batch_dims;
  int64_t batch_sizes[kMaxBatchDims];
  int64_t m, n, k;
  Elem in;  // of a and b
  Matrix a, b;
  Elem out;
  Matrix c;  // column_stride is 1; does not overlap a, b or itself
  BiasSide bias_side;
  const void* bias;  // of the compute dtype
  int threads;       // how many run at once at most
};

/// Bytes of workspace that gemm() wants.
size_t gemm_workspace(const GemmArgs& args, const ContractionKernels& kernels);

/// Every element of C is the contraction over K in chunks (tiles.h), then the bias, rounded once to
/// `out`: the bits depend on its row of A, its column of B and K, on nothing else.
/// kWorkspaceTooSmall if the workspace is.
int gemm(Ctx& ctx, const GemmArgs& args, const ContractionKernels& kernels);

}  // namespace fluxion::kernels
