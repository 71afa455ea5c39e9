#include "graph/passes.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "graph/names.h"

namespace fluxion::graph {

namespace {

/// Whether a comma list in the environment names `word`.
bool listed(const char* variable, std::string_view word) {
  const char* value = std::getenv(variable);
  std::string_view rest = value ? value : "";
  while (!rest.empty()) {
    size_t comma = std::min(rest.find(','), rest.size());
    if (rest.substr(0, comma) == word) return true;
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return false;
}

size_t count_nodes(const Graph& g) {
  size_t count = g.nodes.size();
  for (const Node& n : g.nodes)
    for (const auto& r : n.regions) count += count_nodes(*r);
  return count;
}

}  // namespace

std::vector<PassReport> run_passes(Graph& g, std::span<const Pass> passes,
                                   std::span<const std::string_view> off) {
  bool log = listed("FLUXION_LOG", "passes");
  std::vector<PassReport> reports;
  for (const Pass& p : passes) {
    if (std::ranges::find(off, p.name) != off.end() || listed("FLUXION_PASSES_OFF", p.name))
      continue;
    PassReport report{p.name, false, 0, count_nodes(g), 0};
    auto start = std::chrono::steady_clock::now();
    report.changed = p.run(g);
    report.milliseconds =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    report.nodes_after = count_nodes(g);
    reports.push_back(report);
    if (log && report.changed)
      std::fputs(
          fmt::format("fluxion: graph {}: {}: {} -> {} nodes, {:.3f} ms\n", name_text(g.name),
                      p.name, report.nodes_before, report.nodes_after, report.milliseconds)
              .c_str(),
          stderr);
  }
  return reports;
}

}  // namespace fluxion::graph
