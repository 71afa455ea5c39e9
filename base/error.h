// Errors that teach: op, argument, what was required, what was given, what to do.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace fluxion {

/// What kind of mistake it was; the Python binding maps each kind to a built-in exception.
enum class ErrorKind : uint8_t {
  runtime,          // RuntimeError: shapes, state, autograd misuse
  type,             // TypeError: an argument of the wrong kind
  value,            // ValueError
  index,            // IndexError: a dim or an index out of range
  key,              // KeyError
  not_implemented,  // NotImplementedError
  memory,           // MemoryError
  io,               // OSError
  internal,         // RuntimeError: a defect of ours
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& text) : std::runtime_error(text), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

[[noreturn]] void raise(ErrorKind kind, std::string text);

/// fail(ErrorKind::value, "pad: {} ...", n): throws Error; the text is built only here.
template <class... A>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<A...> text, A&&... args) {
  raise(kind, fmt::format(text, std::forward<A>(args)...));
}

/// Internal invariant; a failure is a defect of Fluxion, never of the user's input.
inline void invariant(bool holds, const char* what) {
  if (!holds) [[unlikely]]
    fail(ErrorKind::internal, "internal error: {}", what);
}

}  // namespace fluxion
