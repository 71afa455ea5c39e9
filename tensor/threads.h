// One thread pool behind one function, and the floating-point environment every entry runs under.
#pragma once

#include <cstdint>

#include "base/function_ref.h"
#include "kernels/kernel.h"

namespace fluxion {

/// Runs fn(begin, end) over a partition of [0, n) in chunks of at least `grain`; serial when small,
/// in a forked child, or with one thread. Bits never depend on the partition. Exceptions propagate.
void parallel(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> fn);

int num_threads();
void set_num_threads(int n);  // raises ErrorKind::value for n < 1

/// A kernel context whose `parallel` is ours; workspace as given.
kernels::Ctx kernel_context(void* workspace = nullptr, size_t workspace_bytes = 0);

/// Round to nearest, no FTZ/DAZ, while it lives; restores the caller's MXCSR.
class FloatEnvironment {
 public:
  FloatEnvironment() : saved_(__builtin_ia32_stmxcsr()) {
    if ((saved_ & kMask) != kDefault) [[unlikely]]
      __builtin_ia32_ldmxcsr((saved_ & ~kMask) | kDefault);
  }
  ~FloatEnvironment() {
    if ((saved_ & kMask) != kDefault) [[unlikely]]
      __builtin_ia32_ldmxcsr(saved_);
  }
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
  static constexpr unsigned kMask = 0xe040;  // rounding control, FTZ, DAZ
  static constexpr unsigned kDefault = 0x0000;
  unsigned saved_;
};

/// Announces work of about `nanoseconds`; the Python binding releases the GIL for long work.
class LongWork {
 public:
  explicit LongWork(double nanoseconds);
  ~LongWork();
  LongWork(const LongWork&) = delete;
  LongWork& operator=(const LongWork&) = delete;

 private:
  void* token_ = nullptr;
};
struct LongWorkHooks {
  void* (*begin)();
  void (*end)(void*);
};
void set_long_work_hooks(LongWorkHooks hooks);
inline constexpr double kLongWork = 20e3;  // nanoseconds

}  // namespace fluxion
