// The Python type fluxion.Tensor: layout, identity, and the way from C++ tensors to Python objects and back.
#pragma once

#include <vector>

#include "python/src/object.h"
#include "tensor/tensor.h"

namespace fluxion::python {

struct PyTensor {
  PyObject_HEAD PyObject* dict;  // lazily; the object is tracked by the collector from then on
  PyObject* weakrefs;
  PyObject* grad;  // the Python object of p.grad, kept so that its identity and attributes persist
  Tensor t;        // always defined
};

extern PyTypeObject* tensor_type;

inline bool is_tensor(PyObject* o) {
  return Py_TYPE(o) == tensor_type || PyType_IsSubtype(Py_TYPE(o), tensor_type);
}
inline Tensor& tensor_of(PyObject* o) { return reinterpret_cast<PyTensor*>(o)->t; }

/// The Python object of a tensor: the one it already has, or a new one. None for an undefined tensor.
PyObject* wrap(Tensor t);
/// A new object of a subclass for a tensor that has no object yet.
PyObject* wrap_as(PyTypeObject* type, Tensor t);
/// A tuple of tensors.
PyObject* wrap_tuple(std::span<Tensor> tensors);

/// Lets the collector see an object that may now be part of a cycle.
inline void track(PyObject* self) {
  if (!PyObject_GC_IsTracked(self)) PyObject_GC_Track(self);
}

// The type's parts, each in the file of its concern.
extern PyGetSetDef tensor_properties[];
void fill_number_slots(std::vector<PyType_Slot>& slots);
void fill_index_slots(std::vector<PyType_Slot>& slots);
void fill_buffer_slots(std::vector<PyType_Slot>& slots);
PyObject* tensor_repr(PyObject* self);
PyObject* tensor_new(PyTypeObject* type, PyObject* args, PyObject* kwargs);

void add_tensor_type(PyObject* module);

}  // namespace fluxion::python
