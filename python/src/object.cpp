#include "python/src/object.h"

#include <cstring>
#include <new>

#include "base/io_error.h"

namespace fluxion::python {

namespace {

PyObject* exception_for(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::type: return PyExc_TypeError;
    case ErrorKind::value: return PyExc_ValueError;
    case ErrorKind::index: return PyExc_IndexError;
    case ErrorKind::key: return PyExc_KeyError;
    case ErrorKind::not_implemented: return PyExc_NotImplementedError;
    case ErrorKind::memory: return PyExc_MemoryError;
    case ErrorKind::io: return PyExc_OSError;
    case ErrorKind::runtime:
    case ErrorKind::internal: break;
  }
  return PyExc_RuntimeError;
}

/// The text as str; it may quote bytes of a file or a path that are not UTF-8.
PyObject* message(const Error& e) {
  return PyUnicode_DecodeUTF8(e.what(), static_cast<Py_ssize_t>(std::strlen(e.what())), "replace");
}

void set_error(PyObject* type, PyObject* argument) {
  if (argument) PyErr_SetObject(type, argument);
  Py_XDECREF(argument);
}

/// FileNotFoundError and its relatives, by errno; `strerror` is our text, which names the file.
void set_os_error(const IoError& e) {
  PyObject* text = message(e);
  if (!text) return;
  PyObject* error = PyObject_CallFunction(PyExc_OSError, "iN", e.code(), text);
  if (error) set_error(reinterpret_cast<PyObject*>(Py_TYPE(error)), error);
}

}  // namespace

void translate_exception() {
  try {
    throw;
  } catch (PythonError& e) {
    e.restore();
  } catch (const IoError& e) {
    set_os_error(e);
  } catch (const Error& e) {
    set_error(exception_for(e.kind()), message(e));
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError, "out of memory");
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  } catch (...) {
    PyErr_SetString(PyExc_SystemError, "an unknown C++ exception");
  }
}

std::string type_name(PyObject* o) {
  if (o == Py_None) return "None";
  std::string_view name = Py_TYPE(o)->tp_name;
  for (std::string_view prefix : {"builtins.", "fluxion."})
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  return std::string(name);
}

Object import(const char* module, const char* attribute) {
  Object m = Object::own(PyImport_ImportModule(module));
  return attribute ? Object::own(PyObject_GetAttrString(m.get(), attribute)) : m;
}

PyTypeObject* add_type(PyObject* module, PyType_Spec* spec, PyObject* bases) {
  Object type = Object::own(PyType_FromSpecWithBases(spec, bases));
  const char* dot = std::strrchr(spec->name, '.');
  check(PyModule_AddObjectRef(module, dot ? dot + 1 : spec->name, type.get()));
  return reinterpret_cast<PyTypeObject*>(type.release());
}

}  // namespace fluxion::python
