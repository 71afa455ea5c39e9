// The C++ mirror of fluxion.nn: the same parameters, names, initial bits and forward bits as Python's modules.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ops/functions.h"

namespace fluxion::nn {

/// A tensor with its dotted name.
struct Named {
  std::string name;
  Tensor tensor;
};

/// Base of all modules: owns parameters, buffers and children in registration order.
class Module {
 public:
  virtual ~Module() = default;
  virtual Tensor forward(const Tensor& x) = 0;
  Tensor operator()(const Tensor& x) { return forward(x); }

  std::vector<Named> named_parameters(const std::string& prefix = "") const;
  std::vector<Named> named_buffers(const std::string& prefix = "") const;
  std::vector<Tensor> parameters() const;
  /// Parameters, then buffers, module by module, with Python's names. The tensors alias the module's.
  std::vector<Named> state_dict(const std::string& prefix = "") const;
  /// Copies by name. Raises for missing, unexpected or mismatching entries.
  void load_state_dict(const std::vector<Named>& state);

  void train(bool mode = true);
  void eval() { train(false); }
  bool is_training() const { return training_; }
  void zero_grad();

 protected:
  /// An undefined tensor registers nothing (a missing bias) but is returned as it is.
  Tensor register_parameter(const std::string& name, Tensor t);
  Tensor register_buffer(const std::string& name, Tensor t);
  template <class M>
  std::shared_ptr<M> register_module(const std::string& name, std::shared_ptr<M> m) {
    children_.emplace_back(name, m);
    return m;
  }

 private:
  std::vector<Named> parameters_, buffers_;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
  bool training_ = true;
};

}  // namespace fluxion::nn
