// Writes: PyTorch's in-place rules, and how history follows a write through a view.
#include "ops/inplace.h"
#include "autograd/autograd.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/promotion.h"
#include "ops/region.h"
#include "tensor/thread_state.h"

namespace fluxion {

namespace {

bool is_view_of_base(const Tensor& t) {
  const Ref<Impl>& base = t.impl()->base;
  return base && base->storage == t.impl()->storage;
}

bool dense(const Impl& t) {
  int64_t span = 1;
  for (int d = 0; d < t.rank; ++d) span += (t.sizes()[d] - 1) * std::abs(t.strides()[d]);
  return span == t.numel && !overlaps_itself(t);
}

void trace_write(const Tensor& dst, const Tensor& value) {
  if (Tracer* tracer = thread_state().tracer) [[unlikely]]
    tracer->write(dst, value);
}

void check_defined(const char* function, const Tensor& to, const Tensor& from) {
  if (!to.defined() || !from.defined())
    fail(ErrorKind::runtime, "{}: the {} tensor has no value (a default-constructed Tensor)",
         function, to.defined() ? "second" : "first");
}

/// The element of least address.
const char* lowest(const Impl& t) {
  const char* p = t.data;
  for (int d = 0; d < t.rank; ++d)
    if (t.strides()[d] < 0) p += (t.sizes()[d] - 1) * t.strides()[d] * size_of(t.dtype);
  return p;
}

/// The whole of a base changed in the region of `view`: one "put region" node on the base.
void rewrite(const Tensor& base, const Tensor& view, const Tensor& value) {
  Region region = region_of(view, base);
  const Tensor in[] = {base, value};
  Ref<Node> node = make_node(&kPutRegion, &region, in, 1);
  set_history(base, std::move(node), 0);
  ++ensure_meta(base).epoch;
}

}  // namespace

void check_writable(const Tensor& dst, bool value_tracks) {
  if (overlaps_itself(*dst.impl()))
    fail(
        ErrorKind::runtime,
        "in-place write: more than one element of the written tensor {} refers to a single memory location "
        "(an expanded view?). Call clone() on it first",
        shape_text(dst.sizes()));
  if (dst.has(kNumber))
    fail(ErrorKind::runtime,
         "in-place write: a number is not a tensor; write to full({{}}, value) instead");
  if (dst.has(kInference) && !thread_state().inference_mode)
    fail(
        ErrorKind::runtime,
        "Inplace update to inference tensor outside InferenceMode is not allowed. Make a clone() of it to get a "
        "normal tensor first");
  if (dst.storage()->read_only)
    fail(ErrorKind::runtime,
         "in-place write: the tensor's memory is read-only. Call clone() on it first");
  if (!thread_state().grad_enabled) return;
  bool tracks = dst.requires_grad();
  if (tracks && dst.is_leaf())
    fail(
        ErrorKind::runtime,
        "a leaf tensor that requires grad is used in an in-place operation. Wrap it in no_grad(), or write to "
        "x.data or a clone()");
  if (!is_view_of_base(dst)) return;
  Tensor base{dst.impl()->base};
  bool base_tracks = base.requires_grad();
  if (base_tracks && base.is_leaf())
    fail(
        ErrorKind::runtime,
        "a view of a leaf tensor that requires grad is used in an in-place operation. Wrap it in no_grad(), or "
        "write to a clone()");
  if (dst.has(kNoGradView) && (base_tracks || value_tracks))
    fail(
        ErrorKind::runtime,
        "a view made under no_grad() is modified in place with gradients enabled. Make the view outside "
        "no_grad(), or write under no_grad() too");
}

void check_no_partial_overlap(const Tensor& self, const Tensor& other, const char* op) {
  const Impl &a = *self.impl(), &b = *other.impl();
  if (a.storage != b.storage || !a.numel || !b.numel) return;
  if (a.data == b.data && std::ranges::equal(self.sizes(), other.sizes()) &&
      std::ranges::equal(self.strides(), other.strides()))
    return;
  if (!dense(a) || !dense(b)) return;
  const char *a_low = lowest(a), *b_low = lowest(b);
  if (a_low < b_low + other.nbytes() && b_low < a_low + self.nbytes())
    fail(
        ErrorKind::runtime,
        "{}: the written tensor and an input refer to overlapping memory. Call clone() on the input first",
        op);
}

void follow_write(const Tensor& dst, const Tensor& value) {
  if (is_view_of_base(dst)) return rewrite(Tensor(dst.impl()->base), dst, value);
  Edge edge = gradient_edge(value);
  if (!edge.node) return rewrite(dst, dst, value);  // what was there gets the gradient 0
  set_history(dst, std::move(edge.node), edge.slot);
  ++ensure_meta(dst).epoch;
}

namespace {

/// `fitted`, with a history of its own if that of `value`, which it may be, stays in use elsewhere.
Tensor own_history(Tensor fitted, const Tensor& value) {
  if (!fitted.is_same(value)) return fitted;
  bool temporary = value.impl()->refs.load() == 2;  // held by the two arguments alone
  return temporary && !value.is_leaf() ? fitted : identity(fitted);
}

}  // namespace

void assign(const Tensor& dst, Tensor value) {
  check_defined("assign", dst, value);
  bool grad_on = thread_state().grad_enabled;
  bool value_tracks = grad_on && tracks_gradient(value);
  check_writable(dst, value_tracks);
  check_no_partial_overlap(dst, value, "in-place write");
  if (!std::ranges::equal(value.sizes(), dst.sizes()) && !can_broadcast(value.sizes(), dst.sizes()))
    fail(ErrorKind::runtime,
         "in-place write: a value of shape {} cannot be broadcast to the target's shape {}",
         shape_text(value.sizes()), shape_text(dst.sizes()));
  bool history = grad_on && (value_tracks || dst.requires_grad() ||
                             (is_view_of_base(dst) && Tensor(dst.impl()->base).requires_grad()));
  if (!history) {
    begin_write(dst.storage());
    trace_write(dst, value);
    copy_elements(value, dst);
    return;
  }
  Tensor fitted = to_dtype(value, dst.dtype());
  if (!std::ranges::equal(fitted.sizes(), dst.sizes())) fitted = expand(fitted, dst.sizes());
  begin_write(dst.storage());
  trace_write(dst, fitted);
  copy_elements(fitted, dst);
  if (value_tracks && !is_view_of_base(dst)) fitted = own_history(std::move(fitted), value);
  follow_write(dst, fitted);
}

void set_data(const Tensor& x, const Tensor& y) {
  check_defined("set_data", x, y);
  Impl &a = *x.impl(), &b = *y.impl();
  if (&a == &b) return;
  if (Tracer* tracer = thread_state().tracer) [[unlikely]]
    tracer->rebind(x);
  if (a.meta && (a.flags & kRequiresGrad) && !is_floating(b.dtype))
    fail(ErrorKind::runtime, "data: a tensor that requires grad needs floating point data, got {}",
         name(b.dtype));
  resize_geometry(a, b.rank);
  std::copy_n(b.geometry, 2 * b.rank, a.geometry);
  a.dtype = b.dtype;
  a.numel = b.numel;
  a.data = b.data;
  a.storage = b.storage;
  a.base = nullptr;
  a.flags = static_cast<uint16_t>((a.flags & ~kContiguous) | (b.flags & kContiguous));
}

}  // namespace fluxion
