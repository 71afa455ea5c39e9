// The inner tiles of every contraction: kernels emitted by loops/micro.h, called by the drivers
// beside this file.
#pragma once

#include "kernels/kernel.h"

namespace fluxion::kernels {

/// K is contracted in chunks of this many terms: each an fma chain from +0 in order, chunk sums
/// added left to right.
inline constexpr int64_t kChunk = 256;

/// C[r, j] += sum over k of A[r, k] * B[k, j] for a few rows and one panel of columns.
/// args: A with strides {row, k}; B with stride {k}; C with stride {row}; columns are contiguous.
/// sizes = {k, resume, ...}: C holds the sum of earlier chunks if resume is 1, else it is
/// overwritten.
enum class TileForm : uint8_t {
  full,
  /// sizes[2] = columns: only so many columns of C exist; B is readable in full.
  edge,
  /// sizes[2] = columns: walks over whole panels until so many are done. args[3] = i64 offsets: row
  /// k of B starts at B[offsets[k]].
  indirect,
  /// args[3], args[4] = i64 offsets of rows and of steps: A[r, k] stands at A[rows[r] + steps[k]].
  gathered,
  /// Like gathered, but an element of A holds a panel's width of lanes:
  /// C[r, j] += A[r, k][j] * B[k, j].
  paired,
  /// sizes = {k, first, last}: elements of A outside of [first, last) may be absent, and a chunk of
  /// none but absent ones does not count; C is always added to.
  masked,
};
inline constexpr int kTileForms = 6;
inline constexpr int kMaxTileRows = 8;

/// Rows and columns of the largest tile. Wide tiles use 512-bit vectors where the CPU has them:
/// same bits.
struct TileSize {
  int rows, columns;
};
constexpr TileSize tile_size(Elem compute, bool wide) {
  const int bytes = elem_size(compute);
  return wide ? TileSize{8, 128 / bytes} : TileSize{6, 64 / bytes};
}

constexpr uint8_t tile_variant(TileForm form, int rows, bool wide) {
  return static_cast<uint8_t>((rows - 1) | static_cast<int>(form) << 3 | wide << 6);
}

/// The bits of an element of A that is left out of the sum: a NaN that no arithmetic produces.
constexpr int64_t absent_bits(Elem compute) {
  return compute == Elem::f32 ? 0x7fffffff : 0x7fffffffffffffff;
}

/// The tiles of one compute dtype, filled by whoever knows the op table.
struct Tiles {
  Elem compute;
  TileSize size;
  Kernel at[kTileForms][kMaxTileRows];
  Kernel operator()(TileForm form, int64_t rows) const {
    return at[static_cast<int>(form)][rows - 1];
  }
};

/// What is added to finished sums: nothing, one value per column or one per row.
enum class BiasSide : uint8_t { none, columns, rows };
inline constexpr int kBiasSides = 3;

/// Everything a driver calls: tiles, and for each side of the bias loops/micro.h's finish_tile to
/// the result's memory dtype.
struct ContractionKernels {
  Tiles tiles;
  Kernel finish[kBiasSides];
};

}  // namespace fluxion::kernels
