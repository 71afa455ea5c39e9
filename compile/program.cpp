#include "compile/program.h"

#include "compile/planner.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion::compile {

Program::Program(graph::Graph g, std::span<const Layout> inputs, std::span<const Layout> results)
    : graph_(std::move(g)) {
  Planner(*this, inputs, results).run();
}

namespace {

std::string place_text(const Operand& o) {
  if (!o.shape.defined()) return "-";
  const char* const kinds[] = {"arena", "input", "result", "constant"};
  std::string text =
      fmt::format("{} @ {}", type_text(o.shape), kinds[static_cast<int>(o.place.kind)]);
  if (o.place.kind != Place::Kind::arena) text += fmt::format("{}", o.place.index);
  if (o.place.offset || o.place.kind == Place::Kind::arena)
    text += fmt::format("+{}", o.place.offset);
  return text;
}

std::string list_text(std::span<const Operand> operands) {
  std::string text;
  for (const Operand& o : operands) text += (text.empty() ? "" : ", ") + place_text(o);
  return text;
}

}  // namespace

std::string Program::text() const {
  std::string text = fmt::format("program {}: {} steps, arena {} bytes ({} live at most)\n",
                                 graph_.name, steps_.size(), arena_bytes_, live_bytes_);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Step& s = steps_[i];
    if (i == commit_begin_) text += "  -- commit\n";
    text += fmt::format("  {:3} {} ({}) -> {}", i, s.op->name, list_text(s.in), list_text(s.out));
    const graph::Location& at = graph_.locations[s.location];
    if (at.line) text += fmt::format("  # {}:{}", at.file, at.line);
    text += '\n';
  }
  for (const Copy& c : copies_)
    text += fmt::format("      copy {} -> {}\n", place_text(c.from), place_text(c.to));
  return text;
}

Execution::Execution(std::shared_ptr<const Program> program) : program_(std::move(program)) {
  const Program& p = *program_;
  arena_ = allocate(p.arena_bytes());
  input_patches_.resize(p.graph().inputs.size());
  result_patches_.resize(p.results().size());
  results_.resize(p.results().size());
  bound_.resize(p.graph().inputs.size());
  size_t operands = 0;
  for (const Step& s : p.steps()) operands += s.in.size() + s.out.size();
  handles_.reserve(operands);
  for (const Step& s : p.steps()) {
    Call c{s.op,
           s.attrs.data(),
           static_cast<uint32_t>(handles_.size()),
           0,
           static_cast<uint8_t>(s.in.size()),
           static_cast<uint8_t>(s.out.size())};
    for (const Operand& o : s.in) add(o);
    c.out = static_cast<uint32_t>(handles_.size());
    for (const Operand& o : s.out) add(o);
    calls_.push_back(c);
  }
  handles_.reserve(operands + 2 * p.copies().size());
  for (const Copy& c : p.copies()) {
    add(c.from);
    add(c.to);
    copies_.emplace_back(handles_[handles_.size() - 2], handles_.back());
  }
  kept_ = handles_;
  for (uint32_t k = 0; k < p.graph().inputs.size(); ++k)
    if (p.graph().inputs[k].kind == graph::InputKind::constant) bind(k, p.graph().inputs[k].data);
}

/// A handle of its own on the operand's memory, as far as that is known.
void Execution::add(const Operand& o) {
  if (!o.shape.defined()) {
    handles_.emplace_back();
    return;
  }
  Tensor t = alias(o.shape, o.shape.sizes(), o.shape.strides(), o.shape.storage_offset());
  t.impl()->flags |= o.shape.impl()->flags & kWeak;
  Impl* impl = t.impl();
  if (o.place.kind == Place::Kind::arena) {
    impl->storage = arena_;
    impl->data = arena_->data + o.place.offset;
  } else if (o.place.kind == Place::Kind::result) {
    result_patches_[o.place.index].push_back({impl, o.place.offset});
  } else {
    input_patches_[o.place.index].push_back({impl, o.place.offset});
  }
  handles_.push_back(std::move(t));
}

void Execution::patch(std::span<const Patch> patches, const Tensor& memory) {
  const Impl& m = *memory.impl();
  for (const Patch& p : patches) {
    p.impl->storage = m.storage;
    p.impl->data = m.data + p.offset;
  }
}

void Execution::bind(uint32_t index, const Tensor& memory) {
  if (bound_[index].defined() && bound_[index].storage() == memory.storage() &&
      bound_[index].data() == memory.data())
    return;
  patch(input_patches_[index], memory);
  bound_[index] = memory;
}

/// An op that gave memory of its own instead of filling the place it was given.
void Execution::bring_home(uint32_t k) {
  Tensor made = std::exchange(handles_[k], kept_[k]);
  if (made.defined() && kept_[k].defined()) copy_elements(made, kept_[k]);
}

void Execution::call(size_t i) {
  const Call& c = calls_[i];
  try {
    c.op->eval({*c.op, c.attrs, {&handles_[c.in], c.n_in}, {&handles_[c.out], c.n_out}});
    for (uint32_t k = c.out; k < c.out + c.n_out; ++k)
      if (handles_[k].impl() != kept_[k].impl()) [[unlikely]]
        bring_home(k);
  } catch (const Error& e) {
    const graph::Location& at = program_->graph().locations[program_->steps()[i].location];
    if (!at.line) throw;
    fail(e.kind(), "{} [{}{}{}:{}]", e.what(), at.module, at.module.empty() ? "" : ", ", at.file,
         at.line);
  }
}

namespace {

/// What every run is under: plain evaluation, round to nearest.
struct Quiet {
  Override<Tracer*> tracer{thread_state().tracer, nullptr};
  Override<StorageObserver*> observer{thread_state().observer, nullptr};
  NoGrad plain;
  FloatEnvironment environment;
};

}  // namespace

void Execution::run() {
  Quiet quiet;
  for (size_t k = 0; k < results_.size(); ++k) {
    const Tensor& like = program_->results()[k].shape;
    Tensor memory = empty(Ints({like.numel()}), like.dtype());
    results_[k] = alias(memory, like.sizes(), like.strides(), 0);
    results_[k].impl()->flags |= like.impl()->flags & kWeak;
    patch(result_patches_[k], results_[k]);
  }
  for (size_t i = 0; i < program_->commit_begin(); ++i) call(i);
}

void Execution::commit() {
  Quiet quiet;
  for (uint32_t k : program_->written()) begin_write(bound_[k].storage());
  for (size_t i = program_->commit_begin(); i < calls_.size(); ++i) call(i);
  for (auto& [from, to] : copies_) copy_elements(from, to);
}

void Execution::release_results() {
  for (Tensor& r : results_) r = {};
}

}  // namespace fluxion::compile
