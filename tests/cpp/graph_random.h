// Random graphs with everything that passes look for: neutral constants, repeated nodes, moves that undo each other.
#pragma once

#include <random>

#include "graph/control.h"
#include "graph/rewrite.h"
#include "graph_samples.h"
#include "ops/region.h"

namespace fluxion::testing {

class RandomGraph {
 public:
  explicit RandomGraph(uint64_t seed) : random_(seed) {
    g_.name = "random";
    g_.locations.push_back({});
  }

  graph::Graph make(int nodes) {
    for (int i = 0; i < 3; ++i) add_input(some_dtype(), {2, 3});
    for (DType t : {DType::f32, DType::i32, DType::f64})
      for (double v : {0.0, 1.0, -0.0, 2.0}) add_constant(t, v);
    for (int i = 0; i < nodes; ++i) add_node();
    for (int i = 0; i < 4; ++i) g_.results.push_back({"", any()});
    return std::move(g_);
  }

  /// NaN, infinities and zeros of either sign among ordinary values.
  std::vector<Tensor> arguments(const graph::Graph& g) {
    std::vector<Tensor> in;
    for (const graph::Input& i : g.inputs) {
      if (i.kind != graph::InputKind::argument) continue;
      Shape shape;
      for (const graph::Dim& d : g.values[i.value].shape) shape.push_back(d.constant());
      Tensor t = random_tensor({shape, g.values[i.value].dtype, -100, 100}, random_());
      const double odd[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1.0};
      if (is_floating(t.dtype()))
        for (int64_t k = 0; k < t.numel(); ++k)
          if (below(2))
            store_double(t.data<char>() + k * size_of(t.dtype()), t.dtype(), odd[below(6)]);
      in.push_back(t);
    }
    return in;
  }

 private:
  size_t below(size_t n) { return random_() % n; }
  DType some_dtype() {
    constexpr DType all[] = {DType::f32,  DType::f32, DType::f64, DType::f16,
                             DType::bf16, DType::i32, DType::i64, DType::u8};
    return all[below(std::size(all))];
  }
  graph::ValueId any() { return static_cast<graph::ValueId>(below(g_.values.size())); }

  void add_input(DType t, std::initializer_list<int64_t> shape) {
    graph::Input in;
    in.name = "x" + std::to_string(g_.inputs.size());
    in.value = g_.add_value(value_type({t, false, Shape(shape)}));
    g_.inputs.push_back(in);
  }
  void add_constant(DType t, double v) {
    graph::Input in;
    in.kind = graph::InputKind::constant;
    in.value = g_.add_value({t, false, {}});
    in.data = scalar(v, t);
    g_.inputs.push_back(in);
  }

  /// Appends the op if its rule accepts the inputs.
  bool add(const char* name, std::vector<graph::ValueId> in, std::vector<std::byte> attrs = {}) {
    graph::Node n;
    n.op = graph::find_graph_op(name);
    n.attrs = attrs.empty() ? std::vector<std::byte>(n.op->attr_bytes) : std::move(attrs);
    n.in = std::move(in);
    std::vector<Type> types;
    for (graph::ValueId v : n.in) types.push_back(type_of_value(v));
    std::vector<std::optional<Type>> out;
    try {
      out = graph::infer(*n.op, n.attrs, types);
    } catch (const Error&) {
      return false;
    }
    for (auto& t : out) n.out.push_back(t ? g_.add_value(value_type(*t)) : graph::kNoValue);
    g_.nodes.push_back(std::move(n));
    return true;
  }
  Type type_of_value(graph::ValueId v) const {
    Type t{g_.values[v].dtype, g_.values[v].weak, {}};
    for (const graph::Dim& d : g_.values[v].shape) t.shape.push_back(d.constant());
    return t;
  }

  template <class F>
  std::vector<std::byte> attrs(const char* name, F fill) {
    graph::Node n;
    n.op = graph::find_graph_op(name);
    n.attrs.resize(n.op->attr_bytes);
    fill(n);
    return n.attrs;
  }
  static std::vector<graph::Dim> dims_of(Ints v) { return {v.begin(), v.end()}; }

  void add_node() {
    graph::ValueId x = any();
    Shape shape = type_of_value(x).shape;
    switch (below(12)) {
      case 0: add("mul", {x, any()}); break;
      case 1: add("sub", {x, any()}); break;
      case 2: add("div", {x, any()}); break;
      case 3: {
        const char* unary[] = {"neg", "abs", "relu", "clone", "contiguous", "exp"};
        add(unary[below(std::size(unary))], {x});
        break;
      }
      case 4: add_where(x); break;
      case 5: {
        int64_t to = static_cast<int64_t>(some_dtype());
        add("cast", {x}, attrs("cast", [&](graph::Node& n) { set_attr_dim(n, 0, 0, to); }));
        break;
      }
      case 6: add_reshape(x, shape); break;
      case 7: add_permute(x, shape); break;
      case 8: add_slice(x, shape); break;
      case 9: add_expand(x, shape); break;
      case 10: add_region(x, shape); break;
      default: add_odd(x, shape);
    }
  }

  void add_where(graph::ValueId x) {
    if (!add("isnan", {x})) return;
    graph::ValueId c = g_.nodes.back().out[0];
    add("where", {c, x, below(2) ? x : any()});
  }
  void add_reshape(graph::ValueId x, const Shape& shape) {
    int64_t n = element_count(shape);
    std::vector<graph::Dim> to = below(3) ? std::vector<graph::Dim>{n} : dims_of(shape);
    if (n % 2 == 0 && below(2)) to = {2, n / 2};
    add("reshape", {x}, attrs("reshape", [&](graph::Node& m) { set_attr_dims(m, 0, to); }));
  }
  void add_permute(graph::ValueId x, const Shape& shape) {
    std::vector<graph::Dim> order;
    for (size_t i = 0; i < shape.size(); ++i) order.emplace_back(static_cast<int64_t>(i));
    std::shuffle(order.begin(), order.end(), random_);
    add("permute", {x}, attrs("permute", [&](graph::Node& n) { set_attr_dims(n, 0, order); }));
  }
  void add_slice(graph::ValueId x, const Shape& shape) {
    if (shape.empty()) return;
    size_t d = below(shape.size());
    int64_t size = shape[d], length = static_cast<int64_t>(below(static_cast<size_t>(size) + 1));
    int64_t start = 0, step = 1;
    if (below(3) == 0) {
      length = size;
    } else if (below(2) && size) {
      start = size - 1, step = -1;
    } else if (size) {
      start = static_cast<int64_t>(below(static_cast<size_t>(size)));
      length = std::min(length, size - start);
    }
    add("slice", {x}, attrs("slice", [&](graph::Node& n) {
          const int64_t all[] = {static_cast<int64_t>(d), start, length, step};
          for (size_t i = 0; i < 4; ++i) set_attr_dim(n, i, 0, all[i]);
        }));
  }
  void add_expand(graph::ValueId x, const Shape& shape) {
    if (shape.size() > 4) return;
    std::vector<graph::Dim> to = dims_of(shape);
    for (graph::Dim& d : to)
      if (d == graph::Dim(1) && below(2)) d = 3;
    if (below(2)) to.insert(to.begin(), 2);
    add("expand", {x}, attrs("expand", [&](graph::Node& n) { set_attr_dims(n, 0, to); }));
  }
  void add_region(graph::ValueId x, const Shape& shape) {
    int64_t n = element_count(shape);
    if (!n) return;
    Shape strides = row_major_strides(shape), sizes = shape;
    int64_t offset = 0;
    if (!shape.empty() && below(2)) {
      size_t d = below(shape.size());
      offset = strides[d] * (sizes[d] - 1), sizes[d] = 1;
    }
    Region r{Ints(row_major_strides(shape)), Ints(sizes), Ints(strides), offset};
    auto bytes = graph::normal_attrs(kTakeRegion, &r);
    if (!add("take_region", {x}, bytes)) return;
    graph::ValueId part = g_.nodes.back().out[0];
    if (!add("neg", {part}) || !add("put_region", {x, g_.nodes.back().out[0]}, bytes)) return;
    graph::ValueId put = g_.nodes.back().out[0];
    if (below(2)) add("put_region", {put, part}, bytes);
    if (below(2)) add("take_region", {g_.nodes.back().out[0]}, bytes);
  }
  void add_odd(graph::ValueId x, const Shape& shape) {
    if (shape.empty()) return;
    int64_t d = static_cast<int64_t>(below(shape.size()));
    if (below(2))
      add("reverse", {x}, attrs("reverse", [&](graph::Node& n) { set_attr_dims(n, 0, {d}); }));
    else
      add("concatenate", below(2) ? std::vector{x} : std::vector{x, x},
          attrs("concatenate", [&](graph::Node& n) { set_attr_dim(n, 0, 0, d); }));
  }

  std::mt19937_64 random_;
  graph::Graph g_;
};

}  // namespace fluxion::testing
