#include "graph/control.h"

#include <unordered_map>

namespace fluxion::graph {

const OpDef* find_graph_op(std::string_view name) {
  static const std::unordered_map<std::string_view, const OpDef*> by_name = [] {
    std::unordered_map<std::string_view, const OpDef*> all;
    for (const OpDef* op : op_table()) all.emplace(op->name, op);
    return all;
  }();
  auto it = by_name.find(name);
  return it == by_name.end() ? nullptr : it->second;
}

}  // namespace fluxion::graph
