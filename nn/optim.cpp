#include "nn/optim.h"

#include "tensor/thread_state.h"

namespace fluxion::optim {

void Optimizer::zero_grad() {
  for (Tensor& p : parameters_) p.set_grad({});
}

Optimizer::Active Optimizer::active() const {
  Active a;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Tensor g = parameters_[i].grad();
    if (!g.defined()) continue;
    a.parameters.push_back(parameters_[i]);
    a.gradients.push_back(g);
    a.positions.push_back(i);
  }
  return a;
}

SGD::SGD(std::vector<Tensor> parameters, SGDOptions o)
    : Optimizer(std::move(parameters)), options(o) {
  if (o.lr < 0) fail(ErrorKind::value, "SGD: lr must not be negative, got {}", o.lr);
  momentum_.resize(parameters_.size());
}

void SGD::step() {
  NoGrad plain;
  struct Batch {
    std::vector<Tensor> parameters, gradients, momentum;
  };
  Batch fresh, seen;  // a momentum met for the first time starts at the gradient
  Active a = active();
  for (size_t k = 0; k < a.positions.size(); ++k) {
    Tensor& m = momentum_[a.positions[k]];
    bool starts = options.momentum != 0 && !m.defined();
    if (starts) m = zeros_like(a.parameters[k]);
    Batch& b = starts ? fresh : seen;
    b.parameters.push_back(a.parameters[k]);
    b.gradients.push_back(a.gradients[k]);
    if (options.momentum != 0) b.momentum.push_back(m);
  }
  for (const Batch* b : {&fresh, &seen})
    if (!b->parameters.empty())
      _fused_sgd_(b->parameters, b->gradients, b->momentum, number(options.lr), options.momentum,
                  options.dampening, options.weight_decay, options.nesterov, options.maximize,
                  b == &fresh);
}

Adam::Adam(std::vector<Tensor> parameters, AdamOptions o, bool decoupled)
    : Optimizer(std::move(parameters)), options(o), decoupled_(decoupled) {
  if (o.lr < 0) fail(ErrorKind::value, "Adam: lr must not be negative, got {}", o.lr);
  state_.resize(parameters_.size());
}

void Adam::step() {
  NoGrad plain;
  Active a = active();
  std::vector<Tensor> avgs, squares, maxima, steps;
  for (size_t i : a.positions) {
    State& s = state_[i];
    if (!s.step.defined()) {
      s.step = zeros({}, DType::f32);
      s.exp_avg = zeros_like(parameters_[i]);
      s.exp_avg_sq = zeros_like(parameters_[i]);
      if (options.amsgrad) s.max_exp_avg_sq = zeros_like(parameters_[i]);
    }
    avgs.push_back(s.exp_avg);
    squares.push_back(s.exp_avg_sq);
    if (options.amsgrad) maxima.push_back(s.max_exp_avg_sq);
    steps.push_back(s.step);
  }
  if (!a.parameters.empty())
    _fused_adam_(a.parameters, a.gradients, avgs, squares, maxima, steps, number(options.lr),
                 options.beta1, options.beta2, options.eps, options.weight_decay, options.amsgrad,
                 options.maximize, decoupled_);
}

}  // namespace fluxion::optim
