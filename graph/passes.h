// Graph passes: each keeps every bit of every result.
#pragma once

#include <span>
#include <string_view>

#include "graph/graph.h"

namespace fluxion::graph {

/// A named transformation. Returns whether it changed something.
struct Pass {
  const char* name;
  const char* why;  // why it stands where it stands in a pipeline
  bool (*run)(Graph&);
};

bool dead_code(
    Graph&);  // nodes, values and inputs (slots, constants) that no result, write or guard needs
bool common_subexpressions(Graph&);
bool fold_constants(Graph&);  // by the same kernels; results up to 1 MiB of growth in total
bool simplify(
    Graph&);  // the bit-preserving list: x * 1, x - 0, reshape of reshape, permute of permute, ...

/// What one run of a pass did; for logging (FLUXION_LOG=passes prints them) and tests.
struct PassReport {
  const char* name;
  bool changed;
  double milliseconds;
  size_t nodes_before, nodes_after;
};
/// Runs the passes in order; skips those named in `off` and in the environment variable FLUXION_PASSES_OFF (comma list).
std::vector<PassReport> run_passes(Graph& g, std::span<const Pass> passes,
                                   std::span<const std::string_view> off = {});

/// Appends nodes that compute the gradients of the floating results (weighted by new arguments "grad.NAME", after the others) with
/// respect to the given inputs (indices into Graph::inputs), as new results "grad.NAME"; through the ops' own vjp rules, summed in eager's order.
/// With symbolic dims, it is made for several sizes and generalised. Raises for `while` and for inputs that are not floating.
Graph gradient(const Graph& g, std::span<const uint32_t> inputs);

}  // namespace fluxion::graph
