#include "compile/captured.h"

#include <cstring>
#include <unordered_map>

#include "autograd/autograd.h"
#include "compile/gradient.h"
#include "compile/passes.h"
#include "tensor/thread_state.h"

namespace fluxion::compile {

using graph::InputKind;
using tracing::Geometry;
using tracing::GradSlot;
using tracing::ResultSpec;

namespace {

bool same_layout(const Tensor& t, const Tensor& like) {
  return t.dtype() == like.dtype() && std::ranges::equal(t.sizes(), like.sizes()) &&
         std::ranges::equal(t.strides(), like.strides());
}

/// The forward half: the nodes before the boundary; residuals are results behind the others.
void keep_forward(graph::Graph& g, const tracing::Backward& b,
                  std::span<const graph::ValueId> residuals) {
  g.nodes.resize(b.boundary);
  std::erase_if(g.inputs, [&](const graph::Input& in) {
    return std::ranges::find(b.seeds, in.value) != b.seeds.end();
  });
  for (graph::ValueId id : residuals)
    if (std::ranges::find(g.inputs, id, &graph::Input::value) == g.inputs.end())
      g.results.push_back({fmt::format("residual{}", g.results.size()), id});
}

}  // namespace

Captured::~Captured() = default;

Captured::Captured(tracing::Trace trace) : trace_(std::move(trace)) {
  graph::Graph g = std::move(trace_.graph);
  slots_ = trace_.slots;
  results_ = trace_.results.size();
  for (const GradSlot& s : trace_.grads) results_ -= s.after == GradSlot::After::result;
  std::unordered_map<std::string, uint32_t> origin;
  for (const graph::Input& in : g.inputs) {
    origin[in.name] = static_cast<uint32_t>(kinds_.size());
    kinds_.push_back(in.kind);
  }
  if (!trace_.backward.results.empty()) {
    gradient_ = std::make_shared<CapturedGradient>(g, trace_.backward);
    for (size_t k = 0; k < g.inputs.size(); ++k)
      if (std::ranges::find(trace_.backward.seeds, g.inputs[k].value) !=
          trace_.backward.seeds.end())
        kinds_[k] = InputKind::constant;  // not an argument of the function
    // Writes name inputs by position; seeds come last among the arguments, lifted slots may follow.
    for (graph::Write& w : g.writes)
      w.input -= static_cast<uint32_t>(
          std::ranges::count_if(std::span(g.inputs).first(w.input), [&](const graph::Input& in) {
            const auto& seeds = trace_.backward.seeds;
            return std::ranges::find(seeds, in.value) != seeds.end();
          }));
    for (graph::ValueId id : gradient_->residuals()) {
      auto input = std::ranges::find(g.inputs, id, &graph::Input::value);
      residual_inputs_.push_back(
          input == g.inputs.end() ? -1 : static_cast<int32_t>(origin.at(input->name)));
    }
    keep_forward(g, trace_.backward, gradient_->residuals());
  }
  optimize(g);
  planned_.assign(kinds_.size(), -1);
  std::vector<Layout> inputs(g.inputs.size()), results(trace_.guards.size());
  for (uint32_t k = 0; k < g.inputs.size(); ++k) {
    auto at = origin.find(g.inputs[k].name);
    if (at == origin.end()) continue;  // a constant that folding made
    planned_[at->second] = static_cast<int32_t>(k);
    if (slots_[at->second].defined()) inputs[k].strides = Shape(slots_[at->second].strides());
  }
  // Guards come first among a graph's results, then the roots.
  for (const Geometry& r : trace_.root_geometry) results.push_back({r.strides});
  program_ = std::make_shared<Program>(std::move(g), inputs, results);
  execution_ = std::make_unique<Execution>(program_);
  for (uint32_t k = 0; k < kinds_.size(); ++k) {
    if (kinds_[k] == InputKind::argument) arguments_.push_back(k);
    if (kinds_[k] != InputKind::slot || !slots_[k].defined()) continue;
    bind_execution(k, slots_[k]);
    for (size_t i = 0; i < trace_.grads.size(); ++i)
      if (const Tensor& before = trace_.grads[i].before;
          before.defined() && before.storage() == slots_[k].storage())
        grad_inputs_.emplace_back(i, k);
  }
  for (const auto& r : trace_.random) {
    random_.push_back(empty(Ints({2}), DType::i64));
    bind_execution(r.input, random_.back());
  }
}

void Captured::bind_execution(uint32_t input, const Tensor& memory) {
  if (planned_[input] >= 0) execution_->bind(static_cast<uint32_t>(planned_[input]), memory);
}

bool Captured::is_written(uint32_t input) const {
  auto written = program_->written();
  return planned_[input] >= 0 &&
         std::ranges::find(written, static_cast<uint32_t>(planned_[input])) != written.end();
}

void Captured::bind(uint32_t input, const Tensor& memory) {
  if (!same_layout(memory, slots_[input]))
    fail(ErrorKind::value, "compiled function: slot {} needs {}, got {}", input,
         type_text(slots_[input]), type_text(memory));
  slots_[input] = memory.detach();
  trace_.handles[input] = memory;
  bind_execution(input, slots_[input]);
}

bool Captured::fits(std::span<const Tensor> arguments) {
  if (arguments.size() != arguments_.size()) {
    why_ = "another number of tensor arguments";
    return false;
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    const Tensor& traced = trace_.slots[arguments_[i]];
    if (!same_layout(arguments[i], traced)) {
      why_ = fmt::format("argument {} is {} with strides {}, was {} with strides {}", i,
                         type_text(arguments[i]), shape_text(arguments[i].strides()),
                         type_text(traced), shape_text(traced.strides()));
      return false;
    }
    const Tensor& handle = trace_.handles[arguments_[i]];
    if (thread_state().grad_enabled && tracks_gradient(arguments[i]) != tracks_gradient(handle)) {
      why_ = fmt::format("argument {} {} grad now", i,
                         tracks_gradient(arguments[i]) ? "requires" : "does not require");
      return false;
    }
    for (size_t k = 0; k < i; ++k)
      if (arguments[i].storage() == arguments[k].storage()) {
        why_ = fmt::format("arguments {} and {} share memory", k, i);
        return false;
      }
  }
  return true;
}

/// `.grad` must be what the function found if it read it; its memory is bound anew.
bool Captured::bind_gradients() {
  for (const GradSlot& g : trace_.grads) {
    if (!g.read_first) continue;
    GradMeta* meta = meta_of(g.leaf);
    bool has = meta && grad_of(*meta).defined();
    if (has == g.before.defined() && (!has || same_layout(grad_of(*meta), g.before))) continue;
    why_ = has ? "a gradient that was None is set" : "a gradient that was set is None";
    return false;
  }
  for (auto [i, input] : grad_inputs_) {
    const GradSlot& g = trace_.grads[i];
    GradMeta* meta = meta_of(g.leaf);
    if (!g.read_first || !meta) continue;
    const Tensor& now = grad_of(*meta);
    if (now.storage() == slots_[input].storage()) continue;
    if (slots_[input].storage()->nbytes != now.storage()->nbytes) {
      why_ = "a gradient lies in memory of another size";
      return false;
    }
    bind(input, alias(now, slots_[input].sizes(), slots_[input].strides(), 0));
  }
  return true;
}

void Captured::bind_random() {
  for (size_t i = 0; i < random_.size(); ++i) {
    auto* state = random_[i].data<int64_t>();
    state[0] = static_cast<int64_t>(trace_.random[i].generator->seed());
    state[1] = static_cast<int64_t>(trace_.random[i].generator->calls());
  }
}

bool Captured::guards_hold() {
  for (const tracing::ValueGuard& g : trace_.guards) {
    Tensor found = execution_->result(g.result);
    if (!std::memcmp(found.data(), g.expected.data(), static_cast<size_t>(found.nbytes())))
      continue;
    why_ = fmt::format("a value that decided the path is {}, was {}", to_text(found),
                       to_text(g.expected));
    return false;
  }
  return true;
}

void Captured::assemble(std::span<const Tensor> arguments, std::vector<Tensor>& results) {
  const auto guards = static_cast<uint32_t>(trace_.guards.size());
  results.clear();
  for (const ResultSpec& r : trace_.results) {
    const Geometry& g = r.geometry;
    const Tensor source =
        r.from_input ? memory_of(r.root, arguments) : execution_->result(guards + r.root);
    const int64_t shift =
        r.from_input ? source.storage_offset() - trace_.slots[r.root].storage_offset() : 0;
    results.push_back(alias(source, g.sizes, g.strides, g.offset + shift));
  }
  if (thread_state().grad_enabled) give_history(arguments, results);
}

namespace {

/// The history of a result that the function itself has gone back through.
struct SpentBackward final : CustomBackward {
  const char* name() const override { return "compiled"; }
  void backward(std::span<const Tensor>, std::span<Tensor>) override {
    fail(
        ErrorKind::runtime,
        "backward: the compiled function went back through this result's graph already and freed it. Return "
        "result.detach(), or pass retain_graph=True to the backward inside");
  }
};

}  // namespace

const Tensor& Captured::memory_of(uint32_t input, std::span<const Tensor> arguments) const {
  auto at = std::ranges::find(arguments_, input);
  return at == arguments_.end() ? slots_[input]
                                : arguments[static_cast<size_t>(at - arguments_.begin())];
}

void Captured::give_history(std::span<const Tensor> arguments, std::vector<Tensor>& results) {
  const auto& b = trace_.backward;
  if (b.results.empty() && b.spent.empty()) return;
  std::vector<Tensor> inputs, residuals, tracked;
  for (uint32_t k : b.inputs)
    inputs.push_back(kinds_[k] == InputKind::argument ? memory_of(k, arguments)
                                                      : trace_.handles[k]);
  for (uint32_t i : b.spent)
    record_custom(std::make_unique<SpentBackward>(), inputs, std::span(&results[i], 1));
  if (!gradient_) return;
  auto next = static_cast<uint32_t>(trace_.guards.size() + trace_.roots.size());
  for (int32_t input : residual_inputs_)
    residuals.push_back(input < 0 ? execution_->result(next++)
                                  : memory_of(static_cast<uint32_t>(input), arguments));
  for (uint32_t i : b.results) tracked.push_back(results[i]);
  gradient_->record(inputs, std::move(residuals), tracked);
}

bool Captured::compute(std::span<const Tensor> arguments, std::vector<Tensor>& results,
                       bool* busy) {
  const bool taken = busy_.exchange(true, std::memory_order_acquire);
  if (busy) *busy = taken;
  if (taken) return false;
  try {
    if (run_plan(arguments, results)) return true;
  } catch (...) {
    discard();
    throw;
  }
  discard();
  return false;
}

void Captured::discard() {
  execution_->release_results();
  busy_.store(false, std::memory_order_release);
}

bool Captured::run_plan(std::span<const Tensor> arguments, std::vector<Tensor>& results) {
  if (!fits(arguments) || !bind_gradients()) return false;
  for (size_t i = 0; i < arguments.size(); ++i) bind_execution(arguments_[i], arguments[i]);
  bind_random();
  execution_->run();
  if (!guards_hold()) return false;
  assemble(arguments, results);
  return true;
}

void Captured::commit(std::span<const Tensor> results) {
  execution_->commit();
  for (const auto& r : trace_.random)
    r.generator->set_state(r.generator->seed(), r.generator->calls() + r.calls);
  for (const GradSlot& g : trace_.grads) {
    if (g.after == GradSlot::After::same) continue;
    Tensor(g.leaf).set_grad(g.after == GradSlot::After::none ? Tensor{} : results[g.result]);
  }
  discard();
}

bool Captured::run(std::span<const Tensor> arguments, std::vector<Tensor>& results, bool* busy) {
  if (!compute(arguments, results, busy)) return false;
  commit(results);
  results.resize(results_);
  return true;
}

}  // namespace fluxion::compile
