#include "compile/passes.h"

namespace fluxion::compile {

namespace {

constexpr graph::Pass kPipeline[] = {
    {"dead_code", "first: what nobody needs costs nothing in any later pass", graph::dead_code},
    {"simplify", "before folding: rules see the user's ops", graph::simplify},
    {"fold_constants", "after simplify: fewer constants to compute", graph::fold_constants},
    {"common_subexpressions", "after folding: equal constants have become equal values",
     graph::common_subexpressions},
    {"dead_code", "last: the passes before leave values without readers", graph::dead_code},
};

}  // namespace

std::span<const graph::Pass> pipeline() { return kPipeline; }

std::vector<graph::PassReport> optimize(graph::Graph& g) { return graph::run_passes(g, kPipeline); }

}  // namespace fluxion::compile
