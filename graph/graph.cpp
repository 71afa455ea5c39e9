#include "graph/graph.h"

#include <fmt/format.h>

#include <algorithm>

#include "graph/attrs.h"
#include "graph/names.h"

namespace fluxion::graph {

std::string quoted(std::string_view s) {
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') out += {'\\', c};
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (static_cast<unsigned char>(c) < 32 || c == 127)
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else out += c;
  }
  return out + "\"";
}

size_t field_bytes(FieldKind kind) { return kind == FieldKind::dims ? sizeof(Dims) : 8; }

std::vector<std::byte> normal_attrs(const OpDef& op, const void* attrs) {
  std::vector<std::byte> out(op.attr_bytes);
  const auto* from = static_cast<const std::byte*>(attrs);
  for (const Field& f : op.fields) {
    size_t bytes = field_bytes(f.kind);
    if (f.kind == FieldKind::dims) {
      size_t n = std::min<size_t>(read_dims_count(from, f), kMaxRank);
      write_dims_count(out.data(), f, read_dims_count(from, f));
      std::memcpy(out.data() + f.offset + kDimsHead, from + f.offset + kDimsHead,
                  n * sizeof(int64_t));
    } else {
      std::memcpy(out.data() + f.offset, from + f.offset, bytes);
    }
  }
  return out;
}

void check_attrs(const OpDef& op, const std::vector<std::byte>& attrs) {
  if (attrs.size() != op.attr_bytes)
    fail(ErrorKind::value, "{}: {} bytes of attributes; expected {}", op.name, attrs.size(),
         op.attr_bytes);
  for (const Field& f : op.fields) {
    if (f.kind == FieldKind::dims) {
      if (size_t n = read_dims_count(attrs.data(), f); n > kMaxRank)
        fail(ErrorKind::value, "{}: {} holds {} integers; at most {} are allowed", op.name, f.name,
             n, kMaxRank);
      continue;
    }
    int64_t v = f.kind == FieldKind::real ? 0 : read_integer(attrs.data(), f);
    if (f.kind == FieldKind::boolean && v != 0 && v != 1)
      fail(ErrorKind::value, "{}: {} must be false or true, got {}", op.name, f.name, v);
    if (f.kind == FieldKind::dtype && (v < 0 || v >= kDTypes))
      fail(ErrorKind::value, "{}: {} is no dtype: {}", op.name, f.name, v);
  }
}

void write_symbolic(const OpDef& op, std::byte* attrs, const SymbolicAttr& s, int64_t value) {
  const Field& f = op.fields[s.field];
  if (f.kind == FieldKind::dims) write_dims_item(attrs, f, s.item, value);
  else write_integer(attrs, f, value);
}

std::vector<std::byte> attrs_for(const Node& node, std::span<const int64_t> sizes) {
  std::vector<std::byte> attrs = node.attrs;
  for (const SymbolicAttr& s : node.symbolic)
    write_symbolic(*node.op, attrs.data(), s, s.value.evaluate(sizes));
  return attrs;
}

Graph copy(const Graph& g) {
  Graph out;
  out.name = g.name;
  out.dims = g.dims;
  out.values = g.values;
  out.inputs = g.inputs;
  out.results = g.results;
  out.writes = g.writes;
  out.locations = g.locations;
  out.nodes.reserve(g.nodes.size());
  for (const Node& n : g.nodes) {
    Node& to = out.nodes.emplace_back();
    to.op = n.op;
    to.attrs = n.attrs;
    to.symbolic = n.symbolic;
    to.in = n.in;
    to.out = n.out;
    to.location = n.location;
    for (const auto& r : n.regions) to.regions.push_back(std::make_unique<Graph>(copy(*r)));
  }
  return out;
}

std::string type_text(const ValueType& type, std::span<const DimSymbol> dims) {
  std::string out = type.weak ? "weak " : "";
  bool known = static_cast<int>(type.dtype) < kDTypes;
  out += known ? short_name(type.dtype) : "?";
  out += "[";
  for (size_t i = 0; i < type.shape.size(); ++i) out += (i ? ", " : "") + type.shape[i].text(dims);
  return out + "]";
}

namespace {

/// Compares two graphs, mapping the values of one to those of the other.
class Comparison {
 public:
  Comparison(const Graph& a, const Graph& b, const Graph& root_a, const Graph& root_b)
      : a_(a), b_(b), root_a_(root_a), root_b_(root_b), map_(a.values.size(), kNoValue) {}

  bool equal() {
    return a_.name == b_.name && dims() && inputs(InputKind::argument) && inputs(InputKind::slot) &&
           inputs(InputKind::constant) && nodes() && ends();
  }

 private:
  bool dims() {
    return std::ranges::equal(a_.dims, b_.dims, [](const DimSymbol& x, const DimSymbol& y) {
      return x.name == y.name && x.low == y.low && x.high == y.high;
    });
  }

  bool define(ValueId x, ValueId y) {
    if (x == kNoValue || y == kNoValue) return x == y;
    if (x >= a_.values.size() || y >= b_.values.size() || !(a_.values[x] == b_.values[y]))
      return false;
    map_[x] = y;
    return true;
  }
  bool used(ValueId x, ValueId y) const { return x < map_.size() && map_[x] == y; }

  bool inputs(InputKind kind) {
    size_t j = 0;
    for (const Input& x : a_.inputs) {
      if (x.kind != kind) continue;
      while (j < b_.inputs.size() && b_.inputs[j].kind != kind) ++j;
      if (j == b_.inputs.size()) return false;
      const Input& y = b_.inputs[j++];
      if (x.name != y.name || !define(x.value, y.value)) return false;
      if (kind == InputKind::constant && !same_bytes(x.data, y.data)) return false;
    }
    while (j < b_.inputs.size() && b_.inputs[j].kind != kind) ++j;
    return j == b_.inputs.size();
  }

  static bool same_bytes(const Tensor& x, const Tensor& y) {
    if (!x.defined() || !y.defined()) return x.defined() == y.defined();
    if (x.dtype() != y.dtype() || !std::ranges::equal(x.sizes(), y.sizes()) ||
        x.has(kWeak) != y.has(kWeak))
      return false;
    if (x.is_same(y)) return true;
    return x.is_contiguous() && y.is_contiguous() &&
           std::memcmp(x.data(), y.data(), static_cast<size_t>(x.nbytes())) == 0;
  }

  bool nodes() {
    return std::ranges::equal(a_.nodes, b_.nodes,
                              [&](const Node& x, const Node& y) { return node(x, y); });
  }
  bool node(const Node& x, const Node& y) {
    if (x.op != y.op || x.symbolic != y.symbolic || x.regions.size() != y.regions.size() ||
        !attributes(x, y))
      return false;
    if (!(location(root_a_, x) == location(root_b_, y))) return false;
    if (!std::ranges::equal(x.in, y.in, [&](ValueId p, ValueId q) { return used(p, q); }))
      return false;
    for (size_t i = 0; i < x.regions.size(); ++i)
      if (!Comparison(*x.regions[i], *y.regions[i], root_a_, root_b_).equal()) return false;
    return std::ranges::equal(x.out, y.out, [&](ValueId p, ValueId q) { return define(p, q); });
  }
  static bool attributes(const Node& x, const Node& y) {
    std::vector<std::byte> p = x.attrs, q = y.attrs;
    if (p.size() != q.size()) return false;
    for (const SymbolicAttr& s : x.symbolic) {
      write_symbolic(*x.op, p.data(), s, 0);
      write_symbolic(*x.op, q.data(), s, 0);
    }
    return p == q;
  }
  static Location location(const Graph& g, const Node& n) {
    return n.location < g.locations.size() ? g.locations[n.location] : Location{};
  }

  bool ends() {
    auto result = [&](const Result& x, const Result& y) {
      return x.name == y.name && used(x.value, y.value);
    };
    auto write = [&](const Write& x, const Write& y) {
      return used(a_.inputs[x.input].value, b_.inputs[y.input].value) && used(x.value, y.value);
    };
    return std::ranges::equal(a_.results, b_.results, result) &&
           std::ranges::equal(a_.writes, b_.writes, write);
  }

  const Graph &a_, &b_, &root_a_, &root_b_;
  std::vector<ValueId> map_;
};

}  // namespace

bool same(const Graph& a, const Graph& b) { return Comparison(a, b, a, b).equal(); }

}  // namespace fluxion::graph
