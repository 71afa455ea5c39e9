// A captured function: its trace, planned, bound to the state it reads and writes.
#pragma once

#include <atomic>
#include <memory>

#include "compile/program.h"
#include "trace/recorder.h"

namespace fluxion::compile {

class CapturedGradient;

class Captured {
 public:
  /// Simplifies and plans.
  explicit Captured(tracing::Trace trace);
  ~Captured();

  /// Runs if the arguments and gradients fit and every guard holds: results, then everything written is committed.
  /// Else nothing has changed, and why() says what did not fit. Results have a history where they had one when traced.
  /// `busy`, if given, says whether another thread is running it: then nothing was tried.
  bool run(std::span<const Tensor> arguments, std::vector<Tensor>& results, bool* busy = nullptr);
  /// In two parts, for callers with guards of their own: compute() leaves the results in `results`; commit() makes the
  /// writes happen.
  bool compute(std::span<const Tensor> arguments, std::vector<Tensor>& results,
               bool* busy = nullptr);
  void commit(std::span<const Tensor> results);
  /// Instead of commit(): lets go of what compute() holds.
  void discard();

  const std::string& why() const { return why_; }
  const tracing::Trace& trace() const { return trace_; }
  const Program& program() const { return *program_; }
  /// Inputs are numbered as in the trace; those that nothing reads are not planned.
  size_t input_count() const { return slots_.size(); }
  graph::InputKind kind(uint32_t input) const { return kinds_[input]; }
  bool is_written(uint32_t input) const;
  /// Rebinds a slot to other memory of the same type and layout; raises otherwise.
  void bind(uint32_t input, const Tensor& memory);
  /// The memory that a slot is bound to.
  const Tensor& slot(uint32_t input) const { return slots_[input]; }
  /// Results of the function itself.
  size_t result_count() const { return results_; }

 private:
  void bind_execution(uint32_t input, const Tensor& memory);
  bool run_plan(std::span<const Tensor> arguments, std::vector<Tensor>& results);
  bool fits(std::span<const Tensor> arguments);
  bool bind_gradients();
  void bind_random();
  bool guards_hold();
  void assemble(std::span<const Tensor> arguments, std::vector<Tensor>& results);
  void give_history(std::span<const Tensor> arguments, std::vector<Tensor>& results);
  const Tensor& memory_of(uint32_t input, std::span<const Tensor> arguments) const;

  tracing::Trace trace_;  // without its graph
  std::vector<graph::InputKind> kinds_;
  std::vector<int32_t> planned_;  // per input: its place in the program, or -1
  std::shared_ptr<const Program> program_;
  std::unique_ptr<Execution> execution_;
  std::shared_ptr<CapturedGradient> gradient_;
  std::vector<int32_t> residual_inputs_;  // per residual: the input that it is, or -1
  std::vector<Tensor> slots_;
  std::vector<uint32_t> arguments_;  // inputs that are arguments, in order
  std::vector<std::pair<size_t, uint32_t>>
      grad_inputs_;             // (grads index, input): slots that are gradients
  std::vector<Tensor> random_;  // key and call number, one per generator
  size_t results_ = 0;
  std::atomic<bool> busy_{false};
  std::string why_;
};

}  // namespace fluxion::compile
