// How results get into tensors that exist: in-place methods and operators, and out=.
#pragma once

#include "base/function_ref.h"
#include "ops/op.h"

namespace fluxion::python {

/// The op that the function of this name is when its options are at their defaults, if it may write straight into
/// its first operand; else null.
const OpDef* direct_op(std::string_view function);

/// self op= other. Through `op` without a temporary where that gives the same bits, else by `compute`.
void update(const char* name, const OpDef* op, const Tensor& self, const Tensor& other,
            FunctionRef<Tensor()> compute);

/// Writes `value` into `self` unless PyTorch would refuse the conversion.
void write_inplace(const char* name, const Tensor& self, Tensor value);

/// Resizes `out` to the value's shape, then writes.
void write_out(const char* name, const Tensor& out, const Tensor& value);

}  // namespace fluxion::python
