// Combining an element with the one that is there, by type.
#pragma once

#include <type_traits>

#include "kernels/index.h"

namespace fluxion::kernels {

template <Combine how, class T>
inline T combined(T have, T value) {
  if constexpr (how == Combine::replace) {
    return value;
  } else if constexpr (std::is_same_v<T, bool>) {
    return how == Combine::add || how == Combine::maximum ? have | value : have & value;
  } else if constexpr (how == Combine::maximum) {
    return have > value || have != have ? have : value;  // NaN wins
  } else if constexpr (how == Combine::minimum) {
    return have < value || have != have ? have : value;
  } else if constexpr (std::is_integral_v<T>) {
    using U = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;  // wraps
    U a = static_cast<U>(have), b = static_cast<U>(value);
    return static_cast<T>(how == Combine::add ? a + b : a * b);
  } else {
    return how == Combine::add ? have + value : have * value;
  }
}

/// fn(T()) for the arithmetic type of `e`; false for half types.
template <class Fn>
bool with_arithmetic(Elem e, Fn fn) {
  switch (e) {
    case Elem::bool_: return fn(bool()), true;
    case Elem::u8: return fn(uint8_t()), true;
    case Elem::i8: return fn(int8_t()), true;
    case Elem::i16: return fn(int16_t()), true;
    case Elem::i32: return fn(int32_t()), true;
    case Elem::i64: return fn(int64_t()), true;
    case Elem::f32: return fn(float()), true;
    case Elem::f64: return fn(double()), true;
    default: return false;
  }
}

/// fn(U()) for the unsigned type of the element's size: enough to move it.
template <class Fn>
void with_bits(Elem e, Fn fn) {
  switch (elem_size(e)) {
    case 1: return fn(uint8_t());
    case 2: return fn(uint16_t());
    case 4: return fn(uint32_t());
    default: return fn(uint64_t());
  }
}

/// fn(integral_constant<Combine, how>).
template <class Fn>
void with_combine(Combine how, Fn fn) {
  switch (how) {
    case Combine::replace: return fn(std::integral_constant<Combine, Combine::replace>());
    case Combine::add: return fn(std::integral_constant<Combine, Combine::add>());
    case Combine::multiply: return fn(std::integral_constant<Combine, Combine::multiply>());
    case Combine::maximum: return fn(std::integral_constant<Combine, Combine::maximum>());
    default: return fn(std::integral_constant<Combine, Combine::minimum>());
  }
}

/// Splits [0, n) when there is enough work. fn(begin, end).
template <class Fn>
void spread(const Ctx& ctx, int64_t n, int64_t grain, bool enough, Fn fn) {
  if (!enough || !ctx.parallel || n < 2) return fn(0, n);
  ctx.parallel(
      ctx.pool, n, grain,
      [](void* f, int64_t begin, int64_t end) { (*static_cast<Fn*>(f))(begin, end); }, &fn);
}

inline constexpr int64_t kEnoughWork = 1 << 15;  // elements worth waking a thread for

}  // namespace fluxion::kernels
