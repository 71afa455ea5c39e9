// Lane bits: how constants and interpreted values hold their lanes.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace fluxion::loops {

template <class T>
T from_bits(int64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);  // little endian: the low bytes
  return value;
}

/// Integers sign extend, floats stand in the low bits.
template <class T>
int64_t to_bits(T value) {
  if constexpr (std::is_integral_v<T>) return value;
  else if constexpr (sizeof(T) == 4) return std::bit_cast<int32_t>(value);
  else return std::bit_cast<int64_t>(value);
}

}  // namespace fluxion::loops
