#include "ops/function.h"

namespace fluxion {

Tensor Scalar::tensor() const {
  Tensor t = kind == DType::f64 ? scalar(f, DType::f64, true) : scalar(i, kind, true);
  t.impl()->flags |= kNumber;
  return t;
}

}  // namespace fluxion
