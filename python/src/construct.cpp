// tensor(), as_tensor() and their relatives.
#include "python/src/construct.h"

#include <cmath>
#include <limits>

#include "ops/copy.h"
#include "ops/functions.h"
#include "python/src/convert.h"
#include "python/src/module.h"
#include "tensor/thread_state.h"

namespace fluxion::python {

namespace {

bool is_number(PyObject* o) { return PyFloat_Check(o) || PyLong_Check(o) || is_numpy_scalar(o); }

bool is_sequence(PyObject* o) {
  if (PyList_Check(o) || PyTuple_Check(o)) return true;
  return PySequence_Check(o) && !PyUnicode_Check(o) && !PyBytes_Check(o) && !PyDict_Check(o) &&
         !is_tensor(o) && !is_array(o) && !is_number(o);
}

[[noreturn]] void unsupported(PyObject* o) {
  fail(
      ErrorKind::type,
      "tensor(): cannot make a tensor of {}; give numbers, nested sequences of numbers, an array or a tensor",
      type_name(o));
}

const Tensor& leaf_tensor(PyObject* o) {
  const Tensor& t = tensor_of(o);
  if (t.numel() != 1)
    fail(
        ErrorKind::value,
        "tensor(): only one element tensors can be items of a sequence, this one has shape {}. Use stack()",
        shape_text(t.sizes()));
  return t;
}

/// A sequence read once; the items stay alive with it.
class Items {
 public:
  explicit Items(PyObject* o) : fast_(Object::own(PySequence_Fast(o, "expected a sequence"))) {}
  size_t size() const { return static_cast<size_t>(PySequence_Fast_GET_SIZE(fast_.get())); }
  PyObject* operator[](size_t i) const {
    return PySequence_Fast_GET_ITEM(fast_.get(), static_cast<Py_ssize_t>(i));
  }

 private:
  Object fast_;
};

/// Shape by the first items; what deviates is found when the elements are read.
Shape shape_of(PyObject* o) {
  Shape shape;
  Object held = Object::share(o);
  while (is_sequence(held.get())) {
    if (shape.size() >= kMaxRank)
      fail(ErrorKind::value, "tensor(): sequences are nested more than {} deep", kMaxRank);
    Items items(held.get());
    shape.push_back(static_cast<int64_t>(items.size()));
    if (items.size() == 0) return shape;
    held = Object::share(items[0]);
  }
  if (is_array(held.get())) {
    Tensor block = from_array(held.get(), "tensor");
    for (int64_t n : block.sizes()) shape.push_back(n);
  }
  return shape;
}

DType leaf_dtype(PyObject* o) {
  if (PyFloat_CheckExact(o)) return default_dtype();
  if (PyBool_Check(o)) return DType::bool_;
  if (PyLong_CheckExact(o)) return DType::i64;
  if (is_tensor(o)) return leaf_tensor(o).dtype();
  if (is_array(o) || is_numpy_scalar(o)) return from_array(o, "tensor").dtype();
  if (PyFloat_Check(o)) return default_dtype();
  if (PyLong_Check(o)) return DType::i64;
  unsupported(o);
}

void infer(PyObject* o, std::optional<DType>& common) {
  if (is_sequence(o)) {
    Items items(o);
    for (size_t i = 0; i < items.size(); ++i) infer(items[i], common);
    return;
  }
  DType t = leaf_dtype(o);
  common = common ? promote(*common, t) : t;
}

void check_range(int64_t v, DType t) {
  int64_t low = 0, high = 0;
  switch (t) {
    case DType::u8: low = -255, high = 255; break;  // negative values wrap, as in PyTorch
    case DType::i8: low = -128, high = 127; break;
    case DType::i16: low = -32768, high = 32767; break;
    case DType::i32: low = INT32_MIN, high = INT32_MAX; break;
    default: return;
  }
  if (v < low || v > high) fail(ErrorKind::runtime, "tensor(): {} does not fit in {}", v, name(t));
}

void store(char* p, DType t, const Scalar& s) {
  if (is_floating(t) || (t == DType::bool_ && s.is_floating()))
    return store_double(p, t, s.as_double());
  if (s.is_floating() && !(std::abs(s.f) < 0x1p63))
    fail(ErrorKind::value, "tensor(): {} does not fit in {}", s.f, name(t));
  int64_t v = s.as_int();
  check_range(v, t);
  store_int(p, t, t == DType::bool_ ? v != 0 : v);
}

/// Writes the elements below `o` at depth `dim` to `p` and advances it.
void fill(PyObject* o, const Tensor& out, size_t dim, char*& p) {
  Ints sizes = out.sizes();
  if (is_sequence(o)) {
    Items items(o);
    if (dim >= sizes.size())
      fail(ErrorKind::value, "tensor(): expected a number at depth {}, got a sequence of length {}",
           dim, items.size());
    if (static_cast<int64_t>(items.size()) != sizes[dim])
      fail(ErrorKind::value, "tensor(): expected a sequence of length {} at dim {} (got {})",
           sizes[dim], dim, items.size());
    for (size_t i = 0; i < items.size(); ++i) fill(items[i], out, dim + 1, p);
    return;
  }
  if (is_array(o)) {
    Tensor block = from_array(o, "tensor");
    Ints rest = sizes.subspan(std::min(dim, sizes.size()));
    if (!std::ranges::equal(block.sizes(), rest))
      fail(ErrorKind::value, "tensor(): expected an array of shape {} at dim {}, got {}",
           shape_text(rest), dim, shape_text(block.sizes()));
    Shape strides = row_major_strides(rest);
    copy_elements(block, alias(out, rest, strides, (p - out.data<char>()) / size_of(out.dtype())));
    p += block.numel() * size_of(out.dtype());
    return;
  }
  if (dim != sizes.size())
    fail(ErrorKind::value, "tensor(): expected a sequence of length {} at dim {}, got {}",
         sizes[dim], dim, type_name(o));
  Scalar s;
  if (is_tensor(o)) s = scalar_of(leaf_tensor(o));
  else if (!to_scalar(o, &s)) unsupported(o);
  store(p, out.dtype(), s);
  p += size_of(out.dtype());
}

Tensor copy_of(const Tensor& t, OptDType dtype) {
  NoGrad off;
  Tensor plain = t.detach();
  return dtype && *dtype != t.dtype() ? to_dtype(plain, *dtype) : clone(plain);
}

void warn_read_only(const Tensor& t, const char* what) {
  if (t.storage()->read_only)
    check(PyErr_WarnFormat(
        PyExc_UserWarning, 1,
        "%s: the array is read-only and the tensor shares its memory, so writing to the tensor "
        "will raise. Use tensor(array) for a copy that can be written",
        what));
}

Tensor require_grad(Tensor t, bool on) {
  if (on) t.set_requires_grad(true);
  return t;
}

PyObject* native_tensor(Frame& f) {
  OptDType dtype = detail::FromArg<OptDType>::get(f.arg(1));
  return wrap(require_grad(tensor_from(f.object(0), dtype), f.arg(2).scalar.i));
}

PyObject* native_as_tensor(Frame& f) {
  return wrap(as_tensor(f.object(0), detail::FromArg<OptDType>::get(f.arg(1))));
}

PyObject* native_asarray(Frame& f) {
  OptDType dtype = detail::FromArg<OptDType>::get(f.arg(1));
  OptBool copy = detail::FromArg<OptBool>::get(f.arg(2));
  Tensor t = copy.value_or(false) ? tensor_from(f.object(0), dtype) : as_tensor(f.object(0), dtype);
  if (copy && !*copy) {
    bool shares = (is_tensor(f.object(0)) && t.is_same(tensor_of(f.object(0)))) ||
                  (is_array(f.object(0)) && (!dtype || from_array(f.object(0)).dtype() == *dtype));
    if (!shares)
      fail(ErrorKind::value, "asarray(): copy=False, but the data cannot be shared without a copy");
  }
  return wrap(require_grad(std::move(t), f.arg(3).scalar.i));
}

PyObject* native_from_numpy(Frame& f) {
  PyObject* array = f.object(0);
  if (!is_array(array))
    fail(ErrorKind::type, "from_numpy(): expected np.ndarray, got {}", type_name(array));
  Tensor t = from_array(array);
  warn_read_only(t, "from_numpy");
  return wrap(std::move(t));
}

PyObject* native_frombuffer(Frame& f) {
  Object view = Object::own(PyMemoryView_FromObject(f.object(0)));
  Object bytes = Object::own(PyObject_CallMethod(view.get(), "cast", "s", "B"));
  Tensor raw = from_array(bytes.get(), "frombuffer");
  auto dtype = static_cast<DType>(f.arg(1).scalar.i);
  int64_t count = f.arg(2).scalar.i, offset = f.arg(3).scalar.i;
  int64_t room = (raw.numel() - offset) / size_of(dtype);
  if (offset < 0 || offset > raw.numel() ||
      (count < 0 && (raw.numel() - offset) % size_of(dtype)) || count > room)
    fail(ErrorKind::value, "frombuffer(): {} bytes from offset {} do not hold {} elements of {}",
         raw.numel(), offset, count < 0 ? "a whole number of" : std::to_string(count), name(dtype));
  raw.storage()->data += offset;
  raw.storage()->nbytes -= static_cast<size_t>(offset);
  int64_t n = count < 0 ? room : count;
  warn_read_only(raw, "frombuffer");
  Tensor t = from_storage(Ref<Storage>::share(raw.storage()), dtype, Ints({n}), Ints({1}), 0);
  return wrap(require_grad(std::move(t), f.arg(4).scalar.i));
}

const NativeFunction kFunctions[] = {
    {"tensor(object data, *, dtype? dtype=None, ignored? device, bool requires_grad=False, ignored? pin_memory) -> Tensor",
     "A new leaf tensor with a copy of `data`: a number, nested sequences, an array or a tensor.",
     kFunction, native_tensor},
    {"as_tensor(object data, dtype? dtype=None, ignored? device) -> Tensor",
     "A tensor of `data`; tensors and arrays of that dtype are shared, not copied.", kFunction,
     native_as_tensor},
    {"asarray(object obj, *, dtype? dtype=None, ignored? device, bool? copy=None, bool requires_grad=False) -> Tensor",
     "Like as_tensor; copy=True always copies, copy=False raises where a copy is needed.",
     kFunction, native_asarray},
    {"from_numpy(object ndarray) -> Tensor",
     "A tensor that shares the array's memory and strides (negative ones too).", kFunction,
     native_from_numpy},
    {"frombuffer(object buffer, *, dtype dtype, int count=-1, int offset=0, bool requires_grad=False) -> Tensor",
     "A 1-d tensor that shares the memory of an object with a buffer; offset in bytes.", kFunction,
     native_frombuffer},
};

}  // namespace

Tensor tensor_from(PyObject* data, OptDType dtype) {
  if (is_tensor(data)) return copy_of(tensor_of(data), dtype);
  if (is_array(data)) return copy_of(from_array(data, "tensor"), dtype);
  std::optional<DType> common = dtype;
  Shape shape = shape_of(data);
  if (!common) infer(data, common);
  Tensor t = empty(shape, common.value_or(default_dtype()));
  char* p = t.data<char>();
  fill(data, t, 0, p);
  return t;
}

Tensor as_tensor(PyObject* data, OptDType dtype) {
  if (is_tensor(data)) return dtype ? to_dtype(tensor_of(data), *dtype) : tensor_of(data);
  if (!is_array(data)) return tensor_from(data, dtype);
  Tensor t = from_array(data, "as_tensor");
  if (dtype && *dtype != t.dtype()) return to_dtype(t, *dtype);
  warn_read_only(t, "as_tensor");
  return t;
}

void add_construction() { add_natives(kFunctions); }

}  // namespace fluxion::python
