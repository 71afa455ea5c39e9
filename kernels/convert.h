// Memory dtypes as C++ types, and their conversion to the dtype that contractions compute in. For
// drivers that move data.
#pragma once

#include "kernels/kernel.h"

namespace fluxion::kernels {

struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};

template <class To, class From>
inline To convert(From v) {
  return static_cast<To>(v);
}
template <>
inline float convert(BF16 v) {
  return __builtin_bit_cast(float, uint32_t{v.bits} << 16);
}
/// Exact; NaNs become quiet.
template <>
inline float convert(F16 v) {
  const uint32_t sign = uint32_t{v.bits & 0x8000u} << 16, magnitude = v.bits & 0x7fffu;
  const float finite = __builtin_bit_cast(float, magnitude << 13) * 0x1p112f;
  const uint32_t quiet = magnitude > 0x7c00 ? 0x400000u : 0u;
  const uint32_t special = 0x7f800000u | (magnitude & 0x3ff) << 13 | quiet;
  return __builtin_bit_cast(
      float, sign | (magnitude >= 0x7c00 ? special : __builtin_bit_cast(uint32_t, finite)));
}

/// One 32-byte vector, unaligned.
inline void copy_vector(const void* from, void* to) {
  typedef uint64_t Vector __attribute__((vector_size(32), aligned(1), may_alias));
  *static_cast<Vector*>(to) = *static_cast<const Vector*>(from);
}

/// Runs F<From, To> for the compute dtype of `from`.
template <template <class, class> class F, class... A>
void dispatch(Elem from, A... a) {
  switch (from) {
    case Elem::bool_:
    case Elem::u8: return F<uint8_t, int32_t>::run(a...);
    case Elem::i8: return F<int8_t, int32_t>::run(a...);
    case Elem::i16: return F<int16_t, int32_t>::run(a...);
    case Elem::i32: return F<int32_t, int32_t>::run(a...);
    case Elem::i64: return F<int64_t, int64_t>::run(a...);
    case Elem::f16: return F<F16, float>::run(a...);
    case Elem::bf16: return F<BF16, float>::run(a...);
    case Elem::f32: return F<float, float>::run(a...);
    case Elem::f64: return F<double, double>::run(a...);
  }
}

}  // namespace fluxion::kernels
