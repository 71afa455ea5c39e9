// Autograd state seen from a tensor: requires_grad, grad, detach, hooks, custom functions.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_set>

#include "autograd/autograd.h"
#include "ops/functions.h"
#include "tensor/thread_state.h"
#include "tensor/uninterrupted.h"

namespace fluxion {

bool Tensor::requires_grad() const {
  if (at(__FUNCTION__).base) renew_view(*this);
  return p_->flags & kRequiresGrad;
}

bool Tensor::is_leaf() const {
  if (at(__FUNCTION__).base) renew_view(*this);
  GradMeta* meta = meta_of(*this);
  return !meta || !meta->node;
}

Tensor& Tensor::set_requires_grad(bool on) {
  if (!on && !is_leaf())
    fail(
        ErrorKind::runtime,
        "requires_grad_: only a leaf can stop requiring grad; use detach() for a copy without history");
  if (on && !is_floating(dtype()))
    fail(ErrorKind::runtime, "requires_grad_: only floating point tensors can require grad, got {}",
         name(dtype()));
  if (on && has(kInference) && !thread_state().inference_mode)
    fail(
        ErrorKind::runtime,
        "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed. Make a clone() "
        "of it first");
  if (!is_leaf()) return *this;
  if (!on && !p_->meta) return *this;
  ensure_meta(*this).requires_grad = on;
  p_->flags = static_cast<uint16_t>(on ? p_->flags | kRequiresGrad : p_->flags & ~kRequiresGrad);
  return *this;
}

void trace_grad(const Tensor& leaf, bool rebinds) {
  if (Tracer* tracer = thread_state().tracer) [[unlikely]]
    tracer->touch_grad(leaf, rebinds);
}

Tensor Tensor::grad() const {
  at(__FUNCTION__);
  trace_grad(*this, false);
  GradMeta* meta = meta_of(*this);
  return meta ? grad_of(*meta) : Tensor{};
}

void Tensor::set_grad(const Tensor& g) {
  trace_grad(*this, true);
  if (!g.defined()) {
    if (GradMeta* meta = meta_of(*this)) grad_of(*meta) = {};
    return;
  }
  if (!std::ranges::equal(g.sizes(), sizes()) || g.dtype() != dtype())
    fail(ErrorKind::runtime, "grad: must have the tensor's type {}, got {}", type_text(*this),
         type_text(g));
  grad_of(ensure_meta(*this)) = g;
}

void Tensor::backward(const Tensor& gradient, bool retain_graph, bool create_graph) const {
  fluxion::backward({this, 1}, {&gradient, 1}, retain_graph, create_graph);
}

Tensor Tensor::detach() const {
  Tensor t = alias(*this, sizes(), strides(), storage_offset());
  return t;
}

namespace {

std::atomic<uint64_t> next_hook{1};

HookHandle append(std::shared_ptr<HookList>& hooks, HookEntry hook) {
  if (!hooks) hooks = std::make_shared<HookList>();
  hooks->push_back(std::move(hook));
  return {hooks, hooks->back().id};
}

}  // namespace

void HookHandle::remove() const {
  if (auto hooks = list.lock())
    std::erase_if(*hooks, [this](const HookEntry& h) { return h.id == id; });
}

HookHandle add_hook(const Tensor& t, GradHook hook) {
  if (!t.requires_grad())
    fail(ErrorKind::runtime,
         "register_hook: the tensor does not require grad, so no gradient will ever reach it");
  uint64_t id = next_hook++;
  GradMeta& meta = *meta_of(t);
  if (meta.node) {
    add_hook(*meta.node, {id, meta.slot, std::move(hook)});
    return {meta.node->hooks, id};
  }
  return append(meta.hooks, {id, 0, std::move(hook)});
}

HookHandle add_post_accumulate_grad_hook(const Tensor& leaf,
                                         std::function<void(const Tensor&)> hook) {
  if (!leaf.requires_grad() || !leaf.is_leaf())
    fail(
        ErrorKind::runtime,
        "post accumulate grad hooks cannot be registered on non-leaf tensors, nor on tensors that do not "
        "require grad: nothing is accumulated there");
  auto call = [hook = std::move(hook)](const Tensor& t) {
    hook(t);
    return Tensor{};
  };
  return append(meta_of(leaf)->after_hooks, {next_hook++, 0, std::move(call)});
}

void retain_grad(const Tensor& t) {
  if (!t.requires_grad()) fail(ErrorKind::runtime, "retain_grad: the tensor does not require grad");
  GradMeta& meta = *meta_of(t);
  if (!meta.node || meta.retained) return;
  // The hook must not keep the variable alive (the node would own itself): they share the gradient only.
  auto cell = std::make_shared<RetainedGrad>();
  cell->grad = std::move(meta.grad);
  meta.retained = cell;
  add_hook(*meta.node, {kRetainGrad, meta.slot, [cell](const Tensor& g) {
                          Tensor old;  // dropped after the lock
                          Uninterrupted whole;
                          std::lock_guard guard(cell->lock);
                          if (!cell->wanted) return Tensor{};
                          old = cell->grad;
                          cell->grad = old.defined() ? add(old, g) : clone(g);
                          return Tensor{};
                        }});
}

void record_custom(std::unique_ptr<CustomBackward> custom, Tensors in, std::span<Tensor> out) {
  Ref<Node> n = make_node(nullptr, nullptr, in, out.size());
  n->custom = std::move(custom);
  for (size_t i = 0; i < out.size(); ++i) {
    if (!out[i].defined() || !is_floating(out[i].dtype())) continue;
    bool written =
        std::ranges::any_of(in, [&](const Tensor& t) { return t.defined() && t.is_same(out[i]); });
    Tensor value = written ? out[i].detach() : out[i];
    set_history(value, n, static_cast<uint32_t>(i));
    if (written) follow_write(out[i], value);
  }
}

SavedTensor::SavedTensor(const Tensor& t, bool is_output) {
  check_savable(t);
  Tensor plain = t.detach();
  saved_ = {plain.ref(), take_snapshot(t.storage())};
  if (!is_output) edge_ = gradient_edge(t);
}

namespace {

bool same_view(const Tensor& a, const Tensor& b) {
  return a.storage() == b.storage() && a.data() == b.data() && a.dtype() == b.dtype() &&
         std::ranges::equal(a.sizes(), b.sizes()) && std::ranges::equal(a.strides(), b.strides());
}

}  // namespace

/// The leaf itself while it still is what was saved; else the old bytes with an edge to its accumulator.
Tensor SavedTensor::unpack(const Ref<Node>& producer, uint32_t slot) const {
  if (!saved_.alias) return {};
  Tensor t(saved_.alias);
  Storage* bytes = bytes_of(*saved_.bytes);
  Ref<Node> node = is_floating(t.dtype()) ? producer ? producer : edge_.node : nullptr;
  if (node && node->is_leaf() && bytes == t.storage() && same_view(node->variable(), t))
    return node->variable();
  Tensor fresh = from_storage(Ref<Storage>::share(bytes), t.dtype(), t.sizes(), t.strides(),
                              t.storage_offset());
  if (node) set_history(fresh, node, producer ? slot : edge_.slot);
  return fresh;
}

Tensor SavedTensor::unpack() const { return unpack(nullptr, 0); }

Ref<Node> grad_fn(const Tensor& t) {
  if (!t.requires_grad()) return {};
  GradMeta* meta = meta_of(t);
  return meta ? meta->node : Ref<Node>{};
}

std::string grad_fn_name(const Tensor& t) {
  Ref<Node> n = grad_fn(t);
  if (!n) return {};
  std::string text;
  bool upper = true;
  for (const char* c = n->name(); *c; ++c) {
    if (*c == '_') {
      upper = true;
      continue;
    }
    text += upper ? static_cast<char>(std::toupper(*c)) : *c;
    upper = false;
  }
  return text + "Backward0";
}

bool history_is_spent(const Tensor& t) {
  std::vector<Ref<Node>> stack;
  std::unordered_set<const Node*> seen;
  if (Ref<Node> first = grad_fn(t)) stack.push_back(first);
  while (!stack.empty()) {
    Ref<Node> n = std::move(stack.back());
    stack.pop_back();
    if (!seen.insert(n.get()).second) continue;
    if (n->freed && n->has_saved) return true;
    for (size_t i = 0; i < n->inputs; ++i)
      if (n->edges[i].node) stack.push_back(n->edges[i].node);
  }
  return false;
}

}  // namespace fluxion
