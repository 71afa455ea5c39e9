#include "graph/generalize.h"

#include <algorithm>

#include "graph/attrs.h"
#include "graph/names.h"
#include "graph/rewrite.h"

namespace fluxion::graph {

namespace {

/// Sizes that tell the polynomials apart: primes within the ranges, other ones for each dim and probe; 0 and 1, which broadcasting treats
/// apart, only where nothing else is allowed.
std::vector<std::vector<int64_t>> sizes_to_try(const std::vector<DimSymbol>& dims) {
  static constexpr int64_t kPrimes[] = {2,  3,  5,  7,  11, 13, 17, 19, 23, 29,
                                        31, 37, 41, 43, 47, 53, 59, 61, 67, 71};
  size_t count = 4 + 2 * dims.size();
  std::vector<std::vector<int64_t>> all(count);
  for (size_t d = 0; d < dims.size(); ++d) {
    int64_t low = std::max<int64_t>(dims[d].low, std::min<int64_t>(2, dims[d].high)),
            high = dims[d].high;
    for (size_t p = 0; p < count; ++p) {
      int64_t offset = kPrimes[(p * (d + 1) + 3 * d) % std::size(kPrimes)] - 2;
      int64_t width = high - low;
      all[p].push_back(low + (width < INT64_MAX ? offset % (width + 1) : offset));
    }
  }
  return all;
}

struct Candidate {
  Dim dim;
  std::vector<int64_t> at;
};

std::vector<Candidate> candidates(std::span<const std::vector<int64_t>> sizes) {
  std::vector<Dim> dims;
  size_t n = sizes[0].size();
  for (uint32_t i = 0; i < n; ++i) dims.push_back(Dim::symbol(i));
  for (uint32_t i = 0; i < n; ++i)
    for (uint32_t j = i; j < n; ++j) dims.push_back(Dim::symbol(i) * Dim::symbol(j));
  for (uint32_t i = 0; i < n; ++i)
    for (uint32_t j = i; j < n; ++j)
      for (uint32_t k = j; k < n && n <= 4; ++k)
        dims.push_back(Dim::symbol(i) * Dim::symbol(j) * Dim::symbol(k));
  std::vector<Candidate> all;
  for (Dim& d : dims) {
    Candidate c{std::move(d), {}};
    for (const auto& s : sizes) c.at.push_back(c.dim.evaluate(s));
    all.push_back(std::move(c));
  }
  return all;
}

bool matches(const Dim& d, std::span<const std::vector<int64_t>> sizes,
             std::span<const int64_t> values) {
  for (size_t i = 0; i < values.size(); ++i)
    if (d.evaluate(sizes[i]) != values[i]) return false;
  return true;
}

/// a * c + k, from the first two places where the candidate differs.
bool fit_one(const Candidate& c, std::span<const std::vector<int64_t>> sizes,
             std::span<const int64_t> values, Dim* out) {
  for (size_t i = 1; i < values.size(); ++i) {
    int64_t run = c.at[i] - c.at[0], rise = values[i] - values[0];
    if (run == 0) continue;
    if (rise % run) return false;
    int64_t a = rise / run;
    *out = Dim(a) * c.dim + Dim(values[0] - a * c.at[0]);
    return matches(*out, sizes, values);
  }
  return false;
}

/// a * c + b * d + k by Cramer's rule on differences.
bool fit_two(const Candidate& c, const Candidate& d, std::span<const std::vector<int64_t>> sizes,
             std::span<const int64_t> values, Dim* out) {
  for (size_t i = 1; i < values.size(); ++i)
    for (size_t j = i + 1; j < values.size(); ++j) {
      __int128 c1 = c.at[i] - c.at[0], c2 = c.at[j] - c.at[0], d1 = d.at[i] - d.at[0],
               d2 = d.at[j] - d.at[0], v1 = values[i] - values[0], v2 = values[j] - values[0];
      __int128 det = c1 * d2 - c2 * d1;
      if (det == 0) continue;
      __int128 a = v1 * d2 - v2 * d1, b = c1 * v2 - c2 * v1;
      if (a % det || b % det) return false;
      auto x = static_cast<int64_t>(a / det), y = static_cast<int64_t>(b / det);
      *out = Dim(x) * c.dim + Dim(y) * d.dim + Dim(values[0] - x * c.at[0] - y * d.at[0]);
      return matches(*out, sizes, values);
    }
  return false;
}

class Fit {
 public:
  explicit Fit(std::span<const std::vector<int64_t>> sizes)
      : sizes_(sizes), candidates_(candidates(sizes)) {}

  Dim operator()(std::span<const int64_t> values) const {
    if (std::ranges::all_of(values, [&](int64_t v) { return v == values[0]; })) return values[0];
    Dim d;
    for (const Candidate& c : candidates_)
      if (fit_one(c, sizes_, values, &d)) return d;
    for (size_t i = 0; i < candidates_.size(); ++i)
      for (size_t j = i + 1; j < candidates_.size(); ++j)
        if (fit_two(candidates_[i], candidates_[j], sizes_, values, &d)) return d;
    std::string list;
    for (int64_t v : values) list += fmt::format("{}{}", list.empty() ? "" : ", ", v);
    fail(ErrorKind::value,
         "generalize: the sizes {} are no polynomial of the dims; declare one more dim for them",
         list);
  }

 private:
  std::span<const std::vector<int64_t>> sizes_;
  std::vector<Candidate> candidates_;
};

class Generalizer {
 public:
  Generalizer(std::vector<Graph*> graphs, const Fit& fit, const Graph& root)
      : graphs_(std::move(graphs)), fit_(fit), root_(root) {}

  /// Makes the first graph fit all.
  void run() {
    Graph& g = *graphs_[0];
    for (const Graph* o : graphs_)
      if (o->values.size() != g.values.size() || o->nodes.size() != g.nodes.size() ||
          o->inputs.size() != g.inputs.size() || o->results.size() != g.results.size())
        stop("have different numbers of nodes");
    for (size_t v = 0; v < g.values.size(); ++v) value(v);
    for (size_t i = 0; i < g.inputs.size(); ++i) input(i);
    for (size_t i = 0; i < g.nodes.size(); ++i) node(i);
  }

 private:
  [[noreturn]] void stop(const std::string& what) const {
    fail(ErrorKind::value, "generalize: the graphs {} of different sizes {}", name_text(root_.name),
         what);
  }

  void value(size_t v) {
    ValueType& t = graphs_[0]->values[v];
    for (const Graph* o : graphs_)
      if (o->values[v].shape.size() != t.shape.size() || o->values[v].dtype != t.dtype ||
          o->values[v].weak != t.weak)
        stop(fmt::format("differ in the type of %{}", v));
    for (size_t d = 0; d < t.shape.size(); ++d) {
      std::vector<int64_t> sizes;
      for (const Graph* o : graphs_) sizes.push_back(o->values[v].shape[d].constant());
      fitted_.push_back(fit_(sizes));
    }
    t.shape = std::exchange(fitted_, {});
  }

  void input(size_t i) const {
    const Input& in = graphs_[0]->inputs[i];
    for (const Graph* o : graphs_) {
      const Input& other = o->inputs[i];
      if (other.kind != in.kind || other.value != in.value) stop("differ in their inputs");
      if (in.kind != InputKind::constant || in.data.is_same(other.data)) continue;
      bool equal = std::ranges::equal(in.data.sizes(), other.data.sizes()) &&
                   std::memcmp(in.data.data(), other.data.data(),
                               static_cast<size_t>(in.data.nbytes())) == 0;
      if (!equal) stop(fmt::format("hold different constants in %{}", in.value));
    }
  }

  void node(size_t i) {
    Node& n = graphs_[0]->nodes[i];
    for (const Graph* o : graphs_) {
      const Node& other = o->nodes[i];
      if (other.op != n.op || other.in != n.in || other.out != n.out ||
          other.regions.size() != n.regions.size())
        stop(fmt::format("differ in node {} ({}, {})", i, n.op->name, other.op->name));
    }
    for (size_t f = 0; f < n.op->fields.size(); ++f) field(i, f);
    for (size_t r = 0; r < n.regions.size(); ++r) {
      std::vector<Graph*> regions;
      for (Graph* g : graphs_) regions.push_back(g->nodes[i].regions[r].get());
      Generalizer(std::move(regions), fit_, root_).run();
    }
  }

  void field(size_t i, size_t f) {
    Node& n = graphs_[0]->nodes[i];
    const Field& field = n.op->fields[f];
    if (field.kind == FieldKind::dims) {
      size_t count = read_dims_count(n.attrs.data(), field);
      for (const Graph* o : graphs_)
        if (read_dims_count(o->nodes[i].attrs.data(), field) != count)
          stop(fmt::format("differ in {} of node {} ({})", field.name, i, n.op->name));
      for (size_t k = 0; k < count; ++k) integer(i, f, k);
      return;
    }
    if (field.kind == FieldKind::integer) return integer(i, f, 0);
    for (const Graph* o : graphs_)
      if (std::memcmp(o->nodes[i].attrs.data() + field.offset, n.attrs.data() + field.offset, 8))
        stop(fmt::format("differ in {} of node {} ({})", field.name, i, n.op->name));
  }

  void integer(size_t i, size_t f, size_t item) {
    std::vector<int64_t> values;
    for (const Graph* g : graphs_) values.push_back(attr_dim(g->nodes[i], f, item).constant());
    pending_ = fit_(values);
    if (!pending_.is_constant()) set_attr_dim(graphs_[0]->nodes[i], f, item, pending_);
  }

  std::vector<Graph*> graphs_;
  const Fit& fit_;
  const Graph& root_;
  std::vector<Dim> fitted_;
  Dim pending_;
};

}  // namespace

Dim fit_dim(std::span<const std::vector<int64_t>> sizes, std::span<const int64_t> values) {
  return Fit(sizes)(values);
}

Graph generalize(const std::vector<DimSymbol>& dims,
                 FunctionRef<Graph(std::span<const int64_t> sizes)> make) {
  std::vector<std::vector<int64_t>> sizes = sizes_to_try(dims);
  std::vector<Graph> graphs;
  for (const auto& s : sizes) graphs.push_back(make(s));
  std::vector<Graph*> pointers;
  for (Graph& g : graphs) pointers.push_back(&g);
  Generalizer(std::move(pointers), Fit(sizes), graphs[0]).run();
  graphs[0].dims = dims;
  verify(graphs[0]);
  return std::move(graphs[0]);
}

}  // namespace fluxion::graph
