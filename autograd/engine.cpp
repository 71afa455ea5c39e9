// The backward pass: a heap of nodes ordered by creation, newest first, so a popped node has all its consumers done.
#include <algorithm>
#include <memory>
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
  std::vector<Target> targets = {};  // empty: every leaf accumulates into .grad
  std::vector<Tensor> found = {};    // one per target
  std::unordered_set<const Node*> on_the_way =
      {};                   // nodes that lead to a target; only if there are targets
  bool accumulate = false;  // targets are leaves whose .grad grows (backward(inputs=))
};

bool sole_owner(const Tensor& t) {
  Impl* p = t.impl();
  return p->refs.load() == 1 && p->storage && p->storage->refs.load() == 1 &&
         !p->storage->snapshot.load() && !p->base && !(p->flags & (kRequiresGrad | kTraced));
}

/// The gradient that a leaf keeps: dense memory of its own.
Tensor own_gradient(Tensor g) {
  if (sole_owner(g) && !overlaps_itself(*g.impl())) return g;
  return clone(g);
}

Tensor sum(Tensor have, const Tensor& more, bool record) {
  if (!record && sole_owner(have) && !overlaps_itself(*have.impl()) &&
      have.dtype() == more.dtype() && std::ranges::equal(have.sizes(), more.sizes())) {
    add_into(have, more);
    return have;
  }
  return add(have, more);
}

/// `n` undefined tensors, on the stack if few.
class Handles {
 public:
  explicit Handles(size_t n) : n_(n), many_(n > kFew ? new Tensor[n] : nullptr) {
    if (!many_) std::uninitialized_value_construct_n(few(), n_);
  }
  ~Handles() {
    if (!many_) std::destroy_n(few(), n_);
  }
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;
  std::span<Tensor> all() { return {many_ ? many_.get() : few(), n_}; }

 private:
  static constexpr size_t kFew = 8;
  Tensor* few() { return reinterpret_cast<Tensor*>(room_); }
  size_t n_;
  std::unique_ptr<Tensor[]> many_;
  alignas(Tensor) std::byte room_[kFew * sizeof(Tensor)];
};

class Engine {
 public:
  explicit Engine(Pass& pass) : pass_(pass) {}
  ~Engine() { abandon(); }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

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
    bool first;
    Tensor& slot = slots(n, &first)[e.slot];
    if (first) {
      heap_.push_back(e.node);
      std::ranges::push_heap(heap_, older);
    }
    slot = slot.defined() ? sum(std::move(slot), g, pass_.create_graph) : std::move(g);
  }

  /// The gradients that this pass collects for a node: in the node, unless a pass of another thread or the one that
  /// this pass was started from collects there.
  Tensor* slots(Node& n, bool* first) {
    *first = false;
    if (n.pass == this) return n.grads;
    if (!aside_.empty())
      if (auto it = aside_.find(&n); it != aside_.end()) return it->second.get();
    *first = true;
    if (n.pass) return (aside_[&n] = std::make_unique<Tensor[]>(n.outputs)).get();
    n.pass = this;
    return n.grads;
  }

  /// Moves the collected gradients out; the node is free for other passes.
  void take(Node& n, Tensor* to) {
    if (n.pass == this) {
      std::move(n.grads, n.grads + n.outputs, to);
      n.pass = nullptr;
    } else {
      auto it = aside_.find(&n);
      std::move(it->second.get(), it->second.get() + n.outputs, to);
      aside_.erase(it);
    }
  }

  /// Leaves every gradient slot empty, so that the graph can be used again after an error.
  void abandon() noexcept {
    for (Ref<Node>& n : heap_) {
      if (n->pass != this) continue;
      n->pass = nullptr;
      for (size_t i = 0; i < n->outputs; ++i) n->grads[i] = {};
    }
    heap_.clear();
    aside_.clear();
  }

  void visit(Node& n) {
    Handles room(n.outputs);
    std::span<Tensor> grads = room.all();
    take(n, grads.data());
    if (n.is_leaf()) run_hooks(ensure_meta(Tensor(n.leaf)).hooks, grads);
    else if (n.hooks) run_hooks(*n.hooks, grads);
    for (size_t i = 0; i < pass_.targets.size(); ++i)
      if (pass_.targets[i].node == &n && !pass_.accumulate)
        pass_.found[i] = grads[pass_.targets[i].slot];
    if (n.is_leaf()) return reach_leaf(n, std::move(grads[0]));
    propagate(n, grads);
  }

  static void run_hooks(std::vector<HookEntry> hooks,
                        std::span<Tensor> grads) {  // by value: a hook may remove itself
    for (HookEntry& h : hooks)
      if (grads[h.slot].defined())
        if (Tensor r = h.call(grads[h.slot]); r.defined()) grads[h.slot] = r;
  }

  void reach_leaf(Node& n, Tensor g) {
    if (!pass_.targets.empty() && !pass_.accumulate) return;
    Tensor leaf{n.leaf};
    GradMeta& meta = ensure_meta(leaf);
    if (!meta.grad.defined()) {
      g = own_gradient(std::move(g));
      if (!meta.grad.defined()) return void(meta.grad = std::move(g));  // still: copying takes time
    }
    if (pass_.create_graph) meta.grad = add(meta.grad, g);
    else accumulate_into(meta.grad, g);
  }

  /// In place: `.grad` stays the same object in the same memory. Whole, so that threads that share a leaf lose nothing;
  /// by value, for one of them may drop `.grad`.
  static void accumulate_into(Tensor have, const Tensor& g) {
    Uninterrupted whole;
    begin_write(have.storage());
    if (have.dtype() == g.dtype() && std::ranges::equal(have.sizes(), g.sizes())) add_into(have, g);
    else copy_elements(add(have, g), have);
  }

  void propagate(Node& n, std::span<Tensor> grads) {
    Small<uint8_t, 16> needed(n.inputs);
    for (size_t i = 0; i < n.inputs; ++i)
      needed[i] = n.edges[i].node &&
                  (pass_.targets.empty() || pass_.on_the_way.contains(n.edges[i].node.get()));
    if (std::ranges::find(needed, 1) == needed.end()) return;
    if (n.freed && n.has_saved)
      fail(
          ErrorKind::runtime,
          "backward: the graph through {} was freed by an earlier backward pass. Pass retain_graph=True to "
          "the first backward to go through it again",
          n.name());
    Handles room(n.inputs);
    std::span<Tensor> result = room.all();
    if (n.custom) n.custom->backward(grads, result);
    else call_rule(n, grads, needed, result);
    for (size_t i = 0; i < n.inputs; ++i)
      if (needed[i] && result[i].defined()) result[i] = fit(n, i, std::move(result[i]));
    if (!pass_.retain_graph) free_saved(n);
    for (size_t i = 0; i < n.inputs; ++i)
      if (needed[i]) deliver(n.edges[i], std::move(result[i]));
  }

  /// A rule may return the gradient of the broadcast or promoted operand; bring it to the operand's type.
  static Tensor fit(Node& n, size_t i, Tensor g) {
    if (!n.saved || !n.saved[i].alias) return g;
    const Impl& want = *n.saved[i].alias;
    if (g.dtype() == want.dtype && std::ranges::equal(g.sizes(), Ints(want.sizes(), want.rank)))
      return g;
    return to_dtype(sum_to_size(g, {want.sizes(), want.rank}), want.dtype);
  }

  static void free_saved(Node& n) {
    n.freed = true;
    if (n.custom) n.custom->release_saved();
    if (!n.saved) return;
    for (size_t i = 0; i < size_t(n.inputs) + n.outputs; ++i)
      if (n.saved[i].bytes) n.saved[i] = {};
  }

  void call_rule(Node& n, std::span<Tensor> grads, std::span<const uint8_t> needed,
                 std::span<Tensor> result) {
    size_t count = size_t(n.inputs) + n.outputs;
    Handles room(count);
    std::span<Tensor> saved = room.all();
    for (size_t i = 0; i < count; ++i) saved[i] = restore(n, i, grads);
    Vjp v{*n.op, n.attrs, grads, saved.first(n.inputs), saved.subspan(n.inputs), needed, result};
    if (n.op->vjp) n.op->vjp(v);
    else derived_vjp(v);
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
  std::unordered_map<const Node*, std::unique_ptr<Tensor[]>> aside_;
  std::vector<Ref<Node>> heap_;
};

/// Marks every node from which a target can be reached. Iterative depth-first search.
void find_on_the_way(Pass& pass, const std::vector<Edge>& roots) {
  std::unordered_set<const Node*> targets, seen;
  for (Target& t : pass.targets) targets.insert(t.node);
  struct Frame {
    Node* node;
    size_t next;
  };
  std::vector<Frame> stack;
  auto enter = [&](Node* n) {
    if (!seen.insert(n).second) return;
    if (targets.contains(n)) pass.on_the_way.insert(n);
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
    pass.targets.push_back({e.node.get(), e.slot});
    keep.push_back(std::move(e));
  }
  pass.accumulate = !inputs.empty();
  pass.found.resize(pass.targets.size());
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
    pass.targets.push_back({e.node.get(), e.slot});
    keep.push_back(std::move(e));
  }
  if (inputs.empty()) fail(ErrorKind::value, "grad: needs at least one input");
  pass.found.resize(inputs.size());
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
