// Operators: arithmetic, comparison, conversion to Python numbers.
#include "autograd/autograd.h"
#include "ops/functions.h"
#include "ops/inplace.h"
#include "python/src/construct.h"
#include "python/src/convert.h"
#include "python/src/tensor_type.h"
#include "python/src/writes.h"

namespace fluxion::python {

namespace {

/// One side of an operator: a tensor borrowed from its object, or a number or NumPy array converted.
class Operand {
 public:
  explicit Operand(PyObject* o) {
    if (is_tensor(o)) [[likely]]
      tensor_ = &tensor_of(o);
    else if (to_operand(o, &own_) || (is_numpy_array(o) && (own_ = from_array(o), true)))
      tensor_ = &own_;
  }
  explicit operator bool() const { return tensor_; }
  const Tensor& operator*() const { return *tensor_; }

 private:
  const Tensor* tensor_ = nullptr;
  Tensor own_;
};

using Binary = Tensor (*)(const Tensor&, const Tensor&);
using Unary = Tensor (*)(const Tensor&);

PyObject* not_implemented() { return Py_NewRef(Py_NotImplemented); }

template <Binary op>
PyObject* binary(PyObject* a, PyObject* b) {
  return guarded([&] {
    Operand x(a), y(b);
    return x && y ? wrap(op(*x, *y)) : not_implemented();
  });
}

template <Binary op, const char* name>
PyObject* inplace(PyObject* a, PyObject* b) {
  return guarded([&] {
    Operand y(b);
    if (!y) return not_implemented();
    const Tensor& x = tensor_of(a);
    static const OpDef* const direct = direct_op(name);
    check_no_partial_overlap(x, *y, name);
    update(name, direct, x, *y, [&] { return op(x, *y); });
    return Py_NewRef(a);
  });
}

template <Unary op>
PyObject* unary(PyObject* a) {
  return guarded([&] { return wrap(op(tensor_of(a))); });
}

// Functions with further parameters at their defaults.
Tensor plus(const Tensor& a, const Tensor& b) { return add(a, b); }
Tensor minus(const Tensor& a, const Tensor& b) { return sub(a, b); }
Tensor divide(const Tensor& a, const Tensor& b) { return div(a, b); }

PyObject* power(PyObject* a, PyObject* b, PyObject* modulus) {
  return modulus == Py_None ? binary<pow>(a, b) : not_implemented();
}

constexpr char kAdd[] = "add", kSub[] = "sub", kMul[] = "mul", kDiv[] = "div",
               kFloorDivide[] = "floor_divide", kRemainder[] = "remainder", kPow[] = "pow",
               kAnd[] = "bitwise_and", kOr[] = "bitwise_or", kXor[] = "bitwise_xor",
               kLeft[] = "bitwise_left_shift", kRight[] = "bitwise_right_shift";

PyObject* inplace_power(PyObject* a, PyObject* b, PyObject* modulus) {
  return modulus == Py_None ? inplace<pow, kPow>(a, b) : not_implemented();
}

PyObject* positive(PyObject* a) { return Py_NewRef(a); }

PyObject* compare(PyObject* a, PyObject* b, int op) {
  switch (op) {
    case Py_EQ: return binary<eq>(a, b);
    case Py_NE: return binary<ne>(a, b);
    case Py_LT: return binary<lt>(a, b);
    case Py_LE: return binary<le>(a, b);
    case Py_GT: return binary<gt>(a, b);
    default: return binary<ge>(a, b);
  }
}

int truth(PyObject* a) {
  return guarded_status([&] {
    const Tensor& t = tensor_of(a);
    if (t.numel() != 1)
      fail(ErrorKind::runtime,
           "Boolean value of Tensor with {} value{} is ambiguous; use .any() or .all()",
           t.numel() ? "more than one" : "no", t.numel() ? "" : "s");
    return is_floating(t.dtype()) ? t.item() != 0 : t.item_int() != 0;
  });
}

const Tensor& one_element(PyObject* a) {
  const Tensor& t = tensor_of(a);
  if (t.numel() != 1)
    fail(ErrorKind::value,
         "only one element tensors can be converted to Python scalars; this one has shape {}",
         shape_text(t.sizes()));
  return t;
}

PyObject* to_float(PyObject* a) {
  return guarded([&] { return PyFloat_FromDouble(scalar_of(one_element(a)).as_double()); });
}
PyObject* to_int(PyObject* a) {
  return guarded([&] {
    Scalar s = scalar_of(one_element(a));
    return s.is_floating() ? PyLong_FromDouble(s.f) : PyLong_FromLongLong(s.i);
  });
}
PyObject* to_index(PyObject* a) {
  return guarded([&] {
    const Tensor& t = tensor_of(a);
    if (t.numel() != 1 || is_floating(t.dtype()))
      fail(ErrorKind::type,
           "only integer tensors of a single element can be converted to an index, not {}",
           type_text(t));
    return PyLong_FromLongLong(t.item_int());
  });
}

}  // namespace

void fill_number_slots(std::vector<PyType_Slot>& slots) {
  auto put = [&](int slot, auto f) { slots.push_back({slot, reinterpret_cast<void*>(f)}); };
  put(Py_nb_add, binary<plus>);
  put(Py_nb_subtract, binary<minus>);
  put(Py_nb_multiply, binary<mul>);
  put(Py_nb_true_divide, binary<divide>);
  put(Py_nb_floor_divide, binary<floor_divide>);
  put(Py_nb_remainder, binary<remainder>);
  put(Py_nb_power, power);
  put(Py_nb_matrix_multiply, binary<matmul>);
  put(Py_nb_and, binary<bitwise_and>);
  put(Py_nb_or, binary<bitwise_or>);
  put(Py_nb_xor, binary<bitwise_xor>);
  put(Py_nb_lshift, binary<bitwise_left_shift>);
  put(Py_nb_rshift, binary<bitwise_right_shift>);
  put(Py_nb_inplace_add, inplace<plus, kAdd>);
  put(Py_nb_inplace_subtract, inplace<minus, kSub>);
  put(Py_nb_inplace_multiply, inplace<mul, kMul>);
  put(Py_nb_inplace_true_divide, inplace<divide, kDiv>);
  put(Py_nb_inplace_floor_divide, inplace<floor_divide, kFloorDivide>);
  put(Py_nb_inplace_remainder, inplace<remainder, kRemainder>);
  put(Py_nb_inplace_power, inplace_power);
  put(Py_nb_inplace_and, inplace<bitwise_and, kAnd>);
  put(Py_nb_inplace_or, inplace<bitwise_or, kOr>);
  put(Py_nb_inplace_xor, inplace<bitwise_xor, kXor>);
  put(Py_nb_inplace_lshift, inplace<bitwise_left_shift, kLeft>);
  put(Py_nb_inplace_rshift, inplace<bitwise_right_shift, kRight>);
  put(Py_nb_negative, unary<neg>);
  put(Py_nb_positive, positive);
  put(Py_nb_absolute, unary<abs>);
  put(Py_nb_invert, unary<bitwise_not>);
  put(Py_nb_bool, truth);
  put(Py_nb_float, to_float);
  put(Py_nb_int, to_int);
  put(Py_nb_index, to_index);
  put(Py_tp_richcompare, compare);
}

}  // namespace fluxion::python
