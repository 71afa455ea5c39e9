// A schema string as data: what the binder matches calls against.
#pragma once

#include <string>
#include <vector>

#include "ops/function.h"
#include "ops/op.h"
#include "python/src/object.h"

namespace fluxion::python {

enum class Kind : uint8_t {
  tensor,
  tensors,  // a list or tuple of tensors
  number,   // a tensor or a number
  integer,
  integers,  // a list or tuple of ints, or one int
  real,
  boolean,
  scalar,
  dtype,
  text,
  generator,
  object,   // anything; only for functions of the binding itself
  ignored,  // accepted for PyTorch's sake, not passed on; a device must be the CPU
};

struct Param {
  PyObject* name = nullptr;  // interned
  Kind kind = Kind::tensor;
  bool optional = false;  // None is allowed
  bool variadic = false;  // all positional arguments, or one sequence: "int..."
  bool keyword_only = false;
  bool has_default = false;
  Arg fallback;  // the default
  std::vector<int64_t> fallback_ints;
  std::string default_text;

  std::string_view name_text() const;
};
static_assert(
    std::is_nothrow_move_constructible_v<Param>);  // `fallback` points into `fallback_ints`

struct Frame;
/// A function of the binding itself; gets Python objects and returns one.
using Native = PyObject* (*)(Frame&);

/// One way to call a function.
struct Signature {
  std::string name;
  std::vector<Param> params;
  std::vector<std::string> results;  // names of a tuple's items; empty otherwise
  size_t positional = 0;             // number of parameters that may be given by position
  size_t self = 0;  // parameter that a method binds: the one named input or self, else the first
  int variadic = -1;
  uint16_t flags = 0;
  const char* doc = "";
  Thunk call = nullptr;
  Native native = nullptr;
  const OpDef* direct = nullptr;  // see writes.h

  /// "sum(input, dim=None, keepdim=False, *, dtype=None)".
  std::string text() const;
};

/// Raises ErrorKind::internal for a malformed schema.
Signature parse_schema(std::string_view schema);

/// "int or tuple of ints": what a parameter wants, in words.
std::string wanted(const Param& p);

}  // namespace fluxion::python
