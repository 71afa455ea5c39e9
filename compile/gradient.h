// The backward half of a captured function: a program of its own, one consumer on the tape.
#pragma once

#include "compile/program.h"
#include "compile/split.h"
#include "trace/recorder.h"

namespace fluxion::compile {

class CapturedGradient : public std::enable_shared_from_this<CapturedGradient> {
 public:
  /// `whole` holds both halves; its values that the gradients need, besides the seeds, are residuals.
  CapturedGradient(const graph::Graph& whole, const tracing::Backward& backward);

  /// Values of the forward half that must be saved: those computed become results of it.
  std::span<const graph::ValueId> residuals() const { return residuals_; }

  /// Gives `results` a history: their gradients flow to `inputs` (per Backward::inputs).
  void record(std::span<const Tensor> inputs, std::vector<Tensor> residuals,
              std::span<Tensor> results);

  /// The gradients from residuals and seeds (undefined: zero).
  std::vector<Tensor> run(std::span<const Tensor> residuals, std::span<const Tensor> seeds);

 private:
  tracing::Backward backward_;
  std::vector<graph::ValueId> residuals_;
  std::vector<int32_t> residual_of_, seed_of_;  // per argument of the program
  std::shared_ptr<const Program> program_;
  std::unique_ptr<Execution> execution_;
  std::vector<Type> seed_types_;
};

}  // namespace fluxion::compile
