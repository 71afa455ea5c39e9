#include "python/src/convert.h"

#include "python/src/module.h"

namespace fluxion::python {

namespace {

[[noreturn]] void too_large(PyObject* o) {
  Object repr = Object::own(PyObject_Str(o));
  fail(ErrorKind::value, "the int {} does not fit in 64 bits", PyUnicode_AsUTF8(repr.get()));
}

int64_t exact_int(PyObject* o) {
  int overflow = 0;
  int64_t v = PyLong_AsLongLongAndOverflow(o, &overflow);
  if (overflow) too_large(o);
  if (v == -1 && PyErr_Occurred()) throw PythonError();
  return v;
}

bool has_index(PyObject* o) { return PyIndex_Check(o) && !PyBool_Check(o) && !is_numpy_array(o); }

bool is_numpy_bool(PyObject* o) {
  std::string_view name = Py_TYPE(o)->tp_name;
  return name == "numpy.bool" || name == "numpy.bool_";
}

bool float_of(PyObject* o, double* out) {
  *out = PyFloat_AsDouble(o);
  if (*out == -1 && PyErr_Occurred()) throw PythonError();
  return true;
}

}  // namespace

bool is_numpy_array(PyObject* o) {
  std::string_view name = Py_TYPE(o)->tp_name;
  return name == "numpy.ndarray";
}

bool is_numpy_scalar(PyObject* o) {
  std::string_view name = Py_TYPE(o)->tp_name;
  return name.starts_with("numpy.") && name != "numpy.ndarray" && name != "numpy.dtype";
}

bool to_integer(PyObject* o, int64_t* out) {
  if (PyLong_CheckExact(o)) [[likely]] {
    *out = exact_int(o);
    return true;
  }
  if (is_tensor(o)) {
    const Tensor& t = tensor_of(o);
    if (t.numel() != 1 || !is_integral(t.dtype())) return false;
    *out = t.item_int();
    return true;
  }
  if (!has_index(o)) return false;
  Object index = Object::own(PyNumber_Index(o));
  *out = exact_int(index.get());
  return true;
}

bool to_scalar(PyObject* o, Scalar* out) {
  if (PyFloat_CheckExact(o)) return *out = Scalar(PyFloat_AS_DOUBLE(o)), true;
  if (PyBool_Check(o)) return *out = Scalar(o == Py_True), true;
  if (PyLong_CheckExact(o)) return *out = Scalar(exact_int(o)), true;
  if (is_tensor(o)) {
    if (tensor_of(o).numel() != 1) return false;
    return *out = scalar_of(tensor_of(o)), true;
  }
  if (PyFloat_Check(o)) return *out = Scalar(PyFloat_AS_DOUBLE(o)), true;
  if (is_traced_number(o)) {  // becomes a condition of the trace
    Object value = Object::own(PyObject_CallMethod(o, "decide", nullptr));
    return to_scalar(value.get(), out);
  }
  if (is_numpy_bool(o)) return *out = Scalar(PyObject_IsTrue(o) == 1), true;
  int64_t i;
  if (has_index(o) && to_integer(o, &i)) return *out = Scalar(i), true;
  double d;
  if (is_numpy_scalar(o) && Py_TYPE(o)->tp_as_number && Py_TYPE(o)->tp_as_number->nb_float &&
      !PyComplex_Check(o) && std::string_view(Py_TYPE(o)->tp_name) != "numpy.complex64" &&
      float_of(o, &d))
    return *out = Scalar(d), true;
  return false;
}

bool to_real(PyObject* o, double* out) {
  Scalar s;
  if (!to_scalar(o, &s)) return false;
  *out = s.as_double();
  return true;
}

bool to_bool(PyObject* o, bool* out) {
  if (!PyBool_Check(o) && !is_numpy_bool(o)) return false;
  *out = o == Py_True || (o != Py_False && PyObject_IsTrue(o) == 1);
  return true;
}

bool to_operand(PyObject* o, Tensor* out) {
  if (is_tensor(o)) [[likely]]
    return *out = tensor_of(o), true;
  if (is_traced_number(o)) [[unlikely]]
    return *out = tensor_of_number(o), true;
  Scalar s;
  if (!to_scalar(o, &s)) return false;
  *out = s.tensor();
  return true;
}

Scalar scalar_of(const Tensor& t) {
  if (is_floating(t.dtype())) return Scalar(t.item());
  int64_t v = t.item_int();
  return t.dtype() == DType::bool_ ? Scalar(v != 0) : Scalar(v);
}

PyObject* from_scalar(const Scalar& s) {
  if (s.kind == DType::f64) return PyFloat_FromDouble(s.f);
  if (s.kind == DType::bool_) return boolean(s.i != 0);
  return PyLong_FromLongLong(s.i);
}

}  // namespace fluxion::python
