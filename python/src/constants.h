// The small value types of the API: dtype, layout, memory_format, device, Size.
#pragma once

#include "python/src/object.h"
#include "tensor/tensor.h"

namespace fluxion::python {

/// The Python object of a dtype (a singleton; borrowed).
PyObject* dtype_object(DType t);
/// Accepts a dtype object and the Python types float, int and bool.
bool to_dtype(PyObject* o, DType* out);
/// fluxion.strided; borrowed.
PyObject* strided_layout();
/// device(type='cpu'); borrowed.
PyObject* cpu_device();
/// Raises unless `o` (None, a device or its text) names the CPU.
void require_cpu(PyObject* o);

/// A fluxion.Size, new reference.
PyObject* make_size(Ints sizes);
/// A plain tuple of ints, new reference.
PyObject* make_tuple(Ints values);

void add_constants(PyObject* module);
void add_size(PyObject* module);
void add_device(PyObject* module);

}  // namespace fluxion::python
