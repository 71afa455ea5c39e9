// fluxion.Size: a tuple of ints that stays a Size when sliced or joined.
#include "python/src/constants.h"

namespace fluxion::python {

namespace {

PyTypeObject* size_type;

PyObject* from_tuple(PyObject* tuple) {
  if (!tuple || !PyTuple_Check(tuple)) return tuple;
  Py_ssize_t n = PyTuple_GET_SIZE(tuple);
  PyObject* size = size_type->tp_alloc(size_type, n);
  if (size)
    for (Py_ssize_t i = 0; i < n; ++i)
      PyTuple_SET_ITEM(size, i, Py_NewRef(PyTuple_GET_ITEM(tuple, i)));
  Py_DECREF(tuple);
  return size;
}

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  PyObject* self = PyTuple_Type.tp_new(type, args, kwargs);
  if (!self) return nullptr;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self); ++i) {
    PyObject* item = PyTuple_GET_ITEM(self, i);
    if (PyLong_Check(item)) continue;
    PyObject* index = PyIndex_Check(item) ? PyNumber_Index(item) : nullptr;
    if (!index) {
      PyErr_Clear();
      PyErr_Format(PyExc_TypeError, "Size() takes an iterable of 'int' (item %zd is '%s')", i,
                   type_name(item).c_str());
      Py_DECREF(self);
      return nullptr;
    }
    PyTuple_SET_ITEM(self, i, index);
    Py_DECREF(item);
  }
  return self;
}

PyObject* add(PyObject* a, PyObject* b) {
  if (!PyTuple_Check(a) || !PyTuple_Check(b)) Py_RETURN_NOTIMPLEMENTED;
  return from_tuple(PyTuple_Type.tp_as_sequence->sq_concat(a, b));
}
PyObject* repeat(PyObject* self, Py_ssize_t n) {
  return from_tuple(PyTuple_Type.tp_as_sequence->sq_repeat(self, n));
}
PyObject* subscript(PyObject* self, PyObject* key) {
  PyObject* r = PyTuple_Type.tp_as_mapping->mp_subscript(self, key);
  return PySlice_Check(key) ? from_tuple(r) : r;
}
PyObject* repr(PyObject* self) {
  PyObject* list = PySequence_List(self);
  if (!list) return nullptr;
  PyObject* r = PyUnicode_FromFormat("fluxion.Size(%R)", list);
  Py_DECREF(list);
  return r;
}
PyObject* numel(PyObject* self, PyObject*) {
  PyObject* product = PyLong_FromLong(1);
  for (Py_ssize_t i = 0; product && i < PyTuple_GET_SIZE(self); ++i)
    Py_SETREF(product, PyNumber_Multiply(product, PyTuple_GET_ITEM(self, i)));
  return product;
}

PyMethodDef methods[] = {
    {"numel", numel, METH_NOARGS, "The number of elements of a tensor of this size."}, {}};
PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(create)},
                       {Py_tp_repr, reinterpret_cast<void*>(repr)},
                       {Py_nb_add, reinterpret_cast<void*>(add)},
                       {Py_sq_repeat, reinterpret_cast<void*>(repeat)},
                       {Py_mp_subscript, reinterpret_cast<void*>(subscript)},
                       {Py_tp_methods, methods},
                       {Py_tp_doc, const_cast<char*>("The shape of a tensor: a tuple of ints.")},
                       {}};
PyType_Spec spec{"fluxion.Size", 0, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

PyObject* fill(PyObject* tuple, Ints values) {
  for (size_t i = 0; tuple && i < values.size(); ++i)
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), PyLong_FromLongLong(values[i]));
  return tuple;
}

}  // namespace

PyObject* make_size(Ints sizes) {
  return fill(size_type->tp_alloc(size_type, static_cast<Py_ssize_t>(sizes.size())), sizes);
}
PyObject* make_tuple(Ints values) {
  return fill(PyTuple_New(static_cast<Py_ssize_t>(values.size())), values);
}

void add_size(PyObject* module) {
  size_type = add_type(module, &spec, reinterpret_cast<PyObject*>(&PyTuple_Type));
}

}  // namespace fluxion::python
