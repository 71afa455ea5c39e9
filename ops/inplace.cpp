#include "ops/inplace.h"

#include <algorithm>
#include <vector>

#include "ops/functions.h"
#include "tensor/thread_state.h"

namespace fluxion {

bool write_is_tracked(const Tensor& self, Tensors in) {
  if (overlaps_itself(*self.impl()) || thread_state().tracer) return true;
  if (self.has(kInference) && !thread_state().inference_mode) return true;
  if (!thread_state().grad_enabled) return false;
  if (tracks_gradient(self)) return true;
  const Ref<Impl>& base = self.impl()->base;
  if (base && tracks_gradient(Tensor(base))) return true;
  for (const Tensor& t : in)
    if (t.defined() && tracks_gradient(t)) return true;
  return false;
}

namespace {

bool same_place(const Tensor& a, const Tensor& b) {
  return a.is_same(b) ||
         (a.data() == b.data() && a.dtype() == b.dtype() &&
          std::ranges::equal(a.sizes(), b.sizes()) && std::ranges::equal(a.strides(), b.strides()));
}

/// Whether an op that writes into `self` could overwrite elements of `in` before it reads them.
bool may_be_overwritten(const OpDef& op, const Tensor& self, const Tensor& in) {
  if (!in.defined() || in.storage() != self.storage()) return false;
  return op.space != Space::elementwise || !same_place(self, in);
}

}  // namespace

Tensor apply_into(const Tensor& self, const OpDef& op, const void* attrs, Tensors in) {
  if (write_is_tracked(self, in)) {
    assign(self, apply(op, attrs, in));
    return self;
  }
  std::vector<Tensor> apart;
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i].is_same(self) && i == 0) continue;  // what is changed: such ops read it first
    if (!may_be_overwritten(op, self, in[i])) continue;
    if (op.space == Space::elementwise) check_no_partial_overlap(self, in[i], op.name);
    if (apart.empty()) apart.assign(in.begin(), in.end());
    apart[i] = clone(in[i]);
  }
  if (!apart.empty()) in = apart;
  begin_write(self.storage());
  Tensor out = self;
  apply(op, attrs, in, {&out, 1});
  return self;
}

namespace {

bool any_write_is_tracked(Tensors targets, Tensors in) {
  for (const Tensor& t : targets)
    if (write_is_tracked(t, {})) return true;
  if (!thread_state().grad_enabled) return false;
  return std::ranges::any_of(in, [](const Tensor& t) { return t.defined() && tracks_gradient(t); });
}

}  // namespace

void apply_onto(Tensors targets, const OpDef& op, const void* attrs, Tensors in) {
  if (any_write_is_tracked(targets, in)) {
    std::vector<Tensor> out(targets.size());
    apply(op, attrs, in, out);
    for (size_t i = 0; i < targets.size(); ++i) assign(targets[i], out[i]);
    return;
  }
  for (const Tensor& t : targets) begin_write(t.storage());
  // A defined output is written, its handle is not.
  apply(op, attrs, in, {const_cast<Tensor*>(targets.data()), targets.size()});
}

}  // namespace fluxion
