// Reading and writing the elements that index tensors name.
#pragma once

#include "ops/functions.h"
#include "ops/op.h"

namespace fluxion {

/// One index tensor per entry of `dims` (ascending). The index tensors broadcast to the index space, whose dims stand
/// in the result where the indexed dims were if those are neighbours, else in front (NumPy's rule).
struct IndexAttrs {
  Dims dims;
  int64_t accumulate = 0;
};

extern OpDef kIndex;  // (x, indices...) -> the elements of x there
extern OpDef
    kIndexPut;  // (x, values, indices...) -> x with values put, or added, there; in order of position

Tensor index_at(const Tensor& x, const Dims& dims, Tensors indices);
Tensor put_at(const Tensor& x, const IndexAttrs& attrs, Tensors indices, const Tensor& values);

/// Raises unless the index is int32 or int64.
void check_index_dtype(const char* op, const Tensor& index);
/// `value` as the written tensor needs it: numbers are converted, tensors must have the dtype.
Tensor matching(const char* op, const char* what, const Tensor& value, const Tensor& self);
/// A number (or 0-dim tensor) in the written tensor's dtype; raises if an integer dtype cannot hold it.
Tensor fill_value(const char* op, const Tensor& value, DType dtype);
/// "(at position 2 of the index)": where in an index space of that shape, or nothing if it has no dims.
std::string position_text(Ints space, int64_t position);
[[noreturn]] void fail_index(int64_t value, int64_t dim, int64_t extent, Ints space,
                             int64_t position);

}  // namespace fluxion
