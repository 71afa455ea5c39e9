// Rewrites that keep every bit. Each rule says why; the fuzz test compares random graphs before and after.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "graph/attrs.h"
#include "graph/control.h"
#include "graph/passes.h"
#include "graph/rewrite.h"

namespace fluxion::graph {

namespace {

/// What a rule sees: a node, who made its inputs, and how to replace it.
class Site {
 public:
  Site(Graph& g, std::vector<uint32_t>& maker, Replacements& r, Node& n)
      : g_(g), maker_(maker), r_(r), n_(n) {}

  Node& node() { return n_; }
  /// The node that made input i, if it is this op.
  const Node* made_by(size_t i, const char* op) const {
    uint32_t m = maker_[n_.in[i]];
    return m < g_.nodes.size() && op == std::string_view(g_.nodes[m].op->name) ? &g_.nodes[m]
                                                                               : nullptr;
  }
  const Node* made_by_same_op(size_t i) const { return made_by(i, n_.op->name); }
  const ValueType& type(ValueId v) const { return g_.values[v]; }
  const ValueType& result_type() const { return g_.values[n_.out[0]]; }

  /// Whether input i is a constant whose every element is `value` (and +0, not -0, for 0).
  bool is_constant(size_t i, double value) const {
    uint32_t m = maker_[n_.in[i]];
    if (m < kFirstInput) return false;
    const Input& in = g_.inputs[m - kFirstInput];
    if (in.kind != InputKind::constant || in.data.numel() != 1) return false;
    const char* p = in.data.data<char>();
    DType t = in.data.dtype();
    if (!is_floating(t)) return static_cast<double>(load_int(p, t)) == value;
    double v = load_double(p, t);
    return v == value && std::signbit(v) == std::signbit(value);
  }

  /// The result is `v` from now on; only if it has the result's type.
  bool becomes(ValueId v) {
    if (!(g_.values[v] == result_type())) return false;
    r_.replace(n_.out[0], v);
    return true;
  }
  /// The node reads `v` from now on.
  bool reads(size_t input, ValueId v) {
    n_.in[input] = v;
    return true;
  }

  static constexpr uint32_t kFirstInput = 1u << 31, kNobody = kFirstInput - 1;

 private:
  Graph& g_;
  std::vector<uint32_t>& maker_;
  Replacements& r_;
  Node& n_;
};

bool operand_if_other_is(Site& s, size_t operand, double neutral) {
  return s.is_constant(1 - operand, neutral) && s.becomes(s.node().in[operand]);
}
bool times_one(Site& s) { return operand_if_other_is(s, 0, 1) || operand_if_other_is(s, 1, 1); }
bool over_one(Site& s) { return operand_if_other_is(s, 0, 1); }
bool minus_zero(Site& s) { return operand_if_other_is(s, 0, 0); }

bool undone(Site& s) {
  const Node* first = s.made_by_same_op(0);
  return first && comparable_attrs(*first) == comparable_attrs(s.node()) &&
         first->symbolic == s.node().symbolic && s.becomes(first->in[0]);
}
bool repeated(Site& s) {
  const Node* first = s.made_by_same_op(0);
  return first && comparable_attrs(*first) == comparable_attrs(s.node()) &&
         first->symbolic == s.node().symbolic && s.becomes(s.node().in[0]);
}
bool same_either_way(Site& s) {
  return s.node().in[1] == s.node().in[2] && s.becomes(s.node().in[1]);
}
bool copies(Site& s) { return s.becomes(s.node().in[0]); }
bool joins_one(Site& s) { return s.node().in.size() == 1 && s.becomes(s.node().in[0]); }

bool same_type(Site& s) { return s.becomes(s.node().in[0]); }
bool skips_first(Site& s) {
  const Node* first = s.made_by_same_op(0);
  return first && s.reads(0, first->in[0]);
}

bool in_order(Site& s) {
  std::vector<Dim> dims = attr_dims(s.node(), 0);
  for (size_t i = 0; i < dims.size(); ++i)
    if (!(dims[i] == Dim(static_cast<int64_t>(i)))) return false;
  return s.becomes(s.node().in[0]);
}
bool permutes_twice(Site& s) {
  const Node* first = s.made_by_same_op(0);
  if (!first || !first->symbolic.empty() || !s.node().symbolic.empty()) return false;
  std::vector<Dim> inner = attr_dims(*first, 0), outer = attr_dims(s.node(), 0);
  for (Dim& d : outer) d = inner[static_cast<size_t>(d.constant())];
  set_attr_dims(s.node(), 0, outer);
  return s.reads(0, first->in[0]);
}

enum SliceField : size_t { kSliceDim, kSliceStart, kSliceLength, kSliceStep };

bool slices_all(Site& s) {
  return attr_dim(s.node(), kSliceStart) == Dim(0) && attr_dim(s.node(), kSliceStep) == Dim(1) &&
         s.becomes(s.node().in[0]);
}
bool slices_twice(Site& s) {
  const Node* first = s.made_by_same_op(0);
  Node& n = s.node();
  if (!first || !(attr_dim(*first, kSliceDim) == attr_dim(n, kSliceDim))) return false;
  Dim start, step;
  try {
    Dim inner = attr_dim(*first, kSliceStep);
    start = attr_dim(*first, kSliceStart) + attr_dim(n, kSliceStart) * inner;
    step = attr_dim(n, kSliceStep) * inner;
  } catch (const Error&) {
    return false;  // too large
  }
  set_attr_dim(n, kSliceStart, 0, start);
  set_attr_dim(n, kSliceStep, 0, step);
  return s.reads(0, first->in[0]);
}

/// Whether every value of `from` is a value of `to`, within floats or within integers.
bool widens(DType from, DType to) {
  if (is_floating(from) != is_floating(to)) return false;
  if (from == DType::bool_) return true;
  if (to == DType::bool_ || from == to) return false;
  if (from == DType::u8) return size_of(to) > 1;
  return to != DType::u8 && size_of(from) < size_of(to);
}
bool casts_twice(Site& s) {
  const Node* first = s.made_by_same_op(0);
  if (!first) return false;
  const ValueType& from = s.type(first->in[0]);
  DType middle = s.type(first->out[0]).dtype, to = s.result_type().dtype;
  if (from.weak || !widens(from.dtype, middle) || is_floating(from.dtype) != is_floating(to))
    return false;
  return s.reads(0, first->in[0]);
}

enum RegionField : size_t { kBaseStrides, kRegionSizes, kRegionStrides, kRegionOffset };

bool is_whole(const Node& n, const ValueType& base, size_t first_field) {
  return attr_dims(n, first_field + kRegionSizes) == base.shape &&
         attr_dims(n, first_field + kRegionStrides) == attr_dims(n, first_field + kBaseStrides) &&
         attr_dim(n, first_field + kRegionOffset) == Dim(0);
}
/// No two indices of the region name the same element: each stride exceeds the reach of the smaller ones.
bool is_injective(const Node& n) {
  std::vector<std::pair<int64_t, int64_t>> dims;
  std::vector<Dim> sizes = attr_dims(n, kRegionSizes), strides = attr_dims(n, kRegionStrides);
  for (size_t i = 0; i < sizes.size() && i < strides.size(); ++i) {
    if (!sizes[i].is_constant() || !strides[i].is_constant()) return false;
    int64_t stride = strides[i].constant();
    if (stride == INT64_MIN) return false;
    if (sizes[i].constant() > 1) dims.emplace_back(std::abs(stride), sizes[i].constant());
  }
  std::ranges::sort(dims);
  __int128 reach = 0;
  for (auto [stride, size] : dims) {
    if (stride <= reach) return false;
    reach += static_cast<__int128>(stride) * (size - 1);
  }
  return true;
}
bool same_region(const Node& a, const Node& b) {
  return comparable_attrs(a) == comparable_attrs(b) && a.symbolic == b.symbolic;
}

bool takes_all(Site& s) {
  return is_whole(s.node(), s.type(s.node().in[0]), 0) && s.becomes(s.node().in[0]);
}
bool puts_all(Site& s) {
  return is_whole(s.node(), s.type(s.node().in[0]), 0) && s.becomes(s.node().in[1]);
}
bool embeds_all(Site& s) {
  Node& n = s.node();
  return attr_dims(n, 0) == attr_dims(n, 1 + kRegionSizes) &&
         attr_dims(n, 1 + kRegionStrides) == attr_dims(n, 1 + kBaseStrides) &&
         attr_dim(n, 1 + kRegionOffset) == Dim(0) && s.becomes(n.in[0]);
}
bool takes_what_was_put(Site& s) {
  const Node* put = s.made_by(0, "put_region");
  return put && same_region(*put, s.node()) && is_injective(s.node()) && s.becomes(put->in[1]);
}
bool puts_twice(Site& s) {
  const Node* first = s.made_by_same_op(0);
  return first && same_region(*first, s.node()) && s.reads(0, first->in[0]);
}

struct Rule {
  const char* op;
  const char* what;
  const char* why;
  bool (*apply)(Site&);
};

constexpr Rule kRules[] = {
    {"mul", "x * 1 -> x", "a product with 1 is exact", times_one},
    {"div", "x / 1 -> x", "a quotient by 1 is exact", over_one},
    {"sub", "x - 0 -> x", "also for x = -0, as -0 - +0 = -0; x + 0 would not do", minus_zero},
    {"neg", "-(-x) -> x", "the sign bit flips twice; integers wrap", undone},
    {"bitwise_not", "~(~x) -> x", "every bit flips twice", undone},
    {"reverse", "reverse of reverse", "the same dims are turned twice", undone},
    {"abs", "|(|x|)| -> |x|", "the sign bit is clear already", repeated},
    {"relu", "relu(relu(x)) -> relu(x)", "the result is not below 0", repeated},
    {"where", "where(c, x, x) -> x", "either choice is x", same_either_way},
    {"clone", "clone(x) -> x", "values have no memory", copies},
    {"contiguous", "contiguous(x) -> x", "values have no strides", copies},
    {"concatenate", "concatenate([x]) -> x", "one part is the whole", joins_one},
    {"cast", "cast to the own dtype", "nothing is converted", same_type},
    {"cast", "cast(wider cast(x)) -> cast(x)",
     "the wider dtype holds x exactly, so only the second cast rounds or wraps", casts_twice},
    {"reshape", "reshape to the own shape", "the order of elements is that of the shape",
     same_type},
    {"reshape", "reshape of reshape", "the first keeps the row-major order", skips_first},
    {"expand", "expand to the own shape", "nothing is repeated", same_type},
    {"expand", "expand of expand", "sizes of 1 repeat once or twice alike", skips_first},
    {"permute", "dims in order", "nothing moves", in_order},
    {"permute", "permute of permute", "permutations compose", permutes_twice},
    {"slice", "slice of everything", "nothing is left out", slices_all},
    {"slice", "slice of slice", "index maps compose: s1 + (s2 + i * d2) * d1", slices_twice},
    {"take_region", "the whole region", "the identity of indices", takes_all},
    {"take_region", "of what was put there", "each element of the region was written once",
     takes_what_was_put},
    {"put_region", "the whole region", "nothing of the base is left", puts_all},
    {"put_region", "twice to one region", "the second overwrites all of the first", puts_twice},
    {"embed_region", "the whole region", "no zeros are left", embeds_all},
};

using RuleMap = std::unordered_map<const OpDef*, std::vector<const Rule*>>;

const RuleMap& rules() {
  static const RuleMap all = [] {
    RuleMap m;
    for (const Rule& r : kRules) {
      const OpDef* op = find_graph_op(r.op);
      invariant(op != nullptr, r.op);
      m[op].push_back(&r);
    }
    return m;
  }();
  return all;
}

/// Applies rules to one node until none fits; each makes its inputs older or removes it. True if anything changed.
bool simplify_node(Site& s, const std::vector<const Rule*>& list, ValueId out, Replacements& r) {
  bool changed = false;
  for (size_t i = 0; i < list.size();) {
    if (!list[i]->apply(s)) {
      ++i;
      continue;
    }
    changed = true;
    if (r(out) != out) break;
    i = 0;
  }
  return changed;
}

}  // namespace

bool simplify(Graph& g) {
  bool changed = in_regions(g, simplify);
  Replacements r(g.values.size());
  std::vector<uint32_t> maker(g.values.size(), Site::kNobody);
  for (size_t i = 0; i < g.inputs.size(); ++i)
    maker[g.inputs[i].value] = Site::kFirstInput + static_cast<uint32_t>(i);
  bool here = false;
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    Node& n = g.nodes[i];
    apply_replacements(n, r);
    for (ValueId v : n.out)
      if (v != kNoValue) maker[v] = static_cast<uint32_t>(i);
    auto list = rules().find(n.op);
    if (list == rules().end() || n.out[0] == kNoValue) continue;
    Site site(g, maker, r, n);
    here |= simplify_node(site, list->second, n.out[0], r);
  }
  if (!here) return changed;
  apply_replacements_at_end(g, r);
  dead_code(g);
  return true;
}

}  // namespace fluxion::graph
