#include "python/src/handle.h"

#include <algorithm>
#include <cstring>

#include "autograd/autograd.h"
#include "ops/copy.h"

namespace fluxion::python {

void set_source(const Tensor& t, const Tensor& source, Ints sizes, Ints strides, int64_t offset) {
  set_data(t, from_storage(Ref<Storage>::share(source.storage()), source.dtype(), sizes, strides,
                           offset));
}

void resize(const Tensor& t, Ints shape) {
  if (t.requires_grad())
    fail(ErrorKind::runtime, "resize_: a tensor that requires grad cannot be resized");
  Shape strides = row_major_strides(shape);
  int64_t offset = t.storage_offset();
  size_t needed = static_cast<size_t>((offset + element_count(shape)) * size_of(t.dtype()));
  if (needed <= t.storage()->nbytes) return set_source(t, t, shape, strides, offset);
  Ref<Storage> larger = allocate(needed);
  std::memcpy(larger->data, t.storage()->data, t.storage()->nbytes);
  set_data(t, from_storage(std::move(larger), t.dtype(), shape, strides, offset));
}

void share_memory(const Tensor& t) {
  if (t.storage()->shared_memory) return;
  Ref<Storage> shared = allocate_shared(t.storage()->nbytes);
  std::memcpy(shared->data, t.storage()->data, t.storage()->nbytes);
  set_data(t,
           from_storage(std::move(shared), t.dtype(), t.sizes(), t.strides(), t.storage_offset()));
}

}  // namespace fluxion::python
