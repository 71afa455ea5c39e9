// What the elementary functions share: formats, polynomials, reductions of the argument.
// Private to loops/math_*.cpp.
#pragma once

#include <initializer_list>
#include <span>

#include "loops/builder.h"

namespace fluxion::loops {

using Coefficients = std::span<const double>;

/// Layout of the float format of a value.
struct Format {
  Elem bits;     // integer of the same width
  int mantissa;  // stored mantissa bits
  int bias;
  double round;  // 1.5 * 2^mantissa: adding it rounds to an integer in the low bits

  explicit Format(Value x) : Format(x.elem() == Elem::f32) {}

  bool single() const { return mantissa == 23; }
  double pick(double f32, double f64) const { return single() ? f32 : f64; }
  template <size_t N, size_t M>
  Coefficients pick(const double (&f32)[N], const double (&f64)[M]) const {
    return single() ? Coefficients(f32) : Coefficients(f64);
  }

 private:
  explicit Format(bool single)
      : bits(single ? Elem::i32 : Elem::i64),
        mantissa(single ? 23 : 52),
        bias(single ? 127 : 1023),
        round(single ? 0x1.8p23 : 0x1.8p52) {}
};

/// c[0] + c[1] x + c[2] x^2 ..., by Horner's rule with fma.
Value polynomial(Value x, Coefficients c);

inline Value float_bits(Value x) { return bitcast(x, int_elem(x.elem())); }
inline Value from_float_bits(Value x) {
  return bitcast(x, x.elem() == Elem::i64 ? Elem::f64 : Elem::f32);
}
Value sign_bit(Value x);  // as an integer
Value with_sign(Value magnitude,
                Value sign_bits);  // flips the sign where `sign_bits` has its top bit

/// x = exponent * ln 2 + r with |r| <= ln 2 / 2. The low bits of `shifted` hold exponent + offset.
struct ExpReduction {
  Value r, shifted;
};
ExpReduction reduce_exp(Value x, double offset);
/// The same with a given choice of exponent: t = exponent + shift, shift = Format::round + offset.
ExpReduction reduce_exp(Value x, Value t, double shift);

/// e^r - 1 for |r| <= ln 2 / 2.
Value expm1_reduced(Value r);

/// e^(x + low) for f64, low tiny against x, |x| <= 800.
Value exp_sum(Value x, Value low);

/// x = 2^exponent * (1 + f), 1 + f in [sqrt 1/2, sqrt 2), for positive finite x, denormals too.
/// `exponent` is a float.
struct LogReduction {
  Value exponent, f;
};
LogReduction reduce_log(Value x);

/// A number as an unevaluated sum of two.
struct Pair {
  Value high, low;
};

inline Pair exact_product(Value a, Value b) {
  const Value p = a * b;
  return {p, fma(a, b, -p)};
}

/// Sum of a and b where |a| >= |b| or a = 0.
inline Pair exact_sum(Value a, Value b) {
  const Value s = a + b;
  return {s, b - (s - a)};
}

}  // namespace fluxion::loops
