// Which of the built-in kernels this CPU gets.
#include <cstdlib>

#include "kernels/kernel.h"

namespace fluxion::kernels {

namespace {

bool detect() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
         !std::getenv("FLUXION_NO_WIDE");
}

}  // namespace

bool has_wide_vectors() {
  static const bool has = detect();
  return has;
}

}  // namespace fluxion::kernels
