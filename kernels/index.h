// Moving elements to and from places named by index tensors: the drivers of index, index_put, gather and scatter.
#pragma once

#include "kernels/tile.h"

namespace fluxion::kernels {

/// An index tensor over the index space, and the dim that it indexes. Strides and steps in elements.
struct IndexOperand {
  const char* data;
  Elem elem;               // i32 or i64
  const int64_t* strides;  // per dim of the index space; 0 where broadcast
  int64_t extent, step;    // of the indexed dim
};

/// offsets[p] = sum of index * step over the operands, p in row-major order of the index space; negative indices
/// count from the end. kIndexOutOfRange leaves error = {value, p, extent, operand} of the first bad index.
int resolve_indices(Ctx& ctx, const IndexOperand* operands, int count, int rank,
                    const int64_t* sizes, int64_t* offsets);

/// Only looks for a bad index.
int check_indices(Ctx& ctx, const IndexOperand* operands, int count, int rank,
                  const int64_t* sizes);

/// How a moved element meets the one that is there.
enum class Combine : int64_t { replace, add, multiply, maximum, minimum };

/// Loops around or inside a moved row: sizes, and strides on the indexed side.
struct Loops {
  int rank = 0;
  int64_t sizes[kMaxLoops], strides[kMaxLoops];
  int64_t count() const {
    int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= sizes[d];
    return n;
  }
  void add(int64_t size, int64_t stride) {
    sizes[rank] = size;
    strides[rank++] = stride;
  }
};

/// Rows [outer, position, inner], dense, against indexed[outer + offsets[position] + inner].
struct RowMove {
  Elem elem;
  Loops outer, inner;
  const int64_t* offsets;
  int64_t positions;
  int64_t low, span;  // offsets lie in [low, low + span)
  char* indexed;
  char* rows;
  bool one_row = false;  // put only: `rows` is a single element, used everywhere
};

/// rows = indexed.
void take_rows(const Ctx& ctx, const RowMove& move);
/// indexed = rows, or indexed += rows, in order of position. No half types for sums (kNoKernel).
int put_rows(const Ctx& ctx, const RowMove& move, Combine combine);

/// Elements of a `plain` tensor of the index's shape against `indexed`, whose position along `axis` the index names.
struct AxisMove {
  Elem elem;
  int rank, axis;        // rank >= 1
  const int64_t* sizes;  // of the index
  IndexOperand index;
  char* indexed;
  const int64_t* indexed_strides;
  char* plain;
  const int64_t* plain_strides;
  bool check_first = true;  // scatter: a bad index leaves `indexed` as it was
};

/// plain = indexed. Or kIndexOutOfRange, as resolve_indices.
int gather_along(Ctx& ctx, const AxisMove& move);
/// indexed = combine(indexed, plain), in order along the axis. No half types except for replace (kNoKernel).
/// Or kIndexOutOfRange, as resolve_indices.
int scatter_along(Ctx& ctx, const AxisMove& move, Combine combine);

/// out[k] = coordinates (rank numbers) of the k-th true byte of a dense mask. `out` has room for all of them.
void true_coordinates(const Ctx& ctx, const char* mask, int rank, const int64_t* sizes,
                      int64_t* out);
int64_t count_true(const Ctx& ctx, const char* mask, int64_t n);

}  // namespace fluxion::kernels
