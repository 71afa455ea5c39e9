// Nodes of older files become nodes of today's op table.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace fluxion::io {

/// An attribute as a file has it; the value stands where `kind` says.
struct AttrRecord {
  std::string_view name;
  FieldKind kind = FieldKind::integer;
  int64_t integer = 0;  // integer, boolean, dtype
  double real = 0;
  Dims dims;
  struct Symbolic {
    uint16_t item;
    graph::Dim size;
  };
  std::vector<Symbolic> symbolic;
};

/// A node as some version of its op wrote it. The texts live as long as the file's bytes.
struct NodeRecord {
  std::string_view op;
  uint16_t version = 1;
  std::vector<AttrRecord> attrs;
  std::vector<graph::ValueId> in, out;

  /// Null if there is none.
  AttrRecord* find(std::string_view name);
  /// For upgrades. Raises ErrorKind::value if there is none of that kind.
  AttrRecord& need(std::string_view name, FieldKind kind);
};

/// Version `from` of an op becomes version from + 1, or another op at the version that had the meaning.
struct Upgrade {
  std::string_view op;
  uint16_t from;
  void (*rewrite)(NodeRecord&);
};

/// All upgrades. Entries are only ever added.
std::span<const Upgrade> upgrades();

/// Rewrites the node until it has its op's version of today. Raises ErrorKind::value that names op and version: an
/// unknown op, a newer version, a version nobody can upgrade.
void upgrade(NodeRecord& node, std::span<const Upgrade> table = upgrades());

}  // namespace fluxion::io
