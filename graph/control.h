// Control flow: ops that hold regions. A region sees its own inputs (arguments and constants) and nothing else.
#pragma once

#include <string_view>

#include "graph/graph.h"

namespace fluxion::graph {

/// case(selector, operands...) with one region per branch: operands -> results. A bool selector takes region 0 for false and 1
/// for true; an integer is the region's number, brought into range.
extern OpDef kCase;
/// while(carry..., invariants...) {carry} with the regions condition: (carry..., invariants...) -> bool[] and body: (carry...,
/// invariants...) -> carry.... Results: the carry for which the condition is false.
extern OpDef kWhile;
/// scan(carry..., xs..., invariants...) {carry, xs, length, reverse} with the region body: (carry..., x..., invariants...) -> (carry...,
/// y...). Each x is xs[t] for t = 0, 1, ... length - 1 (from the end if reverse). Results: the last carry, and ys with ys[t] = y.
extern OpDef kScan;

bool is_control(const OpDef& op);

/// The attributes of while and scan.
struct WhileAttrs {
  int64_t carry;
};
struct ScanLoopAttrs {
  int64_t carry, xs, length, reverse;
};

/// Raises ErrorKind::value unless inputs, regions and results of a control-flow node in `g` fit each other. The regions themselves
/// are verified already.
void check_control(const Graph& g, const Node& n, std::span<const DimSymbol> dims);

/// The op of the table or the control-flow op of that name; null if there is none.
const OpDef* find_graph_op(std::string_view name);

}  // namespace fluxion::graph
