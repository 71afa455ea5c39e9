// What values are called in the text form: arguments by their names, slots by a short name, the rest by number.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "graph/graph.h"

namespace fluxion::graph {

class ValueNames {
 public:
  explicit ValueNames(const Graph& g);
  std::string operator()(ValueId v) const;

 private:
  std::string unused(std::string name);

  std::vector<std::string> names_;  // empty: by number
  std::unordered_set<std::string> taken_;
};

}  // namespace fluxion::graph
