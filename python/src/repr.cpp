// repr(tensor): the values as the core prints them, and what autograd knows.
#include "autograd/autograd.h"
#include "python/src/tensor_type.h"

namespace fluxion::python {

PyObject* tensor_repr(PyObject* self) {
  return guarded([&] {
    const Tensor& t = tensor_of(self);
    std::string name = grad_fn_name(t);
    return text(to_text(t, !name.empty()       ? "grad_fn=<" + name + ">"
                           : t.requires_grad() ? "requires_grad=True"
                                               : ""));
  });
}

}  // namespace fluxion::python
