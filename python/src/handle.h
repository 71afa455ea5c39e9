// Edits of a handle: another size or other memory behind the same Tensor.
#pragma once

#include "tensor/tensor.h"

namespace fluxion::python {

/// data=: the handle becomes an alias of `source`, without its history.
void rebind(const Tensor& t, const Tensor& source);
/// resize_: row-major of that shape; the old elements stay at the front, further ones are undefined.
void resize(const Tensor& t, Ints shape);
/// set_: the handle becomes an alias of `source` with this geometry (offset in elements).
void set_source(const Tensor& t, const Tensor& source, Ints sizes, Ints strides, int64_t offset);
/// Moves the elements to shared memory, which forked children see. Raises if anything else holds the memory: it would
/// stay behind.
void share_memory(const Tensor& t);

}  // namespace fluxion::python
