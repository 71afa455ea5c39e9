// dtype, layout and memory_format: named singletons that print as fluxion.NAME and pickle by name.
#include "python/src/constants.h"

namespace fluxion::python {

namespace {

struct Named {
  PyObject_HEAD const char* name;
  DType dtype;
};

Named* dtypes[kDTypes];
PyTypeObject* dtype_type;
PyObject* strided;

const Named& named(PyObject* self) { return *reinterpret_cast<Named*>(self); }

PyObject* repr(PyObject* self) { return PyUnicode_FromFormat("fluxion.%s", named(self).name); }
PyObject* reduce(PyObject* self, PyObject*) { return PyUnicode_FromString(named(self).name); }
PyObject* itself(PyObject* self, PyObject*) { return Py_NewRef(self); }

PyObject* get_floating(PyObject* self, void*) { return boolean(is_floating(named(self).dtype)); }
PyObject* get_complex(PyObject*, void*) { return boolean(false); }
PyObject* get_signed(PyObject* self, void*) {
  DType t = named(self).dtype;
  return boolean(t != DType::bool_ && t != DType::u8);
}
PyObject* get_itemsize(PyObject* self, void*) {
  return PyLong_FromLongLong(size_of(named(self).dtype));
}

PyMethodDef methods[] = {{"__reduce__", reduce, METH_NOARGS, nullptr},
                         {"__copy__", itself, METH_NOARGS, nullptr},
                         {"__deepcopy__", itself, METH_O, nullptr},
                         {}};
PyGetSetDef dtype_properties[] = {
    {"is_floating_point", get_floating, nullptr, "True for floating dtypes.", nullptr},
    {"is_complex", get_complex, nullptr, "False: there are no complex dtypes yet.", nullptr},
    {"is_signed", get_signed, nullptr, "True if values may be negative.", nullptr},
    {"itemsize", get_itemsize, nullptr, "Bytes per element.", nullptr},
    {}};
PyGetSetDef no_properties[] = {{}};

PyTypeObject* add_named_type(PyObject* module, const char* name, const char* doc,
                             PyGetSetDef* properties) {
  PyType_Slot slots[] = {{Py_tp_repr, reinterpret_cast<void*>(repr)},
                         {Py_tp_methods, methods},
                         {Py_tp_getset, properties},
                         {Py_tp_doc, const_cast<char*>(doc)},
                         {}};
  PyType_Spec spec{name, sizeof(Named), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                   slots};
  return add_type(module, &spec);
}

Named* add_named(PyObject* module, PyTypeObject* type, const char* name) {
  Object o = Object::own(type->tp_alloc(type, 0));
  reinterpret_cast<Named*>(o.get())->name = name;
  check(PyModule_AddObjectRef(module, name, o.get()));
  return reinterpret_cast<Named*>(o.release());
}

void add_dtypes(PyObject* module) {
  dtype_type =
      add_named_type(module, "fluxion.dtype", "The type of a tensor's elements.", dtype_properties);
  for (int i = 0; i < kDTypes; ++i) {
    auto t = static_cast<DType>(i);
    dtypes[i] = add_named(module, dtype_type, name(t).data());
    dtypes[i]->dtype = t;
  }
  constexpr std::pair<const char*, DType> kAliases[] = {
      {"float", DType::f32}, {"double", DType::f64}, {"half", DType::f16},
      {"short", DType::i16}, {"int", DType::i32},    {"long", DType::i64}};
  for (auto [alias, t] : kAliases) check(PyModule_AddObjectRef(module, alias, dtype_object(t)));
}

}  // namespace

PyObject* dtype_object(DType t) { return reinterpret_cast<PyObject*>(dtypes[static_cast<int>(t)]); }

bool to_dtype(PyObject* o, DType* out) {
  if (Py_TYPE(o) == dtype_type) {
    *out = named(o).dtype;
    return true;
  }
  if (!PyType_Check(o)) return false;
  if (o == reinterpret_cast<PyObject*>(&PyFloat_Type)) return *out = DType::f64, true;
  if (o == reinterpret_cast<PyObject*>(&PyLong_Type)) return *out = DType::i64, true;
  if (o == reinterpret_cast<PyObject*>(&PyBool_Type)) return *out = DType::bool_, true;
  return false;
}

PyObject* strided_layout() { return strided; }

void add_constants(PyObject* module) {
  add_dtypes(module);
  PyTypeObject* layout =
      add_named_type(module, "fluxion.layout", "How elements lie in memory.", no_properties);
  strided = reinterpret_cast<PyObject*>(add_named(module, layout, "strided"));
  PyTypeObject* format = add_named_type(module, "fluxion.memory_format",
                                        "The order of strides of a new tensor.", no_properties);
  for (const char* name :
       {"contiguous_format", "preserve_format", "channels_last", "channels_last_3d"})
    add_named(module, format, name);
}

}  // namespace fluxion::python
