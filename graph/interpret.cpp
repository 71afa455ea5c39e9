#include <algorithm>
#include <unordered_set>

#include "graph/control.h"
#include "graph/names.h"
#include "ops/apply.h"
#include "ops/functions.h"

namespace fluxion::graph {

namespace {

/// The values of one call of a graph or region.
class Interpreter {
 public:
  Interpreter(const Graph& g, std::span<const int64_t> sizes)
      : g_(g), sizes_(sizes), values_(g.values.size()), left_(g.values.size()) {
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

  std::vector<Tensor> results() const {
    std::vector<Tensor> out;
    for (const Result& r : g_.results) out.push_back(values_[r.value]);
    return out;
  }
  Tensor value(ValueId v) const { return values_[v]; }

 private:
  using List = std::vector<Tensor>;

  /// Values are dropped after their last use.
  void count_uses() {
    for (const Node& n : g_.nodes)
      for (ValueId v : n.in) ++left_[v];
    for (const Result& r : g_.results) ++left_[r.value];
    for (const Write& w : g_.writes) ++left_[w.value];
  }

  List step(const Node& n, List& in) {
    std::vector<std::byte> evaluated;
    const std::byte* attrs = n.attrs.data();
    if (!n.symbolic.empty()) {
      evaluated = attrs_for(n, sizes_);
      attrs = evaluated.data();
    }
    if (n.op == &kCase) return run_case(n, in);
    if (n.op == &kWhile) return run_while(n, in);
    if (n.op == &kScan) return run_scan(n, *reinterpret_cast<const ScanLoopAttrs*>(attrs), in);
    // Values have no strides; a view op is the one that cares.
    if (n.op->view && !in.empty()) in[0] = contiguous(in[0]);
    List out(n.out.size());
    apply(*n.op, n.attrs.empty() ? nullptr : attrs, in, out);
    return out;
  }

  List call(const Graph& region, std::span<const Tensor> in) const {
    Interpreter inner(region, sizes_);
    inner.bind(in);
    inner.run();
    return inner.results();
  }

  List run_case(const Node& n, const List& in) const {
    int64_t last = static_cast<int64_t>(n.regions.size()) - 1;
    int64_t chosen = std::clamp<int64_t>(in[0].item_int(), 0, last);
    return call(*n.regions[static_cast<size_t>(chosen)], std::span(in).subspan(1));
  }

  List run_while(const Node& n, List& in) const {
    while (call(*n.regions[0], in)[0].item_int()) {
      List next = call(*n.regions[1], in);
      std::ranges::move(next, in.begin());
    }
    in.resize(n.out.size());
    return in;
  }

  List run_scan(const Node& n, const ScanLoopAttrs& a, List& in) const {
    auto carry = static_cast<size_t>(a.carry), xs = static_cast<size_t>(a.xs);
    std::vector<List> ys(n.out.size() - carry);
    List step = in;
    for (int64_t i = 0; i < a.length; ++i) {
      int64_t t = a.reverse ? a.length - 1 - i : i;
      for (size_t k = carry; k < carry + xs; ++k) step[k] = select(in[k], 0, t);
      List out = call(*n.regions[0], step);
      for (size_t k = 0; k < carry; ++k) step[k] = out[k];
      for (size_t k = 0; k < ys.size(); ++k) ys[k].push_back(out[carry + k]);
    }
    if (a.reverse)
      for (List& y : ys) std::ranges::reverse(y);
    step.resize(carry);
    for (size_t k = 0; k < ys.size(); ++k) step.push_back(stacked(n, carry + k, ys[k]));
    return step;
  }

  Tensor stacked(const Node& n, size_t result, const List& parts) const {
    if (!parts.empty()) return stack(parts, 0);
    const Graph& body = *n.regions[0];
    const ValueType& y = body.values[body.results[result].value];
    Shape shape{0};
    for (const Dim& d : y.shape) shape.push_back(d.evaluate(sizes_));
    return empty(shape, y.dtype);
  }

  const Graph& g_;
  std::span<const int64_t> sizes_;
  std::vector<Tensor> values_;
  std::vector<uint32_t> left_;
};

}  // namespace

std::vector<Tensor> interpret(const Graph& g, std::span<const Tensor> arguments) {
  std::vector<int64_t> sizes = bind_dims(g, arguments);
  Interpreter run(g, sizes);
  run.bind(arguments);
  run.run();
  std::vector<Tensor> out = run.results();
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
