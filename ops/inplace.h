// In-place forms of ops that need not compute the whole tensor anew.
#pragma once

#include "ops/apply.h"
#include "ops/function.h"

namespace fluxion {

/// self = op(in...), of self's shape and dtype: written in place if no gradient is involved, else recorded and
/// assigned. Returns self.
Tensor apply_into(const Tensor& self, const OpDef& op, const void* attrs, Tensors in);

/// PyTorch's rule for written tensors: raises if self and another operand overlap partially. Implemented by autograd/.
void check_no_partial_overlap(const Tensor& self, const Tensor& other, const char* op);

/// The same for ops of several results: targets[i] = result i of op(in...).
void apply_onto(Tensors targets, const OpDef& op, const void* attrs, Tensors in);

/// Whether writing something computed from `in` into `self` concerns the tape, or must raise.
bool write_is_tracked(const Tensor& self, Tensors in);

}  // namespace fluxion
