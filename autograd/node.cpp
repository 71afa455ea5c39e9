#include "autograd/node.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "ops/region.h"
#include "tensor/thread_state.h"

namespace fluxion {

void retain(Node* n) { n->refs.fetch_add(1, std::memory_order_relaxed); }

namespace {

/// Nodes whose count reached zero, waiting for the outermost release on this thread.
Node*& dead_list() { return reinterpret_cast<Node*&>(thread_state().dead_nodes); }

size_t saved_count(const Node& n) { return n.saved ? size_t(n.inputs) + n.outputs : 0; }

void destroy(Node* n) {
  for (size_t i = 0; i < n->inputs; ++i) n->edges[i].~Edge();
  for (size_t i = 0; i < saved_count(*n); ++i) n->saved[i].~Saved();
  for (size_t i = 0; i < n->outputs; ++i) n->grads[i].~Tensor();
  size_t bytes = n->bytes;
  n->~Node();
  if (bytes <= kPoolLimit) pool_free(n, bytes);
  else ::operator delete(n);
}

constexpr size_t aligned(size_t n) { return (n + 15) / 16 * 16; }

/// One block: node, edges, gradient slots, saved values, attributes.
Node* allocate_node(size_t inputs, size_t outputs, bool saves, size_t attr_bytes) {
  size_t edges = aligned(sizeof(Node)), grads = edges + inputs * sizeof(Edge);
  size_t saved = grads + outputs * sizeof(Tensor);
  size_t attrs = aligned(saved + (saves ? (inputs + outputs) * sizeof(Saved) : 0));
  size_t bytes = attrs + attr_bytes;
  char* block = static_cast<char*>(bytes <= kPoolLimit ? pool_alloc(bytes) : ::operator new(bytes));
  Node* n = new (block) Node;
  n->bytes = static_cast<uint32_t>(bytes);
  n->inputs = static_cast<uint16_t>(inputs);
  n->outputs = static_cast<uint16_t>(outputs);
  n->edges = reinterpret_cast<Edge*>(block + edges);
  n->grads = reinterpret_cast<Tensor*>(block + grads);
  n->saved = saves ? reinterpret_cast<Saved*>(block + saved) : nullptr;
  n->attrs = block + attrs;
  for (size_t i = 0; i < inputs; ++i) new (&n->edges[i]) Edge;
  for (size_t i = 0; i < outputs; ++i) new (&n->grads[i]) Tensor;
  for (size_t i = 0; i < saved_count(*n); ++i) new (&n->saved[i]) Saved;
  return n;
}

/// The node belongs to the variable; its first reference holds the variable, its last lets it go. So it can be picked
/// up at any time, also by another thread while the last reference goes.
Ref<Node> accumulator_of(Impl* leaf, GradMeta& meta) {
  Node* n = meta.accumulator.load(std::memory_order_acquire);
  if (!n) {
    Node* made = allocate_node(0, 1, false, 0);
    made->refs.store(0, std::memory_order_relaxed);
    made->leaf = leaf;
    if (meta.accumulator.compare_exchange_strong(n, made, std::memory_order_acq_rel)) n = made;
    else destroy(made);
  }
  if (n->refs.fetch_add(1, std::memory_order_acq_rel) == 0) retain(leaf);
  return Ref<Node>::adopt(n);
}

}  // namespace

void release(Node* n) {
  if (n->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (n->leaf) return release(n->leaf);
  ThreadState& ts = thread_state();
  n->next_dead = dead_list();
  dead_list() = n;
  if (ts.draining_nodes) return;
  Override<bool> draining(ts.draining_nodes, true);
  while (Node* next = dead_list()) {
    dead_list() = next->next_dead;
    destroy(next);
  }
}

namespace {

Tensor take_gradient(GradMeta& meta) {
  if (!meta.retained) return std::move(meta.grad);
  std::lock_guard guard(meta.retained->lock);
  meta.retained->wanted = false;
  return std::move(meta.retained->grad);
}

}  // namespace

// A chain of gradients of gradients is taken apart link by link.
GradMeta::~GradMeta() {
  if (Node* n = accumulator.load(std::memory_order_acquire)) destroy(n);
  Tensor next = take_gradient(*this);
  while (next.defined() && next.impl()->refs.load() == 1 && next.impl()->meta)
    next = take_gradient(*meta_of(next));
}

GradMeta* meta_of(const Tensor& t) { return static_cast<GradMeta*>(t.impl()->meta); }

GradMeta& ensure_meta(const Tensor& t) {
  if (!t.impl()->meta) t.impl()->meta = new GradMeta;
  return *meta_of(t);
}

void add_hook(Node& n, HookEntry hook) {
  if (!n.hooks) n.hooks = std::make_shared<HookList>();
  auto last = hook.id == kRetainGrad ? n.hooks->end()
                                     : std::ranges::find(*n.hooks, kRetainGrad, &HookEntry::id);
  n.hooks->insert(last, std::move(hook));
}

namespace {

/// The tensor's gradient is from now on that of its new value.
void move_retaining_hook(GradMeta& meta, Node* to, uint32_t slot) {
  auto& hooks = *meta.node->hooks;
  auto it = std::ranges::find_if(
      hooks, [&](const HookEntry& h) { return h.id == kRetainGrad && h.slot == meta.slot; });
  if (it == hooks.end()) return;
  if (to) add_hook(*to, {kRetainGrad, slot, std::move(it->call)});
  hooks.erase(it);
}

}  // namespace

void set_history(const Tensor& t, Ref<Node> node, uint32_t slot) {
  if (!node && !t.impl()->meta) return;
  GradMeta& meta = ensure_meta(t);
  if (meta.retained && meta.node && meta.node->hooks) move_retaining_hook(meta, node.get(), slot);
  if (node) t.impl()->flags |= kRequiresGrad;
  else if (!meta.requires_grad) t.impl()->flags &= ~kRequiresGrad;
  meta.node = std::move(node);
  meta.slot = slot;
  if (const Ref<Impl>& base = t.impl()->base; base && base->meta)
    meta.base_epoch = static_cast<GradMeta*>(base->meta)->epoch;
}

void renew_view(const Tensor& t) {
  Impl* p = t.impl();
  if (p->flags & kNoGradView || !p->base || !p->base->meta || p->base->storage != p->storage)
    return;
  Tensor base{p->base};
  GradMeta& base_meta = *meta_of(base);
  GradMeta* meta = meta_of(t);
  if (base_meta.epoch == (meta ? meta->base_epoch : 0)) return;
  Edge edge = gradient_edge(base);
  if (!edge.node) return set_history(t, nullptr, 0);
  Region region = region_of(t, base);
  const Tensor in[] = {base};
  set_history(t, make_node(&kTakeRegion, &region, in, 1), 0);
}

Edge gradient_edge(const Tensor& t) {
  if (!t.defined()) return {};
  if (t.impl()->base) renew_view(t);
  if (!(t.impl()->flags & kRequiresGrad)) return {};
  GradMeta& meta = *meta_of(t);
  if (meta.node) return {meta.node, meta.slot};
  return {accumulator_of(t.impl(), meta), 0};
}

namespace {

Saved save_type(const Tensor& t) {
  Impl* p = new_impl(t.dtype(), t.dim());
  std::memcpy(p->geometry, t.impl()->geometry, 2 * t.dim() * sizeof(int64_t));
  p->numel = t.numel();
  p->flags = t.impl()->flags & (kContiguous | kWeak);
  return {Ref<Impl>::adopt(p), nullptr};
}

Saved save_value(const Tensor& t) {
  check_savable(t);
  Saved s = save_type(t);
  s.alias->storage = t.impl()->storage;
  s.alias->data = t.impl()->data;
  s.bytes = take_snapshot(t.storage());
  return s;
}

bool same_type(const Impl& a, const Impl& b) {
  return a.dtype == b.dtype && a.rank == b.rank &&
         std::equal(a.sizes(), a.sizes() + a.rank, b.sizes());
}

SaveRule rule_for(const OpDef& op, size_t i) {
  if (op.saves.empty()) return op.vjp ? SaveRule{} : SaveRule{kAllInputs, 0};
  return op.saves[std::min(i, op.saves.size() - 1)];
}

}  // namespace

void check_savable(const Tensor& t) {
  if (t.has(kInference) && !thread_state().inference_mode)
    fail(
        ErrorKind::runtime,
        "Inference tensors cannot be saved for backward: a tensor of shape {} made in inference_mode() is used "
        "in a computation that wants gradients. Make a clone() of it, or use no_grad() instead of "
        "inference_mode()",
        shape_text(t.sizes()));
}

/// Edges only; the caller saves what rules need.
Ref<Node> make_node(const OpDef* op, const void* attrs, std::span<const Tensor> in, size_t outputs,
                    const Impl* like) {
  auto n =
      Ref<Node>::adopt(allocate_node(in.size(), outputs, op != nullptr, op ? op->attr_bytes : 0));
  n->op = op;
  if (op && op->attr_bytes) std::memcpy(n->attrs, attrs, op->attr_bytes);
  uint64_t seq = thread_state().sequence;
  for (size_t i = 0; i < in.size(); ++i) {
    n->edges[i] = gradient_edge(in[i]);
    if (n->edges[i].node) seq = std::max(seq, n->edges[i].node->seq);
  }
  n->seq = thread_state().sequence = seq + 1;
  if (!op) return n;
  uint32_t values = 0;
  for (size_t i = 0; i < in.size(); ++i)
    if (n->edges[i].node) values |= rule_for(*op, i).inputs;
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i].defined()) continue;
    bool value = in[i].storage() &&
                 (i < 32 ? values >> i & 1 : values == kAllInputs);  // rules pass on types, too
    if (value && in[i].has(kNumber)) {
      n->saved[i] = {in[i].ref(), nullptr};  // never written
    } else if (value) {
      n->has_saved = true;
      n->saved[i] = save_value(in[i]);
    } else if (!like || (n->edges[i].node && !same_type(*in[i].impl(), *like))) {
      n->saved[i] = save_type(in[i]);
    }
  }
  return n;
}

namespace {

class TapeRecorder final : public Tape {
 public:
  bool wants(const Tensor& t) override {
    renew_view(t);
    return t.impl()->flags & kRequiresGrad;
  }

  void record(const OpDef& op, const void* attrs, std::span<const Tensor> in,
              std::span<Tensor> out) override {
    bool elementwise = op.space == Space::elementwise && out.size() == 1 && op.vjp;
    Ref<Node> n = make_node(&op, attrs, in, out.size(), elementwise ? out[0].impl() : nullptr);
    uint32_t values = 0;
    for (size_t i = 0; i < in.size(); ++i)
      if (n->edges[i].node) values |= rule_for(op, i).outputs;
    for (size_t i = 0; i < out.size(); ++i) {
      if (!out[i].defined()) continue;
      if (values >> i & 1) {
        n->has_saved = true;
        n->saved[in.size() + i] = save_value(out[i]);
      } else if (out.size() > 1) {
        n->saved[in.size() + i] = save_type(out[i]);
      }
      if (is_floating(out[i].dtype())) set_history(out[i], n, static_cast<uint32_t>(i));
    }
  }
};

TapeRecorder recorder;
[[maybe_unused]] const bool installed = (set_tape(&recorder), true);

}  // namespace

}  // namespace fluxion
