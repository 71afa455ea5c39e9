// Program: a graph with constant sizes as a flat list of bound op calls over one planned arena.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace fluxion::compile {

/// Where bytes live at run time: in the arena, or in the memory bound to an input or a result.
struct Place {
  enum class Kind : uint8_t { arena, input, result, constant } kind = Kind::arena;
  uint32_t index = 0;  // of the input, result or constant
  int64_t offset = 0;  // bytes
};

/// One operand of a step: dtype, sizes and strides as a tensor handle without memory, and where it lies.
struct Operand {
  Tensor shape;  // undefined: the op was given no operand here
  Place place;
};

struct Step {
  const OpDef* op = nullptr;
  std::vector<std::byte> attrs;
  std::vector<Operand> in, out;
  uint32_t location = 0;  // into Graph::locations
};

/// A write that no step could make in place: copied when the run commits.
struct Copy {
  Operand from, to;
};

/// How the memory of an input or a result looks; row-major if strides are empty.
struct Layout {
  Shape strides;
};

class Program {
 public:
  /// The graph must have passed verify() and have no symbolic dims. `inputs` and `results`: layouts by position, or
  /// empty. Results at `discardable` and later may be looked at before anything is committed.
  explicit Program(graph::Graph g, std::span<const Layout> inputs = {},
                   std::span<const Layout> results = {});

  const graph::Graph& graph() const { return graph_; }
  size_t arena_bytes() const { return arena_bytes_; }
  /// The most bytes that are needed at one moment: no plan can do with less.
  size_t live_bytes() const { return live_bytes_; }
  /// Steps that only compute, then steps that write state.
  std::span<const Step> steps() const { return steps_; }
  size_t commit_begin() const { return commit_begin_; }
  std::span<const Copy> copies() const { return copies_; }
  /// Type and layout of each result's memory.
  std::span<const Operand> results() const { return results_; }
  /// Slots that a run writes.
  std::span<const uint32_t> written() const { return written_; }
  /// One line per step: op, operands with their places, source line.
  std::string text() const;

 private:
  friend class Planner;
  graph::Graph graph_;
  std::vector<Step> steps_;
  size_t commit_begin_ = 0, arena_bytes_ = 0, live_bytes_ = 0;
  std::vector<Copy> copies_;
  std::vector<Operand> results_;
  std::vector<uint32_t> written_;
};

/// A program with memory: one thread at a time runs it.
class Execution {
 public:
  explicit Execution(std::shared_ptr<const Program> program);
  const Program& program() const { return *program_; }

  /// Gives input `index` its memory: dtype, sizes and strides as planned. Holds it.
  void bind(uint32_t index, const Tensor& memory);
  /// Computes everything that writes no state. Raises what an op raises, with the user's line.
  void run();
  /// Fresh memory that the last run filled.
  Tensor result(uint32_t index) const { return results_[index]; }
  /// Writes the state. Cannot fail.
  void commit();
  /// Drops the results' memory, so that their only holder is whoever took them.
  void release_results();

 private:
  struct Call {
    const OpDef* op;
    const void* attrs;
    uint32_t in, out;  // first operands in handles_
    uint8_t n_in, n_out;
  };
  struct Patch {
    Impl* impl;
    int64_t offset;
  };
  void add(const Operand& o);
  void patch(std::span<const Patch> patches, const Tensor& memory);
  void call(size_t i);
  void bring_home(uint32_t handle);

  std::shared_ptr<const Program> program_;
  Ref<Storage> arena_;
  std::vector<Tensor> handles_, kept_;  // kept: handles_ as built
  std::vector<Call> calls_;
  std::vector<std::vector<Patch>> input_patches_, result_patches_;
  std::vector<std::pair<Tensor, Tensor>> copies_;
  std::vector<Tensor> results_, bound_;
};

}  // namespace fluxion::compile
