#include "trace/recorder.h"

#include <algorithm>
#include <utility>

#include "autograd/autograd.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/region.h"
#include "ops/views.h"

namespace fluxion::tracing {

using graph::Graph;
using graph::InputKind;
using graph::ValueId;
using graph::ValueType;

bool Geometry::operator==(const Geometry& o) const {
  return dtype == o.dtype && offset == o.offset && std::ranges::equal(sizes, o.sizes) &&
         std::ranges::equal(strides, o.strides);
}

Geometry geometry_of(const Tensor& t) {
  return {t.dtype(), Shape(t.sizes()), Shape(t.strides()), t.storage_offset()};
}

namespace {

ValueType value_type(const Type& t) {
  ValueType v{t.dtype, t.weak, {}};
  for (int64_t s : t.shape) v.shape.emplace_back(s);
  return v;
}

Type type_at(const Graph& g, ValueId id) {
  Type t{g.values[id].dtype, g.values[id].weak, {}};
  for (const graph::Dim& d : g.values[id].shape) t.shape.push_back(d.constant());
  return t;
}

/// Whether `t` has every byte of its storage, each once.
bool covers_storage(const Tensor& t) {
  if (t.storage_offset() != 0 || t.nbytes() != static_cast<int64_t>(t.storage()->nbytes))
    return false;
  return t.is_contiguous() ||
         (!overlaps_itself(*t.impl()) &&
          std::ranges::equal(t.strides(), dense_strides_like(t.sizes(), t.strides())));
}

/// A handle on all of t's memory: itself, its base, or a flat one.
Tensor whole_of(const Tensor& t) {
  if (covers_storage(t)) return t.detach();
  if (const Ref<Impl>& base = t.impl()->base)
    if (Tensor b(base); b.storage() == t.storage() && b.dtype() == t.dtype() && covers_storage(b))
      return b.detach();
  const int64_t n = static_cast<int64_t>(t.storage()->nbytes) / size_of(t.dtype());
  const int64_t one = 1;
  return alias(t, Ints(&n, 1), Ints(&one, 1), 0);
}

}  // namespace

Recorder::Recorder(Locator where, bool allow_reads)
    : where_(std::move(where)), allow_reads_(allow_reads) {
  trace_.graph.locations.emplace_back();
}

Recorder::~Recorder() { stop(); }

void Recorder::start() {
  ThreadState& ts = thread_state();
  invariant(!running_, "a recorder starts once");
  outer_tracer_ = std::exchange(ts.tracer, this);
  outer_observer_ = std::exchange(ts.observer, this);
  running_ = true;
}

void Recorder::stop() {
  if (!running_) return;
  ThreadState& ts = thread_state();
  ts.tracer = outer_tracer_;
  ts.observer = outer_observer_;
  running_ = false;
}

uint32_t Recorder::location() {
  if (!where_) return 0;
  graph::Location here = where_();
  auto& all = trace_.graph.locations;
  if (!(all.back() == here)) {
    auto found = std::ranges::find(all, here);
    if (found != all.end()) return static_cast<uint32_t>(found - all.begin());
    all.push_back(std::move(here));
  }
  return static_cast<uint32_t>(all.size() - 1);
}

// Memory and values

Recorder::Memory& Recorder::lift(const Tensor& t, InputKind kind, std::string name) {
  ++quiet_;
  Tensor whole = kind == InputKind::argument ? t.detach() : whole_of(t);
  --quiet_;
  Type type = type_of(whole);
  type.weak = t.has(kWeak);
  Graph& g = trace_.graph;
  Memory m;
  m.geometry = geometry_of(whole);
  m.root = g.add_value(value_type(type));
  m.input = static_cast<int32_t>(g.inputs.size());
  g.inputs.push_back({kind, m.root, std::move(name), kind == InputKind::slot ? whole : Tensor{}});
  trace_.slots.push_back(whole);
  trace_.handles.push_back(t);
  return memories_[t.storage()] = std::move(m);
}

void Recorder::argument(const Tensor& t, std::string name) {
  if (memories_.contains(t.storage()))
    fail(
        ErrorKind::value,
        "compile: argument `{}` shares memory with an earlier argument; pass one of them, and take views inside "
        "the function",
        name);
  lift(t, InputKind::argument, std::move(name));
}

Recorder::Memory& Recorder::memory_of(const Tensor& t) {
  auto found = memories_.find(t.storage());
  if (found != memories_.end()) return found->second;
  return lift(t, InputKind::slot, fmt::format("slot{}", trace_.graph.inputs.size()));
}

/// Memory that the function made without an op (a literal, data read from elsewhere): its bytes are constant.
void Recorder::read_bytes(Memory& m, const Tensor& t) {
  Tensor whole = whole_of(t);
  m.geometry = geometry_of(whole);
  if (t.has(kWeak)) whole.impl()->flags |= kWeak;
  m.root = constant(whole);
}

ValueId Recorder::constant(const Tensor& t) {
  Type type = type_of(t);
  const auto bytes = static_cast<size_t>(t.nbytes());
  std::string key;
  if (bytes <= 64) {
    key = fmt::format("{}/{}/{}/", static_cast<int>(type.dtype), type.weak, shape_text(t.sizes()));
    ++quiet_;
    Tensor packed = dense(t);
    --quiet_;
    key.append(packed.data<char>(), bytes);
    if (auto found = constants_.find(key); found != constants_.end()) return found->second;
  }
  Graph& g = trace_.graph;
  ValueId id = g.add_value(value_type(type));
  ++quiet_;
  Tensor kept = empty(t.sizes(), t.dtype());
  copy_elements(t, kept);
  memories_.erase(kept.storage());
  if (type.weak) kept.impl()->flags |= kWeak;
  --quiet_;
  g.inputs.push_back({InputKind::constant, id, fmt::format("const{}", g.inputs.size()), kept});
  trace_.slots.emplace_back();
  trace_.handles.emplace_back();
  if (!key.empty()) constants_[key] = id;
  return id;
}

ValueId Recorder::append(const OpDef& op, const void* attrs, std::span<const ValueId> in,
                         const Type& type) {
  Graph& g = trace_.graph;
  ValueId id = g.add_value(value_type(type));
  graph::Node n;
  n.op = &op;
  const auto* bytes = static_cast<const std::byte*>(attrs);
  if (op.attr_bytes) n.attrs.assign(bytes, bytes + op.attr_bytes);
  n.in.assign(in.begin(), in.end());
  n.out = {id};
  n.location = location();
  g.nodes.push_back(std::move(n));
  return id;
}

/// The value of a part of a memory, as a region of its root.
ValueId Recorder::take(const Memory& m, const Geometry& part) {
  if (part.dtype != m.geometry.dtype)
    fail(
        ErrorKind::not_implemented,
        "compile: memory of dtype {} is read as {}; a view under another dtype cannot be captured yet",
        name(m.geometry.dtype), name(part.dtype));
  const auto& root = trace_.graph.values[m.root];
  if (part.sizes.size() == 0 && root.shape.empty()) return m.root;
  if (std::ranges::equal(part.sizes, m.geometry.sizes) &&
      std::ranges::equal(part.strides, m.geometry.strides) && part.offset == m.geometry.offset)
    return m.root;
  Region r{Ints(m.geometry.strides), Ints(part.sizes), Ints(part.strides),
           part.offset - m.geometry.offset};
  return const_cast<Recorder*>(this)->append(kTakeRegion, &r, std::span(&m.root, 1),
                                             {part.dtype, root.weak, part.sizes});
}

ValueId Recorder::value_of(const Tensor& t) {
  Memory& m = memory_of(t);
  if (m.root == kNone) read_bytes(m, t);
  Geometry g = geometry_of(t);
  if (g == m.geometry) return m.root;
  for (const View& v : m.views)
    if (v.geometry == g) return v.value;
  ValueId id = take(m, g);
  m.views.push_back({std::move(g), id});
  return id;
}

// What happens

void Recorder::record(const OpDef& op, const void* attrs, std::span<const Tensor> in,
                      std::span<Tensor> out) {
  if (quiet_) return evaluate(op, attrs, in, out);
  graph::Node n;
  n.op = &op;
  for (const Tensor& t : in) n.in.push_back(t.defined() ? value_of(t) : kNone);
  std::vector<uint8_t> given;
  for (const Tensor& t : out) given.push_back(t.defined());
  ++quiet_;
  try {
    NoGrad plain;
    evaluate(op, attrs, in, out);
  } catch (...) {
    --quiet_;
    throw;
  }
  --quiet_;
  const auto* bytes = static_cast<const std::byte*>(attrs);
  if (op.attr_bytes) n.attrs.assign(bytes, bytes + op.attr_bytes);
  n.location = location();
  for (const Tensor& t : out)
    n.out.push_back(t.defined() ? trace_.graph.add_value(value_type(type_of(t))) : kNone);
  std::vector<ValueId> ids = n.out;
  trace_.graph.nodes.push_back(std::move(n));
  for (size_t i = 0; i < out.size(); ++i) {
    if (!out[i].defined()) continue;
    if (given[i]) {
      replace(out[i], ids[i]);
      continue;
    }
    auto found = memories_.find(out[i].storage());
    Memory& m = found != memories_.end() ? found->second : memories_[out[i].storage()];
    Geometry g = geometry_of(out[i]);
    bool shared = std::ranges::any_of(
        in, [&](const Tensor& t) { return t.defined() && t.storage() == out[i].storage(); });
    if (shared) {
      std::erase_if(m.views, [&](const View& v) { return v.geometry == g; });
      if (!(g == m.geometry)) m.views.push_back({std::move(g), ids[i]});
    } else {
      m.root = ids[i];
      m.geometry = std::move(g);
      m.views.clear();
    }
  }
}

/// `value`, converted and broadcast to dst's type.
ValueId Recorder::fitted(ValueId value, const Type& from, const Tensor& dst) {
  ValueId id = value;
  Type type = from;
  if (type.dtype != dst.dtype() || (type.weak && !dst.has(kWeak))) {
    type.dtype = dst.dtype();
    type.weak = false;
    CastAttrs a{static_cast<int64_t>(dst.dtype())};
    id = append(kCast, &a, std::span(&id, 1), type);
  }
  if (!std::ranges::equal(type.shape, dst.sizes())) {
    type.shape = Shape(dst.sizes());
    Dims shape{dst.sizes()};
    id = append(kExpand, &shape, std::span(&id, 1), type);
  }
  return id;
}

/// The elements of `dst` become `value`, which has dst's type.
void Recorder::replace(const Tensor& dst, ValueId value) {
  Memory& m = memory_of(dst);
  Geometry g = geometry_of(dst);
  m.written = true;
  m.announced = false;
  unknown_writes_.erase(dst.storage());
  if (m.root == kNone) {
    if (covers_storage(dst)) {
      m.root = value;
      m.geometry = std::move(g);
      m.views.clear();
      return;
    }
    read_bytes(m, dst);
  }
  m.views.clear();
  if (g == m.geometry) {
    m.root = value;
    return;
  }
  if (g.dtype != m.geometry.dtype)
    fail(
        ErrorKind::not_implemented,
        "compile: memory of dtype {} is written as {}; a view under another dtype cannot be captured yet",
        name(m.geometry.dtype), name(g.dtype));
  Region r{Ints(m.geometry.strides), Ints(g.sizes), Ints(g.strides), g.offset - m.geometry.offset};
  const ValueId in[] = {m.root, value};
  m.root = append(kPutRegion, &r, in, type_at(trace_.graph, m.root));
  m.views.push_back({std::move(g), value});
}

void Recorder::write(const Tensor& dst, const Tensor& value) {
  if (quiet_) return;
  ValueId id = value_of(value);
  replace(dst, fitted(id, type_at(trace_.graph, id), dst));
}

void Recorder::touch_grad(const Tensor& leaf, bool rebinds) {
  if (quiet_ || grads_.contains(leaf.impl())) return;
  // A leaf that the function made is its own affair.
  if (auto found = memories_.find(leaf.storage());
      found != memories_.end() && found->second.input < 0)
    return;
  ++quiet_;
  Tensor before = meta_of(leaf) ? grad_of(*meta_of(leaf)) : Tensor{};
  --quiet_;
  grads_[leaf.impl()] = trace_.grads.size();
  trace_.grads.push_back({leaf, before, !rebinds});
}

void Recorder::rebind(const Tensor& t) {
  if (quiet_) return;
  auto found = memories_.find(t.storage());
  if (found != memories_.end() && found->second.input < 0) return;
  fail(
      ErrorKind::not_implemented,
      "compile: `x.data = y` rebinds a tensor from outside of the compiled function, which cannot be captured; "
      "write x.data.copy_(y) instead");
}

void Recorder::draw(Generator& generator, const Tensor& state) {
  if (quiet_) return;
  Graph& g = trace_.graph;
  auto found = std::ranges::find_if(
      trace_.random, [&](const Trace::Random& r) { return r.generator == &generator; });
  if (found == trace_.random.end()) {
    ValueId root = g.add_value(value_type({DType::i64, false, Shape{2}}));
    auto input = static_cast<uint32_t>(g.inputs.size());
    g.inputs.push_back({InputKind::slot, root, fmt::format("rng{}", trace_.random.size()), {}});
    trace_.slots.emplace_back();
    trace_.handles.emplace_back();
    trace_.random.push_back({&generator, input, 0});
    found = trace_.random.end() - 1;
  }
  Memory& m = memories_[state.storage()];
  m.geometry = geometry_of(state);
  m.views.clear();
  m.root = g.inputs[found->input].value;
  if (found->calls) {
    ++quiet_;
    Tensor ahead = empty(Ints({2}), DType::i64);
    ahead.data<int64_t>()[0] = 0;
    ahead.data<int64_t>()[1] = static_cast<int64_t>(found->calls);
    --quiet_;
    const ValueId in[] = {m.root, constant(ahead)};
    ValueId moved = append(*find_op("add"), nullptr, in, {DType::i64, false, Shape{2}});
    memories_[state.storage()].root = moved;
  }
  ++found->calls;
}

void Recorder::created(Storage& s) { memories_[&s] = {}; }

void Recorder::written(Storage& s) {
  if (quiet_) return;
  if (auto found = memories_.find(&s); found != memories_.end()) found->second.announced = true;
  else unknown_writes_.insert(&s);
}

void Recorder::disposed(Storage& s) {
  auto found = memories_.find(&s);
  if (found != memories_.end() && found->second.input < 0) memories_.erase(found);
}

void Recorder::snapshot_copied(Storage& from, Storage& copy) {
  auto found = memories_.find(&from);
  if (found == memories_.end() || found->second.root == kNone) return;
  Memory then = found->second;
  then.input = -1;
  then.written = false;
  memories_[&copy] = std::move(then);
}

Tensor Recorder::number(const Scalar& value) {
  ++quiet_;
  Tensor t = value.tensor();
  --quiet_;
  memories_.erase(t.storage());
  lift(t, InputKind::slot, fmt::format("number{}", trace_.graph.inputs.size()));
  return t;
}

void Recorder::guard(const Tensor& t) {
  ValueId id = value_of(t);
  Graph& g = trace_.graph;
  for (const ValueGuard& known : trace_.guards)
    if (g.results[known.result].value == id) return;
  ++quiet_;
  Tensor expected = empty(t.sizes(), t.dtype());
  copy_elements(t, expected);
  memories_.erase(expected.storage());
  --quiet_;
  trace_.guards.push_back({static_cast<uint32_t>(g.results.size()), expected});
  g.results.push_back({fmt::format("guard{}", trace_.guards.size() - 1), id});
}

void Recorder::read(const Tensor& t) {
  if (quiet_ || t.has(kNumber)) return;
  if (!allow_reads_)
    fail(
        ErrorKind::runtime,
        "export: the function reads the value of a tensor ({}) to decide or to compute outside of the graph, which a "
        "file cannot repeat. Use where(), cond(), while_loop() or scan(), or keep the number a tensor",
        fluxion::type_text(t));
  guard(t);
}

namespace {

/// The variable behind a handle: itself, or the base that it is a view of.
Tensor variable_of(const Tensor& t) {
  if (!t.defined() || !t.requires_grad()) return {};
  const Ref<Impl>& base = t.impl()->base;
  return base && Tensor(base).requires_grad() ? Tensor(base) : t;
}

}  // namespace

void Recorder::differentiate(std::span<const Tensor> results) {
  Backward& b = trace_.backward;
  std::vector<Tensor> outputs, seeds, variables;
  for (size_t i = 0; i < results.size(); ++i)
    if (tracks_gradient(results[i]) && history_is_spent(results[i])) {
      b.spent.push_back(static_cast<uint32_t>(i));
    } else if (tracks_gradient(results[i])) {
      b.results.push_back(static_cast<uint32_t>(i));
      outputs.push_back(results[i]);
    }
  if (outputs.empty() && b.spent.empty()) return;
  for (uint32_t k = 0; k < trace_.handles.size(); ++k)
    if (Tensor v = variable_of(trace_.handles[k]); v.defined()) {
      b.inputs.push_back(k);
      variables.push_back(v);
    }
  if (outputs.empty()) return;
  for (size_t i = 0; i < outputs.size(); ++i) {
    seeds.push_back(ones(outputs[i].sizes(), outputs[i].dtype()));
    argument(seeds.back(), fmt::format("grad{}", i));
    b.seeds.push_back(value_of(seeds.back()));
  }
  b.boundary = trace_.graph.nodes.size();
  start();
  std::vector<Tensor> found = grad(outputs, variables, seeds, true, false, true);
  for (const Tensor& g : found) b.gradients.push_back(g.defined() ? value_of(g) : kNone);
  stop();
}

void Recorder::add_result(const Tensor& t) {
  Memory& m = memory_of(t);
  if (m.root == kNone) read_bytes(m, t);
  ResultSpec spec{m.input >= 0, 0, geometry_of(t)};
  if (spec.from_input) {
    spec.root = static_cast<uint32_t>(m.input);
  } else {
    auto [at, fresh] = roots_.try_emplace(t.storage(), static_cast<uint32_t>(trace_.roots.size()));
    if (fresh) {
      trace_.roots.push_back(m.root);
      trace_.root_geometry.push_back(m.geometry);
    }
    spec.root = at->second;
  }
  trace_.results.push_back(std::move(spec));
}

void Recorder::finish_grads() {
  for (GradSlot& g : trace_.grads) {
    Tensor now = meta_of(g.leaf) ? grad_of(*meta_of(g.leaf)) : Tensor{};
    if (now.defined() && g.before.defined() && now.is_same(g.before)) continue;
    g.after = now.defined() ? GradSlot::After::result : GradSlot::After::none;
    if (!now.defined()) continue;
    g.result = static_cast<uint32_t>(trace_.results.size());
    add_result(now);
  }
}

void Recorder::reseeded() {
  if (quiet_) return;
  fail(
      ErrorKind::not_implemented,
      "compile: a random generator is seeded, or its state is set, inside of the compiled function, which cannot be "
      "captured; seed before the call");
}

Trace Recorder::finish(std::span<const Tensor> results) {
  stop();
  for (const Tensor& t : results) add_result(t);
  finish_grads();
  Graph& g = trace_.graph;
  for (ValueId root : trace_.roots)
    g.results.push_back({fmt::format("result{}", g.results.size()), root});
  invariant(unknown_writes_.empty() &&
                std::ranges::none_of(memories_, [](auto& e) { return e.second.announced; }),
            "capture did not see what was written in place");
  for (auto& [storage, m] : memories_)
    if (m.input >= 0 && m.written) g.writes.push_back({static_cast<uint32_t>(m.input), m.root});
  std::ranges::sort(g.writes, {}, &graph::Write::input);
  return std::move(trace_);
}

std::vector<Tensor> Recorder::survivors(std::span<const Tensor> known) const {
  std::vector<Tensor> found;
  for (const auto& [storage, m] : memories_) {
    if (m.input >= 0 || m.root == kNone) continue;
    if (std::ranges::any_of(known, [&](const Tensor& t) { return t.storage() == storage; }))
      continue;
    found.push_back(from_storage(Ref<Storage>::share(storage), m.geometry.dtype, m.geometry.sizes,
                                 m.geometry.strides, m.geometry.offset));
  }
  return found;
}

}  // namespace fluxion::tracing
