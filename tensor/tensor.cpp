#include "tensor/tensor.h"

#include <algorithm>

#include "base/checked.h"
#include "tensor/thread_state.h"

namespace fluxion {
namespace {

Impl* with_geometry(DType dtype, Ints sizes, Ints strides) {
  Impl* p = new_impl(dtype, static_cast<int>(sizes.size()));
  for (int d = 0; d < p->rank; ++d) {
    p->sizes()[d] = sizes[d];
    p->strides()[d] = strides[d];
  }
  return p;
}

/// Takes sizes and strides from the caller, numel and flags as computed; allocates.
void attach_memory(Impl& t) {
  t.storage = allocate(static_cast<size_t>(checked_mul(t.numel, size_of(t.dtype))));
  t.data = t.storage->data;
}

Tensor view_of(Ref<Storage> storage, DType dtype, Ints sizes, Ints strides,
               int64_t storage_offset) {
  Tensor t(Ref<Impl>::adopt(with_geometry(dtype, sizes, strides)));
  refresh_geometry(*t.impl());
  t.impl()->data = storage->data + storage_offset * size_of(dtype);
  t.impl()->storage = std::move(storage);
  return t;
}

}  // namespace

int64_t Tensor::size(int64_t d) const {
  if (dim() == 0) fail(ErrorKind::index, "size: dim {} asked of a tensor without dims", d);
  return p_->sizes()[wrap_dim(d, dim(), "size")];
}

int64_t Tensor::stride(int64_t d) const {
  if (dim() == 0) fail(ErrorKind::index, "stride: dim {} asked of a tensor without dims", d);
  return p_->strides()[wrap_dim(d, dim(), "stride")];
}

namespace {

const char* sole_element(const Tensor& t) {
  if (t.numel("item") != 1)
    fail(ErrorKind::runtime,
         "item: a tensor of {} elements, shape {}, is not one number; index or reduce it first",
         t.numel(), shape_text(t.sizes()));
  observe_read(t);
  return t.data<const char>();
}

}  // namespace

void observe_read(const Tensor& t) {
  if (StorageObserver* o = thread_state().observer) [[unlikely]]
    o->read(t);
}

double Tensor::item() const { return load_double(sole_element(*this), dtype()); }
int64_t Tensor::item_int() const { return load_int(sole_element(*this), dtype()); }

Tensor empty(Ints shape, DType dtype) {
  Tensor t(Ref<Impl>::adopt(new_impl(dtype, static_cast<int>(shape.size()))));
  Impl& p = *t.impl();
  int64_t n = 1;
  bool plain = true;  // no zero, no negative size, no overflow
  for (int d = p.rank; d-- > 0;) {
    p.sizes()[d] = shape[d];
    p.strides()[d] = n;
    plain &= shape[d] > 0;
    plain &= !__builtin_mul_overflow(n, shape[d], &n);
  }
  p.numel = n;
  if (!plain) [[unlikely]] {
    p.numel = element_count(shape);
    const Shape strides = row_major_strides(shape);
    std::copy(strides.begin(), strides.end(), p.strides());
  }
  attach_memory(p);
  return t;
}

Tensor empty_like_dense(const Tensor& t) {
  if (t.is_contiguous()) return empty(t.sizes(), t.dtype());
  const Shape strides = dense_strides_like(t.sizes(), t.strides());
  Tensor r(Ref<Impl>::adopt(with_geometry(t.dtype(), t.sizes(), strides)));
  refresh_geometry(*r.impl());
  attach_memory(*r.impl());
  return r;
}

Tensor scalar(double value, DType dtype, bool weak) {
  Tensor t = empty({}, dtype);
  store_double(t.data<char>(), dtype, value);
  if (weak) t.impl()->flags |= kWeak;
  return t;
}

Tensor scalar(int64_t value, DType dtype, bool weak) {
  Tensor t = empty({}, dtype);
  store_int(t.data<char>(), dtype, value);
  if (weak) t.impl()->flags |= kWeak;
  return t;
}

Tensor alias(const Tensor& t, Ints sizes, Ints strides, int64_t storage_offset) {
  Tensor a = view_of(t.impl()->storage, t.dtype(), sizes, strides, storage_offset);
  a.impl()->flags =
      static_cast<uint16_t>((a.impl()->flags & ~kInference) | (t.impl()->flags & kInference));
  return a;
}

Tensor from_storage(Ref<Storage> storage, DType dtype, Ints sizes, Ints strides,
                    int64_t storage_offset) {
  check_bounds(*storage, dtype, sizes, strides, storage_offset, "from_storage");
  return view_of(std::move(storage), dtype, sizes, strides, storage_offset);
}

void check_bounds(const Storage& storage, DType dtype, Ints sizes, Ints strides,
                  int64_t storage_offset, const char* op) {
  if (sizes.size() != strides.size())
    fail(ErrorKind::runtime, "{}: {} sizes and {} strides; expected as many of each", op,
         sizes.size(), strides.size());
  const bool empty = element_count(sizes) == 0;
  __int128 first = storage_offset, last = storage_offset;
  for (size_t d = 0; d < sizes.size() && !empty; ++d) {
    const __int128 span = static_cast<__int128>(sizes[d] - 1) * strides[d];
    (span < 0 ? first : last) += span;
  }
  const __int128 held = static_cast<__int128>(storage.nbytes) / size_of(dtype);
  if (first < 0 || last > held || (last == held && !empty))
    fail(ErrorKind::runtime,
         "{}: shape {} with strides {} and offset {} reaches outside a storage of {} {} elements",
         op, shape_text(sizes), shape_text(strides), storage_offset, static_cast<int64_t>(held),
         name(dtype));
}

}  // namespace fluxion
