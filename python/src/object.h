// Python objects in C++: owned references, and errors that cross the border both ways.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>  // after Python.h

#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace fluxion::python {

/// A Python error is set; thrown to unwind C++ code up to the next `guarded`.
/// Carries the exception, so that it survives a release of the GIL and a walk through the engine.
class PythonError : public std::exception {
 public:
  PythonError() { PyErr_Fetch(&type_, &value_, &traceback_); }
  PythonError(const PythonError& o) : type_(o.type_), value_(o.value_), traceback_(o.traceback_) {
    Py_XINCREF(type_);
    Py_XINCREF(value_);
    Py_XINCREF(traceback_);
  }
  PythonError& operator=(const PythonError&) = delete;
  ~PythonError() override {
    Py_XDECREF(type_);
    Py_XDECREF(value_);
    Py_XDECREF(traceback_);
  }
  void restore() {
    PyErr_Restore(std::exchange(type_, nullptr), std::exchange(value_, nullptr),
                  std::exchange(traceback_, nullptr));
  }
  const char* what() const noexcept override { return "a Python exception"; }

 private:
  PyObject *type_, *value_, *traceback_;
};

/// An owned reference.
class Object {
 public:
  Object() = default;
  /// Takes over a new reference; throws if it is null (a Python error is set).
  static Object own(PyObject* p) {
    if (!p) throw PythonError();
    return Object(p);
  }
  static Object share(PyObject* p) {
    Py_XINCREF(p);
    return Object(p);
  }
  Object(Object&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  Object(const Object& o) : p_(o.p_) { Py_XINCREF(p_); }
  Object& operator=(Object o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~Object() { Py_XDECREF(p_); }
  PyObject* get() const { return p_; }
  PyObject* release() { return std::exchange(p_, nullptr); }
  explicit operator bool() const { return p_ != nullptr; }

 private:
  explicit Object(PyObject* p) : p_(p) {}
  PyObject* p_ = nullptr;
};

inline PyObject* none() { return Py_NewRef(Py_None); }
inline PyObject* boolean(bool b) { return Py_NewRef(b ? Py_True : Py_False); }
inline PyObject* text(std::string_view s) {
  return PyUnicode_FromStringAndSize(s.data(), static_cast<Py_ssize_t>(s.size()));
}
/// Throws PythonError if a C API call that returns a status reported one.
inline void check(int status) {
  if (status < 0) throw PythonError();
}

/// Sets the Python exception that stands for the C++ exception in flight.
void translate_exception();

/// Runs `body`, which returns a new reference; C++ exceptions become Python ones.
template <class F>
PyObject* guarded(F&& body) noexcept {
  try {
    return body();
  } catch (...) {
    translate_exception();
    return nullptr;
  }
}
/// The same for slots that return a status.
template <class F>
int guarded_status(F&& body) noexcept {
  try {
    return body();
  } catch (...) {
    translate_exception();
    return -1;
  }
}

/// The GIL, in destructors and callbacks that may run on any thread.
class HoldGil {
 public:
  HoldGil() : state_(PyGILState_Ensure()) {}
  ~HoldGil() { PyGILState_Release(state_); }
  HoldGil(const HoldGil&) = delete;
  HoldGil& operator=(const HoldGil&) = delete;

 private:
  PyGILState_STATE state_;
};

/// A reference that C++ objects hold: dropped under the GIL, and not at all once the interpreter is gone.
class SharedObject {
 public:
  explicit SharedObject(PyObject* borrowed) : p_(Py_NewRef(borrowed)) {}
  SharedObject(const SharedObject& o) : p_(o.p_) {
    HoldGil gil;
    Py_INCREF(p_);
  }
  SharedObject(SharedObject&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  SharedObject& operator=(const SharedObject&) = delete;
  ~SharedObject() {
    if (!p_ || !Py_IsInitialized()) return;
    HoldGil gil;
    Py_DECREF(p_);
  }
  PyObject* get() const { return p_; }

 private:
  PyObject* p_;
};

/// "'int'", "'numpy.ndarray'": the type of what was given.
std::string type_name(PyObject* o);
/// The import of a module, or of an attribute of it.
Object import(const char* module, const char* attribute = nullptr);

/// Makes a heap type from a spec and puts it into the module under the last part of its name.
PyTypeObject* add_type(PyObject* module, PyType_Spec* spec, PyObject* bases = nullptr);

}  // namespace fluxion::python
