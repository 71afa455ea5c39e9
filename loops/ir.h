// The loop IR: structured SSA over explicit vectors. One Function is one kernel (ABI:
// kernels/kernel.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/kernel.h"

namespace fluxion::loops {

using kernels::Elem;

/// Type of a value: i32, i64, f32, f64 or bool_ (a mask). The other Elems exist in memory only.
struct Type {
  Elem elem;
  uint8_t lanes = 1;
  bool operator==(const Type&) const = default;
};

constexpr bool is_float(Elem e) { return e >= Elem::f16; }

/// What a memory element becomes when loaded: u8, i8, i16 widen to i32, f16 and bf16 to f32.
constexpr Elem value_elem(Elem memory) {
  switch (memory) {
    case Elem::u8:
    case Elem::i8:
    case Elem::i16: return Elem::i32;
    case Elem::f16:
    case Elem::bf16: return Elem::f32;
    default: return memory;
  }
}

/// The integer type as wide as a value of type `e`, for bit tricks and lane numbers.
constexpr Elem int_elem(Elem e) { return kernels::elem_size(e) == 8 ? Elem::i64 : Elem::i32; }

/// How many lanes of `e` fill one 32-byte vector of the x86-v3 profile.
constexpr int base_lanes(Elem e) { return 32 / kernels::elem_size(e); }

/// While it lives, elementwise, row and column kernels are built with 64-byte vectors for CPUs that have them. The bits a
/// kernel computes do not depend on it. For the generator and tests: not for several threads.
class WideVectors {
 public:
  WideVectors();
  ~WideVectors();
  WideVectors(const WideVectors&) = delete;
  WideVectors& operator=(const WideVectors&) = delete;
  static bool on();
};

/// How many lanes of `e` fill one vector of the kernels that are being built.
inline int native_lanes(Elem e) { return base_lanes(e) * (WideVectors::on() ? 2 : 1); }

inline constexpr int kMaxLanes = 128;

/// Node kinds; a, b, c are operand nodes. A node is the value it computes.
enum class Kind : uint8_t {
  constant,  // every lane holds `imm` (the bits of one lane)
  iota,      // lane l holds l
  size,      // sizes[imm], i64
  param,     // params[imm], f64
  stride,    // args[sub].strides[imm], i64
  loop,      // for (i = a; i < b; i += c), c > 0: the node is i. Its carried nodes follow
  carried,   // a value the loop hands on, at first a
  yield,     // b becomes the next value of carried a; after the loop this node is the last value
  end,       // closes loop a; the loop's yields stand directly before it
  load,      // args[imm][a + lane] widened; lanes from active count b (if any) on are zero
  store,     // args[imm][a + lane] = b narrowed; lanes from active count c (if any) on stay
  unary,     // sub: Unary
  binary,    // sub: Binary
  fma,       // a * b + c rounded once
  compare,   // sub: Compare; a mask
  select,    // a ? b : c, a is a mask
  cast,      // a converted to the type's elem, see Builder::cast
  bitcast,   // f32 <-> i32, f64 <-> i64
  splat,     // every lane holds scalar a
  extract,   // lane imm of a
  reduce,    // sub: Binary; lanes l and l + half combined until one is left. Masks: bit_or
};
inline constexpr int kKinds = static_cast<int>(Kind::reduce) + 1;

enum class Unary : uint8_t { neg, abs, sqrt, floor, ceil, trunc, round_even, bit_not };

/// Integer arithmetic wraps; div truncates, x / 0 is 0; rem is x - x / y * y; shift counts are
/// taken modulo the width. Float max(a, b) is `isnan(a) ? a : a > b ? a : b`, min alike: NaN wins,
/// of two equal zeros b. Float rem is C's fmod.
enum class Binary : uint8_t {
  add,
  sub,
  mul,
  div,
  rem,
  min,
  max,
  bit_and,
  bit_or,
  bit_xor,
  shl,
  shr,
  shr_logical
};

/// Float compares are false for NaN, except ne.
enum class Compare : uint8_t { eq, ne, lt, le, gt, ge };

struct Node {
  Kind kind;
  uint8_t sub = 0;
  Type type{Elem::i64};
  int32_t a = -1, b = -1, c = -1;
  int64_t imm = 0;
};

struct Function {
  std::string name;         // the symbol
  std::vector<Elem> args;   // memory element of each argument
  std::vector<Node> nodes;  // in execution order
  bool wide = false;        // for CPUs with 512-bit vectors (x86-64-v4); same bits
};

/// Readable text, one node per line.
std::string print(const Function&);

/// Empty if well formed, else the first violation: "%12 = binary: operand types differ".
std::string verify(const Function&);

}  // namespace fluxion::loops
