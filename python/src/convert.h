// Python values to C++ values. Each returns false if `o` is of another kind, and throws for what cannot be represented.
#pragma once

#include "ops/function.h"
#include "python/src/object.h"
#include "python/src/tensor_type.h"

namespace fluxion::python {

/// What bool(o) says; throws what it raises.
inline bool is_true(PyObject* o) {
  int truth = PyObject_IsTrue(o);
  check(truth);
  return truth == 1;
}

/// An int, anything with __index__ (NumPy's ints, one-element integer tensors); not bool.
bool to_integer(PyObject* o, int64_t* out);
/// A bool, int or float, a NumPy scalar or a one-element tensor.
bool to_scalar(PyObject* o, Scalar* out);
bool to_real(PyObject* o, double* out);
bool to_bool(PyObject* o, bool* out);
/// A tensor as it is; a number as a weak 0-dim tensor.
bool to_operand(PyObject* o, Tensor* out);

/// The values of a one-element tensor.
Scalar scalar_of(const Tensor& t);
PyObject* from_scalar(const Scalar& s);

bool is_numpy_array(PyObject* o);
/// numpy.float32, numpy.int64 ... : an object of a NumPy scalar type.
bool is_numpy_scalar(PyObject* o);

}  // namespace fluxion::python
