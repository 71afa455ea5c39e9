#include "ops/function.h"

namespace fluxion {

Tensor Scalar::tensor() const {
  return kind == DType::f64 ? scalar(f, DType::f64, true) : scalar(i, kind, true);
}

}  // namespace fluxion
