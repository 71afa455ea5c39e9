// Elements as unsigned keys in the same order; NaN last, both zeros equal.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernels/kernel.h"

namespace fluxion::kernels {

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

/// Sign and magnitude to an order; `infinity` is the key bits of +inf.
template <class U>
constexpr U float_key(U bits, U infinity) {
  constexpr U sign = U(1) << (sizeof(U) * 8 - 1);
  const U magnitude = bits & static_cast<U>(~sign);
  if (magnitude > infinity) return static_cast<U>(~U(0));
  if (magnitude == 0) return sign;
  return bits & sign ? static_cast<U>(~bits) : static_cast<U>(bits | sign);
}

inline uint16_t sort_key(F16 v) { return float_key<uint16_t>(v.bits, 0x7c00); }
inline uint16_t sort_key(Bf16 v) { return float_key<uint16_t>(v.bits, 0x7f80); }
inline uint32_t sort_key(float v) {
  return float_key<uint32_t>(std::bit_cast<uint32_t>(v), 0x7f800000u);
}
inline uint64_t sort_key(double v) {
  return float_key<uint64_t>(std::bit_cast<uint64_t>(v), 0x7ff0000000000000ull);
}
template <class T>
  requires std::is_integral_v<T>
auto sort_key(T v) {
  if constexpr (std::is_same_v<T, bool>) {
    return static_cast<uint8_t>(v);
  } else {
    using U = std::make_unsigned_t<T>;
    constexpr U flip = std::is_signed_v<T> ? static_cast<U>(U(1) << (sizeof(U) * 8 - 1)) : U(0);
    return static_cast<U>(static_cast<U>(v) ^ flip);
  }
}

template <class T>
inline constexpr bool has_nan = !std::is_integral_v<T>;
template <class T>
using SortKey = decltype(sort_key(T()));

/// fn(T()) for the element type.
template <class Fn>
auto with_element(Elem e, Fn fn) {
  switch (e) {
    case Elem::bool_: return fn(bool());
    case Elem::u8: return fn(uint8_t());
    case Elem::i8: return fn(int8_t());
    case Elem::i16: return fn(int16_t());
    case Elem::i32: return fn(int32_t());
    case Elem::i64: return fn(int64_t());
    case Elem::f16: return fn(F16());
    case Elem::bf16: return fn(Bf16());
    case Elem::f32: return fn(float());
    default: return fn(double());
  }
}

}  // namespace fluxion::kernels
