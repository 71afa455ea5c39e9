// The user-level API as data: PyTorch's names and schemas bound to C++ functions.
// Python methods, functions, stubs, docs and the C++ header are generated from these entries.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

#include "tensor/random.h"
#include "tensor/tensor.h"

namespace fluxion {

struct OpDef;

/// A Python number, kept exact.
struct Scalar {
  DType kind = DType::f64;  // bool_, i64 or f64
  union {
    int64_t i;
    double f;
  };
  Scalar() : f(0) {}
  Scalar(double v) : kind(DType::f64), f(v) {}
  Scalar(float v) : Scalar(static_cast<double>(v)) {}
  Scalar(int64_t v) : kind(DType::i64), i(v) {}
  Scalar(int v) : Scalar(static_cast<int64_t>(v)) {}
  Scalar(bool v) : kind(DType::bool_), i(v) {}
  double as_double() const { return kind == DType::f64 ? f : static_cast<double>(i); }
  int64_t as_int() const { return kind == DType::f64 ? static_cast<int64_t>(f) : i; }
  bool is_floating() const { return kind == DType::f64; }
  /// A weak 0-dim tensor.
  Tensor tensor() const;
};
/// A weak 0-dim tensor: what a literal in an expression is.
inline Tensor number(double v) { return Scalar(v).tensor(); }
/// A text argument of an overloaded function: braces with numbers are a list of integers, never a text.
struct Text : std::string_view {
  template <class T>
    requires(std::is_convertible_v<T, std::string_view> && !std::is_arithmetic_v<std::decay_t<T>> &&
             !std::is_null_pointer_v<std::decay_t<T>>)
  Text(const T& text) : std::string_view(text) {}
};
using OptInt = std::optional<int64_t>;
using OptDouble = std::optional<double>;
using OptBool = std::optional<bool>;
using OptScalar = std::optional<Scalar>;
using Tensors = std::span<const Tensor>;

/// One bound argument. Which member counts follows from the parameter's type in the schema.
struct Arg {
  bool none = false;
  Scalar scalar;  // int, float, bool, Scalar, dtype (as integer)
  Tensor tensor;  // Tensor (numbers arrive as weak 0-dim tensors where the schema allows)
  std::span<const Tensor> tensors;
  Ints ints;
  std::string_view text;
  Generator* generator = nullptr;
};

/// What a function returned. One Tensor is the hot case.
struct Result {
  enum class Kind : uint8_t {
    tensor,
    tuple,
    list,
    boolean,
    integer,
    real,
    nothing
  } kind = Kind::nothing;
  Tensor tensor;
  std::vector<Tensor> tensors;
  Scalar scalar;
};

using Thunk = void (*)(Arg* args, Result& result);

enum FunctionFlags : uint16_t {
  kFunction = 1,  // fluxion.NAME
  kMethod = 2,    // Tensor.NAME
  kNN = 4,        // fluxion.nn.functional.NAME too
  kInplace = 8,   // also Tensor.NAME_ : self = NAME(self, ...), written into self
  kOut = 16,      // also accepts out=
  kPrivate = 32,  // reachable as fluxion._C.NAME only
};

/// schema: PyTorch's style, for example
/// "sum(Tensor input, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor".
/// Parameter types: Tensor Tensor? Tensor[] Number (Tensor or number) int int? int[] (also one int) int[]? float float? bool bool?
/// Scalar Scalar? dtype dtype? str str? Generator?; `int...` is a list that may also be given as separate arguments;
/// `ignored?` (device, layout ...) is accepted and checked by the binding but has no Arg and no C++ parameter. Returns: Tensor, (Tensor values, Tensor indices), Tensor[], bool, int, float, ().
struct Function {
  const char* schema;
  const char* doc;
  uint16_t flags;
  Thunk call;
};

namespace detail {

template <class T>
struct FromArg;
template <>
struct FromArg<Tensor> {
  static const Tensor& get(Arg& a) { return a.tensor; }
};
template <>
struct FromArg<Tensors> {
  static Tensors get(Arg& a) { return a.tensors; }
};
template <>
struct FromArg<int64_t> {
  static int64_t get(Arg& a) { return a.scalar.i; }
};
template <>
struct FromArg<double> {
  static double get(Arg& a) { return a.scalar.as_double(); }
};
template <>
struct FromArg<bool> {
  static bool get(Arg& a) { return a.scalar.i != 0; }
};
template <>
struct FromArg<Scalar> {
  static Scalar get(Arg& a) { return a.scalar; }
};
template <>
struct FromArg<DType> {
  static DType get(Arg& a) { return static_cast<DType>(a.scalar.i); }
};
template <>
struct FromArg<Ints> {
  static Ints get(Arg& a) { return a.ints; }
};
template <>
struct FromArg<std::string_view> {
  static std::string_view get(Arg& a) { return a.text; }
};
template <>
struct FromArg<Text> {
  static Text get(Arg& a) { return a.text; }
};
template <>
struct FromArg<Generator*> {
  static Generator* get(Arg& a) { return a.generator; }
};
template <class T>
struct FromArg<std::optional<T>> {
  static std::optional<T> get(Arg& a) {
    if (a.none) return std::nullopt;
    return FromArg<T>::get(a);
  }
};

inline void to_result(Tensor&& t, Result& r) {
  r.kind = Result::Kind::tensor;
  r.tensor = std::move(t);
}
inline void to_result(std::vector<Tensor>&& v, Result& r) {
  r.kind = Result::Kind::list;
  r.tensors = std::move(v);
}
template <class... T>
void to_result(std::tuple<T...>&& t, Result& r) {
  r.kind = Result::Kind::tuple;
  std::apply([&](auto&... x) { (r.tensors.push_back(std::move(x)), ...); }, t);
}
inline void to_result(bool v, Result& r) {
  r.kind = Result::Kind::boolean;
  r.scalar = Scalar(v);
}
inline void to_result(int64_t v, Result& r) {
  r.kind = Result::Kind::integer;
  r.scalar = Scalar(v);
}
inline void to_result(double v, Result& r) {
  r.kind = Result::Kind::real;
  r.scalar = Scalar(v);
}

template <auto F, class R, class... A, size_t... I>
void call_with(Arg* args, Result& result, R (*)(A...), std::index_sequence<I...>) {
  if constexpr (std::is_void_v<R>) F(FromArg<std::remove_cvref_t<A>>::get(args[I])...);
  else to_result(F(FromArg<std::remove_cvref_t<A>>::get(args[I])...), result);
}
template <class R, class... A>
constexpr size_t arity(R (*)(A...)) {
  return sizeof...(A);
}

}  // namespace detail

/// The thunk of a C++ function: unpacks arguments, packs the result.
template <auto F>
void thunk(Arg* args, Result& result) {
  detail::call_with<F>(args, result, F, std::make_index_sequence<detail::arity(F)>{});
}

/// What one op file contributes; listed in ops/table.cpp.
struct OpFile {
  std::span<OpDef* const> ops;
  std::span<const Function> functions;
};

/// All functions, in table order (ops/table.cpp).
std::span<const Function* const> function_table();

}  // namespace fluxion
