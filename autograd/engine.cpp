// The backward pass: a heap of nodes ordered by creation, newest first, so a popped node has all its consumers done.
#include <algorithm>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "autograd/autograd.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "tensor/thread_state.h"
#include "tensor/uninterrupted.h"

namespace fluxion {

namespace {

struct Target {
  Node* node;
  uint32_t slot;
};

/// What one pass does with what it finds.
struct Pass {
  bool retain_graph, create_graph;
  std::vector<Target> targets = {};                      // empty: every leaf accumulates into .grad
  std::vector<Tensor> found = {};                        // one per target
  std::unordered_multimap<const Node*, size_t> at = {};  // the targets at a node
  std::unordered_set<const Node*> on_the_way =
      {};                   // nodes that lead to a target; only if there are targets
  bool accumulate = false;  // targets are leaves whose .grad grows (backward(inputs=))

  void add_target(const Edge& e) {
    at.emplace(e.node.get(), targets.size());
    targets.push_back({e.node.get(), e.slot});
    found.emplace_back();
  }
};

bool sole_owner(const Tensor& t) {
  Impl* p = t.impl();
  return p->refs.load() == 1 && p->storage && p->storage->refs.load() == 1 &&
         !p->storage->snapshot.load() && !p->base && !(p->flags & (kRequiresGrad | kTraced));
}

Tensor sum(Tensor have, const Tensor& more, bool record) {
  if (!record && !is_tracing() && sole_owner(have) && !overlaps_itself(*have.impl()) &&
      have.dtype() == more.dtype() && std::ranges::equal(have.sizes(), more.sizes())) {
    add_into(have, more);
    return have;
  }
  return add(have, more);
}

/// `n` empty values, on the stack if few.
template <class T>
class Room {
 public:
  explicit Room(size_t n) : n_(n), many_(n > kFew ? new T[n] : nullptr) {
    if (!many_) std::uninitialized_value_construct_n(few(), n_);
  }
  ~Room() {
    if (!many_) std::destroy_n(few(), n_);
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  std::span<T> all() { return {many_ ? many_.get() : few(), n_}; }

 private:
  static constexpr size_t kFew = 8;
  T* few() { return reinterpret_cast<T*>(room_); }
  size_t n_;
  std::unique_ptr<T[]> many_;
  alignas(T) std::byte room_[kFew * sizeof(T)];
};
using Handles = Room<Tensor>;

/// One run. Runs may be nested (a hook that differentiates) or concurrent on shared nodes: the gradient slots in a
/// node serve the run that owns it, others keep theirs in a map.
class Engine {
 public:
  explicit Engine(Pass& pass) : pass_(pass) {}
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  /// After an error every gradient slot is left empty, so that the graph can be used again.
  ~Engine() {
    for (Ref<Node>& n : heap_)
      if (owns(*n)) take_gradients(*n, Handles(n->outputs).all());
  }

  void seed(const Edge& e, Tensor g) { deliver(e, std::move(g)); }

  void run() {
    while (!heap_.empty()) {
      std::ranges::pop_heap(heap_, older);
      Ref<Node> n = std::move(heap_.back());
      heap_.pop_back();
      visit(*n);
    }
  }

 private:
  static bool older(const Ref<Node>& a, const Ref<Node>& b) { return a->seq < b->seq; }

  void deliver(const Edge& e, Tensor g) {
    if (!e.node || !g.defined()) return;
    Node& n = *e.node;
    if (!pass_.targets.empty() && !pass_.on_the_way.contains(&n)) return;
    Tensor& slot = slots_of(e.node)[e.slot];
    slot = slot.defined() ? sum(std::move(slot), g, pass_.create_graph) : std::move(g);
  }

  bool owns(const Node& n) const { return n.owner.load(std::memory_order_relaxed) == this; }

  /// The gradient slots of a node in this run; the first call queues it.
  Tensor* slots_of(const Ref<Node>& n) {
    if (owns(*n)) return n->grads;
    if (!elsewhere_.empty())
      if (auto it = elsewhere_.find(n.get()); it != elsewhere_.end()) return it->second.data();
    heap_.push_back(n);
    std::ranges::push_heap(heap_, older);
    const void* nobody = nullptr;
    if (n->owner.compare_exchange_strong(nobody, this, std::memory_order_acquire)) return n->grads;
    return elsewhere_.emplace(n.get(), std::vector<Tensor>(n->outputs)).first->second.data();
  }

  /// What has come together at a node, which is then free for other runs.
  void take_gradients(Node& n, std::span<Tensor> grads) {
    if (owns(n)) {
      std::move(n.grads, n.grads + n.outputs, grads.begin());
      n.owner.store(nullptr, std::memory_order_release);
    } else if (auto it = elsewhere_.find(&n); it != elsewhere_.end()) {
      std::ranges::move(it->second, grads.begin());
      elsewhere_.erase(it);
    }
  }

  void visit(Node& n) {
    Handles room(n.outputs);
    std::span<Tensor> grads = room.all();
    take_gradients(n, grads);
    run_hooks(n.is_leaf() ? meta_of(n.variable())->hooks : n.hooks, grads);
    if (!pass_.at.empty() && !pass_.accumulate)
      for (auto [it, end] = pass_.at.equal_range(&n); it != end; ++it)
        pass_.found[it->second] = grads[pass_.targets[it->second].slot];
    if (n.is_leaf()) return reach_leaf(n, std::move(grads[0]));
    propagate(n, grads);
  }

  static void run_hooks(const std::shared_ptr<HookList>& hooks, std::span<Tensor> grads) {
    if (!hooks) return;
    for (const HookEntry& h : HookList(*hooks)) {  // a copy: a hook may remove itself
      Tensor& g = grads[h.slot];
      if (!g.defined()) continue;
      Tensor r = h.call(g);
      if (!r.defined()) continue;
      check_replacement(g, r);
      g = std::move(r);
    }
  }

  static void check_replacement(const Tensor& g, const Tensor& r) {
    if (g.dtype() == r.dtype() && std::ranges::equal(g.sizes(), r.sizes())) return;
    fail(
        ErrorKind::runtime,
        "register_hook: a hook has changed the {} of the gradient: it got {} and returned {}. Return a tensor of "
        "the gradient's shape and dtype, or None to leave it as it is",
        g.dtype() == r.dtype() ? "size" : "type", type_text(g), type_text(r));
  }

  void reach_leaf(Node& n, Tensor g) {
    if (!pass_.targets.empty() && !pass_.accumulate) return;
    Tensor leaf = n.variable();
    if (!std::ranges::equal(g.sizes(), leaf.sizes()))
      fail(
          ErrorKind::runtime,
          "backward: a leaf of shape {} got a gradient of shape {}. Was its .data replaced after it was used, or "
          "does a custom function return a gradient of another shape?",
          shape_text(leaf.sizes()), shape_text(g.sizes()));
    GradMeta& meta = *meta_of(leaf);
    if (g.dtype() != leaf.dtype()) g = to_dtype(g, leaf.dtype());
    trace_grad(leaf, false);
    if (!grad_of(meta).defined() || pass_.create_graph) trace_grad(leaf, true);
    accumulate(n, grad_of(meta), std::move(g));
    if (!meta.after_hooks) return;
    for (const HookEntry& h : HookList(*meta.after_hooks)) h.call(leaf);
  }

  /// Nothing is released under the lock but memory of ours: other memory may need the interpreter's lock to go.
  void accumulate(Node& n, Tensor& have, Tensor g) {
    Tensor old;
    Uninterrupted whole;
    std::lock_guard guard(n.lock);
    if (!have.defined()) {
      bool takes = sole_owner(g) && !overlaps_itself(*g.impl());  // else memory of its own
      have = takes ? std::move(g) : clone(g);
    } else if (!std::ranges::equal(have.sizes(), g.sizes())) {
      fail(
          ErrorKind::runtime,
          "backward: .grad has shape {} but its tensor has shape {}. Set .grad to None after giving a tensor "
          "another shape",
          shape_text(have.sizes()), shape_text(g.sizes()));
    } else if (pass_.create_graph) {
      old = have;
      have = add(old, g);
    } else {
      accumulate_into(have, g);
    }
  }

  /// In place: `.grad` stays the same object in the same memory.
  static void accumulate_into(const Tensor& have, const Tensor& g) {
    if (is_tracing()) {
      NoGrad plain;
      return assign(have, add(have, g));
    }
    begin_write(have.storage());
    if (have.dtype() == g.dtype()) add_into(have, g);
    else copy_elements(add(have, g), have);
  }

  void propagate(Node& n, std::span<Tensor> grads) {
    Small<uint8_t, 16> needed(n.inputs);
    for (size_t i = 0; i < n.inputs; ++i)
      needed[i] = n.edges[i].node &&
                  (pass_.targets.empty() || pass_.on_the_way.contains(n.edges[i].node.get()));
    if (std::ranges::find(needed, 1) == needed.end()) return;
    Handles room(n.inputs);
    std::span<Tensor> result = room.all();
    if (n.custom) n.custom->backward(grads, result);
    else call_rule(n, grads, needed, result);
    if (n.custom && !pass_.retain_graph) n.custom->release_saved();
    for (size_t i = 0; i < n.inputs; ++i)
      if (needed[i]) deliver(n.edges[i], std::move(result[i]));
  }

  /// A rule may return the gradient of the broadcast or promoted operand; bring it to the operand's type.
  static Tensor fit(Tensor g, const Tensor& want) {
    if (g.dtype() == want.dtype() && std::ranges::equal(g.sizes(), want.sizes())) return g;
    return to_dtype(sum_to_size(g, want.sizes()), want.dtype());
  }

  void call_rule(Node& n, std::span<Tensor> grads, std::span<const uint8_t> needed,
                 std::span<Tensor> result) {
    size_t count = size_t(n.inputs) + n.outputs;
    Room<Saved> held(pass_.retain_graph ? 0 : count);
    Handles room(count);
    std::span<Tensor> saved = room.all();
    open_saved(n, held.all(), grads, saved);
    Vjp v{*n.op, n.attrs, grads, saved.first(n.inputs), saved.subspan(n.inputs), needed, result};
    try {
      if (n.op->vjp) n.op->vjp(v);
      else derived_vjp(v);
    } catch (...) {
      give_back(n, held.all());
      throw;
    }
    for (size_t i = 0; i < n.inputs; ++i)
      if (needed[i] && result[i].defined() && saved[i].defined())
        result[i] = fit(std::move(result[i]), saved[i]);
  }

  /// Restores what was saved; values leave the node for `held` unless the graph is retained. Under the lock: two runs
  /// may want them. What `held` drops may need the interpreter's lock, so it goes without this one.
  void open_saved(Node& n, std::span<Saved> held, std::span<const Tensor> grads,
                  std::span<Tensor> saved) {
    std::lock_guard guard(n.lock);
    if (n.freed && n.has_saved)
      fail(
          ErrorKind::runtime,
          "backward: the graph through {} was freed by an earlier backward pass. Pass retain_graph=True to "
          "the first backward to go through it again",
          n.name());
    for (size_t i = 0; i < saved.size(); ++i) saved[i] = restore(n, i, grads);
    if (held.empty()) return;
    n.freed = true;
    for (size_t i = 0; i < saved.size(); ++i)
      if (n.saved[i].bytes) std::swap(n.saved[i], held[i]);
  }

  /// A rule that failed may be tried again.
  static void give_back(Node& n, std::span<Saved> held) {
    if (held.empty()) return;
    std::lock_guard guard(n.lock);
    n.freed = false;
    for (size_t i = 0; i < held.size(); ++i)
      if (held[i].bytes) std::swap(n.saved[i], held[i]);
  }

  /// The saved value; with its history if the gradient itself is to be differentiated.
  Tensor restore(Node& n, size_t i, std::span<const Tensor> grads) {
    Saved& s = n.saved[i];
    if (!s.alias)
      return i < n.inputs && n.edges[i].node ? grads[0] : Tensor{};  // of the output's type
    if (!s.bytes) return Tensor(s.alias);
    Edge edge =
        i < n.inputs ? n.edges[i] : Edge{Ref<Node>::share(&n), static_cast<uint32_t>(i - n.inputs)};
    bool with_history = pass_.create_graph && edge.node;
    Storage* bytes = bytes_of(*s.bytes);
    if (!with_history && bytes == s.alias->storage.get()) return Tensor(s.alias);
    Tensor t(s.alias);
    Tensor fresh = from_storage(Ref<Storage>::share(bytes), t.dtype(), t.sizes(), t.strides(),
                                (t.impl()->data - s.alias->storage->data) / size_of(t.dtype()));
    if (with_history) connect(fresh, edge);
    return fresh;
  }

  static void connect(const Tensor& t, const Edge& e) {
    if (!is_floating(t.dtype())) return;
    GradMeta& meta = ensure_meta(t);
    t.impl()->flags |= kRequiresGrad;
    meta.node = e.node;
    meta.slot = e.slot;
  }

  /// The gradient of a composite through its body, recomputed under a tape of its own.
  static void derived_vjp(const Vjp& v) {
    std::vector<Tensor> in(v.in.begin(), v.in.end()), out(v.out.size()), seeds, wanted, ys;
    std::vector<size_t> at;
    bool create = thread_state().grad_enabled;
    {
      EnableGrad on;
      for (size_t i = 0; i < in.size(); ++i) {
        if (!v.needs(i)) continue;
        in[i] = create && tracks_gradient(in[i]) ? identity(in[i])
                                                 : in[i].detach().set_requires_grad(true);
        wanted.push_back(in[i]);
        at.push_back(i);
      }
      v.op.composite({v.op, v.attr_data, in, out});
    }
    for (size_t k = 0; k < out.size(); ++k)
      if (v.grad[k].defined() && out[k].defined() && tracks_gradient(out[k])) {
        ys.push_back(out[k]);
        seeds.push_back(v.grad[k]);
      }
    if (ys.empty()) return;  // constant wherever it is defined
    std::vector<Tensor> gs = fluxion::grad(ys, wanted, seeds, create, create, true);
    for (size_t k = 0; k < gs.size(); ++k) v.result[at[k]] = gs[k];
  }

  Pass& pass_;
  std::vector<Ref<Node>> heap_;
  std::unordered_map<const Node*, std::vector<Tensor>> elsewhere_;
};

/// Marks every node from which a target can be reached. Iterative depth-first search.
void find_on_the_way(Pass& pass, const std::vector<Edge>& roots) {
  std::unordered_set<const Node*> seen;
  struct Frame {
    Node* node;
    size_t next;
  };
  std::vector<Frame> stack;
  auto enter = [&](Node* n) {
    if (!seen.insert(n).second) return;
    if (pass.at.contains(n)) pass.on_the_way.insert(n);
    stack.push_back({n, 0});
  };
  for (const Edge& root : roots) {
    if (root.node) enter(root.node.get());
    while (!stack.empty()) {
      Frame& f = stack.back();
      if (f.next < f.node->inputs) {
        Node* child = f.node->edges[f.next++].node.get();
        if (child) enter(child);
        continue;
      }
      for (size_t i = 0; i < f.node->inputs; ++i)
        if (f.node->edges[i].node && pass.on_the_way.contains(f.node->edges[i].node.get()))
          pass.on_the_way.insert(f.node);
      stack.pop_back();
    }
  }
}

Tensor seed_for(const Tensor& output, const Tensor* given, size_t position) {
  if (given && given->defined()) {
    if (!std::ranges::equal(given->sizes(), output.sizes()))
      fail(
          ErrorKind::runtime,
          "backward: gradient {} must have the shape of its output {}, got {}. Pass a gradient of the "
          "output's shape",
          position, shape_text(output.sizes()), shape_text(given->sizes()));
    return to_dtype(*given, output.dtype());
  }
  if (output.numel() != 1)
    fail(
        ErrorKind::runtime,
        "backward: output {} has shape {}; a gradient can be created implicitly only for one element. "
        "Reduce it with .sum() or .mean(), or pass gradient=",
        position, shape_text(output.sizes()));
  return ones(output.sizes(), output.dtype());
}

void run_pass(Pass& pass, Tensors outputs, Tensors gradients) {
  std::vector<Edge> roots;
  std::vector<Tensor> seeds;
  for (size_t i = 0; i < outputs.size(); ++i) {
    Edge e = gradient_edge(outputs[i]);
    if (!e.node)
      fail(
          ErrorKind::runtime,
          "backward: element {} of the outputs does not require grad and has no history. Was it computed "
          "under no_grad(), detached, or from inputs without requires_grad=True?",
          i);
    seeds.push_back(seed_for(outputs[i], i < gradients.size() ? &gradients[i] : nullptr, i));
    roots.push_back(std::move(e));
  }
  if (!pass.targets.empty()) find_on_the_way(pass, roots);
  Override<bool> mode(thread_state().grad_enabled, pass.create_graph);
  Engine engine(pass);
  for (size_t i = 0; i < roots.size(); ++i) engine.seed(roots[i], std::move(seeds[i]));
  roots.clear();
  engine.run();
}

}  // namespace

void backward(Tensors outputs, Tensors gradients, bool retain_graph, bool create_graph,
              Tensors inputs) {
  Pass pass{.retain_graph = retain_graph || create_graph, .create_graph = create_graph};
  std::vector<Edge> keep;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Edge e = gradient_edge(inputs[i]);
    if (!e.node) fail(ErrorKind::runtime, "backward: inputs[{}] does not require grad", i);
    if (!e.node->is_leaf()) retain_grad(inputs[i]);
    pass.add_target(e);
    keep.push_back(std::move(e));
  }
  pass.accumulate = !inputs.empty();
  run_pass(pass, outputs, gradients);
}

std::vector<Tensor> grad(Tensors outputs, Tensors inputs, Tensors grad_outputs, bool retain_graph,
                         bool create_graph, bool allow_unused) {
  Pass pass{.retain_graph = retain_graph || create_graph, .create_graph = create_graph};
  std::vector<Edge> keep;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Edge e = gradient_edge(inputs[i]);
    if (!e.node)
      fail(ErrorKind::runtime,
           "grad: inputs[{}] does not require grad. Call requires_grad_() on it before it is used",
           i);
    pass.add_target(e);
    keep.push_back(std::move(e));
  }
  if (inputs.empty()) fail(ErrorKind::value, "grad: needs at least one input");
  run_pass(pass, outputs, grad_outputs);
  for (size_t i = 0; i < pass.found.size(); ++i)
    if (!pass.found[i].defined() && !allow_unused)
      fail(
          ErrorKind::runtime,
          "grad: inputs[{}] was not used in the graph of the outputs. Pass allow_unused=True if that is intended",
          i);
  return std::move(pass.found);
}

}  // namespace fluxion
