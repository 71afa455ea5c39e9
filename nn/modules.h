// Modules with PyTorch's names, argument orders, defaults and default initialisation.
#pragma once

#include <array>
#include <initializer_list>

#include "nn/module.h"

namespace fluxion::nn {

/// y = x W^T + b; weight [out, in].
class Linear final : public Module {
 public:
  Linear(int64_t in_features, int64_t out_features, bool bias = true);
  Tensor forward(const Tensor& x) override { return linear(x, weight, bias); }
  Tensor weight, bias;
};

/// Square kernels, NCHW; weight [out, in / groups, k, k].
class Conv2d final : public Module {
 public:
  Conv2d(int64_t in_channels, int64_t out_channels, int64_t kernel_size, int64_t stride = 1,
         int64_t padding = 0, int64_t dilation = 1, int64_t groups = 1, bool bias = true);
  Tensor forward(const Tensor& x) override;
  Tensor weight, bias;

 private:
  int64_t stride_, padding_, dilation_, groups_;
};

/// Normalises each channel (dim 1) over the batch in training, by running statistics in evaluation.
class BatchNorm final : public Module {
 public:
  explicit BatchNorm(int64_t num_features, double eps = 1e-5, double momentum = 0.1);
  Tensor forward(const Tensor& x) override;
  Tensor weight, bias, running_mean, running_var, num_batches_tracked;

 private:
  double eps_, momentum_;
};
using BatchNorm1d = BatchNorm;
using BatchNorm2d = BatchNorm;

/// Normalises over the last dims.
class LayerNorm final : public Module {
 public:
  explicit LayerNorm(std::vector<int64_t> normalized_shape, double eps = 1e-5);
  Tensor forward(const Tensor& x) override { return layer_norm(x, shape_, weight, bias, eps_); }
  Tensor weight, bias;

 private:
  std::vector<int64_t> shape_;
  double eps_;
};

/// Rows of a table by integer index.
class Embedding final : public Module {
 public:
  Embedding(int64_t num_embeddings, int64_t embedding_dim);
  Tensor forward(const Tensor& index) override { return embedding(index, weight); }
  Tensor weight;
};

/// Zeroes elements with probability p in training and scales the rest by 1 / (1 - p).
class Dropout final : public Module {
 public:
  explicit Dropout(double p = 0.5) : p_(p) {}
  Tensor forward(const Tensor& x) override { return dropout(x, p_, is_training()); }

 private:
  double p_;
};

class ReLU final : public Module {
 public:
  Tensor forward(const Tensor& x) override { return relu(x); }
};
class GELU final : public Module {
 public:
  Tensor forward(const Tensor& x) override { return gelu(x); }
};
class SiLU final : public Module {
 public:
  Tensor forward(const Tensor& x) override { return silu(x); }
};
class Flatten final : public Module {
 public:
  Tensor forward(const Tensor& x) override { return flatten(x, 1); }
};
class MaxPool2d final : public Module {
 public:
  explicit MaxPool2d(int64_t kernel_size) : kernel_size_(kernel_size) {}
  Tensor forward(const Tensor& x) override { return max_pool2d(x, Ints(&kernel_size_, 1)); }

 private:
  int64_t kernel_size_;
};

/// Runs modules one after the other; children are named "0", "1", ...
class Sequential final : public Module {
 public:
  Sequential() = default;
  Sequential(std::initializer_list<std::shared_ptr<Module>> modules) {
    for (const auto& m : modules) append(m);
  }
  void append(std::shared_ptr<Module> m) {
    steps_.push_back(register_module(std::to_string(steps_.size()), std::move(m)));
  }
  Tensor forward(const Tensor& x) override {
    Tensor y = x;
    for (const auto& m : steps_) y = m->forward(y);
    return y;
  }

 private:
  std::vector<std::shared_ptr<Module>> steps_;
};

}  // namespace fluxion::nn
