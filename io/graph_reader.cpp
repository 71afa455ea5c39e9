// FlatBuffer bytes -> graphs. Nothing in the bytes is trusted.
#include <bit>
#include <cstring>
#include <memory>

#include "graph/attrs.h"
#include "graph/control.h"
#include "graph/names.h"
#include "io/graph_file.h"
#include "io/schema.h"
#include "io/upgrade.h"

namespace fluxion::io {
namespace {

using graph::Graph;
using graph::Node;

constexpr unsigned kMaxDepth = 140;  // of tables: two for each nested region

/// A view of bytes at an address that FlatBuffers may read from.
class Aligned {
 public:
  explicit Aligned(std::span<const std::byte> bytes) : bytes_(bytes) {
    if (reinterpret_cast<uintptr_t>(bytes.data()) % 8 == 0) return;
    copy_.reset(new (std::align_val_t{8}) std::byte[bytes.size()]);
    std::memcpy(copy_.get(), bytes.data(), bytes.size());
    bytes_ = {copy_.get(), bytes.size()};
  }
  const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(bytes_.data()); }
  size_t size() const { return bytes_.size(); }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{8}); }
  };
  std::unique_ptr<std::byte[], Free> copy_;
  std::span<const std::byte> bytes_;
};

template <class Root>
const Root* verified(const Aligned& bytes, const char* identifier, const char* what) {
  // Every table is met once in what we write, so more than fit side by side are a bomb.
  const auto tables =
      static_cast<flatbuffers::uoffset_t>(std::min<size_t>(bytes.size() / 4 + 16, UINT32_MAX));
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), kMaxDepth, tables);
  if (bytes.size() < 16 || bytes.size() >= FLATBUFFERS_MAX_BUFFER_SIZE ||
      !verifier.VerifyBuffer<Root>(identifier))
    fail(ErrorKind::value, "{} is damaged: not a valid FlatBuffer '{}'", what, identifier);
  return flatbuffers::GetRoot<Root>(bytes.data());
}

/// The items of a vector that may be left out.
template <class T>
auto items(const flatbuffers::Vector<T>* v) {
  if constexpr (std::is_arithmetic_v<T>)  // the verifier looks at the length's alignment only
    if (v && reinterpret_cast<uintptr_t>(v->Data()) % sizeof(T))
      fail(ErrorKind::value, "a list of numbers is not aligned");
  using Iterator = decltype(v->begin());
  struct Range {
    const flatbuffers::Vector<T>* v;
    auto begin() const { return v ? v->begin() : Iterator(nullptr, 0); }
    auto end() const { return v ? v->end() : Iterator(nullptr, 0); }
  };
  return Range{v};
}
template <class T>
size_t count(const flatbuffers::Vector<T>* v) {
  return v ? v->size() : 0;
}

class Reader {
 public:
  Reader(size_t file_bytes, std::span<const Tensor> constants)
      : constants_(constants), budget_((size_t{1} << 18) + 2 * file_bytes) {}

  Graph read(const schema::Signature& s) {
    if (!s.graph()) fail(ErrorKind::value, "it has no graph");
    return graph(*s.graph());
  }

  /// Parts of a FlatBuffer may be shared, so small bytes may stand for much: counts what is built.
  void charge(size_t n) {
    if (n > budget_)
      fail(ErrorKind::value, "the graphs are damaged: they expand to far more than their bytes");
    budget_ -= n;
  }

  std::string text(const flatbuffers::String* s) {
    const std::string_view view = view_of(s);
    charge(1 + view.size() / 8);
    return std::string(view);
  }

 private:
  static std::string_view view_of(const flatbuffers::String* s) {
    return s ? std::string_view(s->c_str(), s->size()) : std::string_view();
  }

  graph::Dim dim(const schema::Dim* d) {
    graph::Dim sum;
    for (const schema::Monomial* m : items(d ? d->terms() : nullptr)) {
      charge(1 + count(m->symbols()));
      graph::Dim product(m->coefficient());
      for (const uint32_t s : items(m->symbols())) product = product * graph::Dim::symbol(s);
      sum = sum + product;
    }
    return sum;
  }

  graph::ValueType type(const schema::ValueType& t) {
    graph::ValueType type;
    type.dtype = dtype(static_cast<int64_t>(t.dtype()));
    type.weak = t.weak();
    check_rank(count(t.sizes()));
    for (const int64_t size : items(t.sizes())) type.shape.emplace_back(size);
    for (const schema::SymbolicItem* s : items(t.symbolic())) {
      if (s->index() >= type.shape.size())
        fail(ErrorKind::value, "a type of rank {} has a symbolic size {}", type.shape.size(),
             s->index());
      type.shape[s->index()] = dim(s->size());
    }
    return type;
  }
  static DType dtype(int64_t v) {
    if (v < 0 || v >= kDTypes) fail(ErrorKind::value, "{} is not a dtype known here", v);
    return static_cast<DType>(v);
  }
  static void check_rank(size_t n) {
    if (n > kMaxRank) fail(ErrorKind::value, "{} dims where at most {} are possible", n, kMaxRank);
  }
  static size_t weight(const graph::ValueType& t) {
    size_t n = 1 + t.shape.size();
    for (const graph::Dim& d : t.shape)
      for (const graph::Monomial& m : d.terms()) n += 1 + m.symbols.size();
    return n;
  }

  AttrRecord attr(const schema::Attr& a) {
    AttrRecord r;
    r.name = view_of(a.name());
    if (a.kind() > schema::AttrKind::MAX)
      fail(ErrorKind::value, "attribute {} is of unknown kind {}", graph::quoted(r.name),
           static_cast<int>(a.kind()));
    r.kind = static_cast<FieldKind>(a.kind());
    r.integer = a.integer();
    r.real = std::bit_cast<double>(a.real());
    check_rank(count(a.dims()));
    for (const int64_t v : items(a.dims())) r.dims.v[r.dims.n++] = v;
    charge(2 + count(a.dims()));
    for (const schema::SymbolicItem* s : items(a.symbolic())) {
      charge(1);
      r.symbolic.push_back({s->index(), dim(s->size())});
    }
    return r;
  }

  Node node(const schema::Node& n) {
    NodeRecord r;
    r.op = view_of(n.op());
    r.version = n.version();
    charge(4 + count(n.attrs()) + count(n.inputs()) + count(n.outputs()) + count(n.regions()));
    for (const schema::Attr* a : items(n.attrs())) r.attrs.push_back(attr(*a));
    r.in.assign(items(n.inputs()).begin(), items(n.inputs()).end());
    r.out.assign(items(n.outputs()).begin(), items(n.outputs()).end());
    upgrade(r);
    Node node = built(std::move(r));
    node.location = n.location();
    for (const schema::Graph* g : items(n.regions()))
      node.regions.push_back(std::make_unique<Graph>(graph(*g)));
    return node;
  }

  /// Attributes by name become the op's POD.
  static Node built(NodeRecord&& r) {
    Node node;
    node.op = graph::find_graph_op(r.op);
    node.in = std::move(r.in);
    node.out = std::move(r.out);
    node.attrs.resize(node.op->attr_bytes);
    const std::span<const Field> fields = node.op->fields;
    for (size_t i = 0; i < fields.size(); ++i) {
      const AttrRecord* a = r.find(fields[i].name);
      if (!a)
        fail(ErrorKind::value, "op {} (version {}) lacks the attribute {}", r.op, r.version,
             fields[i].name);
      set_field(node, i, *a);
    }
    if (r.attrs.size() != fields.size())
      fail(ErrorKind::value, "op {} (version {}) has {} attributes, not {}", r.op, r.version,
           fields.size(), r.attrs.size());
    return node;
  }
  static void set_field(Node& node, size_t index, const AttrRecord& a) {
    const Field& f = node.op->fields[index];
    std::byte* to = node.attrs.data();
    if (a.kind != f.kind)
      fail(ErrorKind::value, "op {}: the attribute {} is of the wrong kind", node.op->name, f.name);
    if (f.kind == FieldKind::real) graph::write_real(to, f, a.real);
    else if (f.kind != FieldKind::dims) graph::write_integer(to, f, a.integer);
    if (f.kind == FieldKind::dims) {
      graph::write_dims_count(to, f, a.dims.n);
      for (size_t i = 0; i < a.dims.n; ++i) graph::write_dims_item(to, f, i, a.dims.v[i]);
    }
    for (const AttrRecord::Symbolic& s : a.symbolic)
      node.symbolic.push_back({static_cast<uint16_t>(index), s.item, s.size});
  }

  graph::Input input(const schema::Input& i, const Graph& g) {
    if (i.kind() > schema::InputKind::MAX)
      fail(ErrorKind::value, "an input is of unknown kind {}", static_cast<int>(i.kind()));
    graph::Input input;
    input.kind = static_cast<graph::InputKind>(i.kind());
    input.value = i.value();
    input.name = text(i.name());
    if (input.kind != graph::InputKind::constant) return input;
    if (input.value >= g.values.size())
      fail(ErrorKind::value, "a constant is value {} of {}", input.value, g.values.size());
    input.data = constant(i, g.values[input.value]);
    return input;
  }

  Tensor constant(const schema::Input& i, const graph::ValueType& type) {
    Tensor data = i.tensor() < 0 ? inline_constant(i, type) : shared_constant(i.tensor());
    if (!type.weak) return data;
    Tensor weak = alias(data, data.sizes(), data.strides(), data.storage_offset());
    weak.impl()->flags |= kWeak | kNumber;
    return weak;
  }
  Tensor shared_constant(int32_t number) {
    if (static_cast<size_t>(number) >= constants_.size())
      fail(ErrorKind::value, "constant {} is not in the file; there are {}", number,
           constants_.size());
    return constants_[static_cast<size_t>(number)];
  }
  Tensor inline_constant(const schema::Input& i, const graph::ValueType& type) {
    Shape shape;
    for (const graph::Dim& d : type.shape) {
      if (!d.is_constant() || d.constant() < 0)
        fail(ErrorKind::value, "a constant has a shape without a size");
      shape.push_back(d.constant());
    }
    const size_t given = count(i.bytes());
    const int64_t elements = element_count(shape);
    if (given % static_cast<size_t>(size_of(type.dtype)) != 0 ||
        elements != static_cast<int64_t>(given) / size_of(type.dtype))
      fail(ErrorKind::value, "a constant of {} elements of {} has {} bytes", elements,
           name(type.dtype), given);
    charge(1 + given / 8);
    for (const uint8_t b : items(i.bytes()))
      if (type.dtype == DType::bool_ && b > 1)
        fail(ErrorKind::value, "a constant of bools has the byte {}", b);
    Tensor t = empty(Ints(shape), type.dtype);
    if (given) std::memcpy(t.data<char>(), i.bytes()->data(), given);
    return t;
  }

  Graph graph(const schema::Graph& s) {
    Graph g;
    g.name = text(s.name());
    for (const schema::DimSymbol* d : items(s.dims()))
      g.dims.push_back({text(d->name()), d->low(), d->high()});
    std::vector<graph::ValueType> types;
    for (const schema::ValueType* t : items(s.types())) {
      types.push_back(type(*t));
      charge(weight(types.back()));
    }
    for (const uint32_t index : items(s.values())) {
      if (index >= types.size())
        fail(ErrorKind::value, "a value has type {} of {}", index, types.size());
      charge(weight(types[index]) / 4);
      g.values.push_back(types[index]);
    }
    for (const schema::Input* i : items(s.inputs())) g.inputs.push_back(input(*i, g));
    for (const schema::Node* n : items(s.nodes())) g.nodes.push_back(node(*n));
    for (const schema::Result* r : items(s.results()))
      g.results.push_back({text(r->name()), r->value()});
    charge(count(s.writes()));
    for (const schema::Write* w : items(s.writes())) g.writes.push_back({w->input(), w->value()});
    return g;
  }

  std::span<const Tensor> constants_;
  size_t budget_;
};

/// Errors of `f` become errors of the signature.
template <class F>
void within(const std::string& signature, F f) {
  try {
    f();
  } catch (const Error& e) {
    fail(ErrorKind::value, "signature {}: {}", graph::quoted(signature), e.what());
  }
}

void forget_locations(Graph& g) {
  for (Node& n : g.nodes) {
    n.location = 0;
    for (const auto& r : n.regions) forget_locations(*r);
  }
}

/// One graph's table of source lines.
std::vector<graph::Location> locations_of(const schema::Locations& file,
                                          const schema::GraphLocations& g, Reader& reader) {
  auto string = [&](uint32_t index) {
    if (index >= count(file.strings()))
      fail(ErrorKind::value, "the source lines name text {} of {}", index, count(file.strings()));
    return reader.text(file.strings()->Get(index));
  };
  const size_t n = count(g.files());
  if (count(g.lines()) != n || count(g.modules()) != n)
    fail(ErrorKind::value, "the source lines are {} files, {} lines and {} modules", n,
         count(g.lines()), count(g.modules()));
  std::vector<graph::Location> all;
  for (flatbuffers::uoffset_t i = 0; i < n; ++i)
    all.push_back({string(g.files()->Get(i)), g.lines()->Get(i), string(g.modules()->Get(i))});
  return all;
}

void read_locations(std::span<const std::byte> bytes, std::span<Graph* const> graphs) {
  const Aligned aligned(bytes);
  const auto* file = verified<schema::Locations>(aligned, "FXLO", "__fx.locs");
  Reader reader(bytes.size(), {});
  if (count(file->graphs()) != graphs.size())
    fail(ErrorKind::value, "__fx.locs has the source lines of {} graphs, the file has {}",
         count(file->graphs()), graphs.size());
  for (size_t i = 0; i < graphs.size(); ++i)
    graphs[i]->locations =
        locations_of(*file, *file->graphs()->Get(static_cast<uint32_t>(i)), reader);
}

}  // namespace

Signatures read_graphs(std::span<const std::byte> graphs, std::span<const std::byte> locations,
                       std::span<const Tensor> constants) {
  const Aligned aligned(graphs);
  const auto* model = verified<schema::Model>(aligned, schema::ModelIdentifier(), "__fx.graph");
  Reader reader(graphs.size(), constants);
  Signatures signatures;
  std::vector<Graph*> order;
  for (const schema::Signature* s : items(model->signatures())) {
    std::string name = reader.text(s->name());
    const auto [at, added] = signatures.emplace(name, Graph());
    if (!added) fail(ErrorKind::value, "two signatures are called {}", graph::quoted(name));
    within(name, [&] { at->second = reader.read(*s); });
    order.push_back(&at->second);
  }
  if (!locations.empty()) read_locations(locations, order);
  for (auto& [name, g] : signatures) {
    if (locations.empty()) forget_locations(g);
    within(name, [&] { graph::verify(g); });
  }
  return signatures;
}

}  // namespace fluxion::io
