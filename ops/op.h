// An op as data: everything the system knows about it stands in one OpDef, in the op's own file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "tensor/tensor.h"

namespace fluxion::loops {
class Body;  // loops/elementwise.h
}

namespace fluxion {

struct OpDef;

/// dtype and shape of a value; `weak` marks a Python number.
struct Type {
  DType dtype = DType::f32;
  bool weak = false;
  Shape shape;
};
Type type_of(const Tensor& t);
inline Ints shape_of(const Tensor& t) { return t.sizes(); }
inline Ints shape_of(const Type& t) { return t.shape; }

/// An integer list inside an attribute POD.
struct Dims {
  uint8_t n = 0;
  int64_t v[kMaxRank];
  Dims() {}
  Dims(Ints s);
  Dims(std::initializer_list<int64_t> s) : Dims(Ints(s.begin(), s.size())) {}
  operator Ints() const { return {v, n}; }
  int64_t operator[](size_t i) const { return v[i]; }
  size_t size() const { return n; }
};

enum class FieldKind : uint8_t { integer, real, boolean, dtype, dims };
/// One attribute: its name, where it lies in the POD, and what it means.
struct Field {
  const char* name;
  FieldKind kind;
  uint16_t offset;
  const char* doc;
};

/// Arguments of a type rule: reads `in`, writes `out`; raises teaching errors.
struct TypeRule {
  const OpDef& op;
  const void* attr_data;
  std::span<const Type> in;
  std::span<Type> out;
  template <class A>
  const A& attrs() const {
    return *static_cast<const A*>(attr_data);
  }
};

/// Arguments of an evaluation. An undefined `out` is to be allocated; a defined one is the destination
/// (right shape and dtype, not overlapping itself, write already announced).
struct Eval {
  const OpDef& op;
  const void* attr_data;
  std::span<const Tensor> in;
  std::span<Tensor> out;
  template <class A>
  const A& attrs() const {
    return *static_cast<const A*>(attr_data);
  }
};

/// Arguments of a gradient rule. `in`/`out` hold what was saved: a value, only a type (no storage), or nothing.
/// Undefined entries of `grad` are zero. Rules fill `result[i]` for every needed i (undefined = zero).
struct Vjp {
  const OpDef& op;
  const void* attr_data;
  std::span<const Tensor> grad;
  std::span<const Tensor> in;
  std::span<const Tensor> out;
  std::span<const uint8_t> needed;
  std::span<Tensor> result;
  template <class A>
  const A& attrs() const {
    return *static_cast<const A*>(attr_data);
  }
  bool needs(size_t i) const { return needed[i]; }
};

/// What a gradient needs of the forward op, for each input that wants one.
struct SaveRule {
  uint32_t inputs = 0;   // bit j: value of input j
  uint32_t outputs = 0;  // bit j: value of output j
};
inline constexpr uint32_t kAllInputs = 0xffffffffu;

/// How output dims relate to input dims; batching, sharding and loop lowering follow from it.
enum class Space : uint8_t {
  elementwise,  // output dims = broadcast of input dims
  reduction,    // some input dims vanish
  movement,     // elements move, values stay
  contraction,  // batch, left free, right free, contracted dims
  window,       // batch, channel, sliding spatial dims
  rowwise,      // the last (normalised) dims are one unit, the others are free
  gather,       // indexed dim replaced by index dims
  opaque        // no structure
};

/// Where sample inputs go: tests, matrix and benchmarks run every op on its own samples.
class SampleSink {
 public:
  virtual ~SampleSink() = default;
  /// One call of the op: types of inputs with value ranges.
  struct Input {
    Shape shape;
    DType dtype = DType::f32;
    double low = -2, high = 2;
  };
  virtual void add(std::span<const Input> inputs, const void* attrs, size_t attr_bytes) = 0;
};

/// Where an op states its loop-IR kernels; only the generator and tests implement it.
class KernelSink;

/// A composite is one rounding (fused) or a macro (transparent); a primitive is neither.
enum class Round : uint8_t { node, fused, transparent };

/// Elementwise result types.
enum class Promotion : uint8_t {
  none,
  promote,   // PyTorch's common type
  floating,  // common type, integers become the default float
  compare,   // common type in, bool out
  bitwise,   // common type of integers and bools
  choose,    // a bool, then operands of a common type
  gradient   // all inputs have the type of the first (gradients of elementwise ops)
};

struct OpDef {
  const char* name;
  const char* doc;
  uint16_t version = 1;
  uint16_t id = 0;        // position in ops/table.cpp; set when the table is first used
  uint8_t inputs = 1;     // 255: any number
  uint8_t outputs = 1;    // where the number varies: the most, or 255 for any; see outputs_of
  bool view = false;      // the result aliases the first input
  bool in_place = false;  // a result may be the memory of an operand of the same geometry
  Round round = Round::node;
  Space space = Space::opaque;
  Promotion promotion = Promotion::none;
  bool wide_numbers =
      false;  // elementwise: halves meet a number as it is in f32, not rounded to half first
  uint16_t attr_bytes = 0;
  std::span<const Field> fields = {};

  void (*infer)(const TypeRule&) = nullptr;
  void (*eval)(const Eval&) = nullptr;
  void (*vjp)(const Vjp&) = nullptr;         // null: derived from composite, or not differentiable
  std::span<const SaveRule> saves = {};      // per input; the last one stands for the rest
  void (*scalar)(loops::Body&) = nullptr;    // elementwise: the scalar body
  void (*composite)(const Eval&) = nullptr;  // composites: the meaning in other ops
  void (*kernels)(const OpDef&, KernelSink&) = nullptr;
  /// In elements of a cheap elementwise op, each about kCheapNanoseconds. Decides about threads.
  double (*cost)(std::span<const Type>, const void* attrs) = nullptr;
  void (*samples)(const OpDef&, SampleSink&) = nullptr;
  double max_ulp = 0;  // 0: exact or inherited from its parts
  size_t (*count_outputs)(size_t inputs, const void* attrs) = nullptr;
};
inline constexpr double kCheapNanoseconds = 0.2;

inline size_t outputs_of(const OpDef& op, size_t inputs, const void* attrs) {
  return op.count_outputs ? op.count_outputs(inputs, attrs) : op.outputs;
}

/// All ops, in table order. Adding an op is one file and one line in ops/table.cpp.
std::span<OpDef* const> op_table();
const OpDef* find_op(std::string_view name);

}  // namespace fluxion
