// libFuzzer entry: any text either is a graph, which then prints and parses to the same graph and verifies or not, or ends in
// ErrorKind::value.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "graph/graph.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fluxion;
  try {
    graph::Graph g = graph::parse({reinterpret_cast<const char*>(data), size});
    graph::verify(g);
    if (!graph::same(g, graph::parse(graph::to_text(g, true)))) std::abort();
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::value) std::abort();
  }
  return 0;
}
