#include "compile/split.h"

#include <unordered_map>

namespace fluxion::compile {

using graph::Graph;
using graph::ValueId;

namespace {

class Extraction {
 public:
  Extraction(const Graph& whole, bool keep_inputs) : whole_(whole) {
    part_.graph.name = whole.name;
    part_.graph.dims = whole.dims;
    part_.graph.locations = whole.locations;
    for (uint32_t k = 0; k < whole.inputs.size(); ++k)
      if (keep_inputs || whole.inputs[k].kind == graph::InputKind::constant)
        input_of_[whole.inputs[k].value] = k;
  }

  void node(const graph::Node& n) {
    graph::Node copy;
    copy.op = n.op;
    copy.attrs = n.attrs;
    copy.symbolic = n.symbolic;
    copy.location = n.location;
    for (ValueId id : n.in) copy.in.push_back(id == graph::kNoValue ? id : use(id));
    for (const auto& region : n.regions)
      copy.regions.push_back(std::make_unique<Graph>(graph::copy(*region)));
    for (ValueId id : n.out) copy.out.push_back(id == graph::kNoValue ? id : define(id));
    part_.graph.nodes.push_back(std::move(copy));
  }

  void result(ValueId id) {
    part_.graph.results.push_back({fmt::format("out{}", part_.graph.results.size()), use(id)});
  }

  Part take() { return std::move(part_); }

 private:
  ValueId define(ValueId id) { return known_[id] = part_.graph.add_value(whole_.values[id]); }
  ValueId use(ValueId id) {
    if (auto found = known_.find(id); found != known_.end()) return found->second;
    ValueId here = define(id);
    if (auto input = input_of_.find(id); input != input_of_.end()) {
      graph::Input in = whole_.inputs[input->second];
      in.value = here;
      part_.graph.inputs.push_back(std::move(in));
    } else {
      part_.graph.inputs.push_back(
          {graph::InputKind::argument, here, fmt::format("in{}", part_.arguments.size()), {}});
      part_.arguments.push_back(id);
    }
    return here;
  }

  const Graph& whole_;
  Part part_;
  std::unordered_map<ValueId, ValueId> known_;
  std::unordered_map<ValueId, uint32_t> input_of_;
};

}  // namespace

Part part_of(const Graph& g, size_t begin, size_t end, std::span<const ValueId> results,
             bool keep_inputs) {
  Extraction e(g, keep_inputs);
  for (size_t i = begin; i < end; ++i) e.node(g.nodes[i]);
  for (ValueId id : results) e.result(id);
  return e.take();
}

}  // namespace fluxion::compile
