// Attributes of a Tensor.
#include "autograd/autograd.h"
#include "ops/functions.h"
#include "python/src/autograd_bind.h"
#include "python/src/constants.h"
#include "python/src/handle.h"
#include "python/src/tensor_type.h"

namespace fluxion::python {

namespace {

PyTensor& raw(PyObject* self) { return *reinterpret_cast<PyTensor*>(self); }

/// A property from a function of the tensor that returns a new reference.
template <auto f>
PyObject* get(PyObject* self, void*) {
  return guarded([&] { return f(tensor_of(self)); });
}

PyObject* shape(const Tensor& t) { return make_size(t.sizes()); }
PyObject* dtype(const Tensor& t) { return Py_NewRef(dtype_object(t.dtype())); }
PyObject* device(const Tensor&) { return Py_NewRef(cpu_device()); }
PyObject* layout(const Tensor&) { return Py_NewRef(strided_layout()); }
PyObject* ndim(const Tensor& t) { return PyLong_FromLong(t.dim()); }
PyObject* itemsize(const Tensor& t) { return PyLong_FromLongLong(size_of(t.dtype())); }
PyObject* nbytes(const Tensor& t) { return PyLong_FromLongLong(t.nbytes()); }
PyObject* requires_grad(const Tensor& t) { return boolean(t.requires_grad()); }
PyObject* is_leaf(const Tensor& t) { return boolean(t.is_leaf()); }
PyObject* retains_grad(const Tensor& t) {
  GradMeta* meta = meta_of(t);
  return boolean(meta && meta->retained && !t.is_leaf());
}
PyObject* yes(const Tensor&) { return boolean(true); }
PyObject* no(const Tensor&) { return boolean(false); }
PyObject* version(const Tensor& t) {
  if (t.has(kInference))
    fail(
        ErrorKind::runtime,
        "_version: Inference tensors do not track version counter. Make a clone() to get a normal tensor");
  return PyLong_FromUnsignedLongLong(t.storage()->version.load());
}
PyObject* base(const Tensor& t) { return wrap(Tensor(t.impl()->base)); }
PyObject* grad_fn_object(const Tensor& t) { return wrap_node(grad_fn(t)); }
PyObject* data(const Tensor& t) { return wrap(t.detach()); }
PyObject* itself(const Tensor& t) { return wrap(t); }

/// All dims reversed.
PyObject* reversed(const Tensor& t) {
  Shape dims(static_cast<size_t>(t.dim()));
  for (size_t d = 0; d < dims.size(); ++d) dims[d] = static_cast<int64_t>(dims.size() - 1 - d);
  return wrap(permute(t, dims));
}
PyObject* matrix_transpose(const Tensor& t) {
  if (t.dim() < 2)
    fail(ErrorKind::runtime, "mT: needs at least 2 dims, got shape {}", shape_text(t.sizes()));
  return wrap(transpose(t, -2, -1));
}
PyObject* hermitian(const Tensor& t) {
  if (t.dim() != 2 && t.dim() != 0)
    fail(ErrorKind::runtime, "H: needs a matrix, got shape {}", shape_text(t.sizes()));
  return t.dim() ? wrap(transpose(t, 0, 1)) : wrap(t);
}

int not_deletable(const char* name) {
  PyErr_Format(PyExc_RuntimeError, "cannot delete the attribute '%s' of a Tensor", name);
  return -1;
}

/// The object is kept with its owner: it stays the same as long as the gradient does.
PyObject* get_grad(PyObject* self, void*) {
  return guarded([&] {
    PyTensor& o = raw(self);
    Tensor g = o.t.grad();
    if (o.grad && g.defined() && tensor_of(o.grad).is_same(g)) return Py_NewRef(o.grad);
    Py_CLEAR(o.grad);
    if (!g.defined()) return none();
    o.grad = wrap(std::move(g));
    track(self);
    return Py_NewRef(o.grad);
  });
}
int set_grad(PyObject* self, PyObject* value, void*) {
  return guarded_status([&] {
    PyTensor& o = raw(self);
    bool clear = !value || value == Py_None;
    if (!clear && !is_tensor(value))
      fail(ErrorKind::type, "grad must be a Tensor or None, not {}", type_name(value));
    if (value == self) fail(ErrorKind::runtime, "a Tensor cannot be its own grad");
    o.t.set_grad(clear ? Tensor{} : tensor_of(value));
    Py_XSETREF(o.grad, clear ? nullptr : Py_NewRef(value));
    if (!clear) track(self);
    return 0;
  });
}

int set_requires_grad(PyObject* self, PyObject* value, void*) {
  if (!value) return not_deletable("requires_grad");
  return guarded_status([&] {
    int on = PyObject_IsTrue(value);
    check(on);
    tensor_of(self).set_requires_grad(on);
    return 0;
  });
}

int set_data_property(PyObject* self, PyObject* value, void*) {
  if (!value) return not_deletable("data");
  return guarded_status([&] {
    if (!is_tensor(value)) fail(ErrorKind::type, "data must be a Tensor, not {}", type_name(value));
    rebind(tensor_of(self), tensor_of(value));
    return 0;
  });
}

}  // namespace

PyGetSetDef tensor_properties[] = {
    {"shape", get<shape>, nullptr, "Size: the number of elements along each dim.", nullptr},
    {"dtype", get<dtype>, nullptr, "dtype: the type of the elements.", nullptr},
    {"device", get<device>, nullptr, "device: always the CPU.", nullptr},
    {"layout", get<layout>, nullptr, "layout: always strided.", nullptr},
    {"ndim", get<ndim>, nullptr, "int: the number of dims.", nullptr},
    {"itemsize", get<itemsize>, nullptr, "int: bytes per element.", nullptr},
    {"nbytes", get<nbytes>, nullptr, "int: bytes of all elements.", nullptr},
    {"requires_grad", get<requires_grad>, set_requires_grad,
     "bool: whether gradients flow to this tensor.", nullptr},
    {"is_leaf", get<is_leaf>, nullptr, "bool: whether the tensor has no history.", nullptr},
    {"retains_grad", get<retains_grad>, nullptr,
     "bool: whether retain_grad() was called on a non-leaf.", nullptr},
    {"grad", get_grad, set_grad, "Tensor | None: the accumulated gradient.", nullptr},
    {"grad_fn", get<grad_fn_object>, nullptr,
     "object: the node that made the tensor; None for a leaf.", nullptr},
    {"data", get<data>, set_data_property,
     "Tensor: the same memory without history; assigning rebinds the tensor to other memory.",
     nullptr},
    {"T", get<reversed>, nullptr, "Tensor: the view with all dims reversed.", nullptr},
    {"mT", get<matrix_transpose>, nullptr, "Tensor: the view with the last two dims exchanged.",
     nullptr},
    {"H", get<hermitian>, nullptr, "Tensor: the (conjugate) transpose of a matrix.", nullptr},
    {"mH", get<matrix_transpose>, nullptr,
     "Tensor: the (conjugate) transpose of the last two dims.", nullptr},
    {"real", get<itself>, nullptr, "Tensor: the tensor itself.", nullptr},
    {"is_cpu", get<yes>, nullptr, "bool: True.", nullptr},
    {"is_cuda", get<no>, nullptr, "bool: False.", nullptr},
    {"is_mps", get<no>, nullptr, "bool: False.", nullptr},
    {"is_xpu", get<no>, nullptr, "bool: False.", nullptr},
    {"is_meta", get<no>, nullptr, "bool: False.", nullptr},
    {"is_sparse", get<no>, nullptr, "bool: False.", nullptr},
    {"is_quantized", get<no>, nullptr, "bool: False.", nullptr},
    {"is_nested", get<no>, nullptr, "bool: False.", nullptr},
    {"_version", get<version>, nullptr, "int: how often the memory was written.", nullptr},
    {"_base", get<base>, nullptr, "Tensor | None: what a view was taken from.", nullptr},
    {}};

}  // namespace fluxion::python
