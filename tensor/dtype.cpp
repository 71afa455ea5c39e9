#include "tensor/dtype.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <utility>

#include "base/error.h"

namespace fluxion {
namespace {

struct Names {
  std::string_view name, short_name, alias;
};
constexpr Names kNames[kDTypes] = {
    {"bool", "bool", "bool"},     {"uint8", "u8", "byte"},          {"int8", "i8", "char"},
    {"int16", "i16", "short"},    {"int32", "i32", "int"},          {"int64", "i64", "long"},
    {"float16", "f16", "half"},   {"bfloat16", "bf16", "bfloat16"}, {"float32", "f32", "float"},
    {"float64", "f64", "double"},
};
const Names& names(DType t) { return kNames[static_cast<int>(t)]; }

constinit std::atomic<DType> the_default_dtype{DType::f32};

/// Drops the low `n` bits, rounding to nearest, ties to even. 0 < n < 32.
uint32_t shift_round(uint32_t x, int n) {
  const uint32_t odd = (x >> n) & 1;
  return (x + (1u << (n - 1)) - 1 + odd) >> n;
}

}  // namespace

std::string_view name(DType t) { return names(t).name; }
std::string_view short_name(DType t) { return names(t).short_name; }

bool parse_dtype(std::string_view text, DType* out) {
  for (int i = 0; i < kDTypes; ++i) {
    const Names& n = kNames[i];
    if (text != n.name && text != n.short_name && text != n.alias) continue;
    *out = static_cast<DType>(i);
    return true;
  }
  return false;
}

DType promote(DType a, DType b) {
  if (a > b) std::swap(a, b);
  if (a == DType::f16 && b == DType::bf16) return DType::f32;
  if (a == DType::u8 && b == DType::i8) return DType::i16;
  return b;  // the enum lists the dtypes so that otherwise the later one holds both
}

DType compute_dtype(DType t) {
  if (is_half(t)) return DType::f32;
  if (is_integral(t) && size_of(t) < 4) return DType::i32;
  return t;
}

DType default_dtype() { return the_default_dtype.load(std::memory_order_relaxed); }

void set_default_dtype(DType t) {
  if (!is_floating(t))
    fail(ErrorKind::type,
         "set_default_dtype: {} is not a floating dtype; expected float16, bfloat16, float32 or "
         "float64",
         name(t));
  the_default_dtype.store(t, std::memory_order_relaxed);
}

float half_to_float(uint16_t h) {
  const uint32_t sign = (h & 0x8000u) << 16, rest = h & 0x7fffu;
  if (rest > 0x7c00)
    return std::bit_cast<float>(sign | 0x7fc00000u | rest << 13);  // NaN, made quiet
  if (rest == 0x7c00) return std::bit_cast<float>(sign | 0x7f800000u);
  if (rest >= 0x0400) return std::bit_cast<float>(sign | ((rest << 13) + (112u << 23)));
  const float magnitude = static_cast<float>(rest) * 0x1p-24f;  // subnormal or zero
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

uint16_t float_to_half(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f), sign = (bits >> 16) & 0x8000u,
                 x = bits & 0x7fffffffu;
  uint32_t h;
  if (x > 0x7f800000u) h = 0x7e00u | (x >> 13 & 0x3ffu);  // NaN, made quiet
  else if (x >= 0x477ff000u) h = 0x7c00u;                 // 65520 and more round to infinity
  else if (x >= 0x38800000u) h = shift_round(x - (112u << 23), 13);
  else if (x >= 0x33000000u)
    h = shift_round((x & 0x7fffffu) | 0x800000u, 126 - static_cast<int>(x >> 23));
  else h = 0;
  return static_cast<uint16_t>(sign | h);
}

float bfloat16_to_float(uint16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }

uint16_t float_to_bfloat16(float f) {
  const uint32_t x = std::bit_cast<uint32_t>(f);
  if ((x & 0x7fffffffu) > 0x7f800000u)
    return static_cast<uint16_t>(x >> 16 | 0x40u);  // NaN, made quiet
  return static_cast<uint16_t>(shift_round(x, 16));
}

}  // namespace fluxion
