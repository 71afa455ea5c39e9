#include "io/upgrade.h"

#include <algorithm>

#include "graph/control.h"
#include "graph/names.h"

namespace fluxion::io {
namespace {

/// {mean: bool} -> {reduction: 1 mean, 2 sum}, as cross_entropy has it.
void mse_reduction(NodeRecord& n) {
  AttrRecord& a = n.need("mean", FieldKind::boolean);
  a.name = "reduction";
  a.kind = FieldKind::integer;
  a.integer = a.integer ? 1 : 2;
}

constexpr Upgrade kUpgrades[] = {
    {"mse_loss", 1, mse_reduction},
    {"mse_loss_backward", 1, mse_reduction},
};

}  // namespace

AttrRecord* NodeRecord::find(std::string_view name) {
  const auto it = std::ranges::find(attrs, name, &AttrRecord::name);
  return it == attrs.end() ? nullptr : &*it;
}

AttrRecord& NodeRecord::need(std::string_view name, FieldKind kind) {
  AttrRecord* a = find(name);
  if (!a || a->kind != kind)
    fail(ErrorKind::value, "op {} of version {} needs the attribute {}", op, version - 1, name);
  return *a;
}

std::span<const Upgrade> upgrades() { return kUpgrades; }

void upgrade(NodeRecord& node, std::span<const Upgrade> table) {
  const uint16_t written = node.version;
  // An upgrade may lead to another op; a table that leads nowhere must end, too.
  for (size_t steps = 0; steps <= table.size(); ++steps) {
    const OpDef* op = graph::find_graph_op(node.op);
    if (op && node.version == op->version) return;
    if (op && node.version > op->version)
      fail(ErrorKind::value,
           "op {} has version {} in the file, known is {}: the file was written by a newer Fluxion",
           graph::name_text(node.op), node.version, op->version);
    const auto it = std::ranges::find_if(
        table, [&](const Upgrade& u) { return u.op == node.op && u.from == node.version; });
    if (it == table.end()) break;
    ++node.version;
    it->rewrite(node);
  }
  if (!graph::find_graph_op(node.op))
    fail(ErrorKind::value,
         "op {} (version {}) is unknown: the file was written by a newer Fluxion or is damaged",
         graph::name_text(node.op), written);
  fail(ErrorKind::value, "op {} has version {} in the file, which cannot be upgraded to {}",
       graph::name_text(node.op), written, graph::find_graph_op(node.op)->version);
}

}  // namespace fluxion::io
