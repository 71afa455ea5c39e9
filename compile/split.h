// Parts of a graph as graphs of their own.
#pragma once

#include "graph/graph.h"

namespace fluxion::compile {

/// A part, and the values of the whole that became its arguments "in0", "in1", ...
struct Part {
  graph::Graph graph;
  std::vector<graph::ValueId> arguments;
};

/// The nodes [begin, end) of `g`, with the given values as results. Inputs of `g` that the part reads stay what they are
/// if `keep_inputs`; all other values from outside become arguments.
Part part_of(const graph::Graph& g, size_t begin, size_t end,
             std::span<const graph::ValueId> results, bool keep_inputs);

}  // namespace fluxion::compile
