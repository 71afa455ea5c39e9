#include "compile/compile.h"

#include <ranges>

#include "tensor/thread_state.h"

namespace fluxion {

std::vector<Tensor> Compiled::operator()(std::span<const Tensor> arguments) {
  if (is_tracing()) return function_(arguments);
  std::vector<Tensor> results;
  std::string why = "first call";
  for (auto& captured : traces_ | std::views::reverse) {
    bool busy = false;
    if (captured->run(arguments, results, &busy)) return results;
    if (busy) return function_(arguments);
    if (why == "first call") why = captured->why();
  }
  if (traces_.size() >= kMostTraces) return function_(arguments);
  return trace(arguments, why);
}

std::vector<Tensor> Compiled::trace(std::span<const Tensor> arguments, const std::string& why) {
  tracing::Recorder recorder;
  for (size_t i = 0; i < arguments.size(); ++i)
    recorder.argument(arguments[i], fmt::format("x{}", i));
  recorder.start();
  std::vector<Tensor> results = function_(arguments);
  recorder.stop();
  if (thread_state().grad_enabled) recorder.differentiate(results);
  traces_.push_back(std::make_unique<compile::Captured>(recorder.finish(results)));
  log_.push_back(why);
  return results;
}

}  // namespace fluxion
