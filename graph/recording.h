// Ops written down as nodes of a graph, not run: how rules stated in terms of ops become graphs.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "graph/graph.h"
#include "ops/apply.h"
#include "tensor/thread_state.h"

namespace fluxion::graph {

/// While it lives, apply() on this thread appends to `g` (of constant shapes). Tensors stand for values: they have types and memory,
/// but the bytes mean nothing.
class Recording final : public Tracer {
 public:
  explicit Recording(Graph& g);
  ~Recording() override;
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  /// The location of nodes to come.
  void set_location(uint32_t location) { location_ = location; }
  /// The tensor that stands for a value; undefined for kNoValue.
  Tensor handle(ValueId v);
  /// The value that a tensor stands for; what is not known is a constant.
  ValueId value_of(const Tensor& t);
  void append(Node n);

  void record(const OpDef& op, const void* attrs, std::span<const Tensor> in,
              std::span<Tensor> out) override;
  /// Rules are pure: they write nothing and draw nothing.
  void write(const Tensor&, const Tensor&) override;
  void touch_grad(const Tensor&, bool) override {}
  void rebind(const Tensor&) override;
  void draw(Generator&, const Tensor&) override;

 private:
  struct Place {
    const char* data;
    std::string geometry;
    bool operator==(const Place&) const = default;
  };
  struct HashPlace {
    size_t operator()(const Place& p) const { return std::hash<const void*>{}(p.data); }
  };
  static Place place_of(const Tensor& t);
  Tensor stand_in(const ValueType& type, ValueId v);

  Graph& g_;
  uint32_t location_ = 0;
  Override<Tracer*> tracer_;
  NoGrad plain_;
  std::vector<Tensor> handles_;  // of values
  std::vector<Tensor> kept_;     // so that no address comes twice
  std::unordered_map<Place, ValueId, HashPlace> values_;
};

}  // namespace fluxion::graph
