// The tape: nodes that remember an executed op, and the autograd state of a tensor.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/spin_lock.h"
#include "ops/apply.h"
#include "tensor/thread_state.h"

namespace fluxion {

struct Node;
void retain(Node* n);
void release(Node* n);  // iterative: a chain of a million nodes does not recurse

struct Edge {
  Ref<Node> node;  // null: no gradient wanted
  uint32_t slot = 0;
};

/// A detached alias of a tensor's geometry and, if a rule needs the value, the bytes as they were.
struct Saved {
  Ref<Impl> alias;  // without storage if only the type was saved
  Ref<Snapshot> bytes;
};

using GradHook = std::function<Tensor(const Tensor&)>;  // may return an undefined tensor: unchanged
inline constexpr uint64_t kRetainGrad =
    0;  // the id of hooks that fill .grad: they run last, and follow in-place writes
struct HookEntry {
  uint64_t id;
  uint32_t slot;
  GradHook call;
};
using HookList = std::vector<HookEntry>;

/// A user-defined function on the tape.
struct CustomBackward {
  virtual ~CustomBackward() = default;
  virtual const char* name() const = 0;
  /// grad: one per output (undefined = zero); result: one per input.
  virtual void backward(std::span<const Tensor> grad, std::span<Tensor> result) = 0;
  virtual void release_saved() {}
};

struct Node {
  std::atomic<uint32_t> refs{1};
  uint16_t inputs = 0, outputs = 0;
  uint32_t bytes = 0;  // of the whole block
  SpinLock lock;       // guards `saved` and `freed`; of an accumulator: the leaf's gradient
  bool freed = false;  // saved values were dropped
  bool has_saved = false;
  std::atomic<const void*> owner{nullptr};  // the backward pass that `grads` belongs to
  uint64_t seq = 0;           // descending order of this is the order of backward; 0 for leaves
  const OpDef* op = nullptr;  // null: a leaf accumulator or a custom function
  Edge* edges = nullptr;
  Saved* saved = nullptr;   // inputs, then outputs
  Tensor* grads = nullptr;  // gradient slots, one per output; undefined outside a backward pass
  void* attrs = nullptr;
  Impl* leaf = nullptr;  // accumulator: whose .grad; held while the node is referenced
  std::unique_ptr<CustomBackward> custom;
  std::shared_ptr<HookList> hooks;  // handles point at it weakly
  Node* next_dead = nullptr;

  bool is_leaf() const { return !op && !custom; }
  Tensor variable() const { return Tensor(Ref<Impl>::share(leaf)); }
  const char* name() const { return op ? op->name : custom ? custom->name() : "accumulate_grad"; }
};

/// Where the gradient of a non-leaf goes: shared by the variable and the hook on its node.
struct RetainedGrad {
  SpinLock lock;
  bool wanted = true;  // the variable lives
  Tensor grad;
};

struct GradMeta final : AutogradMeta {
  static void* operator new(size_t bytes) { return pool_alloc(bytes); }
  static void operator delete(void* p) { pool_free(p, sizeof(GradMeta)); }

  Ref<Node> node;  // history; null for leaves
  uint32_t slot = 0;
  bool requires_grad = false;               // leaf only
  std::atomic<Node*> accumulator{nullptr};  // owned; without references it sleeps
  Tensor grad;                              // unless retained
  std::shared_ptr<RetainedGrad> retained;   // after retain_grad
  uint64_t epoch = 0;                       // bumped when the history of a base changes
  uint64_t base_epoch = 0;                  // of a view: the base's epoch its history belongs to
  std::shared_ptr<HookList> hooks;          // of a leaf
  std::shared_ptr<HookList> after_hooks;    // of a leaf: called with it once its .grad has grown
  ~GradMeta() override;
};

inline Tensor& grad_of(GradMeta& meta) { return meta.retained ? meta.retained->grad : meta.grad; }

GradMeta* meta_of(const Tensor& t);  // null if none
GradMeta& ensure_meta(const Tensor& t);
/// Brings the history of a view up to date with its base.
void renew_view(const Tensor& t);
/// Where a gradient for `t` goes; null node if it wants none.
Edge gradient_edge(const Tensor& t);
/// Points the history of `t` at output `slot` of `node`, or removes it.
void set_history(const Tensor& t, Ref<Node> node, uint32_t slot);

void add_hook(Node& n, HookEntry hook);

/// Raises PyTorch's error for tensors made in inference mode.
void check_savable(const Tensor& t);

/// `like`: the output of an elementwise op; inputs of its type need no type of their own.
Ref<Node> make_node(const OpDef* op, const void* attrs, std::span<const Tensor> in, size_t outputs,
                    const Impl* like = nullptr);

}  // namespace fluxion
