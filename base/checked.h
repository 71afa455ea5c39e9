// Integer arithmetic on sizes that cannot overflow silently.
#pragma once

#include <cstdint>

#include "base/error.h"

namespace fluxion {

inline int64_t checked_mul(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_mul_overflow(a, b, &r)) [[unlikely]]
    fail(ErrorKind::runtime, "size {} x {} does not fit in 64 bits; the shape is too large", a, b);
  return r;
}

inline int64_t checked_add(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_add_overflow(a, b, &r)) [[unlikely]]
    fail(ErrorKind::runtime, "size {} + {} does not fit in 64 bits; the shape is too large", a, b);
  return r;
}

}  // namespace fluxion
