// fluxion.device: where a tensor lives. Any device can be named; only the CPU holds tensors.
#include "python/src/constants.h"

namespace fluxion::python {

namespace {

struct Device {
  PyObject_HEAD PyObject* type;  // str
  PyObject* index;               // int or None
};

PyTypeObject* device_type;
PyObject* cpu;

constexpr std::string_view kKnown[] = {"cpu", "cuda", "mps",  "meta", "xpu",
                                       "hip", "xla",  "mtia", "hpu"};

Device& device(PyObject* self) { return *reinterpret_cast<Device*>(self); }

PyObject* make(PyTypeObject* type, std::string_view name, PyObject* index) {
  bool known = false;
  for (std::string_view k : kKnown) known |= k == name;
  if (!known)
    fail(ErrorKind::runtime,
         "device: '{}' is not a known device type. Use 'cpu', 'cuda', 'mps', 'meta' ...", name);
  Object self = Object::own(type->tp_alloc(type, 0));
  device(self.get()).type = Object::own(text(name)).release();
  device(self.get()).index = Py_NewRef(index);
  return self.release();
}

PyObject* parse(PyTypeObject* type, std::string_view spec) {
  size_t colon = spec.find(':');
  if (colon == std::string_view::npos) return make(type, spec, Py_None);
  std::string digits(spec.substr(colon + 1));
  if (digits.empty() || digits.size() > 6 ||
      digits.find_first_not_of("0123456789") != std::string::npos)
    fail(ErrorKind::runtime, "device: '{}' must look like 'cuda' or 'cuda:0'", spec);
  Object index = Object::own(PyLong_FromLong(std::stol(digits)));
  return make(type, spec.substr(0, colon), index.get());
}

std::string_view utf8(PyObject* str) {
  Py_ssize_t n = 0;
  const char* s = PyUnicode_AsUTF8AndSize(str, &n);
  if (!s) throw PythonError();
  return {s, static_cast<size_t>(n)};
}

PyObject* convert(PyTypeObject* type, PyObject* o) {
  if (Py_TYPE(o) == device_type) return Py_NewRef(o);
  if (PyUnicode_Check(o)) return parse(type, utf8(o));
  if (PyLong_Check(o) && !PyBool_Check(o)) return make(type, "cuda", o);
  fail(ErrorKind::type, "device(): argument 'type' must be str or device, not {}", type_name(o));
}

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"type", "index", nullptr};
    PyObject *what = nullptr, *index = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:device", const_cast<char**>(names), &what,
                                     &index))
      return nullptr;
    if (index == Py_None) return convert(type, what);
    if (!PyUnicode_Check(what))
      fail(ErrorKind::type, "device(): an index needs a device type given as str");
    if (!PyLong_Check(index))
      fail(ErrorKind::type, "device(): argument 'index' must be int, not {}", type_name(index));
    return make(type, utf8(what), index);
  });
}

void destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(device(self).type);
  Py_XDECREF(device(self).index);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* repr(PyObject* self) {
  Device& d = device(self);
  return d.index == Py_None ? PyUnicode_FromFormat("device(type=%R)", d.type)
                            : PyUnicode_FromFormat("device(type=%R, index=%S)", d.type, d.index);
}
PyObject* str(PyObject* self) {
  Device& d = device(self);
  return d.index == Py_None ? Py_NewRef(d.type) : PyUnicode_FromFormat("%U:%S", d.type, d.index);
}
PyObject* as_tuple(PyObject* self) {
  return PyTuple_Pack(2, device(self).type, device(self).index);
}

PyObject* compare(PyObject* a, PyObject* b, int op) {
  if (Py_TYPE(b) != device_type || (op != Py_EQ && op != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  return guarded([&] {
    Object x = Object::own(as_tuple(a)), y = Object::own(as_tuple(b));
    return PyObject_RichCompare(x.get(), y.get(), op);
  });
}
Py_hash_t hash(PyObject* self) {
  PyObject* t = as_tuple(self);
  if (!t) return -1;
  Py_hash_t h = PyObject_Hash(t);
  Py_DECREF(t);
  return h;
}
PyObject* reduce(PyObject* self, PyObject*) {
  return Py_BuildValue("O(OO)", device_type, device(self).type, device(self).index);
}

PyObject* enter(PyObject* self, PyObject*) {
  return guarded([&] {
    require_cpu(self);
    return Py_NewRef(self);
  });
}
PyObject* leave(PyObject*, PyObject*) { return none(); }

PyMethodDef methods[] = {{"__reduce__", reduce, METH_NOARGS, nullptr},
                         {"__enter__", enter, METH_NOARGS, nullptr},
                         {"__exit__", leave, METH_VARARGS, nullptr},
                         {}};
PyMemberDef members[] = {
    {"type", T_OBJECT, offsetof(Device, type), READONLY, "'cpu', 'cuda' ..."},
    {"index", T_OBJECT, offsetof(Device, index), READONLY, "The number of the device, or None."},
    {}};
PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(create)},
    {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
    {Py_tp_repr, reinterpret_cast<void*>(repr)},
    {Py_tp_str, reinterpret_cast<void*>(str)},
    {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
    {Py_tp_hash, reinterpret_cast<void*>(hash)},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc, const_cast<char*>("device(type, index=None)\n\nWhere a tensor lives. "
                                  "Usable as `with device('cpu'):`.")},
    {}};
PyType_Spec spec{"fluxion.device", sizeof(Device), 0, Py_TPFLAGS_DEFAULT, slots};

}  // namespace

PyObject* cpu_device() { return cpu; }

void require_cpu(PyObject* o) {
  if (o == Py_None || o == cpu) return;
  Object d = Object::own(convert(device_type, o));
  std::string_view kind = utf8(device(d.get()).type);
  if (kind != "cpu")
    fail(ErrorKind::runtime, "device '{}' is not available: this build of Fluxion has only 'cpu'",
         kind);
}

void add_device(PyObject* module) {
  device_type = add_type(module, &spec);
  cpu = make(device_type, "cpu", Py_None);
}

}  // namespace fluxion::python
