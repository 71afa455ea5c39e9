#include <algorithm>
#include <limits>
#include <unordered_set>

#include "graph/attrs.h"
#include "graph/control.h"
#include "graph/names.h"

namespace fluxion::graph {

namespace {

constexpr int kMaxDepth = 64;
constexpr DType kAbsent = static_cast<DType>(255);

/// Elements and bytes that fit in 64 bits, sizes that are not negative.
void check_shape(const char* what, Ints shape, DType dtype) {
  if (shape.size() > kMaxRank)
    fail(ErrorKind::value, "{} has rank {}; at most {} is allowed", what, shape.size(), kMaxRank);
  __int128 bytes = size_of(dtype);
  for (int64_t s : shape) {
    if (s < 0)
      fail(ErrorKind::value, "{} has the shape {} with a negative size", what, shape_text(shape));
    bytes *= std::max<int64_t>(s, 1);
    if (bytes > std::numeric_limits<int64_t>::max())
      fail(ErrorKind::value, "{} has the shape {}, which is too large for memory", what,
           shape_text(shape));
  }
}

}  // namespace

std::vector<std::optional<Type>> infer(const OpDef& op, const std::vector<std::byte>& attrs,
                                       std::span<const Type> in) {
  if (op.inputs != 255 && in.size() != op.inputs)
    fail(ErrorKind::value, "{}: {} inputs; expected {}", op.name, in.size(), op.inputs);
  check_attrs(op, attrs);
  for (const Type& t : in) check_shape("an input", t.shape, t.dtype);
  const void* data = attrs.empty() ? nullptr : attrs.data();
  std::vector<Type> out(outputs_of(op, in.size(), data), Type{kAbsent, false, {}});
  op.infer({op, data, in, out});
  std::vector<std::optional<Type>> types;
  for (Type& t : out) {
    if (t.dtype == kAbsent) {
      types.emplace_back();
      continue;
    }
    check_shape("the result", t.shape, t.dtype);
    t.weak &= op.view || op.promotion != Promotion::none;  // others give tensors
    types.push_back(std::move(t));
  }
  return types;
}

namespace {

/// Sizes of the dims to try: ends of the ranges, and primes that differ from dim to dim.
std::vector<std::vector<int64_t>> probes_for(std::span<const DimSymbol> dims) {
  if (dims.empty()) return {{}};
  static constexpr int64_t kPrimes[] = {3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41};
  constexpr int64_t kSmall = 4096;
  std::vector<std::vector<int64_t>> probes(5);
  for (size_t i = 0; i < dims.size(); ++i) {
    const DimSymbol& d = dims[i];
    auto within = [&](int64_t s) { return std::clamp(s, d.low, d.high); };
    int64_t up = d.low < INT64_MAX ? d.low + 1 : d.low;
    probes[0].push_back(d.low);
    probes[1].push_back(within(up));
    probes[2].push_back(within(kPrimes[i % std::size(kPrimes)]));
    probes[3].push_back(within(kPrimes[(2 * i + 5) % std::size(kPrimes)]));
    probes[4].push_back(d.high <= kSmall ? d.high : within(kPrimes[(i + 3) % std::size(kPrimes)]));
  }
  std::ranges::sort(probes);
  auto repeated = std::ranges::unique(probes);
  probes.erase(repeated.begin(), repeated.end());
  return probes;
}

std::string sizes_text(std::span<const DimSymbol> dims, std::span<const int64_t> sizes) {
  std::string out;
  for (size_t i = 0; i < dims.size(); ++i)
    out += fmt::format("{}{} = {}", i ? ", " : "", dims[i].name, sizes[i]);
  return out.empty() ? out : " (for " + out + ")";
}

/// The checks of one graph or region.
class Verifier {
 public:
  Verifier(const Graph& root, const Graph& g, int depth, std::string path,
           std::span<const std::vector<int64_t>> probes)
      : root_(root), g_(g), depth_(depth), path_(std::move(path)), probes_(probes) {}

  void run() {
    if (depth_ > kMaxDepth) stop("regions are nested deeper than {} levels", kMaxDepth);
    if (depth_ > 0 && (!g_.dims.empty() || !g_.locations.empty()))
      stop("a region has no dims and locations of its own");
    values();
    defined_.assign(g_.values.size(), false);
    inputs();
    for (size_t i = 0; i < g_.nodes.size(); ++i) node(i);
    results();
    writes();
    for (size_t v = 0; v < defined_.size(); ++v)
      if (!defined_[v]) stop("%{} is never defined", v);
  }

 private:
  template <class... A>
  [[noreturn]] void stop(fmt::format_string<A...> text, A&&... args) const {
    fail(ErrorKind::value, "{}{}: {}", path_, at_, fmt::format(text, std::forward<A>(args)...));
  }

  /// Errors of rules and arithmetic become errors of this node.
  template <class F>
  auto guarded(const std::string& when, F f) const {
    try {
      return f();
    } catch (const Error& e) {
      stop("{}{}", e.what(), when);
    }
  }

  void values() {
    for (size_t v = 0; v < g_.values.size(); ++v) {
      const ValueType& t = g_.values[v];
      if (static_cast<int>(t.dtype) >= kDTypes)
        stop("%{} has no dtype ({})", v, static_cast<int>(t.dtype));
      if (t.shape.size() > kMaxRank)
        stop("%{} has rank {}; at most {} is allowed", v, t.shape.size(), kMaxRank);
      for (const Dim& d : t.shape) symbols(d, fmt::format("%{}", v));
    }
  }

  void symbols(const Dim& d, const std::string& what) const {
    for (const Monomial& m : d.terms())
      for (uint32_t s : m.symbols)
        if (s >= root_.dims.size())
          stop("{} uses dim {}; the graph has {} dims", what, s, root_.dims.size());
  }

  void define(ValueId v) {
    if (v >= defined_.size()) stop("value {} does not exist; there are {}", v, defined_.size());
    if (defined_[v]) stop("%{} is defined twice", v);
    defined_[v] = true;
  }
  void use(ValueId v) const {
    if (v >= defined_.size()) stop("value {} does not exist; there are {}", v, defined_.size());
    if (!defined_[v]) stop("%{} is used before it is defined", v);
  }

  void inputs() {
    std::unordered_set<std::string> names[3];
    for (const Input& i : g_.inputs) {
      auto kind = static_cast<size_t>(i.kind);
      if (kind > 2) stop("an input of unknown kind {}", kind);
      if (i.kind == InputKind::slot && depth_ > 0) stop("a region has no slots");
      if (i.kind != InputKind::constant) {
        if (i.name.empty()) stop("an input has no name");
        if (!names[kind].insert(i.name).second)
          stop("two {} are called {}", i.kind == InputKind::slot ? "slots" : "arguments",
               quoted(i.name));
      }
      define(i.value);
      data(i);
    }
  }

  void data(const Input& i) const {
    const ValueType& t = g_.values[i.value];
    if (!i.data.defined()) {
      if (i.kind == InputKind::constant) stop("constant %{} has no data", i.value);
      return;
    }
    if (i.kind == InputKind::argument) stop("argument {} has data", quoted(i.name));
    bool fits = i.data.dtype() == t.dtype && static_cast<size_t>(i.data.dim()) == t.shape.size() &&
                i.data.has(kWeak) == t.weak;
    for (size_t d = 0; fits && d < t.shape.size(); ++d)
      fits = t.shape[d].is_constant() ? t.shape[d].constant() == i.data.sizes()[d]
                                      : i.kind == InputKind::slot;
    if (!fits)
      stop("%{} of type {} holds {}", i.value, type_text(t, root_.dims),
           fluxion::type_text(i.data));
  }

  std::string place(const Node& n) const {
    std::string out = fmt::format(", node {} ({}", &n - g_.nodes.data(), n.op ? n.op->name : "?");
    if (n.location < root_.locations.size() && n.location) {
      const Location& l = root_.locations[n.location];
      out += fmt::format(", {}:{}", l.file, l.line);
      if (!l.module.empty()) out += " in " + l.module;
    }
    return out + ")";
  }

  void node(size_t index) {
    const Node& n = g_.nodes[index];
    at_ = place(n);
    if (!n.op) stop("the node has no op");
    if (n.location >= std::max<size_t>(root_.locations.size(), 1))
      stop("location {} does not exist", n.location);
    for (ValueId v : n.in) use(v);
    guarded("", [&] { check_attrs(*n.op, n.attrs); });
    size_t results = 0;
    guarded("", [&] { results = outputs_of(*n.op, n.in.size(), n.attrs.data()); });
    bool any_number = n.op->outputs == 255 && !n.op->count_outputs;
    if (!any_number && n.out.size() != results)
      stop("{} results; expected {}", n.out.size(), results);
    symbolic(n);
    for (ValueId v : n.out)
      if (v != kNoValue) define(v);
    if (is_control(*n.op)) {
      for (size_t i = 0; i < n.regions.size(); ++i) region(n, i);
      guarded("", [&] { check_control(g_, n, root_.dims); });
      shapes(n);
    } else {
      if (!n.regions.empty()) stop("{} has no regions; got {}", n.op->name, n.regions.size());
      types(n);
    }
    at_.clear();
  }

  void region(const Node& n, size_t i) const {
    if (!n.regions[i]) stop("region {} is missing", i);
    Verifier(root_, *n.regions[i], depth_ + 1, fmt::format("{}{}, region {}", path_, at_, i),
             probes_)
        .run();
  }

  void symbolic(const Node& n) const {
    std::unordered_set<uint32_t> seen;
    for (const SymbolicAttr& s : n.symbolic) {
      if (s.field >= n.op->fields.size()) stop("attribute {} does not exist", s.field);
      const Field& f = n.op->fields[s.field];
      bool fits = f.kind == FieldKind::integer
                      ? s.item == 0
                      : f.kind == FieldKind::dims && s.item < read_dims_count(n.attrs.data(), f);
      if (!fits) stop("item {} of attribute {} cannot be symbolic", s.item, f.name);
      if (!seen.insert(uint32_t{s.field} << 16 | s.item).second)
        stop("item {} of attribute {} is symbolic twice", s.item, f.name);
      symbols(s.value, f.name);
    }
  }

  Type type_at(ValueId v, std::span<const int64_t> sizes) const {
    const ValueType& t = g_.values[v];
    Type out{t.dtype, t.weak, {}};
    for (const Dim& d : t.shape) out.shape.push_back(d.evaluate(sizes));
    check_shape("a value", out.shape, out.dtype);
    return out;
  }

  bool is_symbolic(const Node& n) const {
    auto any = [&](const std::vector<ValueId>& values) {
      for (ValueId v : values)
        if (v != kNoValue)
          for (const Dim& d : g_.values[v].shape)
            if (!d.is_constant()) return true;
      return false;
    };
    return !n.symbolic.empty() || any(n.in) || any(n.out);
  }

  void types(const Node& n) const {
    size_t count = is_symbolic(n) ? probes_.size() : 1;
    for (size_t p = 0; p < count; ++p) {
      std::span<const int64_t> sizes = probes_[p];
      std::string when = count > 1 ? sizes_text(root_.dims, sizes) : "";
      guarded(when, [&] { types_for(n, sizes); });
    }
  }

  /// Shapes that fit in memory, for nodes whose types were compared as they are.
  void shapes(const Node& n) const {
    for (std::span<const int64_t> sizes : probes_)
      guarded(sizes_text(root_.dims, sizes), [&] {
        for (ValueId v : n.out)
          if (v != kNoValue) type_at(v, sizes);
      });
  }

  void types_for(const Node& n, std::span<const int64_t> sizes) const {
    std::vector<Type> in;
    for (ValueId v : n.in) in.push_back(type_at(v, sizes));
    std::vector<std::optional<Type>> out = infer(*n.op, attrs_for(n, sizes), in);
    for (size_t i = 0; i < out.size(); ++i) {
      ValueId v = n.out[i];
      if (v == kNoValue) continue;
      if (!out[i]) fail(ErrorKind::value, "%{} does not exist: the op gives no result {}", v, i);
      Type said = type_at(v, sizes);
      if (said.dtype != out[i]->dtype || said.weak != out[i]->weak ||
          !(said.shape == out[i]->shape))
        fail(ErrorKind::value, "%{} is said to be {}, but the op gives {}{}{}", v,
             type_text(g_.values[v], root_.dims), out[i]->weak ? "weak " : "",
             short_name(out[i]->dtype), bracketed(out[i]->shape));
    }
  }
  static std::string bracketed(Ints shape) {
    std::string out = "[";
    for (size_t i = 0; i < shape.size(); ++i) out += fmt::format("{}{}", i ? ", " : "", shape[i]);
    return out + "]";
  }

  void results() {
    std::unordered_set<std::string> names;
    for (const Result& r : g_.results) {
      use(r.value);
      if (!r.name.empty() && !names.insert(r.name).second)
        stop("two results are called {}", quoted(r.name));
    }
  }

  void writes() {
    std::unordered_set<uint32_t> written;
    if (depth_ > 0 && !g_.writes.empty()) stop("a region writes nothing");
    for (const Write& w : g_.writes) {
      if (w.input >= g_.inputs.size() || g_.inputs[w.input].kind != InputKind::slot)
        stop("a write names input {}, which is no slot", w.input);
      use(w.value);
      const Input& slot = g_.inputs[w.input];
      if (!written.insert(w.input).second) stop("slot {} is written twice", quoted(slot.name));
      if (!(g_.values[w.value] == g_.values[slot.value]))
        stop("slot {} of type {} is written with {}", quoted(slot.name),
             type_text(g_.values[slot.value], root_.dims),
             type_text(g_.values[w.value], root_.dims));
    }
  }

  const Graph &root_, &g_;
  int depth_;
  std::string path_, at_;
  std::span<const std::vector<int64_t>> probes_;
  std::vector<bool> defined_;
};

void verify_dims(const Graph& g) {
  constexpr size_t kMaxDims = 64;
  std::unordered_set<std::string> names;
  if (g.dims.size() > kMaxDims)
    fail(ErrorKind::value, "graph {}: {} dims; at most {} are allowed", name_text(g.name),
         g.dims.size(), kMaxDims);
  for (const DimSymbol& d : g.dims) {
    if (!is_identifier(d.name) || !names.insert(d.name).second)
      fail(ErrorKind::value, "graph {}: dim {} must be an identifier that no other dim has",
           name_text(g.name), quoted(d.name));
    if (d.low < 0 || d.high < d.low)
      fail(ErrorKind::value, "graph {}: dim {} has the range {}..{}", name_text(g.name), d.name,
           d.low, d.high);
  }
}

}  // namespace

void verify(const Graph& g) {
  verify_dims(g);
  std::vector<std::vector<int64_t>> probes = probes_for(g.dims);
  Verifier(g, g, 0, "graph " + name_text(g.name), probes).run();
}

}  // namespace fluxion::graph
