// Row programs: passes over each row of [rows, n]. Fused composites and reductions of the last dim.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "loops/operand.h"

namespace fluxion::loops {

/// A place in a pass: columns start + lane. The last vector of a row has an `active` lane count.
struct Index {
  Value start;  // i64 scalar
  int lanes;
  Value active;  // absent: all lanes
};

/// Reductions add element j into lane j % 32 of its 4096-element chunk, fold the lanes by halving
/// (l with l + half), and add the chunk results left to right, all from the identity: the bits
/// depend on the row only.
class Row {
 public:
  using Pass = std::function<Term(const Index&)>;
  using Passes = std::function<std::vector<Term>(const Index&)>;

  Builder& builder() const { return builder_; }
  Elem elem() const { return compute_; }
  Value row() const { return row_; }          // number of the row, i64 scalar
  Value columns() const { return columns_; }  // n, i64 scalar
  Value count() const;                        // n in the compute dtype
  Value param(int k) const;                   // params[k] in the compute dtype, scalar
  Value constant(Value literal) const;        // scalar of the compute dtype
  /// Column number of each lane, in the integer type as wide as the compute dtype.
  Value column(const Index&) const;

  /// Element or column operand at `i` in the compute dtype (row and scalar operands: their scalar).
  Value load(int arg, const Index& i) const;
  /// The scalar of a row or scalar operand in the compute dtype. Load it before a pass, not inside.
  Value load(int arg) const;
  /// The same in the operand's own value dtype, e.g. i64 targets.
  Value load_as_stored(int arg, const Index& i) const;
  Value load_as_stored(int arg) const;
  /// One element of this row (or of a column operand), by column number (i64 scalar).
  Value load_at(int arg, Value column) const;
  Mask load_mask(int arg, const Index& i) const;

  void store(int arg, const Index& i, Value) const;
  void store(int arg, const Index& i, Mask) const;
  void store_row(int arg, Value scalar) const;  // row operand
  void store_row(int arg, Mask scalar) const;
  void store_at(int arg, Value column, Value scalar) const;

  /// Runs over the row once; scalar results.
  Value reduce(Binary op, const Pass&) const;
  std::vector<Value> reduce(std::vector<Binary> ops, const Passes&) const;
  Value reduce_sum(const Pass& p) const { return reduce(Binary::add, p); }
  Value reduce_max(const Pass& p) const { return reduce(Binary::max, p); }
  Value reduce_min(const Pass& p) const { return reduce(Binary::min, p); }

  /// Extremum and the column where it first stands (i64); NaN counts as the extremum. Rows must not
  /// be empty.
  struct Place {
    Value value, column;
  };
  Place reduce_argmax(const std::function<Value(const Index&)>&) const;
  Place reduce_argmin(const std::function<Value(const Index&)>&) const;

  /// Runs over the row once.
  void each(const std::function<void(const Index&)>&) const;

  /// Runs over the row element by element (lanes 1) in strict order, handing values on.
  std::vector<Value> scan(
      std::vector<Value> initial,
      const std::function<std::vector<Value>(const Index&, std::span<const Value>)>&) const;

 private:
  friend Function rows(std::string, Elem, std::vector<Operand>, const std::function<void(Row&)>&);
  Row(Builder& b, Elem compute, std::vector<Operand> operands)
      : builder_(b), compute_(compute), operands_(operands) {}
  void enter(Value row);
  Value address(int arg, Value column) const;
  Mask is_active(const Index& i) const;
  std::vector<Value> reduce_chunk(const std::vector<Binary>& ops, const Passes&, Value begin,
                                  Value end) const;
  Place extremum(Binary op, const std::function<Value(const Index&)>&) const;

  Builder& builder_;
  Elem compute_;
  std::vector<Operand> operands_;
  Value row_, columns_;
  std::vector<Value> offsets_;  // of this row in each element operand
};

/// sizes = {rows, n}. Element operands need args[k].strides[0], the row stride in elements; columns
/// are contiguous.
Function rows(std::string name, Elem compute, std::vector<Operand> operands,
              const std::function<void(Row&)>& body);

}  // namespace fluxion::loops
