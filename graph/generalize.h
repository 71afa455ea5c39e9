// From graphs at several sizes to one graph for all sizes.
#pragma once

#include "base/function_ref.h"
#include "graph/graph.h"

namespace fluxion::graph {

/// The graph with symbolic dims that `make` gives, which makes it for given sizes: calls it for several sizes and finds
/// the polynomial behind every integer that varies. The result is verified. Raises ErrorKind::value if the graphs differ otherwise, or if
/// an integer is no polynomial of low degree.
Graph generalize(const std::vector<DimSymbol>& dims,
                 FunctionRef<Graph(std::span<const int64_t> sizes)> make);

/// The polynomial with few terms that has these values at these sizes (one row of sizes each). Raises ErrorKind::value if there is none.
Dim fit_dim(std::span<const std::vector<int64_t>> sizes, std::span<const int64_t> values);

}  // namespace fluxion::graph
