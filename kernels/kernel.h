// The kernel ABI: what emitted kernels and the drivers around them look like from outside.
// Freestanding: sizes and strides are arguments, workspace is given, `parallel` is a callback, errors are status codes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fluxion::kernels {

/// Element types as stored in memory. `tensor/dtype.h` uses the same numbering.
enum class Elem : uint8_t { bool_, u8, i8, i16, i32, i64, f16, bf16, f32, f64 };
inline constexpr int kElems = 10;

constexpr int elem_size(Elem e) {
  constexpr int sizes[kElems] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
  return sizes[static_cast<int>(e)];
}

enum Status : int {
  kOk = 0,
  kIndexOutOfRange = 1,  // ctx->error = {index value, position, extent}
  kWorkspaceTooSmall = 2,
  kNoKernel = 3,
};

/// One operand. `strides` (in elements, one per loop dimension) is null for dense operands.
struct Buf {
  void* data;
  const int64_t* strides;
};

/// What a driver may use besides its operands.
struct Ctx {
  void* workspace;
  size_t workspace_bytes;
  void* pool;
  /// Runs fn(arg, begin, end) over a partition of [0, n); chunks hold at least `grain` items.
  void (*parallel)(void* pool, int64_t n, int64_t grain, void (*fn)(void*, int64_t, int64_t),
                   void* arg);
  int64_t error[4];
};

/// Emitted kernels. `params` points to the scalar attributes (doubles) or is null.
/// Elementwise: sizes = {n}. Others: documented where the op builds them.
using Kernel = int (*)(const Buf* args, const int64_t* sizes, const void* params);

/// Operand classes of an elementwise kernel with two inputs; other families define their own variants.
enum ElementwiseClass : uint8_t { kDense = 0, kScalarRight = 1, kScalarLeft = 2 };

/// The built-in kernel of an op, or null. Generated at build time from the op table. Where the CPU has 512-bit vectors, the
/// kernel built for them, if there is one: same bits.
Kernel find_kernel(uint16_t op, Elem dtype, uint8_t variant);

/// Whether this CPU has 512-bit vectors (x86-64-v4) and FLUXION_NO_WIDE is not set. Defined by the host (tensor/cpu.cpp).
bool has_wide_vectors();

}  // namespace fluxion::kernels
