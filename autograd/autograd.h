// Reverse-mode differentiation over the tape.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "autograd/node.h"
#include "ops/function.h"

namespace fluxion {

/// Accumulates d(outputs)/d(leaf) into `.grad` of every leaf (or of `inputs` only, if given).
/// Undefined gradients mean 1 for one-element outputs. Raises if an output has no history.
void backward(Tensors outputs, Tensors gradients = {}, bool retain_graph = false,
              bool create_graph = false, Tensors inputs = {});

/// The gradients of outputs with respect to inputs, without touching `.grad`.
/// Raises for an input that was not used, unless allow_unused (then undefined).
std::vector<Tensor> grad(Tensors outputs, Tensors inputs, Tensors grad_outputs = {},
                         bool retain_graph = false, bool create_graph = false,
                         bool allow_unused = false);

/// A registered hook: found again wherever the tensor's history went; holds neither tensor nor node.
struct HookHandle {
  std::weak_ptr<HookList> list;
  uint64_t id = 0;
  void remove() const;
};
/// Calls `hook` with the gradient of `t` whenever it is computed; a defined result replaces it and must have
/// its type.
HookHandle add_hook(const Tensor& t, GradHook hook);
/// Calls `hook` with the leaf whenever backward has accumulated into its `.grad`.
HookHandle add_post_accumulate_grad_hook(const Tensor& leaf,
                                         std::function<void(const Tensor&)> hook);
/// Keeps the gradient of a non-leaf in `.grad`.
void retain_grad(const Tensor& t);

/// Records a user-defined function: `out` gets history through `custom`. Inputs that want no gradient get no edge.
/// Outputs must not carry history; integer outputs get none.
void record_custom(std::unique_ptr<CustomBackward> custom, Tensors in, std::span<Tensor> out);
/// A saved value for custom functions: the bytes as they are now; history is restored on unpack.
class SavedTensor {
 public:
  SavedTensor() = default;
  /// `is_output`: saved tensors that are outputs of the function keep no reference to it.
  SavedTensor(const Tensor& t, bool is_output);
  Tensor unpack(const Ref<Node>& producer, uint32_t slot) const;
  Tensor unpack() const;

 private:
  Saved saved_;
  Edge edge_;
};

/// Whether a backward pass has freed what the history of `t` needs.
bool history_is_spent(const Tensor& t);

/// Tells the tracer, if there is one, that `.grad` is about to be read or rebound.
void trace_grad(const Tensor& leaf, bool rebinds);

/// "MulBackward"-like name of what made t; empty for leaves.
std::string grad_fn_name(const Tensor& t);
Ref<Node> grad_fn(const Tensor& t);

/// Raises PyTorch's errors if `dst` may not be written in place now.
void check_writable(const Tensor& dst, bool value_tracks);
/// `dst` was overwritten with `value`: its history, or that of its base, becomes that of the write.
void follow_write(const Tensor& dst, const Tensor& value);
/// `x.data = y`: rebinds the handle to y's memory and geometry; history and grad stay.
void set_data(const Tensor& x, const Tensor& y);

}  // namespace fluxion
