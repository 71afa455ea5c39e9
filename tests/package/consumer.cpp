#include <fluxion/fluxion.h>

#include <cstdio>

int main() {
  using namespace fluxion;
  Tensor x = full({2, 3}, 2.0);
  x.set_requires_grad(true);
  Tensor y = sum(x * x);
  y.backward();
  double g = sum(x.grad()).item();
  std::printf("d(x*x)/dx summed over a 2x3 tensor of twos: %g\n", g);
  return g == 24 ? 0 : 1;
}
