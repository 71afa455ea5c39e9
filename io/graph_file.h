// Graphs as FlatBuffer bytes (io/graph.fbs) and back.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace fluxion::io {

/// Graphs by the names they are called by.
using Signatures = std::map<std::string, graph::Graph>;

struct GraphBytes {
  std::string graphs;     // nodes, types, inputs; small constants inline
  std::string locations;  // source lines and module paths; may be dropped
};

/// Equal graphs give equal bytes. Bigger constants are appended to `constants`, each once; state stays outside.
GraphBytes write_graphs(const Signatures& signatures, std::vector<Tensor>& constants);

/// Checks everything before use: the FlatBuffer, ops and versions, attributes, constants, then each graph (verify).
/// Older versions are upgraded. Slots come back unbound. Raises ErrorKind::value that says what is wrong.
Signatures read_graphs(std::span<const std::byte> graphs, std::span<const std::byte> locations,
                       std::span<const Tensor> constants);

}  // namespace fluxion::io
