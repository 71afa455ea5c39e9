#include "graph/passes.h"
#include "graph/rewrite.h"

namespace fluxion::graph {

/// Ops are pure, so a node lives if a result of it does. Arguments stay: they are the signature.
bool dead_code(Graph& g) {
  bool changed = in_regions(g, dead_code);
  std::vector<bool> live(g.values.size());
  for (const Result& r : g.results) live[r.value] = true;
  for (const Write& w : g.writes) live[w.value] = true;
  std::vector<bool> keep_node(g.nodes.size()), keep_input(g.inputs.size());
  size_t dropped = 0;
  for (size_t i = g.nodes.size(); i-- > 0;) {
    const Node& n = g.nodes[i];
    bool needed = false;
    for (ValueId v : n.out) needed |= v != kNoValue && live[v];
    keep_node[i] = needed;
    if (needed)
      for (ValueId v : n.in) live[v] = true;
    else ++dropped;
  }
  for (const Write& w : g.writes) keep_input[w.input] = true;
  for (size_t i = 0; i < g.inputs.size(); ++i) {
    if (g.inputs[i].kind == InputKind::argument || live[g.inputs[i].value]) keep_input[i] = true;
    if (!keep_input[i]) ++dropped;
  }
  if (!dropped) return changed;
  keep_only(g, keep_node, keep_input);
  return true;
}

}  // namespace fluxion::graph
