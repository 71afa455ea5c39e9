// Tensors from Python data.
#pragma once

#include "ops/function.h"
#include "python/src/object.h"

namespace fluxion::python {

/// A new tensor from a number, nested sequences, an array or a tensor (copied).
/// Without a dtype: bool, int64, the default float, or the array's own.
Tensor tensor_from(PyObject* data, OptDType dtype = {});
/// The same, but tensors and arrays are shared where dtype allows.
Tensor as_tensor(PyObject* data, OptDType dtype = {});

/// Shares the memory of an object with a buffer (a NumPy array). `what` names the function in errors.
Tensor from_array(PyObject* array, const char* what = "from_numpy");
/// True if `o` exports a buffer of numbers that tensor_from takes as an array.
bool is_array(PyObject* o);

}  // namespace fluxion::python
