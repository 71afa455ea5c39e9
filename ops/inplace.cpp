#include "ops/inplace.h"

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

Tensor apply_into(const Tensor& self, const OpDef& op, const void* attrs, Tensors in) {
  if (write_is_tracked(self, in)) {
    assign(self, apply(op, attrs, in));
    return self;
  }
  begin_write(self.storage());
  Tensor out = self;
  apply(op, attrs, in, {&out, 1});
  return self;
}

}  // namespace fluxion
