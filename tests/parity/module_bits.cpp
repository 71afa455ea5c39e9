// Prints the bits of every module of the C++ API: initial state, and the result, gradient and a training step on a fixed
// input. tests/python/test_cpp_parity.py builds the same modules in Python and compares.
#include <fluxion/fluxion.h>

#include <cstdio>

using namespace fluxion;

namespace {

void print_bits(const std::string& name, const Tensor& t) {
  Tensor d = contiguous(t.detach());
  std::printf("%s ", name.c_str());
  const auto* bytes = d.data<unsigned char>();
  for (int64_t i = 0; i < d.nbytes(); ++i) std::printf("%02x", bytes[i]);
  std::printf("\n");
}

/// sin(0), sin(1), ... : an input that both sides can make.
Tensor wave(Ints shape) {
  return reshape(sin(arange(Scalar(static_cast<double>(element_count(shape))))), shape);
}

template <class Make>
void check(const std::string& name, const Tensor& input, Make make) {
  default_generator().manual_seed(7);
  auto module = make();
  for (const nn::Named& s : module->state_dict()) print_bits(name + ".init." + s.name, s.tensor);
  Tensor y = module->forward(input);
  print_bits(name + ".forward", y);
  if (module->parameters().empty()) return;
  optim::Adam optimizer(module->parameters(), {.lr = 0.1});
  sum(mul(y, y)).backward();
  for (const nn::Named& p : module->named_parameters())
    print_bits(name + ".grad." + p.name, p.tensor.grad());
  optimizer.step();
  for (const nn::Named& s : module->state_dict()) print_bits(name + ".stepped." + s.name, s.tensor);
  module->eval();
  print_bits(name + ".eval", module->forward(input));
}

}  // namespace

int main() {
  Tensor rows = wave(Shape{4, 6}), image = wave(Shape{2, 3, 8, 8});
  check("Linear", rows, [] { return std::make_shared<nn::Linear>(6, 5); });
  check("LinearNoBias", rows, [] { return std::make_shared<nn::Linear>(6, 5, false); });
  check("Conv2d", image, [] { return std::make_shared<nn::Conv2d>(3, 4, 3, 2, 1); });
  check("BatchNorm1d", rows, [] { return std::make_shared<nn::BatchNorm1d>(6); });
  check("BatchNorm2d", image, [] { return std::make_shared<nn::BatchNorm2d>(3); });
  check("LayerNorm", rows, [] { return std::make_shared<nn::LayerNorm>(std::vector<int64_t>{6}); });
  check("Dropout", rows, [] { return std::make_shared<nn::Dropout>(0.5); });
  check("ReLU", rows, [] { return std::make_shared<nn::ReLU>(); });
  check("GELU", rows, [] { return std::make_shared<nn::GELU>(); });
  check("SiLU", rows, [] { return std::make_shared<nn::SiLU>(); });
  check("MaxPool2d", image, [] { return std::make_shared<nn::MaxPool2d>(2); });
  check("Embedding", arange(Scalar(5)), [] { return std::make_shared<nn::Embedding>(10, 3); });
  check("Sequential", rows, [] {
    return std::make_shared<nn::Sequential>(std::initializer_list<std::shared_ptr<nn::Module>>{
        std::make_shared<nn::Linear>(6, 8), std::make_shared<nn::ReLU>(),
        std::make_shared<nn::Linear>(8, 2)});
  });
}
