// Element types and PyTorch's promotion rules.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace fluxion {

/// Same numbering as the kernels' element types.
using DType = kernels::Elem;
inline constexpr int kDTypes = kernels::kElems;

constexpr int64_t size_of(DType t) { return kernels::elem_size(t); }
constexpr bool is_floating(DType t) { return t >= DType::f16; }
constexpr bool is_integral(DType t) { return t >= DType::u8 && t <= DType::i64; }  // bool excluded
constexpr bool is_half(DType t) { return t == DType::f16 || t == DType::bf16; }

/// 0 bool, 1 integral, 2 floating.
constexpr int category(DType t) { return t == DType::bool_ ? 0 : is_integral(t) ? 1 : 2; }

/// "float32", "int64", "bool" ... (PyTorch's names).
std::string_view name(DType t);
/// "f32", "i64", "bool" ... as in graphs and file formats.
std::string_view short_name(DType t);
/// Accepts the long and short names and PyTorch's aliases ("float", "long"); false if unknown.
bool parse_dtype(std::string_view text, DType* out);

/// The least dtype that both convert to (PyTorch's table for tensors of equal dimensionality
/// category).
DType promote(DType a, DType b);

/// The dtype the arithmetic of `t` runs in: half -> f32, i8 i16 u8 -> i32, bool stays bool.
DType compute_dtype(DType t);

/// Default floating dtype (float32 unless set_default_dtype changed it).
DType default_dtype();
void set_default_dtype(DType t);

float half_to_float(uint16_t h);
uint16_t float_to_half(float f);
float bfloat16_to_float(uint16_t h);
uint16_t float_to_bfloat16(float f);

}  // namespace fluxion
