// Methods of a Tensor that are no ops: geometry, conversion, edits of the handle.
#include <cmath>

#include "autograd/autograd.h"
#include "base/function_ref.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "python/src/construct.h"
#include "python/src/convert.h"
#include "python/src/handle.h"
#include "python/src/module.h"

namespace fluxion::python {

namespace {

const Tensor& self(Frame& f) { return f.arg(0).tensor; }
OptInt opt_int(Frame& f, size_t i) { return detail::FromArg<OptInt>::get(f.arg(i)); }
OptDType opt_dtype(Frame& f, size_t i) { return detail::FromArg<OptDType>::get(f.arg(i)); }
bool flag(Frame& f, size_t i) { return f.arg(i).scalar.i; }
PyObject* same(Frame& f) { return Py_NewRef(f.self()); }

PyObject* size(Frame& f) {
  OptInt dim = opt_int(f, 1);
  return dim ? PyLong_FromLongLong(self(f).size(*dim)) : make_size(self(f).sizes());
}
PyObject* stride(Frame& f) {
  OptInt dim = opt_int(f, 1);
  return dim ? PyLong_FromLongLong(self(f).stride(*dim)) : make_tuple(self(f).strides());
}
PyObject* dim(Frame& f) { return PyLong_FromLong(self(f).dim()); }
PyObject* numel(Frame& f) { return PyLong_FromLongLong(self(f).numel()); }
PyObject* data_ptr(Frame& f) { return PyLong_FromVoidPtr(self(f).data()); }
PyObject* item(Frame& f) {
  if (self(f).numel() != 1)
    fail(
        ErrorKind::runtime,
        "item(): a Tensor with {} elements cannot be converted to a number; index or reduce it first",
        self(f).numel());
  if (PyObject* number = traced_item(f.self())) return number;
  return from_scalar(scalar_of(self(f)));
}

// --- dtype and device

Tensor converted(const Tensor& t, OptDType dtype, bool copy) {
  Tensor r = dtype ? to_dtype(t, *dtype) : t;
  return copy && r.is_same(t) ? clone(t) : r;
}
template <DType dtype>
PyObject* to(Frame& f) {
  return wrap(to_dtype(self(f), dtype));
}
PyObject* to_dtype_overload(Frame& f) {
  return wrap(converted(self(f), static_cast<DType>(f.arg(1).scalar.i), flag(f, 3)));
}
PyObject* to_other(Frame& f) {
  return wrap(converted(self(f), f.arg(1).tensor.dtype(), flag(f, 3)));
}
PyObject* to_device(Frame& f) { return wrap(converted(self(f), opt_dtype(f, 1), flag(f, 3))); }

PyObject* no_device(Frame&) {
  fail(ErrorKind::runtime, "device 'cuda' is not available: this build of Fluxion has only 'cpu'");
}

const char* legacy_name(DType t) {
  constexpr const char* kNames[kDTypes] = {"Bool", "Byte", "Char",     "Short", "Int",
                                           "Long", "Half", "BFloat16", "Float", "Double"};
  return kNames[static_cast<int>(t)];
}
PyObject* type(Frame& f) {
  PyObject* wanted = f.object(1);
  DType t;
  if (!wanted || wanted == Py_None)
    return PyUnicode_FromFormat("fluxion.%sTensor", legacy_name(self(f).dtype()));
  if (to_dtype(wanted, &t)) return wrap(to_dtype(self(f), t));
  if (PyUnicode_Check(wanted)) {
    std::string_view name = PyUnicode_AsUTF8(wanted);
    name.remove_prefix(std::min(name.rfind('.') + 1, name.size()));
    for (int i = 0; i < kDTypes; ++i)
      if (name == legacy_name(static_cast<DType>(i)) + std::string("Tensor"))
        return wrap(to_dtype(self(f), static_cast<DType>(i)));
  }
  fail(
      ErrorKind::type,
      "type(): argument 'dtype' must be fluxion.dtype or a name such as 'fluxion.FloatTensor', not {}",
      type_name(wanted));
}

/// The same bytes as elements of another dtype; the last dim is scaled where sizes differ.
PyObject* view_dtype(Frame& f) {
  const Tensor& t = self(f);
  auto to = static_cast<DType>(f.arg(1).scalar.i);
  int64_t from_size = size_of(t.dtype()), to_size = size_of(to);
  Shape sizes(t.sizes()), strides(t.strides());
  int64_t bytes = t.storage_offset() * from_size;
  bool fits = bytes % to_size == 0;
  if (from_size != to_size) {
    fits = fits && !sizes.empty() && strides.back() == 1 && sizes.back() * from_size % to_size == 0;
    if (fits) sizes.back() = sizes.back() * from_size / to_size;
    for (size_t d = 0; fits && d + 1 < strides.size(); ++d) {
      fits = strides[d] * from_size % to_size == 0;
      strides[d] = strides[d] * from_size / to_size;
    }
  }
  if (!fits)
    fail(ErrorKind::runtime,
         "view(): elements of {} with shape {} and these strides cannot be seen as {}",
         name(t.dtype()), shape_text(t.sizes()), name(to));
  return wrap(from_storage(Ref<Storage>::share(t.storage()), to, sizes, strides, bytes / to_size));
}

// --- edits in place

PyObject* fill(Frame& f) {
  const Tensor& value = f.arg(1).tensor;
  if (value.has(kNumber))
    check_number("fill_", value.item(), is_floating(value.dtype()), self(f).dtype());
  assign(self(f), value);
  return same(f);
}
PyObject* zero(Frame& f) {
  assign(self(f), Scalar(0).tensor());
  return same(f);
}
PyObject* copy(Frame& f) {
  const Tensor& source = f.arg(1).tensor;
  if (!source.is_same(self(f))) assign(self(f), source);
  return same(f);
}
PyObject* resize_native(Frame& f) {
  resize(self(f), f.arg(1).ints);
  return same(f);
}
PyObject* resize_as(Frame& f) {
  resize(self(f), f.arg(1).tensor.sizes());
  return same(f);
}
PyObject* set(Frame& f) {
  const Tensor& source = f.arg(1).tensor;
  if (f.arg(3).none) {
    rebind(self(f), source);
    return same(f);
  }
  Ints sizes = f.arg(3).ints;
  Shape dense = row_major_strides(sizes);
  set_source(self(f), source, sizes, f.arg(4).none ? Ints(dense) : f.arg(4).ints,
             f.arg(2).scalar.i);
  return same(f);
}
/// The handle becomes `view`, a view of itself. History is left to the forms that return a new tensor.
PyObject* turn_into(Frame& f, const char* name, FunctionRef<Tensor(const Tensor&)> view) {
  const Tensor& t = self(f);
  if (t.requires_grad())
    fail(ErrorKind::runtime,
         "{0}_: a tensor that requires grad can't change its shape in place. Use x = x.{0}(...)",
         name);
  Tensor v = view(t);
  set_source(t, t, v.sizes(), v.strides(), v.storage_offset());
  return same(f);
}
PyObject* unsqueeze_inplace(Frame& f) {
  return turn_into(f, "unsqueeze",
                   [&](const Tensor& t) { return unsqueeze(t, f.arg(1).scalar.i); });
}
PyObject* squeeze_inplace(Frame& f) {
  return turn_into(f, "squeeze", [&](const Tensor& t) {
    return squeeze(t, f.arg(1).none ? OptInts() : OptInts(f.arg(1).ints));
  });
}
PyObject* t_inplace(Frame& f) {
  return turn_into(f, "t", [](const Tensor& x) { return fluxion::t(x); });
}
PyObject* transpose_inplace(Frame& f) {
  return turn_into(f, "transpose", [&](const Tensor& t) {
    return transpose(t, f.arg(1).scalar.i, f.arg(2).scalar.i);
  });
}

PyObject* share_memory_native(Frame& f) {
  share_memory(self(f));
  return same(f);
}

// --- construction like an existing tensor

PyObject* new_tensor(Frame& f) {
  Tensor t = tensor_from(f.object(1), opt_dtype(f, 2).value_or(self(f).dtype()));
  if (flag(f, 3)) t.set_requires_grad(true);
  return wrap(std::move(t));
}

PyObject* make_subclass(Frame& f) {
  if (!PyType_Check(f.object(0)) ||
      !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(f.object(0)), tensor_type))
    fail(ErrorKind::type, "_make_subclass(): argument 'cls' must be a subclass of Tensor, not {}",
         type_name(f.object(0)));
  Tensor t = f.arg(1).tensor.detach();
  if (flag(f, 2)) t.set_requires_grad(true);
  return wrap_as(reinterpret_cast<PyTypeObject*>(f.object(0)), std::move(t));
}

PyObject* format(Frame& f) {
  bool plain = self(f).dim() == 0 && Py_TYPE(f.self()) == tensor_type;
  Object value =
      plain ? Object::own(from_scalar(scalar_of(self(f)))) : Object::own(PyObject_Str(f.self()));
  if (!PyUnicode_Check(f.object(1)))
    fail(ErrorKind::type, "__format__(): argument 'format_spec' must be str, not {}",
         type_name(f.object(1)));
  if (!plain && is_true(f.object(1)))
    fail(ErrorKind::type,
         "unsupported format string passed to Tensor.__format__; only 0-dim tensors take one");
  return PyObject_Format(value.get(), f.object(1));
}

const NativeFunction kMethods[] = {
    {"size(Tensor input, int? dim=None) -> Size | int", "The shape, or the size of one dim.",
     kMethod, size},
    {"stride(Tensor input, int? dim=None) -> tuple[int, ...] | int",
     "The strides in elements, or that of one dim.", kMethod, stride},
    {"dim(Tensor input) -> int", "The number of dims.", kMethod, dim},
    {"ndimension(Tensor input) -> int", "The number of dims.", kMethod, dim},
    {"numel(Tensor input) -> int", "The number of elements.", kMethod | kFunction, numel},
    {"nelement(Tensor input) -> int", "The number of elements.", kMethod, numel},
    {"item(Tensor input) -> bool | int | float",
     "The value of a one-element tensor as a Python number.", kMethod, item},
    {"data_ptr(Tensor input) -> int", "The address of the first element.", kMethod, data_ptr},
    {"storage_offset(Tensor input) -> int",
     "The position of the first element in the memory, in elements.", kMethod,
     [](Frame& f) { return PyLong_FromLongLong(self(f).storage_offset()); }},
    {"is_contiguous(Tensor input, ignored? memory_format) -> bool",
     "True if the elements lie densely in row-major order.", kMethod,
     [](Frame& f) { return boolean(self(f).is_contiguous()); }},
    {"element_size(Tensor input) -> int", "Bytes per element.", kMethod,
     [](Frame& f) { return PyLong_FromLongLong(size_of(self(f).dtype())); }},
    {"is_floating_point(Tensor input) -> bool", "True for a floating dtype.", kMethod | kFunction,
     [](Frame& f) { return boolean(is_floating(self(f).dtype())); }},
    {"is_complex(Tensor input) -> bool", "False: there are no complex dtypes yet.",
     kMethod | kFunction, [](Frame&) { return boolean(false); }},
    {"is_signed(Tensor input) -> bool", "True if the dtype has negative values.",
     kMethod | kFunction,
     [](Frame& f) {
       return boolean(self(f).dtype() != DType::bool_ && self(f).dtype() != DType::u8);
     }},
    {"get_device(Tensor input) -> int", "-1: the CPU.", kMethod,
     [](Frame&) { return PyLong_FromLong(-1); }},
    {"is_shared(Tensor input) -> bool", "True if the memory is shared with forked children.",
     kMethod, [](Frame& f) { return boolean(self(f).storage()->shared_memory); }},
    {"is_pinned(Tensor input) -> bool", "False.", kMethod, [](Frame&) { return boolean(false); }},
    {"pin_memory(Tensor input, ignored? device) -> Tensor", "The tensor itself.", kMethod, same},
    {"_is_view(Tensor input) -> bool", "True if the tensor is a view of another one.", kMethod,
     [](Frame& f) { return boolean(static_cast<bool>(self(f).impl()->base)); }},

    {"to(Tensor input, dtype dtype, bool non_blocking=False, bool copy=False, *, ignored? memory_format) -> Tensor",
     "The tensor with another dtype; itself if nothing changes and copy is False.", kMethod,
     to_dtype_overload},
    {"to(Tensor input, Tensor other, bool non_blocking=False, bool copy=False, *, ignored? memory_format) -> Tensor",
     "The tensor with another dtype; itself if nothing changes and copy is False.", kMethod,
     to_other},
    {"to(Tensor input, ignored? device, dtype? dtype=None, bool non_blocking=False, bool copy=False, *, ignored? memory_format) -> Tensor",
     "The tensor with another dtype; itself if nothing changes and copy is False.", kMethod,
     to_device},
    {"cpu(Tensor input, ignored? memory_format) -> Tensor", "The tensor itself.", kMethod, same},
    {"cuda(Tensor input, object device=None, bool non_blocking=False, ignored? memory_format) -> Tensor",
     "Raises: there is no GPU.", kMethod, no_device},
    {"double(Tensor input, ignored? memory_format) -> Tensor", "to(float64).", kMethod,
     to<DType::f64>},
    {"float(Tensor input, ignored? memory_format) -> Tensor", "to(float32).", kMethod,
     to<DType::f32>},
    {"half(Tensor input, ignored? memory_format) -> Tensor", "to(float16).", kMethod,
     to<DType::f16>},
    {"bfloat16(Tensor input, ignored? memory_format) -> Tensor", "to(bfloat16).", kMethod,
     to<DType::bf16>},
    {"long(Tensor input, ignored? memory_format) -> Tensor", "to(int64).", kMethod, to<DType::i64>},
    {"int(Tensor input, ignored? memory_format) -> Tensor", "to(int32).", kMethod, to<DType::i32>},
    {"short(Tensor input, ignored? memory_format) -> Tensor", "to(int16).", kMethod,
     to<DType::i16>},
    {"char(Tensor input, ignored? memory_format) -> Tensor", "to(int8).", kMethod, to<DType::i8>},
    {"byte(Tensor input, ignored? memory_format) -> Tensor", "to(uint8).", kMethod, to<DType::u8>},
    {"bool(Tensor input, ignored? memory_format) -> Tensor", "to(bool).", kMethod,
     to<DType::bool_>},
    {"type(Tensor input, object dtype=None, bool non_blocking=False) -> str | Tensor",
     "The name of the dtype as 'fluxion.FloatTensor'; with a dtype, the converted tensor.", kMethod,
     type},
    {"type_as(Tensor input, Tensor other) -> Tensor", "to(other.dtype).", kMethod,
     [](Frame& f) { return wrap(to_dtype(self(f), f.arg(1).tensor.dtype())); }},
    {"view(Tensor input, dtype dtype) -> Tensor",
     "The same bytes seen as elements of another dtype; without history.", kMethod, view_dtype},

    {"copy_(Tensor input, Number src, bool non_blocking=False) -> Tensor",
     "Writes src into the tensor, broadcast and converted.", kMethod, copy},
    {"fill_(Tensor input, Number value) -> Tensor", "Writes one value to all elements.", kMethod,
     fill},
    {"zero_(Tensor input) -> Tensor", "Writes 0 to all elements.", kMethod, zero},
    {"resize_(Tensor input, int... size, *, ignored? memory_format) -> Tensor",
     "Gives the tensor another shape; old elements stay at the front, new ones are undefined.",
     kMethod, resize_native},
    {"resize_as_(Tensor input, Tensor the_template, *, ignored? memory_format) -> Tensor",
     "resize_(the_template.shape).", kMethod, resize_as},
    {"set_(Tensor input, Tensor source, int storage_offset=0, int[]? size=None, int[]? stride=None) -> Tensor",
     "Rebinds the tensor to the memory of source.", kMethod, set},
    {"unsqueeze_(Tensor input, int dim) -> Tensor", "unsqueeze of the tensor itself.", kMethod,
     unsqueeze_inplace},
    {"squeeze_(Tensor input, int[]? dim=None) -> Tensor", "squeeze of the tensor itself.", kMethod,
     squeeze_inplace},
    {"t_(Tensor input) -> Tensor", "t of the tensor itself.", kMethod, t_inplace},
    {"transpose_(Tensor input, int dim0, int dim1) -> Tensor", "transpose of the tensor itself.",
     kMethod, transpose_inplace},
    {"share_memory_(Tensor input) -> Tensor",
     "Moves the elements to memory that forked children share. Raises if views or arrays see the old memory.",
     kMethod, share_memory_native},
    {"new_tensor(Tensor input, object data, *, dtype? dtype=None, ignored? device, bool requires_grad=False, ignored? pin_memory) -> Tensor",
     "tensor(data) with this tensor's dtype.", kMethod, new_tensor},
    {"__format__(Tensor input, object format_spec) -> str", "0-dim tensors format as numbers.",
     kMethod, format},
    {"_make_subclass(object cls, Tensor data, bool require_grad=False) -> Tensor",
     "An object of a Tensor subclass that shares the memory of data.", kPrivate, make_subclass},
    {"is_tensor(object obj) -> bool", "True for a Tensor.", kFunction,
     [](Frame& f) { return boolean(is_tensor(f.object(0))); }},
};

}  // namespace

void add_methods() { add_natives(kMethods); }

/// Tensor(): empty; Tensor(2, 3): uninitialised of that shape; Tensor(data): of the default dtype.
PyObject* tensor_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&] {
    if (kwargs && PyDict_Size(kwargs))
      fail(ErrorKind::type, "Tensor() takes no keyword arguments; use tensor(data, dtype=...)");
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    if (n == 0) return wrap_as(type, empty(Ints({0}), default_dtype()));
    PyObject* first = PyTuple_GET_ITEM(args, 0);
    if (n == 1 && is_tensor(first)) return wrap_as(type, tensor_of(first).detach());
    bool is_size = n == 1 && PyTuple_Check(first) && !PyTuple_CheckExact(first);
    int64_t v;
    if (n == 1 && !is_size && !to_integer(first, &v)) {
      if (PyFloat_Check(first))
        fail(ErrorKind::type, "Tensor(): data must be a sequence (got float); use tensor()");
      return wrap_as(type, tensor_from(first, default_dtype()));
    }
    Shape shape;
    PyObject* sizes = is_size ? first : args;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(sizes); ++i) {
      if (!to_integer(PyTuple_GET_ITEM(sizes, i), &v))
        fail(ErrorKind::type, "Tensor(): sizes must be ints, not {}",
             type_name(PyTuple_GET_ITEM(sizes, i)));
      shape.push_back(v);
    }
    return wrap_as(type, empty(shape, default_dtype()));
  });
}

}  // namespace fluxion::python
