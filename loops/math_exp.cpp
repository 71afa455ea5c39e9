#include <cstdint>
#include <numbers>

#include "loops/math.h"
#include "loops/math_core.h"

namespace fluxion::loops {
namespace {

// Minimax coefficients, computed by tools/minimax.py.
constexpr double kExp32[] = {
    1, 1, 0x1.fffffcp-2, 0x1.55548ap-3, 0x1.55584ep-5, 0x1.123f38p-7, 0x1.6ad20cp-10};
constexpr double kExp64[] = {1,
                             1,
                             0x1.000000000000ap-1,
                             0x1.55555555554f9p-3,
                             0x1.55555555507cep-5,
                             0x1.1111111127edep-7,
                             0x1.6c16c184532dap-10,
                             0x1.a01a0129a5366p-13,
                             0x1.a01999965e0acp-16,
                             0x1.71df262a5875ap-19,
                             0x1.28ade51dd28fep-22,
                             0x1.ad7f3ede4294ep-26};
constexpr double kExp2_32[] = {
    1, 0x1.62e43p-1, 0x1.ebfb94p-3, 0x1.c6af9ep-5, 0x1.3b6816p-7, 0x1.5ef4dcp-10, 0x1.179a8ap-13};
constexpr double kExp2_64[] = {1,
                               0x1.62e42fefa39efp-1,
                               0x1.ebfbdff82c5b3p-3,
                               0x1.c6b08d704a26fp-5,
                               0x1.3b2ab6fb9dabp-7,
                               0x1.5d87fe78457e1p-10,
                               0x1.4309131682253p-13,
                               0x1.ffcbfe6694986p-17,
                               0x1.62bfb4dd6af04p-20,
                               0x1.b5208e64786bfp-24,
                               0x1.e63a73035e9c9p-28,
                               0x1.f0b46ff27088bp-32};
// (e^r - 1 - r) / r^2, for |r| <= 1/2
constexpr double kExpm1_32[] = {0x1.000002p-1, 0x1.55556p-3,   0x1.5551bap-5,
                                0x1.110632p-7, 0x1.6f4accp-10, 0x1.ab0c9cp-13};
constexpr double kExpm1_64[] = {0x1p-1,
                                0x1.5555555555556p-3,
                                0x1.55555555555dcp-5,
                                0x1.1111111110f3ep-7,
                                0x1.6c16c16bf42ddp-10,
                                0x1.a01a01a095438p-13,
                                0x1.a01a02188a849p-16,
                                0x1.71de397ce620fp-19,
                                0x1.27e430a975787p-22,
                                0x1.ae65796219ac9p-26,
                                0x1.20344af396be3p-29,
                                0x1.612b23d100f0ep-33};
// (tanh(x) / x - 1) / x^2 in x^2, for x <= 0.625
constexpr double kTanh32[] = {-0x1.555532p-2, 0x1.1106f6p-3, -0x1.b835a4p-5, 0x1.51fa38p-6,
                              -0x1.751e4ep-8};
constexpr double kTanh64[] = {
    -0x1.5555555555552p-2,  0x1.1111111110c52p-3, -0x1.ba1ba1b9d196p-5,   0x1.664f4870c3099p-6,
    -0x1.226e32cf9602ep-7,  0x1.d6d35a37e6593p-9, -0x1.7d9c330a5c3abp-10, 0x1.350b87486a312p-11,
    -0x1.f1134a103190fp-13, 0x1.801b7b62ea1cp-14, -0x1.fac557b4bf5a8p-16, 0x1.96050ae2ccb53p-18};
// (sinh(x) / x - 1) / x^2 in x^2, for x <= 1
constexpr double kSinh32[] = {0x1.555556p-3, 0x1.1110ep-7, 0x1.a022bcp-13, 0x1.756c1ep-19};
constexpr double kSinh64[] = {0x1.5555555555555p-3,  0x1.111111111119bp-7,  0x1.a01a01a00735bp-13,
                              0x1.71de3a68d038ep-19, 0x1.ae6441227f727p-26, 0x1.61314d7027c5ep-33,
                              0x1.a66536988992fp-41, 0x1.d2a20e5f3a8a8p-48};
// erf(x) / x - 1 in x^2, for x <= kErfSplit
constexpr double kErfSplit = 0.8135;
constexpr double kErf32[] = {0x1.06eba8p-3,  -0x1.81273p-2, 0x1.ce27fap-4,
                             -0x1.b768d6p-6, 0x1.4cfe8p-8,  -0x1.54e398p-11};
constexpr double kErf64[] = {
    0x1.06eba8214db69p-3,  -0x1.812746b037a37p-2,  0x1.ce2f21a047664p-4,  -0x1.b82ce314395dfp-6,
    0x1.565bcd5f108bcp-8,  -0x1.c02dc58e955b4p-11, 0x1.f9a58914e1077p-14, -0x1.f5078671c549ap-17,
    0x1.bcdf530507c54p-20, -0x1.79b8adf4e0397p-23, 0x1.7fe26eb4cf69cp-26, -0x1.abf4437da8457p-29};
// log2(erfc(x)), beyond kErfSplit
constexpr double kErfTail32[] = {-0x1.9e3486p-14, -0x1.a0af6ap+0, -0x1.d5f654p-1, -0x1.359c26p-3,
                                 0x1.0bb604p-5,   -0x1.2a15d8p-8, 0x1.39badap-12};
constexpr double kErfTail64[] = {
    0x1.0ecbc27fd22cfp-26, -0x1.a0be87983fb48p+0,  -0x1.d63ea56951f01p-1, -0x1.2fab2c0d001fdp-3,
    0x1.c46fafc074b4dp-6,  0x1.13736d6da67d4p-12,  -0x1.38204f6abdefep-9, 0x1.906474c32877p-11,
    0x1.dbf0dab16d7f7p-15, -0x1.6edb3797636afp-13, 0x1.a6c24e80e49c9p-14, -0x1.3e203d4622884p-15,
    0x1.6712f4e74a986p-17, -0x1.3b680a82a36ep-19,  0x1.b0fc86665ca18p-22, -0x1.c9b85ccacfbb4p-25,
    0x1.68a1e90897466p-28, -0x1.8f32b0247c1f5p-32, 0x1.14f556cb442b2p-36, -0x1.6a4fb6064c857p-42};

// (1 + 2 x) e^(x^2) erfc(x) in (x - K) / (x + K) until erfc vanishes; K = 2 for f32, 4 for f64
constexpr double kErfc32[] = {0x1.46e80ep+0,   -0x1.7bf616p-4, -0x1.540848p-3, 0x1.4ffc4p-3,
                              -0x1.bc0aa6p-5,  -0x1.081b22p-7, 0x1.1ad7cap-7,  0x1.585504p-10,
                              -0x1.426b0ep-10, -0x1.a4091ep-12};
constexpr double kErfc64[] = {
    0x1.3ba5916e9fd7fp+0,  -0x1.1df1ad154a2a8p-3,  0x1.f7f5df66fb9c9p-7,   0x1.16ecefcfa68efp-4,
    -0x1.9ddb23c3dc26dp-4, 0x1.7fee004de95cep-4,   -0x1.0fb06dff62c23p-4,  0x1.3079edfad41a9p-5,
    -0x1.096238534ceacp-6, 0x1.49c671954261ep-8,   -0x1.8d4ac33bd6d5p-11,  -0x1.a1deb453bcb7ap-13,
    0x1.3be2e9ac767d8p-13, -0x1.995f9ab549cc4p-16, -0x1.78f567a09b4a4p-17, 0x1.7f2947d3ec4d9p-18,
    0x1.50f1e0b819c99p-22, -0x1.b8774d5536afdp-21, 0x1.d996b987a56bbp-25,  0x1.b462cefba22f9p-24,
    -0x1.125bce61495p-27,  -0x1.1f93bb97f55f4p-27};

/// p * 2^exponent in two steps, so that overflow and denormals round once. The low bits of
/// `shifted` hold exponent + 2 bias.
Value scale(Value p, Value shifted, const Format& f) {
  const Value half = shift_right_logical(shifted, 1);
  const Value first = from_float_bits(shift_left(half, f.mantissa));
  const Value second = from_float_bits(shift_left(shifted - half, f.mantissa));
  return p * first * second;
}

/// 2^power e^(x + low) where x is at most the overflow bound and low, if there, tiny against it.
Value exp_bounded(Value x, int power = 0, Value low = {}) {
  const Format f(x);
  x = maximum(f.pick(-104, -746), x);
  const auto [r, shifted] = reduce_exp(x, 2 * f.bias + power);
  return scale(polynomial(low.exists() ? r + low : r, f.pick(kExp32, kExp64)), shifted, f);
}

/// erf of |x| <= kErfSplit.
Value erf_near_zero(Value x, Value square) {
  return fma(x, polynomial(square, Format(x).pick(kErf32, kErf64)), x);
}

}  // namespace

Value polynomial(Value x, Coefficients c) {
  Value sum = x.like(c.back());
  for (size_t i = c.size() - 1; i-- > 0;) sum = fma(sum, x, c[i]);
  return sum;
}

Value sign_bit(Value x) {
  const Value bits = float_bits(x);
  return bits & (Format(x).single() ? int64_t{INT32_MIN} : INT64_MIN);
}

Value with_sign(Value magnitude, Value sign_bits) {
  return from_float_bits(float_bits(magnitude) ^ sign_bits);
}

ExpReduction reduce_exp(Value x, double offset) {
  const Format f(x);
  const double shift = f.round + offset;
  return reduce_exp(x, fma(x, std::numbers::log2e, shift), shift);
}

ExpReduction reduce_exp(Value x, Value t, double shift) {
  const Format f(x);
  const Value k = t - shift;
  Value r = fma(k, -f.pick(0x1.62e43p-1, 0x1.62e42fefa39efp-1), x);
  r = fma(k, -f.pick(-0x1.05c61p-29, 0x1.abc9e3b39803fp-56), r);
  return {r, float_bits(t)};
}

Value expm1_reduced(Value r) {
  const Format f(r);
  return fma(r * r, polynomial(r, f.pick(kExp32, kExp64).subspan(2)), r);
}

Value exp_sum(Value x, Value low) { return exp_bounded(minimum(710, x), 0, low); }

Value exp(Value x) { return exp_bounded(minimum(Format(x).pick(89, 710), x)); }

Value exp_nonpositive(Value x) { return exp_bounded(x); }

Value exp2(Value x) {
  const Format f(x);
  x = minimum(f.pick(129, 1025), maximum(f.pick(-151, -1076), x));
  const double shift = f.round + 2 * f.bias;
  const Value t = x + shift;
  return scale(polynomial(x - (t - shift), f.pick(kExp2_32, kExp2_64)), float_bits(t), f);
}

/// Up to 1/2 the polynomial itself; beyond, 2^k P(r) + (2^k - 1), at half size against overflow.
Value expm1(Value x) {
  const Format f(x);
  const Value bounded = minimum(f.pick(89, 710), maximum(f.pick(-20, -40), x));
  const Mask small = abs(x) < 0.5;
  const double shift = f.round + f.bias - 1;
  const auto [r, shifted] =
      reduce_exp(bounded, select(small, shift, fma(bounded, std::numbers::log2e, shift)), shift);
  const Value p = fma(r * r, polynomial(r, f.pick(kExpm1_32, kExpm1_64)), r);
  const Value half = from_float_bits(shift_left(shifted, f.mantissa));
  const Value c = half - 0.5, c_low = (half - c) - 0.5;
  const Value y = select(small, p, (c + fma(p, half, c_low)) * 2);
  return from_float_bits(float_bits(y) | sign_bit(x));  // -0
}

Value sigmoid(Value x) {
  const Value e = exp_nonpositive(-abs(x));
  return select(x < 0, e, e.like(1)) / (1 + e);
}

/// 1 - 2 / (e^2x + 1), the rounding errors of sum and division carried along; near 0 a polynomial.
Value tanh(Value x) {
  const Format f(x);
  const Value magnitude = minimum(f.pick(10, 20), abs(x));
  const auto [r, shifted] = reduce_exp(magnitude + magnitude, f.bias);
  const Value p = expm1_reduced(r), s = from_float_bits(shift_left(shifted, f.mantissa));
  const Value s1 = s + 1, d = fma(s, p, s1), d_low = fma(s, p, s1 - d);
  const Value q = 2 / d;
  const Value q_low = fma(-q, d_low, fma(-q, d, 2)) * (0.5 * q);
  const Value w = 1 - q;
  const Value large = w + (((1 - w) - q) - q_low);
  const Value z = magnitude * magnitude;
  const Value small = fma(magnitude * z, polynomial(z, f.pick(kTanh32, kTanh64)), magnitude);
  return with_sign(select(magnitude < 0.625, small, large), sign_bit(x));
}

/// Near 0 a polynomial; beyond, 1 - 2^P(x) where P approximates log2(erfc).
Value erf(Value x) {
  const Format f(x);
  const Value a = minimum(f.pick(3.93, 5.95), abs(x));
  const Coefficients tail = f.pick(kErfTail32, kErfTail64);
  const Value rest = fma(a * a, polynomial(a, tail.subspan(2)), tail[0]);
  const double shift = f.round + f.bias;
  const Value t = fma(a, tail[1], rest) + shift;
  const Value fraction = fma(a, tail[1], shift - t) + rest;
  const Value power = from_float_bits(shift_left(float_bits(t), f.mantissa));
  const Value slope = polynomial(fraction, f.pick(kExp2_32, kExp2_64).subspan(1));
  const Value outer = fma(-(power * fraction), slope, 1 - power);
  return select(a < kErfSplit, erf_near_zero(x, x * x), with_sign(outer, sign_bit(x)));
}

/// 1 - erf near 0. Beyond, e^-x^2 * P((x - K) / (x + K)) / (1 + 2 x) with the square's rounding
/// error carried along, or 2 minus that.
Value erfc(Value x) {
  const Format f(x);
  const Value a = minimum(f.pick(10.1, 27.3), abs(x));
  const double k = f.pick(2, 4);
  const Value square = a * a, square_low = fma(a, a, -square);
  const Value p = polynomial((a - k) / (a + k), f.pick(kErfc32, kErfc64)) / fma(a, 2, 1);
  const Value y = p * exp_bounded(-square, 0, -square_low);
  return select(a < kErfSplit, 1 - erf_near_zero(x, square), select(x < 0, 2 - y, y));
}

namespace {

/// e^|x| / 2, infinite only where sinh and cosh are.
Value half_exp(Value magnitude) {
  return exp_bounded(minimum(Format(magnitude).pick(91, 712), magnitude), -1);
}

}  // namespace

/// Up to 1 a polynomial, because the exponentials cancel.
Value sinh(Value x) {
  const Format f(x);
  const Value a = abs(x), h = half_exp(a), z = a * a;
  const Value small = fma(a * z, polynomial(z, f.pick(kSinh32, kSinh64)), a);
  return with_sign(select(a < 1, small, h - 0.25 / h), sign_bit(x));
}

Value cosh(Value x) {
  const Value h = half_exp(abs(x));
  return h + 0.25 / h;
}

Value rsqrt(Value x) { return 1 / sqrt(x); }
Value reciprocal(Value x) { return 1 / x; }

}  // namespace fluxion::loops
