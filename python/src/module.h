// How the parts of the extension put their functions into fluxion._C.
#pragma once

#include <span>

#include "python/src/binder.h"
#include "python/src/constants.h"
#include "python/src/tensor_type.h"

namespace fluxion::python {

/// A function of the binding itself, bound by the same binder. Flags as in ops/function.h.
/// Besides the types of ops/function.h a schema may use `object`.
struct NativeFunction {
  const char* schema;
  const char* doc;
  uint16_t flags;
  Native call;
};

/// Registers functions; they enter module and Tensor type when all are known.
void add_natives(std::span<const NativeFunction> functions);

/// Creates the callables of everything registered and of the function table.
void add_functions(PyObject* module);

void add_construction();
void add_methods();
void add_numpy(PyObject* module);
void add_dlpack();
void add_pickle();
void add_files();
void add_autograd(PyObject* module);
void add_grad_modes(PyObject* module);
void add_settings();
void add_capture(PyObject* module);

/// While tracing: what item() of a tensor gives, or null outside of a trace.
PyObject* traced_item(PyObject* tensor);
/// Python numbers that stand for values of a running trace, and the tensor behind one.
bool is_traced_number(PyObject* o);
Tensor tensor_of_number(PyObject* o);

}  // namespace fluxion::python
