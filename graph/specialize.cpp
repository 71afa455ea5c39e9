// Symbolic dims: found from arguments, replaced by sizes.
#include <algorithm>

#include "graph/attrs.h"
#include "graph/graph.h"
#include "graph/names.h"

namespace fluxion::graph {

namespace {

void check_range(const Graph& g, size_t i, int64_t size) {
  const DimSymbol& d = g.dims[i];
  if (size < d.low || size > d.high)
    fail(ErrorKind::value, "graph {}: dim {} is {}; its range is {}..{}", name_text(g.name), d.name,
         size, d.low, d.high);
}

void substitute(Graph& g, std::span<const int64_t> sizes) {
  for (ValueType& t : g.values)
    for (Dim& d : t.shape) {
      int64_t size = d.evaluate(sizes);
      if (size < 0)
        fail(ErrorKind::value, "graph {}: a size becomes negative ({})", name_text(g.name), size);
      d = size;
    }
  for (Node& n : g.nodes) {
    n.attrs = attrs_for(n, sizes);
    n.symbolic.clear();
    for (auto& r : n.regions) substitute(*r, sizes);
  }
  g.dims.clear();
}

/// For d = c * symbol + k: the symbol that `size` gives; nothing for other forms or if it does not divide.
bool solve(const Dim& d, int64_t size, uint32_t* symbol, int64_t* value) {
  std::span<const Monomial> terms = d.terms();
  if (terms.empty() || terms.size() > 2 || terms[0].symbols.size() != 1) return false;
  if (terms.size() == 2 && !terms[1].symbols.empty()) return false;
  int64_t rest = 0;
  if (__builtin_sub_overflow(size, terms.size() == 2 ? terms[1].coefficient : 0, &rest))
    return false;
  int64_t c = terms[0].coefficient;
  if (c == -1 || rest % c != 0) return false;
  *symbol = terms[0].symbols[0];
  *value = rest / c;
  return true;
}

std::string given_text(const Tensor& t) {
  std::string out = fmt::format("{}{}[", t.has(kWeak) ? "weak " : "", short_name(t.dtype()));
  for (int d = 0; d < t.dim(); ++d) out += fmt::format("{}{}", d ? ", " : "", t.sizes()[d]);
  return out + "]";
}

}  // namespace

Graph specialize(const Graph& g, std::span<const int64_t> sizes) {
  if (sizes.size() != g.dims.size())
    fail(ErrorKind::value, "graph {}: {} sizes for {} dims", name_text(g.name), sizes.size(),
         g.dims.size());
  for (size_t i = 0; i < sizes.size(); ++i) check_range(g, i, sizes[i]);
  Graph out = copy(g);
  substitute(out, sizes);
  return out;
}

std::vector<int64_t> bind_dims(const Graph& g, std::span<const Tensor> arguments) {
  std::vector<std::pair<const Input*, Tensor>> given;
  size_t next = 0;
  for (const Input& i : g.inputs) {
    if (i.kind == InputKind::argument) {
      if (next < arguments.size()) given.emplace_back(&i, arguments[next]);
      ++next;
    } else if (i.kind == InputKind::slot && i.data.defined()) {
      given.emplace_back(&i, i.data);
    }
  }
  if (next != arguments.size())
    fail(ErrorKind::value, "graph {}: takes {} arguments, got {}", name_text(g.name), next,
         arguments.size());
  auto mismatch = [&](const Input& i, const Tensor& t) {
    fail(ErrorKind::value, "graph {}: {} must be {}, got {}", name_text(g.name), quoted(i.name),
         type_text(g.values[i.value], g.dims), t.defined() ? given_text(t) : "nothing");
  };
  std::vector<int64_t> sizes(g.dims.size(), -1);
  for (auto& [i, t] : given) {
    const ValueType& type = g.values[i->value];
    if (!t.defined() || t.dtype() != type.dtype || t.has(kWeak) != type.weak ||
        static_cast<size_t>(t.dim()) != type.shape.size())
      mismatch(*i, t);
    for (size_t d = 0; d < type.shape.size(); ++d) {
      uint32_t symbol = 0;
      int64_t value = 0;
      if (solve(type.shape[d], t.sizes()[d], &symbol, &value) && sizes[symbol] < 0)
        sizes[symbol] = value;
    }
  }
  for (size_t k = 0; k < sizes.size(); ++k) {
    if (sizes[k] < 0)
      fail(ErrorKind::value, "graph {}: no argument tells the size of dim {}", name_text(g.name),
           g.dims[k].name);
    check_range(g, k, sizes[k]);
  }
  for (auto& [i, t] : given)
    for (size_t d = 0; d < g.values[i->value].shape.size(); ++d)
      if (g.values[i->value].shape[d].evaluate(sizes) != t.sizes()[d]) mismatch(*i, t);
  return sizes;
}

}  // namespace fluxion::graph
