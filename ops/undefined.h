// Undefined tensors where C++ callers must give one with a value.
#pragma once

#include <span>

#include "tensor/tensor.h"

namespace fluxion {

/// What fail_undefined throws.
struct UndefinedTensor : Error {
  using Error::Error;
};

/// In a handler of UndefinedTensor: names the argument of the function that is the undefined one of `in`; rethrows if none is.
[[noreturn]] void name_undefined(const char* function, std::span<const Tensor> in);

}  // namespace fluxion
