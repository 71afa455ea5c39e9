// Copies of tensors by Python's protocols: pickle, copy.copy, copy.deepcopy.
#include <cstring>

#include "autograd/autograd.h"
#include "ops/copy.h"
#include "python/src/module.h"
#include "tensor/thread_state.h"

namespace fluxion::python {

namespace {

/// Holds a storage in a deepcopy memo, together with its copy.
struct StoragePair {
  Ref<Storage> source, copy;
};
constexpr const char* kPair = "fluxion.storage_pair";

Object call(PyObject* f, auto... args) {
  return Object::own(PyObject_CallFunctionObjArgs(f, args..., nullptr));
}

void require_leaf(const Tensor& t, const char* what) {
  if (!t.is_leaf())
    fail(
        ErrorKind::runtime,
        "{}: only leaf tensors (made by the user, without history) can be copied. Use x.detach() or x.clone()",
        what);
}

/// The copy of a storage within one deepcopy: tensors that share memory go on sharing it.
Ref<Storage> copied_storage(Storage* s, PyObject* memo) {
  Object key = Object::own(Py_BuildValue("sN", kPair, PyLong_FromVoidPtr(s)));
  if (PyObject* known = PyDict_GetItemWithError(memo, key.get()))
    return static_cast<StoragePair*>(PyCapsule_GetPointer(known, kPair))->copy;
  if (PyErr_Occurred()) throw PythonError();
  auto pair =
      std::make_unique<StoragePair>(StoragePair{Ref<Storage>::share(s), allocate(s->nbytes)});
  std::memcpy(pair->copy->data, s->data, s->nbytes);
  Ref<Storage> copy = pair->copy;
  Object capsule = Object::own(PyCapsule_New(pair.get(), kPair, [](PyObject* c) {
    delete static_cast<StoragePair*>(PyCapsule_GetPointer(c, kPair));
  }));
  pair.release();
  check(PyDict_SetItem(memo, key.get(), capsule.get()));
  return copy;
}

PyObject* attributes(PyObject* self) { return reinterpret_cast<PyTensor*>(self)->dict; }

void deepcopy_attributes(PyObject* from, PyObject* to, PyObject* memo) {
  Object deepcopy = import("copy", "deepcopy");
  if (PyObject* dict = attributes(from)) {
    Object copied = call(deepcopy.get(), dict, memo);
    Object target = Object::own(PyObject_GetAttrString(to, "__dict__"));
    check(PyDict_Update(target.get(), copied.get()));
  }
  Object grad = Object::own(PyObject_GetAttrString(from, "grad"));
  if (grad.get() == Py_None) return;
  Object copied = call(deepcopy.get(), grad.get(), memo);
  check(PyObject_SetAttrString(to, "grad", copied.get()));
}

PyObject* deepcopy(Frame& f) {
  PyObject* memo = f.object(1);
  const Tensor& t = f.arg(0).tensor;
  require_leaf(t, "deepcopy");
  if (!PyDict_Check(memo))
    fail(ErrorKind::type, "__deepcopy__(): argument 'memo' must be dict, not {}", type_name(memo));
  Object id = Object::own(PyLong_FromVoidPtr(f.self()));
  if (PyObject* known = PyDict_GetItemWithError(memo, id.get())) return Py_NewRef(known);
  Tensor copy = from_storage(copied_storage(t.storage(), memo), t.dtype(), t.sizes(), t.strides(),
                             t.storage_offset());
  if (t.requires_grad()) copy.set_requires_grad(true);
  Object o = Object::own(wrap_as(Py_TYPE(f.self()), std::move(copy)));
  check(PyDict_SetItem(memo, id.get(), o.get()));
  deepcopy_attributes(f.self(), o.get(), memo);
  return o.release();
}

PyObject* shallow_copy(Frame& f) {
  const Tensor& t = f.arg(0).tensor;
  Tensor twin = t.detach();
  if (t.is_leaf() && t.requires_grad()) twin.set_requires_grad(true);
  Object o = Object::own(wrap_as(Py_TYPE(f.self()), std::move(twin)));
  if (PyObject* dict = attributes(f.self())) {
    Object target = Object::own(PyObject_GetAttrString(o.get(), "__dict__"));
    check(PyDict_Update(target.get(), dict));
  }
  return o.release();
}

/// (_rebuild, (type, bytes, dtype, shape, requires_grad, attributes)).
PyObject* reduce(Frame& f) {
  const Tensor& t = f.arg(0).tensor;
  require_leaf(t, "pickle");
  NoGrad off;
  Tensor plain = dense(t.detach());
  Object bytes = Object::own(PyBytes_FromStringAndSize(plain.data<char>(), plain.nbytes()));
  Object rebuild = import("fluxion._C", "_rebuild");
  PyObject* dict = attributes(f.self());
  return Py_BuildValue("O(OOONOO)", rebuild.get(), Py_TYPE(f.self()), bytes.get(),
                       dtype_object(t.dtype()), make_tuple(t.sizes()),
                       t.requires_grad() ? Py_True : Py_False, dict ? dict : Py_None);
}

PyObject* rebuild(Frame& f) {
  PyObject *type = f.object(0), *bytes = f.object(1), *dict = f.object(5);
  if (!PyType_Check(type) ||
      !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type), tensor_type) ||
      !PyBytes_Check(bytes))
    fail(ErrorKind::type, "_rebuild(): needs a Tensor type and bytes, got {} and {}",
         type_name(type), type_name(bytes));
  Tensor t = empty(f.arg(3).ints, static_cast<DType>(f.arg(2).scalar.i));
  if (PyBytes_GET_SIZE(bytes) != t.nbytes())
    fail(ErrorKind::value, "_rebuild(): {} bytes do not fill {}", PyBytes_GET_SIZE(bytes),
         type_text(t));
  std::memcpy(t.data(), PyBytes_AS_STRING(bytes), static_cast<size_t>(t.nbytes()));
  if (f.arg(4).scalar.i) t.set_requires_grad(true);
  Object o = Object::own(wrap_as(reinterpret_cast<PyTypeObject*>(type), std::move(t)));
  if (dict != Py_None) {
    Object target = Object::own(PyObject_GetAttrString(o.get(), "__dict__"));
    check(PyDict_Update(target.get(), dict));
  }
  return o.release();
}

const NativeFunction kFunctions[] = {
    {"__deepcopy__(Tensor input, object memo) -> Tensor",
     "copy.deepcopy; tensors that share memory go on sharing it.", kMethod, deepcopy},
    {"__copy__(Tensor input) -> Tensor", "copy.copy: another handle to the same memory.", kMethod,
     shallow_copy},
    {"__reduce_ex__(Tensor input, object protocol) -> tuple", "pickle.", kMethod, reduce},
    {"_rebuild(object cls, object bytes, dtype dtype, int[] shape, bool requires_grad, object attributes) -> Tensor",
     "Undoes __reduce_ex__.", kPrivate, rebuild},
};

}  // namespace

void add_pickle() { add_natives(kFunctions); }

}  // namespace fluxion::python
