#include "loops/elementwise.h"

namespace fluxion::loops {

Value Body::in_as_stored(int k) {
  if (scalars_[k].exists()) return scalars_[k];
  return builder_->load(k, start_, lanes_, active_);
}

Value Body::in(int k) { return cast(in_as_stored(k), compute_); }

Mask Body::mask(int k) { return nonzero(in_as_stored(k)); }

Value Body::param(int k) { return cast(builder_->param(k), compute_); }

Value Body::index() {
  return builder_->iota({Elem::i64, static_cast<uint8_t>(lanes_)}) + (start_ + builder_->size(1));
}

Value Body::constant(Value literal) { return builder_->constant({compute_, 1}, literal); }

void Body::out(int k, Value v) {
  const int arg = inputs() + k;
  v = to_stored(
      builder_->resolve(v, {v.is_literal() ? compute_ : v.elem(), static_cast<uint8_t>(lanes_)}),
      builder_->function().args[arg]);
  outputs_.emplace_back(arg, v);
}

void Body::out(int k, Mask m) { out(k, m.value); }

struct ElementwiseBuilder {
  static void run(Body& step, const std::function<void(Body&)>& body, Value start, Value active) {
    step.start_ = start, step.active_ = active;
    step.outputs_.clear();
    body(step);
    for (auto [arg, v] : step.outputs_) step.builder_->store(arg, start, v, active);
  }

  static Function build(std::string name, std::span<const Elem> in, std::span<const Elem> out,
                        Elem compute, uint32_t scalar_inputs,
                        const std::function<void(Body&)>& body) {
    std::vector<Elem> args(in.begin(), in.end());
    args.insert(args.end(), out.begin(), out.end());
    Builder b(std::move(name), std::move(args));
    std::vector<Value> scalars(in.size());
    for (size_t k = 0; k < in.size(); ++k)
      if (scalar_inputs >> k & 1) scalars[k] = b.load(static_cast<int>(k), 0);

    const int lanes = native_lanes(compute);
    Body step;
    step.builder_ = &b, step.scalars_ = scalars, step.inputs_ = in.size(), step.compute_ = compute,
    step.lanes_ = lanes;
    const Value n = b.size(0), whole = n & -lanes;
    b.loop(0, whole, lanes, [&](Value i) { run(step, body, i, {}); });
    b.loop(whole, n, lanes, [&](Value i) { run(step, body, i, n - i); });
    Function f = b.finish();
    f.wide = WideVectors::on();
    return f;
  }
};

Function elementwise(std::string name, std::span<const Elem> in, std::span<const Elem> out,
                     Elem compute, uint32_t scalar_inputs, const std::function<void(Body&)>& body) {
  return ElementwiseBuilder::build(std::move(name), in, out, compute, scalar_inputs, body);
}

Function cast_kernel(std::string name, Elem from, Elem to) {
  const Elem narrow = value_elem(from) == Elem::bool_ ? value_elem(to) : value_elem(from);
  return elementwise(std::move(name), {&from, 1}, {&to, 1}, narrow, 0, [](Body& b) {
    const Value v = b.in_as_stored(0);
    v.elem() == Elem::bool_ ? b.out(0, Mask{v}) : b.out(0, v);
  });
}

}  // namespace fluxion::loops
