#include "python/src/handle.h"

#include <algorithm>
#include <cstring>

#include "autograd/autograd.h"
#include "ops/copy.h"
#include "python/src/long_work.h"

namespace fluxion::python {

void rebind(const Tensor& t, const Tensor& source) {
  wait_for_long_work();
  set_data(t, source);
}

void set_source(const Tensor& t, const Tensor& source, Ints sizes, Ints strides, int64_t offset) {
  rebind(t, from_storage(Ref<Storage>::share(source.storage()), source.dtype(), sizes, strides,
                         offset));
}

void resize(const Tensor& t, Ints shape) {
  wait_for_long_work();
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
  wait_for_long_work();
  Storage* own = t.storage();
  if (own->shared_memory) return;
  if (uint32_t others = own->refs.load() - 1)
    fail(
        ErrorKind::runtime,
        "share_memory_: {} other holders of this memory (views, detach(), .data, arrays, values saved for a "
        "gradient) would stay behind. Share it before they are made, or share a clone()",
        others);
  Ref<Storage> shared = allocate_shared(own->nbytes);
  std::memcpy(shared->data, own->data, own->nbytes);
  set_data(t,
           from_storage(std::move(shared), t.dtype(), t.sizes(), t.strides(), t.storage_offset()));
}

}  // namespace fluxion::python
