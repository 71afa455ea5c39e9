// Graphs of one node from the op table's samples.
#pragma once

#include "graph/graph.h"
#include "op_samples.h"

namespace fluxion::testing {

inline graph::ValueType value_type(const Type& t) {
  graph::ValueType v{t.dtype, t.weak, {}};
  for (int64_t s : t.shape) v.shape.emplace_back(s);
  return v;
}

/// False for ops whose result shape depends on values.
inline bool has_static_shape(const OpDef& op) { return std::string_view(op.name) != "nonzero"; }

/// The sample as a graph: its inputs are arguments x0, x1, ..., its outputs results y0, y1, ...
inline graph::Graph graph_of(const Sample& s) {
  graph::Graph g;
  g.name = s.op->name;
  g.locations.push_back({});
  graph::Node n;
  n.op = s.op;
  n.attrs = graph::normal_attrs(*s.op, s.attr_data());
  std::vector<Type> in;
  for (const SampleSink::Input& i : s.inputs) {
    in.push_back({i.dtype, false, i.shape});
    graph::Input input;
    input.name = "x" + std::to_string(g.inputs.size());
    input.value = g.add_value(value_type(in.back()));
    n.in.push_back(input.value);
    g.inputs.push_back(input);
  }
  for (const std::optional<Type>& t : graph::infer(*s.op, n.attrs, in)) {
    n.out.push_back(t ? g.add_value(value_type(*t)) : graph::kNoValue);
    if (t) g.results.push_back({"y" + std::to_string(n.out.size() - 1), n.out.back()});
  }
  g.nodes.push_back(std::move(n));
  return g;
}

}  // namespace fluxion::testing
