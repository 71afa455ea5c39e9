// x[...] and x[...] = y: basic indices make a chain of views, the others one gather or scatter over it.
#include <algorithm>

#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "python/src/construct.h"
#include "python/src/convert.h"
#include "python/src/tensor_type.h"

namespace fluxion::python {

namespace {

bool is_index_tensor(const Tensor& t) { return t.dim() > 0 || t.dtype() == DType::bool_; }

/// A tensor that indexes: integers, or a bool mask (uint8 counts as one, as in PyTorch).
Tensor index_tensor(const Tensor& t) {
  if (is_floating(t.dtype()))
    fail(ErrorKind::index, "tensors used as indices must be integers or bool, not {}",
         name(t.dtype()));
  return t.dtype() == DType::u8 ? ne(t, Scalar(0).tensor()) : t;
}

/// An index that is neither an int, a slice, None nor an ellipsis.
Tensor to_index_tensor(PyObject* o) {
  if (is_tensor(o)) return index_tensor(tensor_of(o));
  if (PyUnicode_Check(o) || PyFloat_Check(o) || !(PySequence_Check(o) || is_array(o)))
    fail(
        ErrorKind::index,
        "only ints, slices (`:`), ellipsis (`...`), None, and int or bool tensors, arrays and lists are indices, not {}",
        type_name(o));
  Tensor t = is_array(o) ? from_array(o, "index") : tensor_from(o);
  return t.numel() == 0 && is_floating(t.dtype()) ? empty(t.sizes(), DType::i64) : index_tensor(t);
}

/// One item of an index.
struct Item {
  enum class Kind : uint8_t { integer, slice, none, ellipsis, boolean, tensor } kind;
  int64_t integer = 0;  // also: the truth of a boolean
  PyObject* object = nullptr;
  Tensor tensor;

  /// How many dims of the indexed tensor it takes.
  int64_t takes() const {
    switch (kind) {
      case Kind::integer:
      case Kind::slice: return 1;
      case Kind::tensor: return tensor.dtype() == DType::bool_ ? tensor.dim() : 1;
      default: return 0;
    }
  }
};
using Kind = Item::Kind;

Item classify(PyObject* o) {
  int64_t i;
  if (PyLong_CheckExact(o) && to_integer(o, &i)) return {Kind::integer, i, o, {}};
  if (PySlice_Check(o)) return {Kind::slice, 0, o, {}};
  if (o == Py_None) return {Kind::none, 0, o, {}};
  if (o == Py_Ellipsis) return {Kind::ellipsis, 0, o, {}};
  if (PyBool_Check(o)) return {Kind::boolean, o == Py_True, o, {}};
  bool b;
  if (is_tensor(o) && !is_index_tensor(tensor_of(o)) && to_integer(o, &i))
    return {Kind::integer, i, o, {}};
  if (!is_tensor(o) && to_integer(o, &i)) return {Kind::integer, i, o, {}};
  if (!is_tensor(o) && to_bool(o, &b)) return {Kind::boolean, b, o, {}};
  Tensor t = to_index_tensor(o);
  if (t.dim() == 0)
    return {t.dtype() == DType::bool_ ? Kind::boolean : Kind::integer, t.item_int(), o, {}};
  return {Kind::tensor, 0, o, std::move(t)};
}

Tensor apply_slice(const Tensor& t, int64_t dim, PyObject* slice_object) {
  Py_ssize_t start, stop, step;
  check(PySlice_Unpack(slice_object, &start, &stop, &step));
  if (dim >= t.dim()) fail(ErrorKind::index, "slice() cannot be applied to a 0-dim tensor");
  int64_t n = t.sizes()[static_cast<size_t>(dim)];
  Py_ssize_t length = PySlice_AdjustIndices(n, &start, &stop, step);
  if (step == 1 && length == n) return t;
  if (length == 0) return slice(t, dim, 0, 0, 1);
  return slice(t, dim, start, stop < 0 ? OptInt{} : OptInt{stop}, step);
}

/// An index applied to a tensor: the view that the basic part makes, and the index tensors for its dims.
class Indexed {
 public:
  explicit Indexed(const Tensor& self) : view_(self) {}

  /// `items` stay referenced by the caller.
  void apply(PyObject* const* items, Py_ssize_t n) {
    std::vector<Item> parsed;
    parsed.reserve(static_cast<size_t>(n));
    int64_t taken = 0;
    for (Py_ssize_t i = 0; i < n; ++i) {
      parsed.push_back(classify(items[i]));
      taken += parsed.back().takes();
    }
    if (taken > view_.dim())
      fail(ErrorKind::index, "too many indices: {} for a tensor of {} dim{}", taken, view_.dim(),
           view_.dim() == 1 ? "" : "s");
    int64_t hidden = view_.dim() - taken;  // dims that an ellipsis stands for
    for (const Item& item : parsed) {
      step(item, hidden);
      if (item.kind == Kind::ellipsis) hidden = 0;  // a second ellipsis stands for nothing
    }
  }

  const Tensor& view() const { return view_; }
  bool advanced() const { return advanced_; }
  Tensors indices() const { return indices_; }

 private:
  void step(const Item& item, int64_t hidden) {
    switch (item.kind) {
      case Kind::integer: view_ = select(view_, dim_, item.integer); break;
      case Kind::slice:
        view_ = apply_slice(view_, dim_, item.object);
        pass(1);
        break;
      case Kind::none:
        view_ = unsqueeze(view_, dim_);
        pass(1);
        break;
      case Kind::ellipsis: pass(hidden); break;
      case Kind::boolean:
        view_ = unsqueeze(view_, dim_);
        take(item.integer ? scalar_index() : empty(Ints({0}), DType::i64), 1);
        break;
      case Kind::tensor: take(item.tensor, item.takes()); break;
    }
  }
  static Tensor scalar_index() {
    Tensor t = empty(Ints({1}), DType::i64);
    *t.data<int64_t>() = 0;
    return t;
  }
  void pass(int64_t dims) {
    dim_ += dims;
    indices_.resize(indices_.size() + static_cast<size_t>(dims));
  }
  void take(Tensor index, int64_t dims) {
    dim_ += dims;
    indices_.push_back(std::move(index));
    advanced_ = true;
  }

  Tensor view_;
  int64_t dim_ = 0;
  bool advanced_ = false;
  std::vector<Tensor> indices_;
};

Indexed index_with(const Tensor& self, PyObject* key) {
  Indexed x(self);
  if (PyTuple_Check(key)) x.apply(&PyTuple_GET_ITEM(key, 0), PyTuple_GET_SIZE(key));
  else x.apply(&key, 1);
  return x;
}

PyObject* get_item(PyObject* self, PyObject* key) {
  return guarded([&] {
    const Tensor& t = tensor_of(self);
    int64_t i;
    if (PyLong_CheckExact(key) && t.dim() && to_integer(key, &i)) return wrap(select(t, 0, i));
    Indexed x = index_with(t, key);
    if (x.advanced()) return wrap(index(x.view(), x.indices()));
    return wrap(x.view().is_same(t) ? view(t, t.sizes()) : x.view());
  });
}

/// Leading dims of size 1 that the target does not have are dropped, as in PyTorch.
Tensor drop_leading(const Tensor& value, int64_t rank) {
  int64_t extra = value.dim() - rank;
  if (extra <= 0) return value;
  for (int64_t d = 0; d < extra; ++d)
    if (value.sizes()[static_cast<size_t>(d)] != 1) return value;
  return reshape(value, value.sizes().subspan(static_cast<size_t>(extra)));
}

Tensor value_for(const Tensor& target, PyObject* value) {
  Tensor t;
  if (to_operand(value, &t)) return t;
  if (value == Py_None || PyUnicode_Check(value) || !(PySequence_Check(value) || is_array(value)))
    fail(ErrorKind::type, "can't assign {} to a {} Tensor", type_name(value), name(target.dtype()));
  return is_array(value) ? from_array(value, "setitem") : tensor_from(value);
}

/// `x[i] += 1` ends with x[i] = the view that was just written.
bool is_itself(const Tensor& view, const Tensor& value) {
  const Impl &a = *view.impl(), &b = *value.impl();
  return a.storage == b.storage && a.data == b.data && a.dtype == b.dtype && a.base == b.base &&
         std::ranges::equal(view.sizes(), value.sizes()) &&
         std::ranges::equal(view.strides(), value.strides());
}

int set_item(PyObject* self, PyObject* key, PyObject* value) {
  return guarded_status([&] {
    const Tensor& t = tensor_of(self);
    if (!value) fail(ErrorKind::type, "Tensor does not support deleting items");
    Indexed x = index_with(t, key);
    Tensor v = value_for(t, value);
    if (x.advanced()) {
      index_put_(x.view(), x.indices(), to_dtype(v, t.dtype()), false);
    } else if (!is_itself(x.view(), v)) {
      assign(x.view(), drop_leading(v, x.view().dim()));
    }
    return 0;
  });
}

Py_ssize_t length(PyObject* self) {
  const Tensor& t = tensor_of(self);
  if (t.dim()) return t.sizes()[0];
  PyErr_SetString(PyExc_TypeError, "len() of a 0-d tensor");
  return -1;
}

PyObject* iterate(PyObject* self) {
  return guarded([&] {
    const Tensor& t = tensor_of(self);
    if (t.dim() == 0) fail(ErrorKind::type, "iteration over a 0-d tensor");
    std::vector<Tensor> rows = unbind(t, 0);
    Object tuple = Object::own(wrap_tuple(rows));
    return PyObject_GetIter(tuple.get());
  });
}

int contains(PyObject* self, PyObject* element) {
  return guarded_status([&] {
    Tensor e;
    if (!to_operand(element, &e) && !(is_array(element) && (e = from_array(element), true)))
      fail(ErrorKind::runtime,
           "Tensor.__contains__ only supports Tensor or scalar, but you passed in a {}",
           type_name(element));
    Tensor same = dense(eq(tensor_of(self), e));
    const char* p = same.data<char>();
    return std::any_of(p, p + same.numel(), [](char c) { return c != 0; }) ? 1 : 0;
  });
}

/// For C code that walks sequences: x[i] with an i that is not negative.
PyObject* sequence_item(PyObject* self, Py_ssize_t i) {
  return guarded([&] { return wrap(select(tensor_of(self), 0, i)); });
}

}  // namespace

void fill_index_slots(std::vector<PyType_Slot>& slots) {
  auto put = [&](int slot, auto f) { slots.push_back({slot, reinterpret_cast<void*>(f)}); };
  put(Py_mp_subscript, get_item);
  put(Py_mp_ass_subscript, set_item);
  put(Py_mp_length, length);
  put(Py_sq_length, length);
  put(Py_sq_item, sequence_item);
  put(Py_sq_contains, contains);
  put(Py_tp_iter, iterate);
}

}  // namespace fluxion::python
