// Column programs: passes down the middle dim of [outer, red, inner], a block of columns at a time.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "loops/operand.h"

namespace fluxion::loops {

/// Operands: element [o, r, c] with strides {outer, red}; column [o, c] with {outer}; row [o, r]
/// with {outer, red}; scalar []. Columns are contiguous, strides in elements and always given.
/// Reductions: one lane per column, 128-row chunks each accumulated in order from the identity,
/// chunk results in order.
class Column {
 public:
  using Pass = std::function<Term(Value row)>;
  using Passes = std::function<std::vector<Term>(Value row)>;

  Builder& builder() const { return builder_; }
  Elem elem() const { return compute_; }
  Value rows() const { return rows_; }  // i64 scalar
  int lanes() const { return lanes_; }  // of the block of columns
  Value count() const;                  // rows in the compute dtype
  Value param(int k) const;
  Value constant(Value literal) const;

  Value load(int arg, Value row) const;  // element operand (a vector) or row operand (a scalar)
  Value load(int arg) const;             // column operand (a vector) or scalar operand
  Value load_as_stored(int arg, Value row) const;
  Value load_as_stored(int arg) const;
  Mask load_mask(int arg, Value row) const;
  void store(int arg, Value row, Value) const;
  void store(int arg, Value row, Mask) const;
  void store(int arg, Value) const;
  void store(int arg, Mask) const;

  Value reduce(Binary op, const Pass&) const;
  std::vector<Value> reduce(std::vector<Binary> ops, const Passes&) const;
  Value reduce_sum(const Pass& p) const { return reduce(Binary::add, p); }
  Value reduce_max(const Pass& p) const { return reduce(Binary::max, p); }
  Value reduce_min(const Pass& p) const { return reduce(Binary::min, p); }

  /// Extremum and the row where it first stands (i64); NaN counts as the extremum. There must be a
  /// row, and fewer than 2^31.
  struct Place {
    Value value, row;
  };
  Place reduce_argmax(const std::function<Value(Value row)>&) const;
  Place reduce_argmin(const std::function<Value(Value row)>&) const;

  void each(const std::function<void(Value row)>&) const;

  /// Down the rows in strict order, handing values on.
  std::vector<Value> scan(
      std::vector<Value> initial,
      const std::function<std::vector<Value>(Value row, std::span<const Value>)>&) const;

 private:
  friend Function columns(std::string, Elem, std::vector<Operand>,
                          const std::function<void(Column&)>&);
  Column(Builder& b, Elem compute, std::vector<Operand> operands)
      : builder_(b), compute_(compute), operands_(operands) {}
  bool along_columns(int arg) const;
  Value address(int arg, Value row) const;
  Value fit(int arg, Value) const;
  Place extremum(Binary op, const std::function<Value(Value row)>&) const;

  Builder& builder_;
  Elem compute_;
  std::vector<Operand> operands_;
  Value outer_, rows_, start_, active_;
  int lanes_ = 0;
};

/// sizes = {outer, red, inner}.
Function columns(std::string name, Elem compute, std::vector<Operand> operands,
                 const std::function<void(Column&)>& body);

}  // namespace fluxion::loops
