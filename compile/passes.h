// The pipeline from a captured graph to a planned one; it reads as prose.
#pragma once

#include <span>

#include "graph/passes.h"

namespace fluxion::compile {

/// All passes, in order.
std::span<const graph::Pass> pipeline();
/// Runs them.
std::vector<graph::PassReport> optimize(graph::Graph& g);

}  // namespace fluxion::compile
