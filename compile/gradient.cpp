#include "compile/gradient.h"

#include <algorithm>

#include "autograd/autograd.h"
#include "ops/functions.h"

namespace fluxion::compile {

using graph::ValueId;

namespace {

Type concrete(const graph::ValueType& v) {
  Type t{v.dtype, v.weak, {}};
  for (const graph::Dim& d : v.shape) t.shape.push_back(d.constant());
  return t;
}

/// The tape node of one call.
class CompiledBackward final : public CustomBackward {
 public:
  CompiledBackward(std::shared_ptr<CapturedGradient> gradient, std::span<const Tensor> residuals)
      : gradient_(std::move(gradient)) {
    for (const Tensor& t : residuals) saved_.emplace_back(t, true);
  }
  const char* name() const override { return "compiled"; }
  void release_saved() override { saved_.clear(); }
  void backward(std::span<const Tensor> grad, std::span<Tensor> result) override {
    if (std::ranges::any_of(grad,
                            [](const Tensor& g) { return g.defined() && tracks_gradient(g); }))
      fail(
          ErrorKind::not_implemented,
          "backward: a gradient of a gradient through a compiled function is not captured; compute both inside of "
          "the compiled function, or call the function without compile()");
    std::vector<Tensor> residuals;
    for (const SavedTensor& s : saved_) residuals.push_back(s.unpack().detach());
    std::vector<Tensor> found = gradient_->run(residuals, grad);
    for (size_t i = 0; i < result.size(); ++i) result[i] = found[i];
  }

 private:
  std::shared_ptr<CapturedGradient> gradient_;
  std::vector<SavedTensor> saved_;
};

}  // namespace

CapturedGradient::CapturedGradient(const graph::Graph& whole, const tracing::Backward& backward)
    : backward_(backward) {
  std::vector<ValueId> wanted;
  for (ValueId g : backward.gradients)
    if (g != graph::kNoValue) wanted.push_back(g);
  Part part = part_of(whole, backward.boundary, whole.nodes.size(), wanted, false);
  for (ValueId id : part.arguments) {
    auto seed = std::ranges::find(backward.seeds, id);
    bool is_seed = seed != backward.seeds.end();
    seed_of_.push_back(is_seed ? static_cast<int32_t>(seed - backward.seeds.begin()) : -1);
    residual_of_.push_back(is_seed ? -1 : static_cast<int32_t>(residuals_.size()));
    if (!is_seed) residuals_.push_back(id);
  }
  for (ValueId id : backward.seeds) seed_types_.push_back(concrete(whole.values[id]));
  program_ = std::make_shared<Program>(std::move(part.graph));
  execution_ = std::make_unique<Execution>(program_);
}

void CapturedGradient::record(std::span<const Tensor> inputs, std::vector<Tensor> residuals,
                              std::span<Tensor> results) {
  record_custom(std::make_unique<CompiledBackward>(shared_from_this(), residuals), inputs, results);
}

std::vector<Tensor> CapturedGradient::run(std::span<const Tensor> residuals,
                                          std::span<const Tensor> seeds) {
  uint32_t argument = 0;
  const auto& inputs = program_->graph().inputs;
  std::vector<Tensor> held;
  for (uint32_t k = 0; k < inputs.size(); ++k) {
    if (inputs[k].kind != graph::InputKind::argument) continue;
    int32_t seed = seed_of_[argument], residual = residual_of_[argument];
    ++argument;
    Tensor t;
    if (residual >= 0) t = residuals[static_cast<size_t>(residual)];
    else if (t = seeds[static_cast<size_t>(seed)]; !t.defined())
      t = zeros(seed_types_[static_cast<size_t>(seed)].shape,
                seed_types_[static_cast<size_t>(seed)].dtype);
    execution_->bind(k, held.emplace_back(contiguous(t.detach())));
  }
  execution_->run();
  std::vector<Tensor> found;
  uint32_t next = 0;
  for (ValueId g : backward_.gradients)
    found.push_back(g == graph::kNoValue ? Tensor{} : execution_->result(next++));
  execution_->release_results();
  return found;
}

}  // namespace fluxion::compile
