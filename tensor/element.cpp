// One element at a time: what the cast kernels do, for numbers that cross to the host language.
#include <cstring>
#include <limits>

#include "tensor/tensor.h"
#include "tensor/threads.h"

namespace fluxion {
namespace {

template <class T>
T load(const char* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
void store(char* p, T v) {
  std::memcpy(p, &v, sizeof v);
}

/// float to double or back, whatever environment the caller has set; the barriers keep it inside.
template <class To, class From>
To convert(From v) {
  FloatEnvironment environment;
  asm volatile("" : "+x"(v));
  To r = static_cast<To>(v);
  asm volatile("" : "+x"(r));
  return r;
}

/// Truncates toward zero; NaN and out of range give the smallest integer.
template <class Int>
Int truncate(double v) {
  constexpr double low = static_cast<double>(std::numeric_limits<Int>::min());
  return v >= low && v < -low ? static_cast<Int>(v) : std::numeric_limits<Int>::min();
}

}  // namespace

double load_double(const char* p, DType t) {
  switch (t) {
    case DType::f16: return half_to_float(load<uint16_t>(p));
    case DType::bf16: return bfloat16_to_float(load<uint16_t>(p));
    case DType::f32: return convert<double>(load<float>(p));
    case DType::f64: return load<double>(p);
    default: return static_cast<double>(load_int(p, t));
  }
}

int64_t load_int(const char* p, DType t) {
  switch (t) {
    case DType::bool_: return load<uint8_t>(p) != 0;
    case DType::u8: return load<uint8_t>(p);
    case DType::i8: return load<int8_t>(p);
    case DType::i16: return load<int16_t>(p);
    case DType::i32: return load<int32_t>(p);
    case DType::i64: return load<int64_t>(p);
    default: return truncate<int64_t>(load_double(p, t));
  }
}

void store_double(char* p, DType t, double v) {
  switch (t) {
    case DType::bool_: return store<uint8_t>(p, v != 0);
    case DType::u8: return store(p, static_cast<uint8_t>(truncate<int64_t>(v)));
    case DType::i8: return store(p, static_cast<int8_t>(truncate<int32_t>(v)));
    case DType::i16: return store(p, static_cast<int16_t>(truncate<int32_t>(v)));
    case DType::i32: return store(p, truncate<int32_t>(v));
    case DType::i64: return store(p, truncate<int64_t>(v));
    case DType::f16: return store(p, float_to_half(convert<float>(v)));
    case DType::bf16: return store(p, float_to_bfloat16(convert<float>(v)));
    case DType::f32: return store(p, convert<float>(v));
    case DType::f64: return store(p, v);
  }
}

void store_int(char* p, DType t, int64_t v) {
  switch (t) {
    case DType::bool_: return store<uint8_t>(p, v != 0);
    case DType::u8: return store(p, static_cast<uint8_t>(v));
    case DType::i8: return store(p, static_cast<int8_t>(v));
    case DType::i16: return store(p, static_cast<int16_t>(v));
    case DType::i32: return store(p, static_cast<int32_t>(v));
    case DType::i64: return store(p, v);
    case DType::f16: return store(p, float_to_half(static_cast<float>(v)));
    case DType::bf16: return store(p, float_to_bfloat16(static_cast<float>(v)));
    case DType::f32: return store(p, static_cast<float>(v));
    case DType::f64: return store(p, static_cast<double>(v));
  }
}

}  // namespace fluxion
