#include "python/src/writes.h"

#include <algorithm>

#include "autograd/autograd.h"
#include "ops/inplace.h"
#include "ops/promotion.h"
#include "python/src/handle.h"
#include "python/src/object.h"
#include "tensor/thread_state.h"

namespace fluxion::python {

const OpDef* direct_op(std::string_view function) {
  constexpr std::string_view kDirect[] = {"add",         "sub",        "mul",        "div",
                                          "bitwise_and", "bitwise_or", "bitwise_xor"};
  return std::ranges::find(kDirect, function) == std::end(kDirect) ? nullptr : find_op(function);
}

namespace {

/// The result has self's type, and no element of other is overwritten before it is read.
bool fits_in_place(const OpDef& op, const Tensor& self, const Tensor& other) {
  DType t = self.dtype();
  if (t == DType::bool_ || (op.promotion == Promotion::floating && !is_floating(t))) return false;
  if (other.dtype() != t) {
    const Tensor in[] = {self, other};
    if (common_dtype(in) != t) return false;
  }
  bool same_sizes = std::ranges::equal(self.sizes(), other.sizes());
  if (!same_sizes && !can_broadcast(other.sizes(), self.sizes())) return false;
  if (self.storage() != other.storage()) return true;
  return same_sizes && self.data() == other.data() &&
         std::ranges::equal(self.strides(), other.strides());
}

}  // namespace

void update(const char* name, const OpDef* op, const Tensor& self, const Tensor& other,
            FunctionRef<Tensor()> compute) {
  const Tensor in[] = {self, other};
  if (op && fits_in_place(*op, self, other) && !write_is_tracked(self, in))
    apply_into(self, *op, nullptr, in);
  else write_inplace(name, self, compute());
}

namespace {

void check_cast(const char* name, DType from, DType to, const char* target, const char* advice) {
  if (category(from) > category(to))
    fail(ErrorKind::runtime, "{}: result type {} can't be cast to the {} type {}. {}", name,
         fluxion::name(from), target, fluxion::name(to), advice);
}

}  // namespace

void write_inplace(const char* name, const Tensor& self, Tensor value) {
  check_cast(name, value.dtype(), self.dtype(), "in-place target's",
             "Use the form that returns a new tensor, or convert the target first");
  if (!std::ranges::equal(value.sizes(), self.sizes()))
    fail(ErrorKind::runtime,
         "{}_: the result has shape {}, which does not fit the in-place target's shape {}", name,
         shape_text(value.sizes()), shape_text(self.sizes()));
  assign(self, std::move(value));
}

void write_out(const char* name, const Tensor& out, const Tensor& value) {
  if (thread_state().grad_enabled && (out.requires_grad() || tracks_gradient(value)))
    fail(
        ErrorKind::runtime,
        "{}: out= does not support gradients, but an argument requires grad. Use the returned tensor, or no_grad()",
        name);
  check_cast(name, value.dtype(), out.dtype(), "out tensor's",
             "Convert the out tensor first, or leave out= away");
  if (!std::ranges::equal(out.sizes(), value.sizes())) {
    if (out.numel())
      check(PyErr_WarnFormat(PyExc_UserWarning, 1,
                             "%s: an out tensor with elements was resized from %s to %s", name,
                             shape_text(out.sizes()).c_str(), shape_text(value.sizes()).c_str()));
    resize(out, value.sizes());
  }
  assign(out, value);
}

}  // namespace fluxion::python
