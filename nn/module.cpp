#include "nn/module.h"

#include <algorithm>

#include "ops/apply.h"
#include "tensor/thread_state.h"

namespace fluxion::nn {

Tensor Module::register_parameter(const std::string& name, Tensor t) {
  if (!t.defined()) return t;
  t.set_requires_grad(true);
  parameters_.push_back({name, t});
  return t;
}

Tensor Module::register_buffer(const std::string& name, Tensor t) {
  if (t.defined()) buffers_.push_back({name, t});
  return t;
}

std::vector<Named> Module::named_parameters(const std::string& prefix) const {
  std::vector<Named> all;
  for (const Named& p : parameters_) all.push_back({prefix + p.name, p.tensor});
  for (const auto& [name, child] : children_)
    for (Named& p : child->named_parameters(prefix + name + ".")) all.push_back(std::move(p));
  return all;
}

std::vector<Named> Module::named_buffers(const std::string& prefix) const {
  std::vector<Named> all;
  for (const Named& b : buffers_) all.push_back({prefix + b.name, b.tensor});
  for (const auto& [name, child] : children_)
    for (Named& b : child->named_buffers(prefix + name + ".")) all.push_back(std::move(b));
  return all;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> all;
  for (Named& p : named_parameters()) {
    auto same = [&](const Tensor& t) { return t.is_same(p.tensor); };
    if (std::ranges::none_of(all, same)) all.push_back(p.tensor);
  }
  return all;
}

std::vector<Named> Module::state_dict(const std::string& prefix) const {
  std::vector<Named> all;
  for (const Named& p : parameters_) all.push_back({prefix + p.name, p.tensor.detach()});
  for (const Named& b : buffers_) all.push_back({prefix + b.name, b.tensor.detach()});
  for (const auto& [name, child] : children_)
    for (Named& s : child->state_dict(prefix + name + ".")) all.push_back(std::move(s));
  return all;
}

void Module::load_state_dict(const std::vector<Named>& state) {
  std::vector<Named> mine = state_dict();
  std::vector<std::pair<Tensor, Tensor>> copies;  // checked as a whole before anything is written
  for (const Named& target : mine) {
    auto source = std::ranges::find(state, target.name, &Named::name);
    if (source == state.end())
      fail(ErrorKind::runtime, "load_state_dict: missing key '{}'", target.name);
    if (!std::ranges::equal(source->tensor.sizes(), target.tensor.sizes()))
      fail(ErrorKind::runtime, "load_state_dict: '{}' has shape {}, the module needs {}",
           target.name, shape_text(source->tensor.sizes()), shape_text(target.tensor.sizes()));
    copies.emplace_back(target.tensor, source->tensor);
  }
  for (const Named& given : state)
    if (std::ranges::find(mine, given.name, &Named::name) == mine.end())
      fail(ErrorKind::runtime, "load_state_dict: unexpected key '{}'", given.name);
  NoGrad plain;
  for (auto& [to, from] : copies) assign(to, from);
}

void Module::train(bool mode) {
  training_ = mode;
  for (const auto& child : children_) child.second->train(mode);
}

void Module::zero_grad() {
  for (Tensor& p : parameters()) p.set_grad({});
}

}  // namespace fluxion::nn
