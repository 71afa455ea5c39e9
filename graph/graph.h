// Graph: what a captured function means. Pure SSA over the op table: values have types and no memory; regions for
// control flow; effects are the list of writes, committed together at the end.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/dim.h"
#include "ops/op.h"

namespace fluxion::graph {

using ValueId = uint32_t;
/// An operand that was not given, or a result that the op does not produce with these attributes.
inline constexpr ValueId kNoValue = UINT32_MAX;

/// dtype and symbolic shape of a value; `weak` marks a Python number.
struct ValueType {
  DType dtype = DType::f32;
  bool weak = false;
  std::vector<Dim> shape;
  bool operator==(const ValueType&) const = default;
};

/// A user's source line and the module it ran in.
struct Location {
  std::string file;    // as given by the language, may be empty
  int32_t line = 0;    // 0: unknown
  std::string module;  // "encoder.layers.3.attn"; empty outside of modules
  bool operator==(const Location&) const = default;
};

/// An integer inside the attribute POD that depends on symbolic dims.
struct SymbolicAttr {
  uint16_t field;  // index into OpDef::fields
  uint16_t item;   // of a Dims field; 0 otherwise
  Dim value;
  bool operator==(const SymbolicAttr&) const = default;
};

struct Graph;

struct Node {
  const OpDef* op = nullptr;
  std::vector<std::byte> attrs;  // as normal_attrs() gives them
  std::vector<SymbolicAttr> symbolic;
  std::vector<ValueId> in, out;
  std::vector<std::unique_ptr<Graph>> regions;  // control flow only (graph/control.h)
  uint32_t location = 0;  // index into Graph::locations of the outermost graph
};

/// Where the value of an input comes from at each call.
enum class InputKind : uint8_t {
  argument,  // given by the caller, by position
  slot,  // state that lives outside: a parameter, a buffer, a gradient, an optimizer's moment, a generator
  constant  // bytes that never change
};

struct Input {
  InputKind kind = InputKind::argument;
  ValueId value = 0;
  std::string name;  // an argument's name, or a slot's dotted name ("model.fc1.weight")
  Tensor data;       // of constants; of slots: the state as bound now (undefined while unbound)
};

struct Result {
  std::string name;
  ValueId value = 0;
};

/// At the end of a call, the state behind `slot` becomes `value`.
struct Write {
  uint32_t input = 0;  // index into Graph::inputs, of kind slot
  ValueId value = 0;
};

struct Graph {
  std::string name;
  std::vector<DimSymbol> dims;    // of the outermost graph; regions share them
  std::vector<ValueType> values;  // type of each ValueId
  std::vector<Input> inputs;
  std::vector<Node> nodes;  // in program order: a value is defined before it is used
  std::vector<Result> results;
  std::vector<Write> writes;
  std::vector<Location> locations;  // of the outermost graph; entry 0 is "unknown"

  ValueId add_value(ValueType type) {
    values.push_back(std::move(type));
    return static_cast<ValueId>(values.size() - 1);
  }
};

/// The attribute POD as bytes that are equal for equal attributes: what no field describes is zero.
std::vector<std::byte> normal_attrs(const OpDef& op, const void* attrs);
/// The attributes with symbolic integers evaluated for given sizes of the dims.
std::vector<std::byte> attrs_for(const Node& node, std::span<const int64_t> sizes);

/// A graph like `g` whose handles of constants and slots are shared.
Graph copy(const Graph& g);
/// Whether two graphs are equal up to the numbering of values and the order of inputs of different kinds. What symbolic
/// integers hold as example sizes does not count.
bool same(const Graph& a, const Graph& b);

/// Raises ErrorKind::value that names node, value and location unless: every value is defined exactly once and before
/// its use; arities, attributes and regions fit the op; every type is what the op's rule infers, for several sizes of
/// the dims within their ranges; writes name slots of the same type; names are unique.
void verify(const Graph& g);
/// What the op's rule infers; nothing (nullopt) for results it does not produce. Raises ErrorKind::value for a wrong number of inputs, attributes
/// that are no POD of the op, shapes too large for memory; the rule raises its own errors.
std::vector<std::optional<Type>> infer(const OpDef& op, const std::vector<std::byte>& attrs,
                                       std::span<const Type> in);

/// "f32[B, 784]".
std::string type_text(const ValueType& type, std::span<const DimSymbol> dims);
/// The whole graph as text; parse() reads it back (constants of more than 16 elements print as "<N bytes>" unless
/// `with_data`, and do not parse; slots come back unbound).
std::string to_text(const Graph& g, bool with_data = false);
/// Raises ErrorKind::value with line and column.
Graph parse(std::string_view text);
/// A drawing: inputs above, results below, nodes in between by their longest path from an input; regions in panels of their own.
std::string to_svg(const Graph& g);

/// The graph with every symbol replaced by a size: types and attributes become constants. Raises if a size is out of
/// the declared range.
Graph specialize(const Graph& g, std::span<const int64_t> sizes);

/// The sizes of the dims that fit the arguments (and bound slots). Raises ErrorKind::value for a wrong number, dtype, shape, or a size out
/// of range.
std::vector<int64_t> bind_dims(const Graph& g, std::span<const Tensor> arguments);

/// Runs node by node through apply(): the meaning of a graph. `arguments` by position, undefined slots raise.
/// Returns results, then the values to be written in the order of `writes` (nothing is committed); none shares memory with an input or
/// with another.
std::vector<Tensor> interpret(const Graph& g, std::span<const Tensor> arguments);

}  // namespace fluxion::graph
