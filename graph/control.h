// Ops that hold regions, and the lookup of every op a graph may name.
#pragma once

#include <string_view>

#include "graph/graph.h"

namespace fluxion::graph {

/// The op of the table or the control-flow op of that name; null if there is none.
const OpDef* find_graph_op(std::string_view name);

}  // namespace fluxion::graph
