#include <algorithm>

#include "graph/passes.h"
#include "graph/rewrite.h"
#include "ops/apply.h"
#include "ops/functions.h"
#include "tensor/thread_state.h"

namespace fluxion::graph {

namespace {

constexpr int64_t kMaxGrowth = int64_t{1} << 20;

class Folder {
 public:
  explicit Folder(Graph& g) : g_(g), known_(g.values.size()), folded_(g.nodes.size()) {}

  bool run() {
    for (const Input& i : g_.inputs)
      if (i.kind == InputKind::constant) known_[i.value] = i.data;
    for (size_t i = 0; i < g_.nodes.size(); ++i) folded_[i] = evaluate(g_.nodes[i]);
    return materialise();
  }

 private:
  int64_t bytes_of(ValueId v) const {
    __int128 bytes = size_of(g_.values[v].dtype);
    for (const Dim& d : g_.values[v].shape) {
      bytes *= d.constant();
      if (bytes > kMaxGrowth) return kMaxGrowth + 1;
    }
    return static_cast<int64_t>(bytes);
  }

  /// Computes the results if all inputs are known and the results are small.
  bool evaluate(const Node& n) {
    if (!n.symbolic.empty() || !n.regions.empty()) return false;
    std::vector<Tensor> in;
    for (ValueId v : n.in) {
      if (!known_[v].defined()) return false;
      in.push_back(known_[v]);
    }
    int64_t total = 0;
    for (ValueId v : n.out)
      if (v != kNoValue && (total += bytes_of(v)) > kMaxGrowth) return false;
    std::vector<Tensor> out(n.out.size());
    if (n.op->view && !in.empty()) in[0] = contiguous(in[0]);
    try {
      apply(*n.op, n.attrs.empty() ? nullptr : n.attrs.data(), in, out);
    } catch (const Error&) {
      return false;  // the error belongs to the run
    }
    for (size_t i = 0; i < n.out.size(); ++i)
      if (n.out[i] != kNoValue && !fits(out[i], g_.values[n.out[i]])) return false;
    for (size_t i = 0; i < n.out.size(); ++i)
      if (n.out[i] != kNoValue) known_[n.out[i]] = out[i];
    return true;
  }

  static bool fits(const Tensor& t, const ValueType& type) {
    return t.defined() && t.dtype() == type.dtype && t.has(kWeak) == type.weak;
  }

  /// From the end: results that live nodes need become constants as long as there is room; what makes values from nothing
  /// (full, iota) stays.
  bool materialise() {
    std::vector<bool> needed(g_.values.size()), keep(g_.nodes.size(), true);
    for (const Result& r : g_.results) needed[r.value] = true;
    for (const Write& w : g_.writes) needed[w.value] = true;
    int64_t growth = 0;
    size_t folded = 0;
    std::vector<ValueId> constants;
    for (size_t i = g_.nodes.size(); i-- > 0;) {
      const Node& n = g_.nodes[i];
      int64_t bytes = 0;
      bool live = !folded_[i];
      for (ValueId v : n.out)
        if (v != kNoValue && needed[v]) {
          bytes += bytes_of(v);
          live = true;
        }
      if (!live) {  // only folded nodes read it
        keep[i] = false;
        ++folded;
        continue;
      }
      if (folded_[i] && !n.in.empty() && growth + bytes <= kMaxGrowth) {
        growth += bytes;
        for (ValueId v : n.out)
          if (v != kNoValue && needed[v]) constants.push_back(v);
        keep[i] = false;
        ++folded;
        continue;
      }
      for (ValueId v : n.in) needed[v] = true;
    }
    if (!folded) return false;
    for (auto v = constants.rbegin(); v != constants.rend(); ++v) add_constant(*v);
    keep_only(g_, keep, std::vector<bool>(g_.inputs.size(), true));
    return true;
  }

  void add_constant(ValueId v) {
    Input in;
    in.kind = InputKind::constant;
    in.value = v;
    in.data = contiguous(known_[v]);
    if (in.data.nbytes() < static_cast<int64_t>(in.data.storage()->nbytes))
      in.data = clone(in.data);
    if (g_.values[v].weak) in.data.impl()->flags |= kWeak | kNumber;
    g_.inputs.push_back(std::move(in));
  }

  Graph& g_;
  std::vector<Tensor> known_;
  std::vector<bool> folded_;
};

}  // namespace

bool fold_constants(Graph& g) {
  bool changed = in_regions(g, fold_constants);
  NoGrad plain;
  Override<Tracer*> untraced(thread_state().tracer, nullptr);
  return Folder(g).run() || changed;
}

}  // namespace fluxion::graph
