#include <limits>
#include <numbers>

#include "loops/math.h"
#include "loops/math_core.h"

namespace fluxion::loops {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Minimax coefficients, computed by tools/minimax.py.
// (log(1 + f) - f) / f^2
constexpr double kLog32[] = {-0x1.fffff8p-2, 0x1.55555p-2,   -0x1.000426p-2,
                             0x1.99a3f4p-3,  -0x1.54276cp-3, 0x1.227198p-3,
                             -0x1.0f376p-3,  0x1.084878p-3,  -0x1.383066p-4};
// (log((1 + s) / (1 - s)) / s - 2) / s^2 in s^2
constexpr double kLog64[] = {0x1.5555555555592p-1, 0x1.999999997ff4cp-2, 0x1.24924941dd515p-2,
                             0x1.c71c5217ffc73p-3, 0x1.74663c246483ap-3, 0x1.39a1fd06724a3p-3,
                             0x1.2f02f31529febp-3};
// (log(1 + f) - f) / f^2 to 2^-37, for pow of f32 in f64
constexpr double kLogMiddle[] = {-0x1p-1,
                                 0x1.5555558a439a1p-2,
                                 -0x1.0000003b07626p-2,
                                 0x1.99995f23598ep-3,
                                 -0x1.5554f0673fe68p-3,
                                 0x1.249ca40898d9cp-3,
                                 -0x1.001868a0f7a0ap-3,
                                 0x1.c596e19d98106p-4,
                                 -0x1.94d7b9b155de6p-4,
                                 0x1.7ee6895144e13p-4,
                                 -0x1.875484b597ad8p-4,
                                 0x1.466654742c60ap-4,
                                 -0x1.075fcab2760a4p-5};
// 2^r to 2^-34
constexpr double kExp2Middle[] = {1,
                                  0x1.62e42ff0e133bp-1,
                                  0x1.ebfbe077b3bd5p-3,
                                  0x1.c6b08ac0aab24p-5,
                                  0x1.3b29f37197e2ep-7,
                                  0x1.5d8a85a9d9682p-10,
                                  0x1.445ca9317004cp-13,
                                  0x1.fde6a66a83ea4p-17};
// (atanh(s) / s - 1 - s^2 / 3) / s^4 in s^2
constexpr double kAtanhTail[] = {0x1.999999999999ap-3, 0x1.2492492492363p-3, 0x1.c71c71c747ea6p-4,
                                 0x1.745d172bc867ap-4, 0x1.3b13ba5ab0043p-4, 0x1.110f1c30d0c2ap-4,
                                 0x1.e2658064965fdp-5, 0x1.a508c7b91703bp-5, 0x1.eca30faac5383p-5};
// ln 2 in two parts; the first has trailing zeros so that its product with an exponent is exact.
constexpr double kLn2High32 = 0x1.62e4p-1, kLn2Low32 = 0x1.7f7d1cp-20;
constexpr double kLn2High64 = 0x1.62e42fefa38p-1, kLn2Low64 = 0x1.ef35793c7673p-45;

/// log(1 + f) - f for 1 + f in [sqrt 1/2, sqrt 2).
Value log_correction(Value f) {
  if (Format(f).single()) return f * f * polynomial(f, kLog32);
  const Value half_square = 0.5 * (f * f), s = f / (2 + f), w = s * s;
  return fma(s, fma(w, polynomial(w, kLog64), half_square), -half_square);
}

/// What logarithms of 0, negative numbers, infinity and NaN are; else y.
Value log_specials(Value x, Value y) {
  y = select(x < kInfinity, y, x);
  return select(x > 0, y, select(x == 0, y.like(-kInfinity), y.like(kNaN)));
}

/// ln x + extra for positive finite x.
Value log_finite(Value x, Value extra) {
  const Format format(x);
  const auto [k, f] = reduce_log(x);
  const Value a = k * format.pick(kLn2High32, kLn2High64);
  const Value sum = a + f, error = f - (sum - a);
  Value low = fma(k, format.pick(kLn2Low32, kLn2Low64), error);
  if (extra.exists()) low = low + extra;
  return sum + (log_correction(f) + low);
}

/// exponent * unit + log(1 + f) * scale: the logarithm to another base.
Value log_to_base(Value x, Pair unit, Pair scale) {
  const auto [k, f] = reduce_log(x);
  const Pair product = exact_product(f, scale.high);
  const Pair sum = exact_sum(k * unit.high, product.high);
  const Value low = fma(k, unit.low, fma(f, scale.low, product.low)) + sum.low;
  return log_specials(x, sum.high + fma(log_correction(f), scale.high, low));
}

/// log x for positive finite x of f64, to about 2^-66.
Pair log_pair(Value x) {
  const auto [k, f] = reduce_log(x);
  const Pair denominator = exact_sum(x.like(2), f);
  const Value s = f / denominator.high;
  const Value s_low = fma(-s, denominator.low, fma(-s, denominator.high, f)) / denominator.high;
  const Value z = s * s, z_low = fma(2 * s, s_low, fma(s, s, -z));
  const Pair third = exact_sum(x.like(0x1.5555555555555p-2),
                               fma(z, polynomial(z, kAtanhTail), 0x1.5555555555555p-56));
  const Pair v = exact_product(z, third.high);
  const Value v_low = fma(z, third.low, fma(z_low, third.high, v.low));
  const Pair t = exact_product(s, v.high);  // log(1 + f) = 2 (s + s v)
  const Value t_low = fma(s, v_low, fma(s_low, v.high, t.low));
  const Pair half = exact_sum(s, t.high);
  const Pair sum = exact_sum(k * kLn2High64, 2 * half.high);
  const Value low = fma(k, kLn2Low64, sum.low) + 2 * (half.low + (s_low + t_low));
  return exact_sum(sum.high, low);
}

/// |x|^y for 0 < |x| < inf in f64: exp(y log |x|).
Value pow_magnitude64(Value a, Value y) {
  const Pair log = log_pair(a);
  const Value high = y * log.high;
  const Value bounded = minimum(800.0, maximum(-800.0, high));
  Value low = fma(y, log.low, fma(y, log.high, -high));
  low = select(abs(high) < 800, low, 0.0);
  return exp_sum(bounded, low);
}

/// |x|^y for f32 by f64: 2^(y log2 |x|). Zero and infinity included.
Value pow_magnitude32(Value a, Value y) {
  const auto [k, f] = reduce_log(a);
  const Value log = fma(f * f, polynomial(f, kLogMiddle), f);
  Value log2 = fma(log, std::numbers::log2e, k);
  log2 = select(a == 0, log2.like(-kInfinity), select(a < kInfinity, log2, a));
  const Value e = minimum(300.0, maximum(-300.0, y * log2));
  const double shift = 0x1.8p52 + 1023;
  const Value t = e + shift;
  const Value scale = from_float_bits(shift_left(float_bits(t), 52));
  return polynomial(e - (t - shift), kExp2Middle) * scale;
}

/// |x|^y of f64 with zero and infinity.
Value pow_magnitude(Value a, Value y) {
  const Value extreme = select((a == 0) ^ (y > 0), y.like(kInfinity), y.like(0));
  const Value r = pow_magnitude64(select((a > 0) & (a < kInfinity), a, 1.0), y);
  return select(isnan(a) | isnan(y), a + y, select((a > 0) & (a < kInfinity), r, extreme));
}

}  // namespace

LogReduction reduce_log(Value x) {
  const Format format(x);
  const bool single = format.single();
  const int64_t one = single ? 0x3f800000 : 0x3ff0000000000000;
  const int64_t root_half = single ? 0x3f3504f3 : 0x3fe6a09e667f3bcd;
  const double up = format.pick(0x1p25, 0x1p54), smallest = format.pick(0x1p-126, 0x1p-1022);
  const int shift = format.mantissa;
  const Mask tiny = x < smallest;
  const Value bits = float_bits(select(tiny, x * up, x)) + (one - root_half);
  const Value exponent_bits = shift_right_logical(bits, shift);
  const double whole = format.pick(0x1p23, 0x1p52);  // adding its bits makes a float of an integer
  const Value biased = from_float_bits(
      exponent_bits | x.builder().constant(bits.type(), int64_t(shift + format.bias) << shift));
  const Value bias =
      select(tiny, x.like(whole + format.bias + format.pick(25, 54)), x.like(whole + format.bias));
  const Value m = from_float_bits((bits & ((int64_t{1} << shift) - 1)) + root_half);
  return {biased - bias, m - 1};
}

Value log(Value x) { return log_specials(x, log_finite(x, {})); }

Value log1p(Value x) {
  const Value u = 1 + x, rest = u - 1;
  const Value lost = (1 - (u - rest)) + (x - rest);
  const Value y = select(x < kInfinity, log_specials(u, log_finite(u, lost / u)), x);
  return select(abs(x) < Format(x).pick(0x1p-25, 0x1p-54), x, y);
}

Value log2(Value x) {
  const bool single = Format(x).single();
  const Pair one{1.0, 0.0};
  return log_to_base(x, one,
                     single ? Pair{0x1.715476p+0, 0x1.4ae0cp-26}
                            : Pair{0x1.71547652b82fep+0, 0x1.777d0ffda0d24p-56});
}

Value log10(Value x) {
  const bool single = Format(x).single();
  const Pair log10_2 =
      single ? Pair{0x1.3442p-2, -0x1.95ec1p-19} : Pair{0x1.34413509f78p-2, 0x1.fef311f12b358p-46};
  const Pair log10_e = single ? Pair{0x1.bcb7b2p-2, -0x1.5b235ep-27}
                              : Pair{0x1.bcb7b1526e50ep-2, 0x1.95355baaafad3p-57};
  return log_to_base(x, log10_2, log10_e);
}

/// C's pow: exact results for 0, 1, infinities and NaN; negative x takes integer y only.
Value pow(Value x, Value y) {
  if (y.is_literal()) y = x.like(y);
  if (x.is_literal()) x = y.like(x);
  const Value a = abs(x);
  Value r;
  if (Format(x).single())
    r = cast(pow_magnitude32(cast(a, Elem::f64), cast(y, Elem::f64)), Elem::f32);
  else r = pow_magnitude(a, y);

  const Mask whole = trunc(y) == y, odd = whole & (trunc(0.5 * y) != 0.5 * y);
  r = select(odd, with_sign(r, sign_bit(x)), r);
  r = select((x < 0) & (a < kInfinity) & ~whole, r.like(kNaN), r);
  const Mask one = (y == 0) | (x == 1) | ((a == 1) & (abs(y) == kInfinity));
  return select(one, r.like(1), r);
}

}  // namespace fluxion::loops
