// f16 and bf16 as bits, converted as F16C and the emitted integer sequences do.
#pragma once

#include <bit>
#include <cstdint>

namespace fluxion::loops {

inline float bf16_to_float(uint16_t h) { return std::bit_cast<float>(uint32_t{h} << 16); }

/// Round to nearest even; NaNs keep their upper payload and become quiet.
inline uint16_t float_to_bf16(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  if (v != v) return static_cast<uint16_t>((bits | 0x400000) >> 16);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float f16_to_float(uint16_t h) {
  const uint32_t sign = uint32_t{h & 0x8000u} << 16, magnitude = h & 0x7fffu;
  if (magnitude < 0x400)
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude * 0x1p-24f));
  if (magnitude < 0x7c00) return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
  const uint32_t quiet = magnitude > 0x7c00 ? 0x400000u : 0u;
  return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ff) << 13 | quiet);
}

/// Round to nearest even; NaNs keep their upper payload and become quiet.
inline uint16_t float_to_f16(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v), sign = bits >> 16 & 0x8000,
                 magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude <
      0x38800000) {  // denormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000));
  }
  return static_cast<uint16_t>(sign |
                               ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

}  // namespace fluxion::loops
