#include <algorithm>
#include <unordered_set>

#include "graph/control.h"
#include "graph/names.h"
#include "ops/apply.h"
#include "ops/functions.h"

namespace fluxion::graph {

namespace {

/// The values of one call of a graph.
class Interpreter {
 public:
  Interpreter(const Graph& root, const Graph& g, std::span<const int64_t> sizes)
      : root_(root), g_(g), sizes_(sizes), values_(g.values.size()), left_(g.values.size()) {
    count_uses();
  }

  void bind(std::span<const Tensor> arguments) {
    size_t next = 0;
    for (const Input& i : g_.inputs) {
      if (i.kind == InputKind::slot && !i.data.defined())
        fail(ErrorKind::value, "graph {}: slot {} is not bound", name_text(g_.name),
             quoted(i.name));
      values_[i.value] = i.kind == InputKind::argument ? arguments[next++] : i.data;
    }
  }

  void run() {
    for (const Node& n : g_.nodes) {
      std::vector<Tensor> in;
      for (ValueId v : n.in) in.push_back(values_[v]);
      std::vector<Tensor> out = step(n, in);
      for (size_t i = 0; i < n.out.size(); ++i) {
        ValueId v = n.out[i];
        if (v == kNoValue || !left_[v]) continue;
        if (!out[i].defined())
          fail(ErrorKind::value, "graph {}: {} gives no result {}", name_text(g_.name), n.op->name,
               i);
        values_[v] = std::move(out[i]);
      }
      for (ValueId v : n.in)
        if (--left_[v] == 0) values_[v] = Tensor{};
    }
  }

  Tensor value(ValueId v) const { return values_[v]; }

 private:
  /// Values are dropped after their last use.
  void count_uses() {
    for (const Node& n : g_.nodes)
      for (ValueId v : n.in) ++left_[v];
    for (const Result& r : g_.results) ++left_[r.value];
    for (const Write& w : g_.writes) ++left_[w.value];
  }

  std::vector<Tensor> step(const Node& n, std::vector<Tensor>& in) {
    std::vector<std::byte> evaluated;
    const std::byte* attrs = n.attrs.data();
    if (!n.symbolic.empty()) {
      evaluated = attrs_for(n, sizes_);
      attrs = evaluated.data();
    }
    // Values have no strides; a view op is the one that cares.
    if (n.op->view && !in.empty()) in[0] = contiguous(in[0]);
    std::vector<Tensor> out(n.op->outputs);
    apply(*n.op, n.attrs.empty() ? nullptr : attrs, in, out);
    return out;
  }

  [[maybe_unused]] const Graph& root_;
  const Graph& g_;
  std::span<const int64_t> sizes_;
  std::vector<Tensor> values_;
  std::vector<uint32_t> left_;
};

}  // namespace

std::vector<Tensor> interpret(const Graph& g, std::span<const Tensor> arguments) {
  std::vector<int64_t> sizes = bind_dims(g, arguments);
  Interpreter run(g, g, sizes);
  run.bind(arguments);
  run.run();
  std::vector<Tensor> out;
  for (const Result& r : g.results) out.push_back(run.value(r.value));
  for (const Write& w : g.writes) out.push_back(run.value(w.value));
  std::unordered_set<const Storage*> shared;
  for (const Tensor& t : arguments) shared.insert(t.storage());
  for (const Input& i : g.inputs)
    if (i.data.defined()) shared.insert(i.data.storage());
  for (Tensor& t : out)
    if (t.storage() && !shared.insert(t.storage()).second) t = clone(t);
  return out;
}

}  // namespace fluxion::graph
