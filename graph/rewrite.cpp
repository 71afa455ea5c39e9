#include "graph/rewrite.h"

#include <algorithm>

#include "graph/attrs.h"

namespace fluxion::graph {

ValueId Replacements::operator()(ValueId v) {
  if (v >= to_.size()) return v;
  ValueId end = v;
  while (end < to_.size() && to_[end] != kNoValue) end = to_[end];
  while (v != end) {
    ValueId next = to_[v];
    to_[v] = end;
    v = next;
  }
  return end;
}

bool Replacements::any() const {
  return std::ranges::any_of(to_, [](ValueId v) { return v != kNoValue; });
}

void apply_replacements(Node& n, Replacements& r) {
  for (ValueId& v : n.in) v = r(v);
}

void apply_replacements_at_end(Graph& g, Replacements& r) {
  for (Result& result : g.results) result.value = r(result.value);
  for (Write& w : g.writes) w.value = r(w.value);
}

void keep_only(Graph& g, const std::vector<bool>& keep_node, const std::vector<bool>& keep_input) {
  std::vector<bool> defined(g.values.size());
  std::vector<uint32_t> input_to(g.inputs.size());
  size_t inputs = 0, nodes = 0;
  for (size_t i = 0; i < g.inputs.size(); ++i) {
    if (!keep_input[i]) continue;
    defined[g.inputs[i].value] = true;
    input_to[i] = static_cast<uint32_t>(inputs);
    if (inputs != i) g.inputs[inputs] = std::move(g.inputs[i]);
    ++inputs;
  }
  g.inputs.resize(inputs);
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    if (!keep_node[i]) continue;
    for (ValueId v : g.nodes[i].out)
      if (v != kNoValue) defined[v] = true;
    if (nodes != i) g.nodes[nodes] = std::move(g.nodes[i]);
    ++nodes;
  }
  g.nodes.resize(nodes);

  std::vector<ValueId> to(g.values.size(), kNoValue);
  ValueId next = 0;
  for (size_t v = 0; v < g.values.size(); ++v) {
    if (!defined[v]) continue;
    to[v] = next;
    if (next != v) g.values[next] = std::move(g.values[v]);
    ++next;
  }
  g.values.resize(next);
  auto move = [&](ValueId& v) {
    if (v != kNoValue) v = to[v];
  };
  for (Input& i : g.inputs) move(i.value);
  for (Node& n : g.nodes) {
    for (ValueId& v : n.in) move(v);
    for (ValueId& v : n.out) move(v);
  }
  for (Result& r : g.results) move(r.value);
  for (Write& w : g.writes) {
    w.input = input_to[w.input];
    move(w.value);
  }
}

Dim attr_dim(const Node& n, size_t field, size_t item) {
  for (const SymbolicAttr& s : n.symbolic)
    if (s.field == field && s.item == item) return s.value;
  const Field& f = n.op->fields[field];
  return f.kind == FieldKind::dims ? read_dims_item(n.attrs.data(), f, item)
                                   : read_integer(n.attrs.data(), f);
}

void set_attr_dim(Node& n, size_t field, size_t item, const Dim& value) {
  std::erase_if(n.symbolic,
                [&](const SymbolicAttr& s) { return s.field == field && s.item == item; });
  SymbolicAttr s{static_cast<uint16_t>(field), static_cast<uint16_t>(item), value};
  write_symbolic(*n.op, n.attrs.data(), s, value.is_constant() ? value.constant() : 0);
  if (!value.is_constant()) n.symbolic.push_back(std::move(s));
}

std::vector<Dim> attr_dims(const Node& n, size_t field) {
  std::vector<Dim> out;
  size_t count = read_dims_count(n.attrs.data(), n.op->fields[field]);
  for (size_t i = 0; i < count; ++i) out.push_back(attr_dim(n, field, i));
  return out;
}

void set_attr_dims(Node& n, size_t field, const std::vector<Dim>& values) {
  const Field& f = n.op->fields[field];
  for (size_t i = 0; i < kMaxRank; ++i) {
    if (i < values.size()) set_attr_dim(n, field, i, values[i]);
    else write_dims_item(n.attrs.data(), f, i, 0);
  }
  std::erase_if(n.symbolic,
                [&](const SymbolicAttr& s) { return s.field == field && s.item >= values.size(); });
  write_dims_count(n.attrs.data(), f, values.size());
}

std::vector<std::byte> comparable_attrs(const Node& n) {
  std::vector<std::byte> attrs = n.attrs;
  for (const SymbolicAttr& s : n.symbolic) write_symbolic(*n.op, attrs.data(), s, 0);
  return attrs;
}

}  // namespace fluxion::graph
