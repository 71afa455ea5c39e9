// Autograd state seen from a tensor: requires_grad, grad, detach, hooks, custom functions.
#include <algorithm>
#include <atomic>

#include "autograd/autograd.h"
#include "ops/functions.h"
#include "tensor/thread_state.h"

namespace fluxion {

bool Tensor::requires_grad() const {
  if (p_->base) renew_view(*this);
  return p_->flags & kRequiresGrad;
}

bool Tensor::is_leaf() const {
  if (p_->base) renew_view(*this);
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
  if (!is_leaf()) return *this;
  if (!on && !p_->meta) return *this;
  ensure_meta(*this).requires_grad = on;
  p_->flags = static_cast<uint16_t>(on ? p_->flags | kRequiresGrad : p_->flags & ~kRequiresGrad);
  return *this;
}

Tensor Tensor::grad() const {
  GradMeta* meta = meta_of(*this);
  return meta ? meta->grad : Tensor{};
}

void Tensor::set_grad(const Tensor& g) {
  if (!g.defined()) {
    if (GradMeta* meta = meta_of(*this)) meta->grad = {};
    return;
  }
  if (!std::ranges::equal(g.sizes(), sizes()) || g.dtype() != dtype())
    fail(ErrorKind::runtime, "grad: must have the tensor's type {}, got {}", type_text(*this),
         type_text(g));
  ensure_meta(*this).grad = g;
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

}  // namespace

uint64_t add_hook(const Tensor& t, GradHook hook) {
  if (!t.requires_grad())
    fail(ErrorKind::runtime,
         "register_hook: the tensor does not require grad, so no gradient will ever reach it");
  uint64_t id = next_hook++;
  GradMeta& meta = *meta_of(t);
  if (!meta.node) meta.hooks.push_back({id, 0, std::move(hook)});
  else add_hook(*meta.node, {id, meta.slot, std::move(hook)});
  return id;
}

void remove_hook(const Tensor& t, uint64_t id) {
  GradMeta* meta = meta_of(t);
  if (!meta) return;
  auto same = [id](const HookEntry& h) { return h.id == id; };
  std::erase_if(meta->hooks, same);
  if (meta->node && meta->node->hooks) std::erase_if(*meta->node->hooks, same);
}

void retain_grad(const Tensor& t) {
  if (!t.requires_grad()) fail(ErrorKind::runtime, "retain_grad: the tensor does not require grad");
  GradMeta& meta = *meta_of(t);
  if (!meta.node || meta.retains_grad) return;
  meta.retains_grad = true;
  // The hook must not keep the variable alive (the node would own itself): the variable is reached weakly.
  auto slot = std::make_shared<Impl*>(t.impl());
  meta.weak_self = slot;
  add_hook(*meta.node, {kRetainGrad, meta.slot, [slot](const Tensor& g) {
                          if (*slot) {
                            GradMeta& m = ensure_meta(Tensor(Ref<Impl>::share(*slot)));
                            m.grad = m.grad.defined() ? add(m.grad, g) : clone(g);
                          }
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
  Tensor plain = t.detach();
  saved_ = {plain.ref(), take_snapshot(t.storage())};
  if (!is_output) edge_ = gradient_edge(t);
}

Tensor SavedTensor::unpack(const Ref<Node>& producer, uint32_t slot) const {
  if (!saved_.alias) return {};
  Tensor t(saved_.alias);
  Tensor fresh = from_storage(Ref<Storage>::share(bytes_of(*saved_.bytes)), t.dtype(), t.sizes(),
                              t.strides(), t.storage_offset());
  Ref<Node> node = producer ? producer : edge_.node;
  if (node && is_floating(t.dtype())) {
    if (node->is_leaf()) return Tensor(node->leaf);
    set_history(fresh, node, producer ? slot : edge_.slot);
  }
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

}  // namespace fluxion
