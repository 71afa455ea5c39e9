// Where an op states its kernels as loop IR; the build-time generator emits them, tests interpret them.
#pragma once

#include <string>

#include "base/function_ref.h"
#include "loops/ir.h"
#include "ops/op.h"

namespace fluxion {

class KernelSink {
 public:
  virtual ~KernelSink() = default;
  /// The kernel that find_kernel(op.id, dtype, variant) will return. `make` gets the symbol name.
  virtual void add(const OpDef& op, DType dtype, uint8_t variant,
                   FunctionRef<loops::Function(std::string name)> make) = 0;
};

/// find_kernel that raises an internal error instead of returning null.
kernels::Kernel require_kernel(const OpDef& op, DType dtype, uint8_t variant = 0);

}  // namespace fluxion
