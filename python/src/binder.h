// Calls from Python: one table-driven argument binder for every function and method.
#pragma once

#include <memory>

#include "python/src/schema.h"

namespace fluxion::python {

inline constexpr size_t kMaxParams = 32;

/// The arguments of one call, converted; on the stack. `ignored` parameters take no place.
struct Frame {
  Frame() {}
  ~Frame() {
    for (size_t i = 0; i < count; ++i) args()[i].~Arg();
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  Arg* args() { return reinterpret_cast<Arg*>(arg_memory); }
  Arg& arg(size_t i) { return args()[i]; }
  /// The Python object of an argument; null if the default was taken.
  PyObject* object(size_t i) { return objects[i]; }
  /// The object that the call was made on.
  PyObject* self() { return objects[0]; }

  size_t count = 0;
  PyObject* objects[kMaxParams];  // borrowed
  PyObject* out = nullptr;        // the argument `out`, borrowed
  int64_t ints[24];
  size_t ints_used = 0;
  std::vector<std::unique_ptr<int64_t[]>> more_ints;
  std::vector<std::vector<Tensor>> tensors;
  alignas(Arg) std::byte arg_memory[kMaxParams * sizeof(Arg)];
};

/// All ways to call one name.
struct Overloads {
  std::string name;
  std::vector<const Signature*> signatures;
};

enum class CallKind : uint8_t { function, method, inplace };

/// Binds and calls; vectorcall's argument layout. A method's self is args[0].
PyObject* call_overloads(const Overloads& f, CallKind kind, PyObject* const* args, Py_ssize_t nargs,
                         PyObject* kwnames);

}  // namespace fluxion::python
