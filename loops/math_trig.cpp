#include <numbers>

#include "loops/math.h"
#include "loops/math_core.h"

namespace fluxion::loops {
namespace {

// Minimax coefficients, computed by tools/minimax.py.
// (sin(x) / x - 1) / x^2 and (cos(x) - 1 + x^2 / 2) / x^4 in x^2, for |x| <= 0.8
constexpr double kSin32[] = {-0x1.555544p-3, 0x1.1106aep-7, -0x1.990f96p-13};
constexpr double kCos32[] = {0x1.555548p-5, -0x1.6c0af4p-10, 0x1.999114p-16};
constexpr double kSin64[] = {-0x1.5555555555545p-3, 0x1.111111110f26dp-7,   -0x1.a01a019b4e193p-13,
                             0x1.71de34ccf110ap-19, -0x1.ae5ddfc76726dp-26, 0x1.5d6bdde771fbfp-33};
constexpr double kCos64[] = {0x1.5555555555548p-5,  -0x1.6c16c16c149a5p-10,
                             0x1.a01a019bef048p-16, -0x1.27e4f77e2ce9cp-22,
                             0x1.1ee98d7cd8794p-29, -0x1.8f7e022364239p-37};

// 2 / pi: for f32 in 24-bit pieces, for f64 in pieces of 48 bits scaled to [0, 1).
constexpr double kTwoOverPi24[] = {0x1.45f306p-1,   0x1.b93910p-26, 0x1.529fc0p-52,
                                   0x1.3abe88p-75,  0x1.ea69bap-97, 0x1.81b6c4p-121,
                                   0x1.2b3278p-145, 0x1.0e4104p-170};
constexpr double kTwoOverPi48[] = {
    0x1.45f306dc9c880p-1, 0x1.529fc2757d100p-4, 0x1.ea69bb81b6c40p-1, 0x1.2b32788720820p-1,
    0x1.fca2c757bd760p-1, 0x1.8ac36e48dc740p-1, 0x1.09374b8019240p-2, 0x1.77504e8c90e00p-3,
    0x1.fc3bd63962520p-1, 0x1.4e7dd1046bea0p-1, 0x1.75da24274ce00p-3, 0x1.c09ad17df9040p-2,
    0x1.cc8eb1cc1a980p-3, 0x1.cfa4e422fc580p-3, 0x1.7bf250763ff00p-1, 0x1.2fffbc0b301e0p-1,
    0x1.de5e2316b4140p-1, 0x1.b47db4d9fb3c0p-2, 0x1.3e584dba7a300p-3, 0x1.fb34f2ff51680p-3,
    0x1.d49eeb1faf940p-2, 0x1.e2f67a0e73ee0p-1, 0x1.14a525d4d7f60p-1, 0x1.7ec47e3574200p-2,
    0x1.580cc11bf1ec0p-2, 0x1.aeafc33ef0800p-2};
constexpr int kWindow = 5;  // pieces that matter for one exponent

/// x = quadrant * pi / 2 + r + low, |r| <= 0.8; the quadrant in the low bits.
struct Angle {
  Value r, low, quadrant;
};

/// Three-part Cody-Waite reduction, for a up to 1e5 (f32) or 1e9 (f64).
Angle reduce_near(Value a) {
  const Format f(a);
  const Value t = fma(a, 2 / std::numbers::pi, f.round);
  const Value k = t - f.round;
  const Value r1 = fma(k, -f.pick(0x1.921fb6p+0, 0x1.921fb54442d18p+0), a);  // exact
  const double second = f.pick(-0x1.777a5cp-25, 0x1.1a62633145c07p-54);
  const Value p = k * second, p_low = fma(k, second, -p);
  const Value r = r1 - p;
  const Value low =
      fma(k, -f.pick(-0x1.ee59dap-50, -0x1.f1976b7ed8fbcp-110), ((r1 - r) - p) - p_low);
  return {r, low, float_bits(t)};
}

/// Adds b to the unevaluated sum, largest first.
void add_exactly(std::vector<Value>& sum, Value b) {
  for (size_t i = 0; i + 1 < sum.size(); ++i) {
    const Value a = sum[i], s = a + b, from_b = s - a;
    b = (a - (s - from_b)) + (b - from_b);
    sum[i] = s;
  }
  sum.back() = sum.back() + b;
}

Value modulo4(Value x) { return fma(round_even(x * 0.25), -4.0, x); }

/// The f32 angle a, as f64 the products of a with the pieces of 2 / pi modulo 4: exact.
Angle reduce_far32(Value a) {
  const Value x = cast(a, Elem::f64);
  std::vector<Value> sum{x.like(0), x.like(0)};
  for (double piece : kTwoOverPi24) add_exactly(sum, modulo4(x * piece));
  const Value k = round_even(sum[0]);
  const Value r = ((sum[0] - k) + sum[1]) * (std::numbers::pi / 2);
  const Value high = cast(r, Elem::f32);
  return {high, cast(r - cast(high, Elem::f64), Elem::f32),
          float_bits(cast(k, Elem::f32) + 0x1.8p23)};
}

/// For f64: only the pieces whose product with a is neither a multiple of 4 nor negligible, which
/// a's exponent e tells: from number (e - 54) / 48 on, with a scaled down by as many pieces.
Angle reduce_far64(Value a) {
  const Value exponent = shift_right_logical(float_bits(a), 52) - 1023;
  const Value excess = exponent - 54;
  const Value first = select(excess > 0, shift_right_logical(excess * 1366, 16),
                             0);  // excess / 48, exact below 2048
  const Value x =
      from_float_bits(float_bits(a) - shift_left(first * 48, 52)) + (a - a);  // NaN for infinity
  constexpr int pieces = static_cast<int>(std::size(kTwoOverPi48));
  std::vector<Value> window;
  for (int j = 0; j < kWindow; ++j) {
    Value piece = x.like(kTwoOverPi48[j]);
    for (int i = 1; i + j < pieces; ++i)
      piece = select(first == i, x.like(kTwoOverPi48[i + j]), piece);
    window.push_back(piece * __builtin_ldexp(1, -48 * j));
  }
  std::vector<Value> sum{x.like(0), x.like(0), x.like(0)};
  for (Value piece : window) {
    const Value p = x * piece;
    add_exactly(sum, modulo4(p));
    add_exactly(sum, modulo4(fma(x, piece, -p)));
  }
  const Value k = round_even(sum[0]);
  sum[0] = sum[0] - k;
  std::vector<Value> rest{sum[0], x.like(0)};
  add_exactly(rest, sum[1]);
  rest[1] = rest[1] + sum[2];
  const Value high = rest[0] * (std::numbers::pi / 2);
  const Value low = fma(rest[0], 0x1.1a62633145c07p-54, fma(rest[0], std::numbers::pi / 2, -high)) +
                    rest[1] * (std::numbers::pi / 2);
  const Value r = high + low;
  return {r, low - (r - high), float_bits(k + 0x1.8p52)};
}

/// Far angles are rare: their reduction runs only if a lane needs it, and only that lane takes it.
Angle reduce_angle(Value a) {
  const Format f(a);
  const Angle near = reduce_near(a);
  const Mask far = a > f.pick(1e5, 1e9);
  auto result = when(any(far), {near.r, near.low, near.quadrant}, [&] {
    const Angle exact = f.single() ? reduce_far32(a) : reduce_far64(a);
    return std::vector{select(far, exact.r, near.r), select(far, exact.low, near.low),
                       select(far, exact.quadrant, near.quadrant)};
  });
  return {result[0], result[1], result[2]};
}

struct SinCos {
  Pair sin, cos;
};

SinCos sin_cos_reduced(const Angle& angle) {
  const auto& [r, low, quadrant] = angle;
  const Format f(r);
  const Value z = r * r;
  const Pair sin = exact_sum(r, fma(z * r, polynomial(z, f.pick(kSin32, kSin64)), low));
  const Value half = 0.5 * z, w = 1 - half, error = (1 - w) - half;
  const Pair cos =
      exact_sum(w, fma(-r, low, fma(z * z, polynomial(z, f.pick(kCos32, kCos64)), error)));
  return {sin, cos};
}

/// The sign bit and the choice of function that `quadrant` stands for.
Value bit_to_sign(Value quadrant, int bit) {
  const int top = quadrant.elem() == Elem::i32 ? 31 : 63;
  return shift_left(shift_right_logical(quadrant, bit), top);
}
Mask is_odd(Value quadrant) { return bit_to_sign(quadrant, 0) < 0; }

}  // namespace

Value sin(Value x) {
  const Angle angle = reduce_angle(abs(x));
  const SinCos v = sin_cos_reduced(angle);
  const Value sign = bit_to_sign(angle.quadrant, 1) ^ sign_bit(x);
  return with_sign(select(is_odd(angle.quadrant), v.cos.high, v.sin.high), sign);
}

Value cos(Value x) {
  const Angle angle = reduce_angle(abs(x));
  const SinCos v = sin_cos_reduced(angle);
  const Value sign = bit_to_sign(angle.quadrant + 1, 1);
  return with_sign(select(is_odd(angle.quadrant), v.sin.high, v.cos.high), sign);
}

Value tan(Value x) {
  const Angle angle = reduce_angle(abs(x));
  const SinCos v = sin_cos_reduced(angle);
  const Mask odd = is_odd(angle.quadrant);
  const Value sign = bit_to_sign(angle.quadrant, 0) ^ sign_bit(x);
  const Pair n{select(odd, v.cos.high, v.sin.high), select(odd, v.cos.low, v.sin.low)};
  const Pair d{select(odd, v.sin.high, v.cos.high), select(odd, v.sin.low, v.cos.low)};
  const Value inverse = 1 / d.high, q = n.high * inverse;
  const Value rest = fma(-q, d.high, n.high) + fma(-q, d.low, n.low);
  return with_sign(select(q == 0, q, fma(rest, inverse, q)), sign);
}

namespace {

// (atan(x) / x - 1) / x^2 in x^2, for x <= 1; (asin(x) / x - 1) / x^2 in x^2, for x <= 1/2
constexpr double kAtan32[] = {-0x1.55553ep-2, 0x1.9991e4p-3,  -0x1.2420a8p-3,
                              0x1.c08f64p-4,  -0x1.58171cp-4, 0x1.da6a5p-5,
                              -0x1.fe1cd4p-6, 0x1.64ee48p-7,  -0x1.d4f69ap-10};
constexpr double kAtan64[] = {
    -0x1.555555555554dp-2, 0x1.9999999998c65p-3, -0x1.2492492457694p-3,  0x1.c71c71b650a8dp-4,
    -0x1.745d15d2c6d6bp-4, 0x1.3b139bebeef71p-4, -0x1.11103356da021p-4,  0x1.e1d4925129058p-5,
    -0x1.aeda857ae520ap-5, 0x1.84b50709352dp-5,  -0x1.5f2620f60f245p-5,  0x1.3908b6909d5dap-5,
    -0x1.0c9bb5c729be8p-5, 0x1.ac8d3dfa7d272p-6, -0x1.31109608dd723p-6,  0x1.7301f4756fd68p-7,
    -0x1.7001842dd34a4p-8, 0x1.1a316bd5a88d2p-9, -0x1.3714681174557p-11, 0x1.b40ac71b1f71ap-14,
    -0x1.22a9b5c7e6fd1p-17};
constexpr double kAsin32[] = {0x1.55554cp-3, 0x1.3338acp-4, 0x1.6ca80ep-5,
                              0x1.04c67p-5,  0x1.d6349p-7,  0x1.344bf2p-5};
constexpr double kAsin64[] = {0x1.5555555555577p-3, 0x1.333333332e11ep-4, 0x1.6db6db7213d84p-5,
                              0x1.f1c71a94427afp-6, 0x1.6e8bdef6fa7d1p-6, 0x1.1c49ee938ae28p-6,
                              0x1.ca1fbc324b0d7p-7, 0x1.7583eedb7a792p-7, 0x1.614618c40a81p-7,
                              0x1.e55da3845dabfp-9, 0x1.63ccc9c094e91p-6, -0x1.5844bc8d3ad32p-6,
                              0x1.0b5ddbb0f4de5p-5};

/// pi / 2 - x - rest for |x| <= 1 and small rest.
Value from_half_pi(Value x, Value rest) {
  const Format f(x);
  const Pair sum = exact_sum(x.like(f.pick(0x1.921fb6p+0, 0x1.921fb54442d18p+0)), -x);
  return sum.high - (rest - (sum.low + f.pick(-0x1.777a5cp-25, 0x1.1a62633145c07p-54)));
}

/// asin(s) = s + rest for s <= 1/2; s = sqrt((1 - |x|) / 2) if |x| > 1/2: asin|x| = pi / 2 - 2
/// asin(s).
struct ArcSine {
  Mask large;
  Value s, rest;
};
ArcSine arc_sine(Value magnitude) {
  const Format f(magnitude);
  const Mask large = magnitude > 0.5;
  const Value square = select(large, fma(magnitude, -0.5, 0.5), magnitude * magnitude);
  const Value s = select(large, sqrt(square), magnitude);
  const Value root_low = fma(-s, s, square) / maximum(f.pick(0x1p-126, 0x1p-1022), s + s);
  const Value rest = s * square * polynomial(square, f.pick(kAsin32, kAsin64));
  return {large, s, select(large, rest + root_low, rest)};
}

}  // namespace

Value atan(Value x) {
  const Value a = abs(x);
  const Mask large = a > 1;
  const Value t = select(large, 1 / a, a), square = t * t;
  const Value rest = t * square * polynomial(square, Format(x).pick(kAtan32, kAtan64));
  return with_sign(select(large, from_half_pi(t, rest), t + rest), sign_bit(x));
}

Value asin(Value x) {
  const auto [large, s, rest] = arc_sine(abs(x));
  return with_sign(select(large, from_half_pi(2 * s, 2 * rest), s + rest), sign_bit(x));
}

/// pi / 2 - asin x; near 1 twice the asin of the half angle, near -1 pi minus that.
Value acos(Value x) {
  const auto [large, s, rest] = arc_sine(abs(x));
  const Value sign = sign_bit(x);
  const Value near_zero = from_half_pi(with_sign(s, sign), with_sign(rest, sign));
  const Value near_one = select(x < 0, 2 * from_half_pi(s, rest), 2 * (s + rest));
  return select(large, near_one, near_zero);
}

}  // namespace fluxion::loops
