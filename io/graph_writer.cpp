// Graphs -> FlatBuffer bytes.
#include <bit>
#include <cstring>
#include <unordered_map>

#include "graph/attrs.h"
#include "io/graph_file.h"
#include "io/schema.h"
#include "ops/copy.h"
#include "tensor/thread_state.h"

namespace fluxion::io {
namespace {

using flatbuffers::Offset;
using graph::Graph;
using graph::Node;
template <class T>
using Offsets = std::vector<Offset<T>>;

/// The big constants of a file, each once.
class ConstantPool {
 public:
  explicit ConstantPool(std::vector<Tensor>& all) : all_(all) {}

  int32_t number(const Tensor& t) {
    for (size_t i = 0; i < all_.size(); ++i)
      if (same(all_[i], t)) return static_cast<int32_t>(i);
    all_.push_back(t);
    return static_cast<int32_t>(all_.size() - 1);
  }

 private:
  static bool same(const Tensor& a, const Tensor& b) {
    return a.dtype() == b.dtype() && std::ranges::equal(a.sizes(), b.sizes()) &&
           (a.data() == b.data() ||
            std::memcmp(a.data(), b.data(), static_cast<size_t>(a.nbytes())) == 0);
  }

  std::vector<Tensor>& all_;
};

class Writer {
 public:
  explicit Writer(std::vector<Tensor>& constants) : constants_(constants) {}

  std::string run(const Signatures& signatures) {
    Offsets<schema::Signature> all;
    for (const auto& [name, g] : signatures) {
      const auto graph = write(g);
      all.push_back(schema::CreateSignature(b_, text(name), graph));
    }
    schema::FinishModelBuffer(b_, schema::CreateModel(b_, b_.CreateVector(all)));
    return {reinterpret_cast<const char*>(b_.GetBufferPointer()), b_.GetSize()};
  }

 private:
  Offset<flatbuffers::String> text(std::string_view s) {
    return b_.CreateSharedString(s.data(), s.size());
  }

  Offset<schema::Dim> dim(const graph::Dim& d) {
    Offsets<schema::Monomial> terms;
    for (const graph::Monomial& m : d.terms())
      terms.push_back(schema::CreateMonomial(b_, m.coefficient, b_.CreateVector(m.symbols)));
    return schema::CreateDim(b_, b_.CreateVector(terms));
  }

  /// Vectors of nothing are left out.
  template <class T>
  Offset<flatbuffers::Vector<T>> list(const std::vector<T>& v) {
    return v.empty() ? 0 : b_.CreateVector(v);
  }

  Offset<schema::ValueType> type(const graph::ValueType& t) {
    std::vector<int64_t> sizes;
    Offsets<schema::SymbolicItem> symbolic;
    for (size_t i = 0; i < t.shape.size(); ++i) {
      const bool constant = t.shape[i].is_constant();
      sizes.push_back(constant ? t.shape[i].constant() : 0);
      if (!constant)
        symbolic.push_back(
            schema::CreateSymbolicItem(b_, static_cast<uint16_t>(i), dim(t.shape[i])));
    }
    return schema::CreateValueType(b_, static_cast<schema::DType>(t.dtype), t.weak, list(sizes),
                                   list(symbolic));
  }

  Offset<schema::Attr> attr(const Node& n, size_t index) {
    const Field& f = n.op->fields[index];
    const std::byte* bytes = n.attrs.data();
    Offsets<schema::SymbolicItem> symbolic;
    for (const graph::SymbolicAttr& s : n.symbolic)
      if (s.field == index)
        symbolic.push_back(schema::CreateSymbolicItem(b_, s.item, dim(s.value)));
    std::vector<int64_t> dims;
    if (f.kind == FieldKind::dims)
      for (size_t i = 0; i < graph::read_dims_count(bytes, f); ++i)
        dims.push_back(graph::read_dims_item(bytes, f, i));
    const auto name = text(f.name);
    const auto items = list(dims);
    const auto symbols = list(symbolic);
    schema::AttrBuilder a(b_);
    a.add_name(name);
    a.add_kind(static_cast<schema::AttrKind>(f.kind));
    if (f.kind == FieldKind::real) a.add_real(std::bit_cast<uint64_t>(graph::read_real(bytes, f)));
    else if (f.kind != FieldKind::dims) a.add_integer(graph::read_integer(bytes, f));
    a.add_dims(items);
    a.add_symbolic(symbols);
    return a.Finish();
  }

  Offset<schema::Node> node(const Node& n) {
    Offsets<schema::Attr> attrs;
    for (size_t i = 0; i < n.op->fields.size(); ++i) attrs.push_back(attr(n, i));
    Offsets<schema::Graph> regions;
    for (const auto& r : n.regions) regions.push_back(write(*r));
    const auto op = text(n.op->name);
    const auto all = list(attrs);
    const auto in = list(n.in), out = list(n.out);
    return schema::CreateNode(b_, op, n.op->version, all, in, out, list(regions), n.location);
  }

  Offset<schema::Input> input(const graph::Input& i) {
    const auto name = text(i.name);
    Offset<flatbuffers::Vector<uint8_t>> bytes;
    int32_t number = -1;
    if (i.kind == graph::InputKind::constant) {
      const Tensor plain = dense(i.data);
      const auto n = static_cast<size_t>(plain.nbytes());
      if (n <= kInlineConstant) bytes = b_.CreateVector(plain.data<const uint8_t>(), n);
      else number = constants_.number(plain);
    }
    return schema::CreateInput(b_, static_cast<schema::InputKind>(i.kind), i.value, name, bytes,
                               number);
  }

  Offset<schema::Graph> write(const Graph& g) {
    Offsets<schema::DimSymbol> dims;
    for (const graph::DimSymbol& d : g.dims)
      dims.push_back(schema::CreateDimSymbol(b_, text(d.name), d.low, d.high));
    const auto [types, values] = value_types(g);
    Offsets<schema::Input> inputs;
    for (const graph::Input& i : g.inputs) inputs.push_back(input(i));
    Offsets<schema::Node> nodes;
    for (const Node& n : g.nodes) nodes.push_back(node(n));
    Offsets<schema::Result> results;
    for (const graph::Result& r : g.results)
      results.push_back(schema::CreateResult(b_, text(r.name), r.value));
    Offsets<schema::Write> writes;
    for (const graph::Write& w : g.writes)
      writes.push_back(schema::CreateWrite(b_, w.input, w.value));
    const auto name = text(g.name);
    const auto all_dims = list(dims);
    const auto all_types = list(types);
    const auto all_values = list(values);
    const auto all_inputs = list(inputs);
    const auto all_nodes = list(nodes);
    const auto all_results = list(results);
    return schema::CreateGraph(b_, name, all_dims, all_types, all_values, all_inputs, all_nodes,
                               all_results, list(writes));
  }

  /// The different types, and for each value which one it has.
  std::pair<Offsets<schema::ValueType>, std::vector<uint32_t>> value_types(const Graph& g) {
    Offsets<schema::ValueType> types;
    std::vector<uint32_t> values;
    std::unordered_map<std::string, uint32_t> known;
    for (const graph::ValueType& t : g.values) {
      const std::string key = graph::type_text(t, {});
      const auto [at, added] = known.emplace(key, static_cast<uint32_t>(types.size()));
      if (added) types.push_back(type(t));
      values.push_back(at->second);
    }
    return {std::move(types), std::move(values)};
  }

  flatbuffers::FlatBufferBuilder b_;
  ConstantPool constants_;
};

std::string write_locations(const Signatures& signatures) {
  flatbuffers::FlatBufferBuilder b;
  Offsets<flatbuffers::String> strings;
  std::unordered_map<std::string, uint32_t> known;
  auto number = [&](const std::string& s) {
    const auto [at, added] = known.emplace(s, static_cast<uint32_t>(strings.size()));
    if (added) strings.push_back(b.CreateString(s));
    return at->second;
  };
  Offsets<schema::GraphLocations> graphs;
  for (const auto& [name, g] : signatures) {
    std::vector<uint32_t> files, modules;
    std::vector<int32_t> lines;
    for (const graph::Location& l : g.locations) {
      files.push_back(number(l.file));
      lines.push_back(l.line);
      modules.push_back(number(l.module));
    }
    graphs.push_back(schema::CreateGraphLocationsDirect(b, &files, &lines, &modules));
  }
  const auto all = b.CreateVector(strings);
  b.Finish(schema::CreateLocations(b, all, b.CreateVector(graphs)), "FXLO");
  return {reinterpret_cast<const char*>(b.GetBufferPointer()), b.GetSize()};
}

}  // namespace

GraphBytes write_graphs(const Signatures& signatures, std::vector<Tensor>& constants) {
  NoGrad off;
  for (const auto& [name, g] : signatures) graph::verify(g);
  std::string graphs = Writer(constants).run(signatures);
  return {std::move(graphs), write_locations(signatures)};
}

}  // namespace fluxion::io
