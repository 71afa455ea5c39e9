// Compiled: a C++ function that captures itself. The first call runs as always and is written down; later calls run the
// plan, with the same bits.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "compile/captured.h"

namespace fluxion {

/// Captures what a function computes: its ops, what it reads and writes of tensors (parameters, gradients, buffers,
/// moments), random numbers. Tensors that it reads from outside are inputs, bound where they lie; numbers of C++ are
/// constants, so a number that changes must be a tensor. A tensor whose value decides a branch guards the trace; another
/// value or type is captured as another trace. After 16 traces it runs eagerly.
///
///   fluxion::Compiled step([&](std::span<const Tensor> in) {
///     optimizer.zero_grad();
///     Tensor loss = cross_entropy(model(in[0]), in[1]);
///     loss.backward();
///     optimizer.step();
///     return std::vector{loss.detach()};
///   });
class Compiled {
 public:
  using Function = std::function<std::vector<Tensor>(std::span<const Tensor>)>;
  explicit Compiled(Function function) : function_(std::move(function)) {}

  std::vector<Tensor> operator()(std::span<const Tensor> arguments);
  std::vector<Tensor> operator()(std::initializer_list<Tensor> arguments) {
    return (*this)(std::span(arguments.begin(), arguments.size()));
  }

  /// How often the function was captured anew, and why.
  const std::vector<std::string>& explain() const { return log_; }
  /// The plans, newest last.
  std::span<const std::unique_ptr<compile::Captured>> traces() const { return traces_; }

 private:
  static constexpr size_t kMostTraces = 16;
  std::vector<Tensor> trace(std::span<const Tensor> arguments, const std::string& why);

  Function function_;
  std::vector<std::unique_ptr<compile::Captured>> traces_;
  std::vector<std::string> log_;
};

}  // namespace fluxion
