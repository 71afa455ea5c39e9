// Optimizers: one fused multi-tensor kernel sweep a step, the kernels that fluxion.optim uses.
#pragma once

#include <vector>

#include "ops/functions.h"

namespace fluxion::optim {

class Optimizer {
 public:
  explicit Optimizer(std::vector<Tensor> parameters) : parameters_(std::move(parameters)) {}
  virtual ~Optimizer() = default;
  virtual void step() = 0;
  void zero_grad();

 protected:
  /// Parameters that have a gradient, their gradients, and their positions.
  struct Active {
    std::vector<Tensor> parameters, gradients;
    std::vector<size_t> positions;
  };
  Active active() const;
  std::vector<Tensor> parameters_;
};

struct SGDOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, maximize = false;
};
/// v = momentum * v + (1 - dampening) * g; p -= lr * v.
class SGD final : public Optimizer {
 public:
  SGD(std::vector<Tensor> parameters, SGDOptions options);
  void step() override;
  SGDOptions options;

 private:
  std::vector<Tensor> momentum_;
};

struct AdamOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool amsgrad = false, maximize = false;
};
/// Kingma and Ba 2015; weight decay is part of the gradient.
class Adam : public Optimizer {
 public:
  Adam(std::vector<Tensor> parameters, AdamOptions options, bool decoupled = false);
  void step() override;
  AdamOptions options;

 private:
  struct State {
    Tensor exp_avg, exp_avg_sq, max_exp_avg_sq, step;
  };
  bool decoupled_;
  std::vector<State> state_;
};
/// Loshchilov and Hutter 2019: weight decay apart from the gradient, 1e-2 by default.
class AdamW final : public Adam {
 public:
  AdamW(std::vector<Tensor> parameters, AdamOptions options = {.weight_decay = 1e-2})
      : Adam(std::move(parameters), options, true) {}
};

}  // namespace fluxion::optim
