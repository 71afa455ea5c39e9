// Moving and converting elements.
#pragma once

#include "ops/op.h"

namespace fluxion {

extern OpDef kCast;   // (x) {dtype} -> x converted
extern OpDef kClone;  // (x) -> a copy in dense memory

struct CastAttrs {
  int64_t dtype;
};

/// dst = src, broadcast and converted. The write must have been announced by begin_write.
void copy_elements(const Tensor& src, const Tensor& dst);
/// Raises where PyTorch does: for a number (NaN and infinities too) that an integer or bounded dtype cannot hold.
/// Integers below 0 wrap in uint8, as there.
void check_number(const char* op, double value, bool is_floating, DType dtype);
/// dst += src in place, same shape and dtype. Announced likewise.
void add_into(const Tensor& dst, const Tensor& src);
/// Converted, recorded; x itself if it has the dtype.
Tensor to_dtype(const Tensor& x, DType dtype);
/// x itself if row-major, else a row-major copy (not recorded).
Tensor dense(const Tensor& x);
/// x itself, or as one element along one dim if it is 0-dim; `op` for errors.
Tensor at_least_1d(const char* op, const Tensor& x);
/// An eval's row-major result: becomes `to`, or is converted into it where it is defined. `dtype` is the output's.
void deliver(Tensor& to, const Tensor& result, DType dtype);
/// The same values under a new autograd identity.
Tensor identity(const Tensor& x);

}  // namespace fluxion
