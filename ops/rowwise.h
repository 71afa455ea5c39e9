// Drivers of row and column programs: operands as dense rows, halves computed in f32 and rounded once, rows in parallel.
#pragma once

#include <initializer_list>

#include "loops/columns.h"
#include "loops/math.h"
#include "loops/rows.h"
#include "ops/apply.h"
#include "ops/op.h"

namespace fluxion {

using loops::Column;
using loops::Extent;
using loops::Row;

/// How one operand of a program extends, and what it holds: the compute dtype unless `dtype` names another.
struct Slot {
  Extent extent;
  int dtype = -1;
  constexpr Slot(Extent e) : extent(e) {}
  constexpr Slot(Extent e, DType t) : extent(e), dtype(static_cast<int>(t)) {}
};

/// A program as data: one kernel per compute dtype (f32, f64) under `variant`. Inputs stand before outputs.
template <class Loop>
struct Program {
  uint8_t variant;
  uint8_t inputs;
  std::span<const Slot> slots;
  void (*body)(Loop&);
  double nanoseconds = 0.5;  // per element, to decide about threads
};
using RowProgram =
    Program<Row>;  // over [rows, n]; row operands have one element per row, column operands n
using ColumnProgram = Program<
    Column>;  // over [outer, red, inner]; row operands are [outer, red], column [outer, inner]

void emit(const OpDef&, KernelSink&, const RowProgram&);
void emit(const OpDef&, KernelSink&, const ColumnProgram&);

/// f64 computes in f64, everything else in f32.
constexpr DType row_compute(DType t) { return t == DType::f64 ? t : DType::f32; }

inline constexpr size_t kMaxSlots = 16;

/// Borrowed operands of a program.
struct TensorRefs {
  const Tensor* data[kMaxSlots];
  size_t size = 0;
  TensorRefs(std::initializer_list<const Tensor*> l) {
    for (const Tensor* t : l) data[size++] = t;
  }
  /// Adds an operand that a variant of the program has.
  void add_if(bool present, const Tensor* t) {
    if (present) data[size++] = t;
  }
};

/// Runs a program. Each operand holds its extent's elements in row-major order, whatever its shape; any dtype that
/// converts is accepted. Outputs must be allocated; one may be the same memory as an input of the same geometry.
void run(const OpDef&, const RowProgram&, DType compute, int64_t rows, int64_t n,
         const TensorRefs& operands, const double* params = nullptr);
void run(const OpDef&, const ColumnProgram&, DType compute, int64_t outer, int64_t red,
         int64_t inner, const TensorRefs& operands, const double* params = nullptr);

/// Runs a row program over a flat sequence of n elements, cut into rows of kFlatRow: a sum over it is the sum of its row
/// outputs from left to right, by the numerics contract. Row operands hold flat_rows(n) elements; operands are dense.
inline constexpr int64_t kFlatRow = 4096;
constexpr int64_t flat_rows(int64_t n) { return (n + kFlatRow - 1) / kFlatRow; }
void run_flat(const OpDef&, const RowProgram&, DType compute, int64_t n, const TensorRefs& operands,
              const double* params = nullptr);
/// 0 + partials[0] + partials[1] + ... in their dtype (f32 or f64).
double sum_in_order(const Tensor& partials);

/// Sums over the rows, by the numerics contract: 128 rows at a time, in order. The program adds each
/// row's terms to its outputs of Extent::column, which start at zero; other outputs are written as usual.
void run_column_sums(const OpDef&, const RowProgram&, DType compute, int64_t rows, int64_t n,
                     const TensorRefs& operands, const double* params = nullptr);

/// A shape as seen along one dim: rows if it is the last one, else columns (never decided by sizes).
struct AlongDim {
  int64_t outer, n, inner;
  bool last;
};
AlongDim along(Ints shape, int64_t dim);
/// One body as a program along a last dim and along another. Operands of one element per row or
/// column have Extent::row in the first and Extent::column in the second.
struct AlongPrograms {
  RowProgram rows;
  ColumnProgram columns;
};
void emit(const OpDef&, KernelSink&, const AlongPrograms&);
void run(const OpDef&, const AlongPrograms&, DType compute, const AlongDim&,
         const TensorRefs& operands, const double* params = nullptr);
template <const AlongPrograms& P>
void kernels_along(const OpDef& op, KernelSink& sink) {
  emit(op, sink, P);
}
Shape without_dim(Ints shape, int64_t dim, bool keepdim);

/// What bodies written for both loops share: the one element per row or column.
inline void store_result(const Row& r, int arg, loops::Value v) { r.store_row(arg, v); }
inline void store_result(const Column& c, int arg, loops::Value v) { c.store(arg, v); }
/// The largest of operand 0, and the sum of exp(x - most) over it.
template <class L>
loops::Value largest(const L& l) {
  return l.reduce_max([&](const auto& i) -> loops::Term { return l.load(0, i); });
}
template <class L>
loops::Value sum_of_exponentials(const L& l, loops::Value most) {
  return l.reduce_sum(
      [&](const auto& i) -> loops::Term { return loops::exp_nonpositive(l.load(0, i) - most); });
}

/// [rows, n] of a shape whose last `dims` dims are one row.
struct RowShape {
  int64_t rows = 1, n = 1;
};
RowShape rows_of(Ints shape, size_t dims);

/// Allocates an undefined output.
void ensure(Tensor& out, Ints shape, DType dtype);

double rowwise_cost(std::span<const Type>, const void*);  // several passes with transcendentals

}  // namespace fluxion
