// Builds a Function by writing arithmetic: `Value` is a handle to a node, operators append nodes.
#pragma once

#include <concepts>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "loops/ir.h"

namespace fluxion::loops {

class Builder;

/// A typed SSA value, or a literal that takes the type of the value it meets: `fma(p, x, 0.5)`.
/// Scalars meeting vectors are splat.
class Value {
 public:
  Value() = default;  // absent
  Value(double literal) : origin_(Origin::real), real_(literal) {}
  template <std::integral T>
  Value(T literal) : origin_(Origin::integer), integer_(static_cast<int64_t>(literal)) {}
  Value(Builder* builder, int32_t node)
      : origin_(Origin::node), builder_(builder), integer_(node) {}

  bool exists() const { return origin_ != Origin::absent; }
  bool is_literal() const { return origin_ == Origin::real || origin_ == Origin::integer; }
  Builder& builder() const { return *builder_; }
  int32_t node() const { return static_cast<int32_t>(integer_); }
  Type type() const;
  Elem elem() const { return type().elem; }
  int lanes() const { return type().lanes; }

  /// A constant of this value's type.
  Value like(Value literal) const;

 private:
  friend class Builder;
  enum class Origin : uint8_t { absent, real, integer, node } origin_ = Origin::absent;
  Builder* builder_ = nullptr;
  union {
    int64_t integer_ = 0;
    double real_;
  };
};

/// A truth value per lane. Not convertible to bool: use `select`.
struct Mask {
  Value value;
};

Value operator+(Value, Value);
Value operator-(Value, Value);
Value operator*(Value, Value);
Value operator/(Value, Value);  // integers: truncates, x / 0 is 0
Value operator-(Value);
Value fma(Value a, Value b, Value c);
Value minimum(Value, Value);  // NaN propagates; cheapest with the literal first
Value maximum(Value, Value);
Value abs(Value);
Value sqrt(Value);
Value floor(Value);
Value ceil(Value);
Value trunc(Value);
Value round_even(Value);

Mask operator<(Value, Value);
Mask operator<=(Value, Value);
Mask operator>(Value, Value);
Mask operator>=(Value, Value);
Mask operator==(Value, Value);
Mask operator!=(Value, Value);
Mask isnan(Value);
Mask operator&(Mask, Mask);
Mask operator|(Mask, Mask);
Mask operator^(Mask, Mask);
Mask operator~(Mask);
Value select(Mask, Value if_true, Value if_false);
Mask select(Mask, Mask if_true, Mask if_false);

/// Conversion to another value elem. float -> int truncates; NaN and out of range give the smallest
/// integer. int -> float and f64 -> f32 round to nearest even; i64 -> i32 wraps; a mask is 0 or 1.
Value cast(Value, Elem);
Value cast(Mask, Elem);
Mask nonzero(Value);
/// From a compute dtype to what a memory element takes, as torch converts: float -> u8 by way of
/// i64.
Value to_stored(Value, Elem memory);
Value bitcast(Value, Elem);

Value operator&(Value, Value);  // bits of integers
Value operator|(Value, Value);
Value operator^(Value, Value);
Value operator~(Value);
Value shift_left(Value, Value);
Value shift_right(Value, Value);  // arithmetic
Value shift_right_logical(Value, Value);

Value rem(Value, Value);        // sign of the dividend: C's % and fmod
Value floor_div(Value, Value);  // integers: rounds down. floats: torch's floor_divide
Value floor_rem(Value, Value);  // sign of the divisor: Python's %
Value copysign(Value magnitude, Value sign);

/// Whether any lane is true: a scalar mask.
Mask any(Mask);
/// The body's values if the scalar condition holds, else the given ones. A branch, for rare cases.
std::vector<Value> when(Mask condition, std::vector<Value> otherwise,
                        const std::function<std::vector<Value>()>& body);

Value splat(Value scalar, int lanes);
Value extract(Value, int lane);
Value reduce(Binary, Value);  // lanes l and l + half until one is left
Value identity(Binary, Value like);

class Builder {
 public:
  using LoopBody = std::function<std::vector<Value>(Value index, std::span<const Value> carried)>;

  Builder(std::string name, std::vector<Elem> args);

  Value constant(Type, Value literal);
  Value constant_bits(Type, int64_t bits);
  Value integer(int64_t);  // i64 scalar
  Value iota(Type);
  Value size(int k);
  Value param(int k);  // f64 scalar
  Value stride(int arg, int dim);

  /// args[arg][index + lane] as value_elem; lanes from `active` on are zero and touch no memory.
  Value load(int arg, Value index, int lanes = 1, Value active = {});
  Mask load_mask(int arg, Value index, int lanes = 1, Value active = {});
  /// The value must be of the argument's value_elem (bool_: a Mask); scalars are not splat.
  void store(int arg, Value index, Value, Value active = {});
  void store(int arg, Value index, Mask, Value active = {});

  /// for (i = begin; i < end; i += step); the body maps the carried values to the next ones.
  /// Returns the last ones.
  std::vector<Value> loop(Value begin, Value end, Value step, std::vector<Value> initial,
                          const LoopBody& body);
  void loop(Value begin, Value end, Value step, const std::function<void(Value index)>& body);

  const Function& function() const { return function_; }
  /// The finished function, verified.
  Function finish();

  Value append(Node);
  /// A literal becomes a constant of type `t`; a scalar is splat to its lanes.
  Value resolve(Value, Type t);

 private:
  Function function_;
};

}  // namespace fluxion::loops
