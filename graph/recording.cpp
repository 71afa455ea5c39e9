#include "graph/recording.h"

#include <cstring>

#include "ops/copy.h"

namespace fluxion::graph {

Recording::Recording(Graph& g) : g_(g), tracer_(thread_state().tracer, this) {}
Recording::~Recording() = default;

Recording::Place Recording::place_of(const Tensor& t) {
  std::string geometry(1, static_cast<char>(t.dtype()));
  geometry.append(reinterpret_cast<const char*>(t.sizes().data()), t.sizes().size_bytes());
  geometry.append(reinterpret_cast<const char*>(t.strides().data()), t.strides().size_bytes());
  return {t.data<char>(), std::move(geometry)};
}

Tensor Recording::stand_in(const ValueType& type, ValueId v) {
  Shape shape;
  for (const Dim& d : type.shape) shape.push_back(d.constant());
  Tensor t = empty(shape, type.dtype);
  std::memset(t.data(), 0, static_cast<size_t>(t.nbytes()));
  if (type.weak) t.impl()->flags |= kWeak;
  values_[place_of(t)] = v;
  kept_.push_back(t);
  return t;
}

Tensor Recording::handle(ValueId v) {
  if (v == kNoValue) return {};
  if (handles_.size() <= v) handles_.resize(g_.values.size());
  if (!handles_[v].defined()) handles_[v] = stand_in(g_.values[v], v);
  return handles_[v];
}

ValueId Recording::value_of(const Tensor& t) {
  Place place = place_of(t);
  auto known = values_.find(place);
  if (known != values_.end()) return known->second;
  kept_.push_back(t);
  Override<Tracer*> untraced(thread_state().tracer, nullptr);
  Input in;
  in.kind = InputKind::constant;
  in.data = empty(t.sizes(), t.dtype());
  copy_elements(t, in.data);
  if (t.has(kWeak)) in.data.impl()->flags |= kWeak | kNumber;
  ValueType type{t.dtype(), t.has(kWeak), {}};
  for (int64_t s : t.sizes()) type.shape.emplace_back(s);
  in.value = g_.add_value(std::move(type));
  values_.emplace(std::move(place), in.value);
  g_.inputs.push_back(in);
  return in.value;
}

void Recording::append(Node n) {
  n.location = location_;
  g_.nodes.push_back(std::move(n));
}

void Recording::record(const OpDef& op, const void* attrs, std::span<const Tensor> in,
                       std::span<Tensor> out) {
  Node n;
  n.op = &op;
  n.attrs = normal_attrs(op, attrs);
  std::vector<Type> types;
  for (const Tensor& t : in) {
    n.in.push_back(value_of(t));
    types.push_back(type_of(t));
  }
  std::vector<std::optional<Type>> results = infer(op, n.attrs, types);
  for (size_t i = 0; i < out.size(); ++i) {
    if (!results[i]) {
      n.out.push_back(kNoValue);
      continue;
    }
    ValueType type{results[i]->dtype, results[i]->weak, {}};
    for (int64_t s : results[i]->shape) type.shape.emplace_back(s);
    ValueId v = g_.add_value(type);
    n.out.push_back(v);
    if (out[i].defined()) values_[place_of(out[i])] = v;  // written in place
    else out[i] = handle(v);
  }
  append(std::move(n));
}

void Recording::write(const Tensor&, const Tensor&) {
  fail(ErrorKind::internal, "graph: a gradient rule writes in place");
}
void Recording::rebind(const Tensor&) {
  fail(ErrorKind::internal, "graph: a gradient rule rebinds a tensor");
}
void Recording::draw(Generator&, const Tensor&) {
  fail(ErrorKind::internal, "graph: a gradient rule draws random numbers");
}

}  // namespace fluxion::graph
