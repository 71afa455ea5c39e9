// What passes share: replacing values, dropping nodes, numbering what is left.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace fluxion::graph {

/// Which value stands for which from now on.
class Replacements {
 public:
  explicit Replacements(size_t values) : to_(values, kNoValue) {}
  void replace(ValueId from, ValueId to) { to_[from] = to; }
  /// The final replacement; shortens the chain.
  ValueId operator()(ValueId v);
  bool any() const;

 private:
  std::vector<ValueId> to_;
};

/// Rewrites what the node reads.
void apply_replacements(Node& n, Replacements& r);
/// Rewrites results and writes.
void apply_replacements_at_end(Graph& g, Replacements& r);

/// Removes nodes and inputs for which `keep` is false, and values that nothing defines any more; numbers the others in the order they had.
void keep_only(Graph& g, const std::vector<bool>& keep_node, const std::vector<bool>& keep_input);

/// Runs a pass on every region of every node.
template <class Pass>
bool in_regions(Graph& g, Pass pass) {
  bool changed = false;
  for (Node& n : g.nodes)
    for (auto& r : n.regions) changed |= pass(*r);
  return changed;
}

/// An integer of the attributes, symbolic or not.
Dim attr_dim(const Node& n, size_t field, size_t item = 0);
void set_attr_dim(Node& n, size_t field, size_t item, const Dim& value);
/// A Dims field as a list.
std::vector<Dim> attr_dims(const Node& n, size_t field);
void set_attr_dims(Node& n, size_t field, const std::vector<Dim>& values);
/// The attributes with zeros where symbolic integers stand, for comparison.
std::vector<std::byte> comparable_attrs(const Node& n);

}  // namespace fluxion::graph
