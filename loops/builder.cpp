#include "loops/builder.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "loops/bits.h"

namespace fluxion::loops {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::logic_error("loops: " + what); }

/// The type two operands meet in: the elem of the one that is no literal, the lanes of the wider.
struct Meeting {
  Builder* builder = nullptr;
  Type type{Elem::bool_, 1};

  Meeting& with(Value v) {
    if (!v.exists()) fail("an operand is absent");
    if (v.is_literal()) return *this;
    if (builder && v.elem() != type.elem) fail("operands of different dtypes; cast one");
    builder = &v.builder();
    type = {v.elem(), std::max<uint8_t>(type.lanes, v.type().lanes)};
    return *this;
  }
  Value operator()(Value v) const {
    if (!builder) fail("an operation on literals only");
    return builder->resolve(v, type);
  }
};

Value unary(Unary op, Value a) {
  Meeting m = Meeting().with(a);
  return m.builder->append({Kind::unary, static_cast<uint8_t>(op), m.type, m(a).node()});
}

Value binary(Binary op, Value a, Value b) {
  Meeting m = Meeting().with(a).with(b);
  const int32_t x = m(a).node(), y = m(b).node();
  return m.builder->append({Kind::binary, static_cast<uint8_t>(op), m.type, x, y});
}

Mask compare(Compare op, Value a, Value b) {
  Meeting m = Meeting().with(a).with(b);
  const int32_t x = m(a).node(), y = m(b).node();
  return {m.builder->append(
      {Kind::compare, static_cast<uint8_t>(op), {Elem::bool_, m.type.lanes}, x, y})};
}

}  // namespace

Type Value::type() const {
  if (origin_ != Origin::node) fail("a literal has no type");
  return builder_->function().nodes[node()].type;
}

Value Value::like(Value literal) const { return builder_->constant(type(), literal); }

Value operator+(Value a, Value b) { return binary(Binary::add, a, b); }
Value operator-(Value a, Value b) { return binary(Binary::sub, a, b); }
Value operator*(Value a, Value b) { return binary(Binary::mul, a, b); }
Value operator/(Value a, Value b) { return binary(Binary::div, a, b); }
Value operator-(Value a) { return unary(Unary::neg, a); }
Value minimum(Value a, Value b) { return binary(Binary::min, a, b); }
Value maximum(Value a, Value b) { return binary(Binary::max, a, b); }
Value abs(Value a) { return unary(Unary::abs, a); }
Value sqrt(Value a) { return unary(Unary::sqrt, a); }
Value floor(Value a) { return unary(Unary::floor, a); }
Value ceil(Value a) { return unary(Unary::ceil, a); }
Value trunc(Value a) { return unary(Unary::trunc, a); }
Value round_even(Value a) { return unary(Unary::round_even, a); }

Value fma(Value a, Value b, Value c) {
  Meeting m = Meeting().with(a).with(b).with(c);
  const int32_t x = m(a).node(), y = m(b).node(), z = m(c).node();
  return m.builder->append({Kind::fma, 0, m.type, x, y, z});
}

Mask operator<(Value a, Value b) { return compare(Compare::lt, a, b); }
Mask operator<=(Value a, Value b) { return compare(Compare::le, a, b); }
Mask operator>(Value a, Value b) { return compare(Compare::gt, a, b); }
Mask operator>=(Value a, Value b) { return compare(Compare::ge, a, b); }
Mask operator==(Value a, Value b) { return compare(Compare::eq, a, b); }
Mask operator!=(Value a, Value b) { return compare(Compare::ne, a, b); }
Mask isnan(Value a) { return a != a; }
Mask operator&(Mask a, Mask b) { return {binary(Binary::bit_and, a.value, b.value)}; }
Mask operator|(Mask a, Mask b) { return {binary(Binary::bit_or, a.value, b.value)}; }
Mask operator^(Mask a, Mask b) { return {binary(Binary::bit_xor, a.value, b.value)}; }
Mask operator~(Mask a) { return {unary(Unary::bit_not, a.value)}; }

Value select(Mask m, Value a, Value b) {
  Meeting values = Meeting().with(a).with(b);
  Builder& builder = m.value.builder();
  if (!values.builder) fail("select between literals; use like()");
  const uint8_t lanes = std::max(values.type.lanes, m.value.type().lanes);
  const Type type{values.type.elem, lanes};
  const int32_t condition = builder.resolve(m.value, {Elem::bool_, lanes}).node();
  const int32_t x = builder.resolve(a, type).node(), y = builder.resolve(b, type).node();
  return builder.append({Kind::select, 0, type, condition, x, y});
}

Mask select(Mask m, Mask a, Mask b) { return {select(m, a.value, b.value)}; }

Value cast(Value v, Elem elem) {
  if (v.elem() == elem) return v;
  if (elem == Elem::bool_) fail("cast to bool; use nonzero");
  return v.builder().append({Kind::cast, 0, {elem, v.type().lanes}, v.node()});
}

Value cast(Mask m, Elem elem) { return cast(m.value, elem); }

Mask nonzero(Value v) { return v.elem() == Elem::bool_ ? Mask{v} : v != 0; }

Value bitcast(Value v, Elem elem) {
  if (v.elem() == elem) return v;
  return v.builder().append({Kind::bitcast, 0, {elem, v.type().lanes}, v.node()});
}

Value to_stored(Value v, Elem memory) {
  if (memory == Elem::bool_) return nonzero(v).value;
  if (memory == Elem::u8 && is_float(v.elem())) v = cast(v, Elem::i64);
  return cast(v, value_elem(memory));
}

Value operator&(Value a, Value b) { return binary(Binary::bit_and, a, b); }
Value operator|(Value a, Value b) { return binary(Binary::bit_or, a, b); }
Value operator^(Value a, Value b) { return binary(Binary::bit_xor, a, b); }
Value operator~(Value a) { return unary(Unary::bit_not, a); }
Value shift_left(Value a, Value b) { return binary(Binary::shl, a, b); }
Value shift_right(Value a, Value b) { return binary(Binary::shr, a, b); }
Value shift_right_logical(Value a, Value b) { return binary(Binary::shr_logical, a, b); }

Value rem(Value a, Value b) { return binary(Binary::rem, a, b); }

Value floor_rem(Value a, Value b) {
  Meeting m = Meeting().with(a).with(b);
  a = m(a), b = m(b);
  Value r = rem(a, b);
  Mask opposite = is_float(m.type.elem) ? (b < 0) ^ (r < 0) : (b ^ r) < 0;
  return select((r != 0) & opposite, r + b, r);
}

Value floor_div(Value a, Value b) {
  Meeting m = Meeting().with(a).with(b);
  a = m(a), b = m(b);
  Value r = rem(a, b);
  if (!is_float(m.type.elem)) {
    Value q = a / b;
    return select((r != 0) & ((b ^ r) < 0), q - 1, q);
  }
  Value exact = (a - r) / b;
  exact = select((r != 0) & ((b < 0) ^ (r < 0)), exact - 1.0, exact);
  Value down = floor(exact);
  down = select(exact - down > 0.5, down + 1.0, down);
  Value quotient = a / b;
  return select(b == 0, quotient, select(exact == 0, copysign(exact.like(0), quotient), down));
}

Value copysign(Value magnitude, Value sign) {
  Meeting m = Meeting().with(magnitude).with(sign);
  const Elem bits = int_elem(m.type.elem);
  Value s = bitcast(m(sign), bits), v = bitcast(m(magnitude), bits);
  Value top = bits == Elem::i64 ? v.like(std::numeric_limits<int64_t>::min())
                                : v.like(std::numeric_limits<int32_t>::min());
  return bitcast((s & top) | (v & ~top), m.type.elem);
}

Mask any(Mask m) { return {reduce(Binary::bit_or, m.value)}; }

std::vector<Value> when(Mask condition, std::vector<Value> otherwise,
                        const std::function<std::vector<Value>()>& body) {
  Builder& b = condition.value.builder();
  return b.loop(0, cast(condition, Elem::i64), 1, std::move(otherwise),
                [&](Value, std::span<const Value>) { return body(); });
}

Value splat(Value scalar, int lanes) {
  return scalar.builder().resolve(scalar, {scalar.elem(), static_cast<uint8_t>(lanes)});
}

Value extract(Value v, int lane) {
  if (v.lanes() == 1 && lane == 0) return v;
  Node n{Kind::extract, 0, {v.elem(), 1}, v.node()};
  n.imm = lane;
  return v.builder().append(n);
}

Value reduce(Binary op, Value v) {
  if (v.lanes() == 1) return v;
  return v.builder().append({Kind::reduce, static_cast<uint8_t>(op), {v.elem(), 1}, v.node()});
}

Value identity(Binary op, Value like) {
  const Elem e = like.elem();
  const bool wide = e == Elem::i64;
  constexpr double inf = std::numeric_limits<double>::infinity();
  switch (op) {
    case Binary::mul: return like.like(1);
    case Binary::bit_and: return like.like(-1);
    case Binary::max:
      if (is_float(e)) return like.like(-inf);
      return like.like(wide ? std::numeric_limits<int64_t>::min()
                            : std::numeric_limits<int32_t>::min());
    case Binary::min:
      if (is_float(e)) return like.like(inf);
      return like.like(wide ? std::numeric_limits<int64_t>::max()
                            : std::numeric_limits<int32_t>::max());
    default: return like.like(0);
  }
}

Builder::Builder(std::string name, std::vector<Elem> args)
    : function_{std::move(name), std::move(args), {}, false} {}

Value Builder::append(Node n) {
  function_.nodes.push_back(n);
  return {this, static_cast<int32_t>(function_.nodes.size()) - 1};
}

Value Builder::constant_bits(Type t, int64_t bits) {
  Node n{Kind::constant, 0, t};
  n.imm = bits;
  return append(n);
}

Value Builder::constant(Type t, Value literal) {
  if (!literal.is_literal()) fail("not a literal");
  const bool real = literal.origin_ == Value::Origin::real;
  const double number = real ? literal.real_ : static_cast<double>(literal.integer_);
  switch (t.elem) {
    case Elem::f32:
      return constant_bits(
          t, to_bits(real ? static_cast<float>(number) : static_cast<float>(literal.integer_)));
    case Elem::f64: return constant_bits(t, to_bits(number));
    default: break;
  }
  const int64_t whole = real ? static_cast<int64_t>(literal.real_) : literal.integer_;
  if (t.elem == Elem::bool_) return constant_bits(t, number != 0);
  return constant_bits(t, t.elem == Elem::i32 ? static_cast<int32_t>(whole) : whole);
}

Value Builder::integer(int64_t v) { return constant({Elem::i64, 1}, v); }

Value Builder::iota(Type t) { return append({Kind::iota, 0, t}); }

Value Builder::size(int k) {
  Node n{Kind::size};
  n.imm = k;
  return append(n);
}

Value Builder::param(int k) {
  Node n{Kind::param, 0, {Elem::f64, 1}};
  n.imm = k;
  return append(n);
}

Value Builder::stride(int arg, int dim) {
  Node n{Kind::stride, static_cast<uint8_t>(arg)};
  n.imm = dim;
  return append(n);
}

Value Builder::load(int arg, Value index, int lanes, Value active) {
  const Elem elem = value_elem(function_.args.at(arg));
  Node n{Kind::load, 0, {elem, static_cast<uint8_t>(lanes)}, resolve(index, {Elem::i64, 1}).node()};
  if (active.exists()) n.b = resolve(active, {Elem::i64, 1}).node();
  n.imm = arg;
  return append(n);
}

Mask Builder::load_mask(int arg, Value index, int lanes, Value active) {
  return nonzero(load(arg, index, lanes, active));
}

void Builder::store(int arg, Value index, Value v, Value active) {
  Node n{Kind::store, 0, v.type(), resolve(index, {Elem::i64, 1}).node(), v.node()};
  if (active.exists()) n.c = resolve(active, {Elem::i64, 1}).node();
  n.imm = arg;
  append(n);
}

void Builder::store(int arg, Value index, Mask m, Value active) {
  store(arg, index, m.value, active);
}

std::vector<Value> Builder::loop(Value begin, Value end, Value step, std::vector<Value> initial,
                                 const LoopBody& body) {
  constexpr Type scalar{Elem::i64, 1};
  const int32_t from = resolve(begin, scalar).node(), to = resolve(end, scalar).node(),
                by = resolve(step, scalar).node();
  const Value index = append({Kind::loop, 0, scalar, from, to, by});
  std::vector<Value> carried, last;
  for (Value v : initial) carried.push_back(append({Kind::carried, 0, v.type(), v.node()}));
  std::vector<Value> next = body(index, carried);
  if (next.size() != carried.size()) fail("a loop body must return one value per carried value");
  for (size_t i = 0; i < next.size(); ++i) next[i] = resolve(next[i], carried[i].type());
  for (size_t i = 0; i < next.size(); ++i)
    last.push_back(append({Kind::yield, 0, carried[i].type(), carried[i].node(), next[i].node()}));
  append({Kind::end, 0, scalar, index.node()});
  return last;
}

void Builder::loop(Value begin, Value end, Value step, const std::function<void(Value)>& body) {
  loop(begin, end, step, {}, [&](Value index, std::span<const Value>) {
    body(index);
    return std::vector<Value>();
  });
}

Function Builder::finish() {
  const std::string problem = verify(function_);
  if (!problem.empty()) fail(function_.name + ": " + problem + "\n" + print(function_));
  return std::move(function_);
}

Value Builder::resolve(Value v, Type t) {
  if (!v.exists()) fail("a value is absent");
  if (v.is_literal()) return constant(t, v);
  if (v.type() == t) return v;
  if (v.elem() != t.elem || v.lanes() != 1) fail("a value of another type is needed");
  return append({Kind::splat, 0, t, v.node()});
}

}  // namespace fluxion::loops
