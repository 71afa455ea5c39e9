// Reverse mode on graphs, through the rules that the ops state for the tape: same ops, same order of sums, same bits.
#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "graph/control.h"
#include "graph/generalize.h"
#include "graph/names.h"
#include "graph/passes.h"
#include "graph/recording.h"
#include "graph/rewrite.h"
#include "ops/copy.h"
#include "ops/functions.h"

namespace fluxion::graph {

namespace {

std::string result_name(const Graph& g, size_t i) {
  return g.results[i].name.empty() ? fmt::format("{}", i) : g.results[i].name;
}

/// "grad.NAME", numbered if that is taken (gradients of gradients).
std::string free_name(std::unordered_set<std::string>& taken, const std::string& name) {
  std::string tried = "grad." + name;
  for (int n = 2; !taken.insert(tried).second; ++n) tried = fmt::format("grad.{}.{}", name, n);
  return tried;
}

class Reverse {
 public:
  explicit Reverse(Graph& g) : g_(g), recording_(g) {}

  Recording& recording() { return recording_; }
  Tensor gradient_of(ValueId v) const {
    auto it = grads_.find(v);
    return it == grads_.end() ? Tensor{} : it->second;
  }

  void contribute(ValueId v, Tensor g) {
    Tensor& have = grads_[v];
    have = have.defined() ? add(have, g) : std::move(g);
  }
  void want(ValueId v) { depends_.insert(v); }

  /// Which values of the nodes [begin, end) depend on the wanted ones.
  void mark(size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const Node& n = g_.nodes[i];
      bool differentiable = n.op->vjp || n.op->composite || is_control(*n.op);
      if (!differentiable || std::ranges::none_of(n.in, [&](ValueId v) { return depends(v); }))
        continue;
      for (ValueId v : n.out)
        if (v != kNoValue && is_floating(g_.values[v].dtype)) want(v);
    }
  }

  /// Newest first.
  void walk(size_t begin, size_t end) {
    for (size_t i = end; i-- > begin;) visit(i);
  }

 private:
  bool depends(ValueId v) const { return depends_.contains(v); }

  void visit(size_t index) {
    std::vector<Tensor> grad, in, out;
    std::vector<uint8_t> needed;
    {
      const Node& n = g_.nodes[index];
      for (ValueId v : n.out) grad.push_back(depends(v) ? gradient_of(v) : Tensor{});
      if (std::ranges::none_of(grad, &Tensor::defined)) return;
      for (ValueId v : n.in) needed.push_back(depends(v));
      if (std::ranges::find(needed, 1) == needed.end()) return;
      recording_.set_location(n.location);
    }
    std::vector<ValueId> ins = g_.nodes[index].in, outs = g_.nodes[index].out;
    std::vector<Tensor> result(ins.size());
    const OpDef& op = *g_.nodes[index].op;
    if (is_control(op)) {
      control(index, grad, needed, result);
    } else {
      for (ValueId v : ins) in.push_back(recording_.handle(v));
      for (ValueId v : outs) out.push_back(recording_.handle(v));
      std::vector<std::byte> attrs = g_.nodes[index].attrs;
      Vjp v{op, attrs.empty() ? nullptr : attrs.data(), grad, in, out, needed, result};
      if (op.vjp) op.vjp(v);
      else derive(v);
    }
    for (size_t i = 0; i < ins.size(); ++i)
      if (needed[i] && result[i].defined())
        contribute(ins[i], fit(std::move(result[i]), recording_.handle(ins[i])));
  }

  /// A rule may return the gradient of the broadcast or promoted operand.
  static Tensor fit(Tensor g, const Tensor& want) {
    if (g.dtype() == want.dtype() && std::ranges::equal(g.sizes(), want.sizes())) return g;
    return to_dtype(sum_to_size(g, want.sizes()), want.dtype());
  }

  /// Through the body, computed once more; the composite is one consumer of its inputs.
  void derive(Vjp& v) {
    std::vector<Tensor> out(v.out.size());
    size_t begin = g_.nodes.size();
    v.op.composite({v.op, v.attr_data, v.in, out});
    size_t end = g_.nodes.size();
    auto outer = std::exchange(grads_, {});
    auto outer_depends = std::exchange(depends_, {});
    for (size_t i = 0; i < v.in.size(); ++i)
      if (v.needs(i)) want(recording_.value_of(v.in[i]));
    mark(begin, end);
    for (size_t k = 0; k < out.size(); ++k)
      if (v.grad[k].defined() && out[k].defined() && depends(recording_.value_of(out[k])))
        contribute(recording_.value_of(out[k]), v.grad[k]);
    walk(begin, end);
    for (size_t i = 0; i < v.in.size(); ++i)
      if (v.needs(i)) v.result[i] = gradient_of(recording_.value_of(v.in[i]));
    grads_ = std::move(outer);
    depends_ = std::move(outer_depends);
  }

  void control(size_t index, std::span<const Tensor> grad, std::span<const uint8_t> needed,
               std::span<Tensor> result) {
    const OpDef* op = g_.nodes[index].op;
    if (op == &kCase) return reverse_case(index, grad, needed, result);
    if (op == &kScan) return reverse_scan(index, grad, needed, result);
    fail(ErrorKind::not_implemented,
         "gradient: `while` has no gradient, as the number of its turns is not known; use `scan` "
         "with a fixed length");
  }

  ValueId zero_if_none(const Tensor& g, const ValueType& type) {
    return recording_.value_of(g.defined() ? g : zeros_of(type));
  }
  static Tensor zeros_of(const ValueType& type) {
    Shape shape;
    for (const Dim& d : type.shape) shape.push_back(d.constant());
    return zeros(shape, type.dtype);
  }

  /// The gradient of a region with respect to the arguments at `at`, without its own results.
  Graph region_gradient(const Graph& region, const std::vector<uint32_t>& at) {
    Override<Tracer*> outside(thread_state().tracer, nullptr);
    Graph r = gradient(region, at);
    r.results.erase(r.results.begin(),
                    r.results.begin() + static_cast<ptrdiff_t>(region.results.size()));
    for (Result& result : r.results) result.name.clear();
    r.locations.clear();
    dead_code(r);
    return r;
  }

  static std::vector<uint32_t> arguments(const Graph& region) {
    std::vector<uint32_t> at;
    for (size_t i = 0; i < region.inputs.size(); ++i)
      if (region.inputs[i].kind == InputKind::argument) at.push_back(static_cast<uint32_t>(i));
    return at;
  }

  /// The same selector chooses among the gradients of the regions.
  void reverse_case(size_t index, std::span<const Tensor> grad, std::span<const uint8_t> needed,
                    std::span<Tensor> result) {
    Node n;
    n.op = &kCase;
    n.in = g_.nodes[index].in;
    std::vector<ValueId> outs = g_.nodes[index].out;
    for (size_t r = 0; r < g_.nodes[index].regions.size(); ++r) {
      const Graph& region = *g_.nodes[index].regions[r];
      std::vector<uint32_t> all = arguments(region), wanted;
      for (size_t i = 1; i < needed.size(); ++i)
        if (needed[i]) wanted.push_back(all[i - 1]);
      n.regions.push_back(std::make_unique<Graph>(region_gradient(region, wanted)));
    }
    const Graph& first = *g_.nodes[index].regions[0];
    std::vector<ValueType> types;
    for (const Result& r : first.results) types.push_back(first.values[r.value]);
    for (size_t k = 0; k < types.size(); ++k)
      if (is_floating(types[k].dtype)) n.in.push_back(zero_if_none(grad[k], types[k]));
    std::vector<size_t> to;
    for (size_t i = 1; i < needed.size(); ++i)
      if (needed[i]) {
        n.out.push_back(g_.add_value(g_.values[n.in[i]]));
        to.push_back(i);
      }
    std::vector<ValueId> made = n.out;
    recording_.append(std::move(n));
    for (size_t k = 0; k < made.size(); ++k) result[to[k]] = recording_.handle(made[k]);
  }

  void reverse_scan(size_t index, std::span<const Tensor> grad, std::span<const uint8_t> needed,
                    std::span<Tensor> result);

  Graph& g_;
  Recording recording_;
  // Hash maps, as each derived rule has its own.
  std::unordered_map<ValueId, Tensor> grads_;
  std::unordered_set<ValueId> depends_;
};

/// A copy of the body that also returns its arguments [0, count): what the way back needs.
Graph body_that_keeps(const Graph& body, size_t count) {
  Graph g = copy(body);
  size_t seen = 0;
  for (const Input& i : body.inputs)
    if (i.kind == InputKind::argument && seen++ < count) g.results.push_back({"", i.value});
  for (Result& r : g.results) r.name.clear();
  return g;
}

/// Adds `more` to `sum` at the end of a region.
ValueId append_sum(Graph& g, ValueId sum, ValueId more) {
  Node n;
  n.op = find_graph_op("add");
  n.in = {sum, more};
  n.out = {g.add_value(g.values[sum])};
  g.nodes.push_back(std::move(n));
  return g.nodes.back().out[0];
}

/// Two scans: forward once more, keeping each step's carry; then backward over steps with the carry's gradient and the sums for
/// invariants as carry.
void Reverse::reverse_scan(size_t index, std::span<const Tensor> grad,
                           std::span<const uint8_t> needed, std::span<Tensor> result) {
  ScanLoopAttrs a;
  std::memcpy(&a, g_.nodes[index].attrs.data(), sizeof a);
  auto carry = static_cast<size_t>(a.carry), xs = static_cast<size_t>(a.xs);
  const std::vector<ValueId> in = g_.nodes[index].in;
  Graph body = copy(*g_.nodes[index].regions[0]);
  auto type_in = [&](size_t i) { return g_.values[in[i]]; };
  auto floating = [&](size_t i) { return is_floating(type_in(i).dtype); };

  Node forward;
  forward.op = &kScan;
  forward.attrs = g_.nodes[index].attrs;
  forward.in = in;
  forward.regions.push_back(std::make_unique<Graph>(body_that_keeps(body, carry)));
  forward.out.assign(body.results.size(), kNoValue);
  for (size_t i = 0; i < carry; ++i) {
    ValueType kept = type_in(i);
    kept.shape.insert(kept.shape.begin(), Dim(a.length));
    forward.out.push_back(g_.add_value(kept));
  }
  std::vector<ValueId> kept(forward.out.end() - static_cast<ptrdiff_t>(carry), forward.out.end());
  recording_.append(std::move(forward));

  std::vector<uint32_t> all = arguments(body), at;
  std::vector<size_t> carries, elements, constants;  // inputs that get a gradient
  for (size_t i = 0; i < in.size(); ++i)
    if (floating(i) && (i < carry || needed[i])) {
      at.push_back(all[i]);
      (i < carry ? carries : i < carry + xs ? elements : constants).push_back(i);
    }
  Graph step = region_gradient(body, at);

  // Arguments of the step: carry, x, invariants, gradients of results. Wanted: gradients of the carry and sums; then
  // kept carry, x, gradients of y; then invariants.
  std::vector<ValueType> results;
  for (const Result& r : body.results) results.push_back(body.values[r.value]);
  std::vector<Input> given(step.inputs.begin(), step.inputs.end());
  std::vector<Input> args;
  for (const Input& i : given)
    if (i.kind == InputKind::argument) args.push_back(i);
  std::vector<Input> order, sums;
  size_t next = in.size();
  std::vector<Input> carry_grads, y_grads;
  for (size_t k = 0; k < results.size(); ++k)
    if (is_floating(results[k].dtype)) (k < carry ? carry_grads : y_grads).push_back(args[next++]);
  for (size_t i : constants) {
    Input sum;
    sum.name = fmt::format("sum.{}", i);
    sum.value = step.add_value(type_in(i));
    sums.push_back(sum);
  }
  for (const auto* part : {&carry_grads, &sums})
    order.insert(order.end(), part->begin(), part->end());
  order.insert(order.end(), args.begin(), args.begin() + static_cast<ptrdiff_t>(carry + xs));
  order.insert(order.end(), y_grads.begin(), y_grads.end());
  order.insert(order.end(), args.begin() + static_cast<ptrdiff_t>(carry + xs),
               args.begin() + static_cast<ptrdiff_t>(in.size()));
  for (const Input& i : given)
    if (i.kind == InputKind::constant) order.push_back(i);
  step.inputs = order;
  std::vector<Result> made = step.results,
                      results_now(made.begin(),
                                  made.begin() + static_cast<ptrdiff_t>(carries.size()));
  for (size_t k = 0; k < constants.size(); ++k)
    results_now.push_back(
        {"", append_sum(step, sums[k].value, made[carries.size() + elements.size() + k].value)});
  for (size_t k = 0; k < elements.size(); ++k) results_now.push_back(made[carries.size() + k]);
  step.results = results_now;

  Node back;
  back.op = &kScan;
  ScanLoopAttrs b{static_cast<int64_t>(carries.size() + constants.size()),
                  static_cast<int64_t>(carry + xs + y_grads.size()), a.length, !a.reverse};
  back.attrs = normal_attrs(kScan, &b);
  for (size_t i : carries) back.in.push_back(zero_if_none(grad[i], type_in(i)));
  for (size_t i : constants) back.in.push_back(recording_.value_of(zeros_of(type_in(i))));
  back.in.insert(back.in.end(), kept.begin(), kept.end());
  back.in.insert(back.in.end(), in.begin() + static_cast<ptrdiff_t>(carry),
                 in.begin() + static_cast<ptrdiff_t>(carry + xs));
  for (size_t k = carry; k < results.size(); ++k) {
    if (!is_floating(results[k].dtype)) continue;
    ValueType stacked = results[k];
    stacked.shape.insert(stacked.shape.begin(), Dim(a.length));
    back.in.push_back(zero_if_none(grad[k], stacked));
  }
  back.in.insert(back.in.end(), in.begin() + static_cast<ptrdiff_t>(carry + xs), in.end());
  std::vector<size_t> to;
  for (const auto* part : {&carries, &constants, &elements})
    for (size_t i : *part) {
      back.out.push_back(g_.add_value(type_in(i)));
      to.push_back(i);
    }
  back.regions.push_back(std::make_unique<Graph>(std::move(step)));
  std::vector<ValueId> out = back.out;
  recording_.append(std::move(back));
  for (size_t k = 0; k < to.size(); ++k)
    if (needed[to[k]]) result[to[k]] = recording_.handle(out[k]);
}

Graph fixed_gradient(const Graph& g, std::span<const uint32_t> inputs) {
  Graph out = copy(g);
  if (out.locations.empty()) out.locations.push_back({});
  size_t nodes = out.nodes.size();
  std::unordered_set<std::string> arguments, results;
  for (const Input& i : g.inputs) arguments.insert(i.name);
  for (const Result& r : g.results) results.insert(r.name);
  std::vector<ValueId> seeds(g.results.size(), kNoValue);
  for (size_t i = 0; i < g.results.size(); ++i) {
    const ValueType& type = g.values[g.results[i].value];
    if (!is_floating(type.dtype)) continue;
    Input in;
    in.name = free_name(arguments, result_name(g, i));
    in.value = seeds[i] = out.add_value(type);
    out.inputs.push_back(in);
  }
  Reverse reverse(out);
  for (uint32_t i : inputs) reverse.want(g.inputs[i].value);
  reverse.mark(0, nodes);
  for (size_t i = 0; i < seeds.size(); ++i)
    if (seeds[i] != kNoValue)
      reverse.contribute(g.results[i].value, reverse.recording().handle(seeds[i]));
  reverse.walk(0, nodes);
  for (uint32_t i : inputs) {
    const Input& in = g.inputs[i];
    Tensor d = reverse.gradient_of(in.value);
    Shape shape;
    for (const Dim& s : g.values[in.value].shape) shape.push_back(s.constant());
    if (!d.defined()) d = zeros(shape, g.values[in.value].dtype);
    ValueId v = reverse.recording().value_of(d);
    out.results.push_back({free_name(results, in.name), v});
  }
  return out;
}

}  // namespace

Graph gradient(const Graph& g, std::span<const uint32_t> inputs) {
  for (uint32_t i : inputs) {
    if (i >= g.inputs.size())
      fail(ErrorKind::value, "gradient: input {} does not exist; graph {} has {}", i,
           name_text(g.name), g.inputs.size());
    const ValueType& type = g.values[g.inputs[i].value];
    if (!is_floating(type.dtype))
      fail(ErrorKind::value, "gradient: input {} of type {} has no gradient",
           quoted(g.inputs[i].name), type_text(type, g.dims));
  }
  if (g.dims.empty()) return fixed_gradient(g, inputs);
  return generalize(g.dims, [&](std::span<const int64_t> sizes) {
    return fixed_gradient(specialize(g, sizes), inputs);
  });
}

}  // namespace fluxion::graph
