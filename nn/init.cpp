#include "nn/init.h"

#include <cmath>

#include "ops/apply.h"
#include "tensor/thread_state.h"

namespace fluxion::nn::init {

void uniform_(const Tensor& t, double low, double high) {
  NoGrad plain;
  fluxion::uniform_(t, low, high, nullptr);
}

void normal_(const Tensor& t, double mean, double std) {
  NoGrad plain;
  fluxion::normal_(t, mean, std);
}

void kaiming_uniform_(const Tensor& t, double a) {
  if (t.dim() < 2)
    fail(ErrorKind::value, "kaiming_uniform_: fan in needs at least 2 dims, got shape {}",
         shape_text(t.sizes()));
  int64_t fan = t.sizes()[1];
  for (int d = 2; d < t.dim(); ++d) fan *= t.sizes()[d];
  if (fan == 0) return;
  double gain = std::sqrt(2.0 / (1 + a * a));
  double deviation = gain / std::sqrt(static_cast<double>(fan));
  double bound = std::sqrt(3.0) * deviation;
  init::uniform_(t, -bound, bound);
}

}  // namespace fluxion::nn::init
