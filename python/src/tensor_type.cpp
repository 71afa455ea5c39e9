// Life of a Tensor object: one per Impl, recycled through a free list, collected only once it has attributes.
#include "python/src/tensor_type.h"

namespace fluxion::python {

PyTypeObject* tensor_type;

namespace {

constexpr int kFreeListSize = 256;
PyObject* free_list[kFreeListSize];
int free_count = 0;

PyTensor& raw(PyObject* self) { return *reinterpret_cast<PyTensor*>(self); }

PyObject* allocate_exact() {
  if (free_count) return PyObject_Init(free_list[--free_count], tensor_type);
  PyObject* o = reinterpret_cast<PyObject*>(PyObject_GC_New(PyTensor, tensor_type));
  if (!o) throw PythonError();
  return o;
}

PyObject* initialise(PyObject* self, Tensor&& t) {
  PyTensor& o = raw(self);
  o.dict = o.weakrefs = o.grad = nullptr;
  new (&o.t) Tensor(std::move(t));
  o.t.impl()->py_object = self;
  return self;
}

void destroy(PyObject* self) {
  PyTensor& o = raw(self);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (o.t.defined() && o.t.impl()->py_object == self) o.t.impl()->py_object = nullptr;
  Py_TRASHCAN_BEGIN(self, destroy)  // a chain of gradients of gradients does not recurse
      if (o.weakrefs) PyObject_ClearWeakRefs(self);
  Py_CLEAR(o.dict);
  Py_CLEAR(o.grad);
  o.t.~Tensor();
  if (type == tensor_type && free_count < kFreeListSize) free_list[free_count++] = self;
  else type->tp_free(self);
  Py_DECREF(type);
  Py_TRASHCAN_END
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(raw(self).dict);
  Py_VISIT(raw(self).grad);
  Py_VISIT(Py_TYPE(self));
  return 0;
}

int clear(PyObject* self) {
  Py_CLEAR(raw(self).dict);
  Py_CLEAR(raw(self).grad);
  return 0;
}

int set_attribute(PyObject* self, PyObject* name, PyObject* value) {
  int status = PyObject_GenericSetAttr(self, name, value);
  if (raw(self).dict) track(self);
  return status;
}

PyObject* get_dict(PyObject* self, void* context) {
  track(self);
  return PyObject_GenericGetDict(self, context);
}
int set_dict(PyObject* self, PyObject* value, void* context) {
  track(self);
  return PyObject_GenericSetDict(self, value, context);
}

Py_hash_t hash(PyObject* self) { return PyBaseObject_Type.tp_hash(self); }

std::vector<PyGetSetDef> all_properties() {
  std::vector<PyGetSetDef> all{{"__dict__", get_dict, set_dict, nullptr, nullptr}};
  for (PyGetSetDef* p = tensor_properties; p->name; ++p) all.push_back(*p);
  all.push_back({});
  return all;
}

PyMemberDef members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(PyTensor, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(PyTensor, weakrefs), READONLY, nullptr},
    {}};

}  // namespace

PyObject* wrap(Tensor t) {
  if (!t.defined()) return none();
  if (void* existing = t.impl()->py_object) return Py_NewRef(static_cast<PyObject*>(existing));
  return initialise(allocate_exact(), std::move(t));
}

PyObject* wrap_as(PyTypeObject* type, Tensor t) {
  if (type == tensor_type) return wrap(std::move(t));
  invariant(!t.impl()->py_object, "wrap_as: the tensor already has a Python object");
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) throw PythonError();
  return initialise(self, std::move(t));
}

PyObject* wrap_tuple(std::span<Tensor> tensors) {
  Object tuple = Object::own(PyTuple_New(static_cast<Py_ssize_t>(tensors.size())));
  for (size_t i = 0; i < tensors.size(); ++i)
    PyTuple_SET_ITEM(tuple.get(), static_cast<Py_ssize_t>(i), wrap(std::move(tensors[i])));
  return tuple.release();
}

void add_tensor_type(PyObject* module) {
  static std::vector<PyGetSetDef> properties = all_properties();  // the type keeps pointers to it
  std::vector<PyType_Slot> slots{
      {Py_tp_new, reinterpret_cast<void*>(tensor_new)},
      {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
      {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(clear)},
      {Py_tp_setattro, reinterpret_cast<void*>(set_attribute)},
      {Py_tp_hash, reinterpret_cast<void*>(hash)},
      {Py_tp_repr, reinterpret_cast<void*>(tensor_repr)},
      {Py_tp_members, members},
      {Py_tp_getset, properties.data()},
      {Py_tp_doc, const_cast<char*>("A handle to an n-dimensional array of one dtype.")}};
  fill_number_slots(slots);
  fill_index_slots(slots);
  fill_buffer_slots(slots);
  slots.push_back({});
  PyType_Spec spec{"fluxion.Tensor", sizeof(PyTensor), 0,
                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots.data()};
  tensor_type = add_type(module, &spec);
}

}  // namespace fluxion::python
