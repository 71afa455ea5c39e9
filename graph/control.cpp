#include "graph/control.h"

#include <unordered_map>

#include "graph/rewrite.h"

namespace fluxion::graph {

namespace {

constexpr Field kWhileFields[] = {{"carry", FieldKind::integer, offsetof(WhileAttrs, carry),
                                   "how many inputs change from turn to turn"}};
constexpr Field kScanFields[] = {
    {"carry", FieldKind::integer, offsetof(ScanLoopAttrs, carry),
     "how many inputs change from step to step"},
    {"xs", FieldKind::integer, offsetof(ScanLoopAttrs, xs), "how many inputs are taken apart"},
    {"length", FieldKind::integer, offsetof(ScanLoopAttrs, length), "number of steps"},
    {"reverse", FieldKind::boolean, offsetof(ScanLoopAttrs, reverse), "start at the end"},
};

/// Types come from the regions, which a rule does not see.
void infer_by_regions(const TypeRule& t) {
  fail(ErrorKind::internal, "{}: its types are those of its regions", t.op.name);
}
void eval_regions(const Eval& e) {
  fail(ErrorKind::internal, "{}: runs in a graph only", e.op.name);
}
double no_cost(std::span<const Type>, const void*) { return 0; }

constexpr OpDef control(OpDef d) {
  d.inputs = d.outputs = 255;
  d.infer = infer_by_regions;
  d.eval = eval_regions;
  d.cost = no_cost;
  return d;
}

}  // namespace

constinit OpDef kCase = control({.name = "case", .doc = "One of several regions."});
constinit OpDef kWhile = control({.name = "while",
                                  .doc = "A region repeated while another gives true.",
                                  .attr_bytes = sizeof(WhileAttrs),
                                  .fields = kWhileFields});
constinit OpDef kScan = control({.name = "scan",
                                 .doc = "A region repeated for each element of the first dim.",
                                 .attr_bytes = sizeof(ScanLoopAttrs),
                                 .fields = kScanFields});

bool is_control(const OpDef& op) { return &op == &kCase || &op == &kWhile || &op == &kScan; }

const OpDef* find_graph_op(std::string_view name) {
  static const std::unordered_map<std::string_view, const OpDef*> by_name = [] {
    std::unordered_map<std::string_view, const OpDef*> all;
    for (const OpDef* op : op_table()) all.emplace(op->name, op);
    for (const OpDef* op : {&kCase, &kWhile, &kScan}) all.emplace(op->name, op);
    return all;
  }();
  auto it = by_name.find(name);
  return it == by_name.end() ? nullptr : it->second;
}

namespace {

class ControlCheck {
 public:
  ControlCheck(const Graph& g, const Node& n, std::span<const DimSymbol> dims)
      : g_(g), n_(n), dims_(dims) {
    for (ValueId v : n.in) in_.push_back(g.values[v]);
  }

  void run() {
    if (n_.op == &kCase) check_case();
    else if (n_.op == &kWhile) check_while();
    else check_scan();
  }

 private:
  using Types = std::vector<ValueType>;

  template <class... A>
  [[noreturn]] void stop(fmt::format_string<A...> text, A&&... args) const {
    fail(ErrorKind::value, "{}: {}", n_.op->name, fmt::format(text, std::forward<A>(args)...));
  }

  void check_case() const {
    if (in_.empty()) stop("needs a selector");
    const ValueType& s = in_[0];
    bool boolean = s.dtype == DType::bool_;
    if (!s.shape.empty() || !(boolean || s.dtype == DType::i64 || s.dtype == DType::i32))
      stop("the selector must be bool[], i32[] or i64[], got {}", type_text(s, dims_));
    if (n_.regions.empty() || (boolean && n_.regions.size() != 2))
      stop("{} regions; expected {}", n_.regions.size(), boolean ? "2 for a bool" : "at least 1");
    Types operands(in_.begin() + 1, in_.end()), out = results(0);
    for (size_t i = 0; i < n_.regions.size(); ++i) {
      expect(fmt::format("the arguments of region {}", i), arguments(i), operands);
      expect(fmt::format("the results of region {}", i), results(i), out);
    }
    expect_results(out);
  }

  void check_while() const {
    if (n_.regions.size() != 2) stop("{} regions; expected 2", n_.regions.size());
    size_t carry = count(0, in_.size(), "carry");
    Types state(in_.begin(), in_.begin() + static_cast<ptrdiff_t>(carry));
    expect("the arguments of the condition", arguments(0), in_);
    expect("the results of the condition", results(0), {{DType::bool_, false, {}}});
    expect("the arguments of the body", arguments(1), in_);
    expect("the results of the body", results(1), state);
    expect_results(state);
  }

  void check_scan() const {
    if (n_.regions.size() != 1) stop("{} regions; expected 1", n_.regions.size());
    size_t carry = count(0, in_.size(), "carry"), xs = count(1, in_.size() - carry, "xs");
    Dim length = attr_dim(n_, 2);
    if (length.is_constant() && length.constant() < 0)
      stop("length {} is negative", length.constant());
    Types wanted = in_, made = results(0);
    for (size_t i = carry; i < carry + xs; ++i) {
      ValueType& x = wanted[i];
      if (x.shape.empty() || !(x.shape[0] == length))
        stop("input {} of type {} must have {} as first size", i, type_text(x, dims_),
             length.text(dims_));
      x.shape.erase(x.shape.begin());
    }
    expect("the arguments of the body", arguments(0), wanted);
    if (made.size() < carry) stop("the body gives {} results, less than the carry", made.size());
    for (size_t i = 0; i < carry; ++i)
      if (!(made[i] == in_[i]))
        stop("the body turns carry {} from {} into {}", i, type_text(in_[i], dims_),
             type_text(made[i], dims_));
    for (size_t i = carry; i < made.size(); ++i) {
      if (made[i].weak || made[i].shape.size() >= kMaxRank)
        stop("result {} of the body, {}, cannot be stacked", i, type_text(made[i], dims_));
      made[i].shape.insert(made[i].shape.begin(), length);
    }
    expect_results(made);
  }

  size_t count(size_t field, size_t most, const char* what) const {
    Dim d = attr_dim(n_, field);
    if (!d.is_constant() || d.constant() < 0 || static_cast<uint64_t>(d.constant()) > most)
      stop("{} is {}; there are {} inputs", what, d.text(dims_), n_.in.size());
    return static_cast<size_t>(d.constant());
  }

  Types arguments(size_t region) const {
    Types out;
    const Graph& r = *n_.regions[region];
    for (const Input& i : r.inputs)
      if (i.kind == InputKind::argument) out.push_back(r.values[i.value]);
    return out;
  }
  Types results(size_t region) const {
    Types out;
    const Graph& r = *n_.regions[region];
    for (const Result& i : r.results) out.push_back(r.values[i.value]);
    return out;
  }

  std::string list(const Types& types) const {
    std::string out = "(";
    for (const ValueType& t : types) out += (out.size() > 1 ? ", " : "") + type_text(t, dims_);
    return out + ")";
  }
  void expect(const std::string& what, const Types& got, const Types& wanted) const {
    if (!(got == wanted)) stop("{} are {}; expected {}", what, list(got), list(wanted));
  }
  void expect_results(const Types& wanted) const {
    if (n_.out.size() != wanted.size())
      stop("{} results; expected {}", n_.out.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i)
      if (n_.out[i] != kNoValue && !(g_.values[n_.out[i]] == wanted[i]))
        stop("result {} is said to be {}, but the regions give {}", i,
             type_text(g_.values[n_.out[i]], dims_), type_text(wanted[i], dims_));
  }

  const Graph& g_;
  const Node& n_;
  std::span<const DimSymbol> dims_;
  Types in_;
};

}  // namespace

void check_control(const Graph& g, const Node& n, std::span<const DimSymbol> dims) {
  ControlCheck(g, n, dims).run();
}

}  // namespace fluxion::graph
