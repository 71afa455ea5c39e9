// The recorder: a function runs as it always does, and every op is written down. In-place writes and views of memory
// become pure values: each storage has a root value for all of its elements, a view is a region of it.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "graph/graph.h"
#include "ops/apply.h"
#include "ops/function.h"
#include "tensor/random.h"
#include "tensor/thread_state.h"

namespace fluxion::tracing {

/// dtype and place of a handle within its storage; offset and strides in elements.
struct Geometry {
  DType dtype;
  Shape sizes, strides;
  int64_t offset;
  bool operator==(const Geometry&) const;
};
Geometry geometry_of(const Tensor& t);

/// A result of the function: all of one root, or a view of it, as in eager.
struct ResultSpec {
  bool from_input = false;  // an alias of graph input `root`, else of root result `root`
  uint32_t root = 0;
  Geometry geometry{};
};

/// A value that the host read while tracing: a later run that finds other bytes took another path.
struct ValueGuard {
  uint32_t result;  // index into Graph::results
  Tensor expected;
};

/// `.grad` of a leaf that the function touched.
struct GradSlot {
  Tensor leaf;
  Tensor before;            // what it was; undefined: None
  bool read_first = false;  // read before it was rebound: `before` is a condition
  enum class After : uint8_t { same, none, result } after = After::same;
  uint32_t result = 0;  // index into Trace::results, behind those of the function
};

/// The gradients of results that want one: nodes behind `boundary` compute them from seeds.
struct Backward {
  size_t boundary = 0;                    // nodes before it are the function itself
  std::vector<uint32_t> results;          // results of the function that have a gradient
  std::vector<uint32_t> spent;            // results whose history a backward pass has freed
  std::vector<graph::ValueId> seeds;      // their gradients' values
  std::vector<uint32_t> inputs;           // graph inputs that want a gradient
  std::vector<graph::ValueId> gradients;  // kNoValue: always zero
};

/// What a trace is made of besides its graph.
struct Trace {
  graph::Graph graph;
  std::vector<Tensor> slots;          // per input of kind slot or argument: the memory seen, whole
  std::vector<graph::ValueId> roots;  // values behind results that are not inputs
  std::vector<Geometry> root_geometry;  // and their memory
  std::vector<ResultSpec> results;      // of the function, then gradients
  std::vector<ValueGuard> guards;
  std::vector<GradSlot> grads;
  struct Random {
    Generator* generator;
    uint32_t input;
    uint64_t calls;  // calls made
  };
  std::vector<Random> random;
  std::vector<Tensor> handles;  // per input: the handle it was first seen through
  Backward backward;            // empty results: no result has a history
};

class Recorder final : public Tracer, public StorageObserver {
 public:
  /// `where` gives the user's source line and module; asked once per op. May be empty.
  using Locator = std::function<graph::Location()>;
  explicit Recorder(Locator where = {}, bool allow_reads = true);
  ~Recorder() override;

  /// Makes `t` an argument, before the function runs. Raises if it shares memory with an earlier one.
  void argument(const Tensor& t, std::string name);
  /// Begins and ends writing down what this thread runs.
  void start();
  void stop();
  /// The value that stands for `t` now; lifts memory from outside to a slot.
  graph::ValueId value_of(const Tensor& t);
  /// A Python number that may be another one in the next run: a slot of the graph, as a weak 0-dim tensor.
  Tensor number(const Scalar& value);
  /// Marks a value as read by the host: a guard on its bytes.
  void guard(const Tensor& t);
  /// Writes down the gradients of those results that have a history. Call after stop(), before finish().
  void differentiate(std::span<const Tensor> results);
  /// The graph so far with these results. Call after stop().
  Trace finish(std::span<const Tensor> results);
  /// Storages made by the function that are still alive and are not among `known`.
  std::vector<Tensor> survivors(std::span<const Tensor> known) const;

  void record(const OpDef& op, const void* attrs, std::span<const Tensor> in,
              std::span<Tensor> out) override;
  void write(const Tensor& dst, const Tensor& value) override;
  void touch_grad(const Tensor& leaf, bool rebinds) override;
  void rebind(const Tensor& t) override;
  void draw(Generator& generator, const Tensor& state) override;
  void created(Storage&) override;
  void disposed(Storage&) override;
  void written(Storage&) override;
  void snapshot_copied(Storage& from, Storage& copy) override;
  void read(const Tensor& t) override;
  void reseeded() override;

 private:
  static constexpr graph::ValueId kNone = graph::kNoValue;
  struct View {
    Geometry geometry;
    graph::ValueId value;
  };
  struct Memory {
    graph::ValueId root = kNone;
    Geometry geometry{};
    int32_t input = -1;  // of memory from outside
    bool written = false;
    bool announced = false;   // a write was announced and what it wrote is not known yet
    std::vector<View> views;  // values of parts, as of now
  };

  Memory& memory_of(const Tensor& t);
  Memory& lift(const Tensor& t, graph::InputKind kind, std::string name);
  void read_bytes(Memory& m, const Tensor& t);
  graph::ValueId append(const OpDef& op, const void* attrs, std::span<const graph::ValueId> in,
                        const Type& type);
  graph::ValueId constant(const Tensor& t);
  void add_result(const Tensor& t);
  void finish_grads();
  graph::ValueId take(const Memory& m, const Geometry& part);
  graph::ValueId fitted(graph::ValueId value, const Type& from, const Tensor& dst);
  void replace(const Tensor& dst, graph::ValueId value);
  uint32_t location();

  Locator where_;
  bool allow_reads_, running_ = false;
  int quiet_ = 0;  // inside of an op's own evaluation
  Trace trace_;
  std::unordered_map<Storage*, Memory> memories_;
  std::unordered_map<std::string, graph::ValueId> constants_;
  std::unordered_map<Impl*, size_t> grads_;
  std::unordered_set<Storage*> unknown_writes_;
  std::unordered_map<Storage*, uint32_t> roots_;  // of results
  Tracer* outer_tracer_ = nullptr;
  StorageObserver* outer_observer_ = nullptr;
};

}  // namespace fluxion::tracing
