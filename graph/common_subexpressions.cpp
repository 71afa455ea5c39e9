#include <algorithm>
#include <bit>
#include <functional>
#include <string>
#include <unordered_map>

#include "graph/passes.h"
#include "graph/rewrite.h"

namespace fluxion::graph {

namespace {

constexpr int64_t kComparedBytes = 4096;  // larger constants are equal only if they share memory

void append(std::string& key, const void* data, size_t bytes) {
  key.append(static_cast<const char*>(data), bytes);
}
template <class T>
void append(std::string& key, const T& v) {
  append(key, &v, sizeof v);
}
void append(std::string& key, const Dim& d) {
  append(key, d.terms().size());
  for (const Monomial& m : d.terms()) {
    append(key, m.coefficient);
    append(key, m.symbols.size());
    append(key, m.symbols.data(), m.symbols.size() * sizeof(uint32_t));
  }
}

/// Equal keys: equal results. What was drawn from equal random states is equal, too.
void key_of(const Node& n, std::string& key) {
  key.clear();
  append(key, n.op);
  std::vector<std::byte> attrs = comparable_attrs(n);
  append(key, attrs.data(), attrs.size());
  std::vector<SymbolicAttr> symbolic = n.symbolic;
  std::ranges::sort(symbolic, {}, [](const SymbolicAttr& s) { return std::pair(s.field, s.item); });
  for (const SymbolicAttr& s : symbolic) {
    append(key, s.field);
    append(key, s.item);
    append(key, s.value);
  }
  append(key, n.in.size());
  append(key, n.in.data(), n.in.size() * sizeof(ValueId));
}

/// Nodes by key. Holds hashes and numbers only: a table of keys would spend its time on cache misses.
class NodeTable {
 public:
  explicit NodeTable(const Graph& g) : g_(g), slots_(std::bit_ceil(2 * g.nodes.size() + 1)) {}

  /// The first node with the key of node i, which may be i.
  size_t find_or_add(size_t i) {
    key_of(g_.nodes[i], key_);
    size_t hash = std::hash<std::string_view>{}(key_);
    for (size_t at = hash;; ++at) {
      Slot& s = slots_[at & (slots_.size() - 1)];
      if (s.node == kEmpty) {
        s = {hash, static_cast<uint32_t>(i)};
        return i;
      }
      if (s.hash != hash) continue;
      key_of(g_.nodes[s.node], other_);
      if (other_ == key_) return s.node;
    }
  }

 private:
  static constexpr uint32_t kEmpty = UINT32_MAX;
  struct Slot {
    size_t hash = 0;
    uint32_t node = kEmpty;
  };
  const Graph& g_;
  std::vector<Slot> slots_;
  std::string key_, other_;
};

std::string key_of(const Input& constant, const ValueType& type) {
  std::string key;
  append(key, type.dtype);
  append(key, type.weak);
  for (const Dim& d : type.shape) append(key, d);
  const Tensor& t = constant.data;
  bool compared = t.is_contiguous() && t.nbytes() <= kComparedBytes;
  append(key, compared);
  if (compared) {
    append(key, t.data(), static_cast<size_t>(t.nbytes()));
  } else {
    append(key, t.data());
    append(key, t.strides().data(), t.strides().size_bytes());
  }
  return key;
}

}  // namespace

bool common_subexpressions(Graph& g) {
  bool changed = in_regions(g, common_subexpressions);
  Replacements r(g.values.size());
  std::vector<bool> keep_node(g.nodes.size(), true), keep_input(g.inputs.size(), true);
  size_t dropped = 0;
  std::unordered_map<std::string, ValueId> constants;
  for (size_t i = 0; i < g.inputs.size(); ++i) {
    const Input& in = g.inputs[i];
    if (in.kind != InputKind::constant) continue;
    auto [it, fresh] = constants.emplace(key_of(in, g.values[in.value]), in.value);
    if (fresh) continue;
    r.replace(in.value, it->second);
    keep_input[i] = false;
    ++dropped;
  }
  NodeTable nodes(g);
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    Node& n = g.nodes[i];
    apply_replacements(n, r);
    if (!n.regions.empty()) continue;
    size_t same = nodes.find_or_add(i);
    if (same == i) continue;
    Node& first = g.nodes[same];
    for (size_t k = 0; k < n.out.size(); ++k) {
      if (n.out[k] == kNoValue) continue;
      if (first.out[k] == kNoValue) first.out[k] = n.out[k];
      else r.replace(n.out[k], first.out[k]);
    }
    keep_node[i] = false;
    ++dropped;
  }
  if (!dropped) return changed;
  apply_replacements_at_end(g, r);
  keep_only(g, keep_node, keep_input);
  return true;
}

}  // namespace fluxion::graph
