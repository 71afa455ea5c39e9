#include "loops/ir.h"

#include <array>
#include <cstdio>

#include "loops/bits.h"

namespace fluxion::loops {

namespace {
bool wide_vectors = false;
}

WideVectors::WideVectors() { wide_vectors = true; }
WideVectors::~WideVectors() { wide_vectors = false; }
bool WideVectors::on() { return wide_vectors; }

namespace {

constexpr const char* kElemNames[] = {"bool", "u8",  "i8",   "i16", "i32",
                                      "i64",  "f16", "bf16", "f32", "f64"};
constexpr const char* kUnaryNames[] = {"neg",  "abs",   "sqrt",       "floor",
                                       "ceil", "trunc", "round_even", "bit_not"};
constexpr const char* kBinaryNames[] = {"add", "sub", "mul",        "div",    "rem",
                                        "min", "max", "bit_and",    "bit_or", "bit_xor",
                                        "shl", "shr", "shr_logical"};
constexpr const char* kCompareNames[] = {"eq", "ne", "lt", "le", "gt", "ge"};
constexpr const char* kKindNames[] = {
    "constant", "iota",   "size", "param",   "stride", "loop",    "carried",
    "yield",    "end",    "load", "store",   "unary",  "binary",  "fma",
    "compare",  "select", "cast", "bitcast", "splat",  "extract", "reduce"};
static_assert(std::size(kKindNames) == kKinds);

std::string text(Type t) {
  std::string s = kElemNames[static_cast<int>(t.elem)];
  return t.lanes == 1 ? s : s + "x" + std::to_string(t.lanes);
}

std::string constant_text(Type t, int64_t bits) {
  if (!is_float(t.elem)) return std::to_string(bits);
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%.17g",
                t.elem == Elem::f32 ? from_bits<float>(bits) : from_bits<double>(bits));
  return buffer;
}

/// The operation's name: the sub-operation's where there is one.
const char* operation(const Node& n) {
  switch (n.kind) {
    case Kind::unary: return kUnaryNames[n.sub];
    case Kind::binary: return kBinaryNames[n.sub];
    case Kind::compare: return kCompareNames[n.sub];
    default: return kKindNames[static_cast<int>(n.kind)];
  }
}

std::string operands(const Node& n) {
  std::string s;
  for (int32_t id : {n.a, n.b, n.c}) {
    if (id < 0) continue;
    s += (s.empty() ? " %" : ", %") + std::to_string(id);
  }
  return s;
}

std::string details(const Node& n) {
  switch (n.kind) {
    case Kind::constant: return " " + constant_text(n.type, n.imm);
    case Kind::size:
    case Kind::param: return " " + std::to_string(n.imm);
    case Kind::stride: return " arg" + std::to_string(n.sub) + "[" + std::to_string(n.imm) + "]";
    case Kind::load:
    case Kind::store: return " arg" + std::to_string(n.imm) + operands(n);
    case Kind::extract: return operands(n) + " lane " + std::to_string(n.imm);
    case Kind::reduce: return std::string(" ") + kBinaryNames[n.sub] + operands(n);
    default: return operands(n);
  }
}

bool has_value(Kind k) { return k != Kind::store && k != Kind::end; }

}  // namespace

std::string print(const Function& f) {
  std::string s = "kernel " + f.name + "(";
  for (size_t i = 0; i < f.args.size(); ++i)
    s += (i ? ", " : "") + std::string(kElemNames[int(f.args[i])]);
  s += ")\n";
  int depth = 1;
  for (size_t i = 0; i < f.nodes.size(); ++i) {
    const Node& n = f.nodes[i];
    if (n.kind == Kind::end) --depth;
    s.append(2 * depth, ' ');
    if (has_value(n.kind)) s += "%" + std::to_string(i) + " = ";
    s += operation(n) + details(n);
    if (has_value(n.kind)) s += " : " + text(n.type);
    s += "\n";
    if (n.kind == Kind::loop) ++depth;
  }
  return s;
}

namespace {

/// Walks the nodes once, keeping the stack of open loops.
class Verifier {
 public:
  explicit Verifier(const Function& f) : f_(f), scope_(f.nodes.size(), -1) {}

  std::string run() {
    for (at_ = 0; at_ < static_cast<int32_t>(f_.nodes.size()); ++at_) {
      const Node& n = f_.nodes[at_];
      const char* problem = operands_in_scope(n);
      if (!problem) problem = check(n);
      if (problem) return "%" + std::to_string(at_) + " = " + operation(n) + ": " + problem;
    }
    return open_.empty() ? "" : "a loop has no end";
  }

 private:
  bool visible(int32_t id) const {
    if (id < 0 || id >= at_ || !has_value(f_.nodes[id].kind)) return false;
    if (scope_[id] < 0) return true;
    for (int32_t loop : open_)
      if (loop == scope_[id]) return true;
    return false;
  }

  const char* operands_in_scope(const Node& n) {
    static constexpr int8_t required[kKinds] = {0, 0, 0, 0, 0, 3, 1, 2, 1, 1, 2,
                                                1, 2, 3, 2, 3, 1, 1, 1, 1, 1};
    const int32_t ids[] = {n.a, n.b, n.c};
    int given = 0;
    while (given < 3 && ids[given] >= 0) ++given;
    const int optional = n.kind == Kind::load || n.kind == Kind::store;
    const int need = required[static_cast<int>(n.kind)];
    if (given < need || given > need + optional) return "wrong number of operands";
    for (int i = 0; i < given; ++i)
      if (!visible(ids[i])) return "operand is not defined here";
    scope_[at_] = open_.empty() ? -1 : open_.back();
    return nullptr;
  }

  Type type(int32_t id) const { return f_.nodes[id].type; }
  bool is_index(int32_t id) const { return type(id) == Type{Elem::i64, 1}; }
  bool is_mask(const Node& n) const { return n.type.elem == Elem::bool_; }

  const char* check(const Node& n) {
    if (has_value(n.kind) && value_elem(n.type.elem) != n.type.elem) return "not a value type";
    if (n.type.lanes < 1 || n.type.lanes > kMaxLanes || (n.type.lanes & (n.type.lanes - 1)))
      return "bad lane count";
    switch (n.kind) {
      case Kind::constant: return nullptr;
      case Kind::iota: return is_float(n.type.elem) || is_mask(n) ? "iota is an integer" : nullptr;
      case Kind::size: return n.type == Type{Elem::i64, 1} ? nullptr : "a size is an i64 scalar";
      case Kind::stride:
        if (n.sub >= f_.args.size()) return "no such argument";
        return n.type == Type{Elem::i64, 1} ? nullptr : "a stride is an i64 scalar";
      case Kind::param: return n.type == Type{Elem::f64, 1} ? nullptr : "a param is an f64 scalar";
      case Kind::loop:
      case Kind::carried:
      case Kind::yield:
      case Kind::end: return check_loop(n);
      case Kind::load:
      case Kind::store: return check_memory(n);
      case Kind::unary: return check_unary(n);
      case Kind::binary: return check_binary(n);
      case Kind::fma:
        if (!is_float(n.type.elem)) return "fma is for floats";
        return type(n.a) == n.type && type(n.b) == n.type && type(n.c) == n.type
                   ? nullptr
                   : "operand types differ";
      case Kind::compare:
        if (!is_mask(n) || type(n.a).lanes != n.type.lanes)
          return "result is a mask of the operands' lanes";
        return type(n.a) == type(n.b) ? nullptr : "operand types differ";
      case Kind::select:
        if (type(n.a) != Type{Elem::bool_, n.type.lanes})
          return "condition is a mask of the same lanes";
        return type(n.b) == n.type && type(n.c) == n.type ? nullptr : "operand types differ";
      case Kind::cast:
        if (is_mask(n)) return "masks come from compare";
        return type(n.a).lanes == n.type.lanes ? nullptr : "lanes differ";
      case Kind::bitcast:
        if (is_mask(n) || type(n.a).elem == Elem::bool_) return "masks have no bits";
        return type(n.a).lanes == n.type.lanes &&
                       elem_size(type(n.a).elem) == elem_size(n.type.elem)
                   ? nullptr
                   : "sizes differ";
      case Kind::splat:
        return type(n.a) == Type{n.type.elem, 1} ? nullptr : "operand is a scalar of the same elem";
      case Kind::extract:
        if (n.imm < 0 || n.imm >= type(n.a).lanes) return "no such lane";
        return n.type == Type{type(n.a).elem, 1} ? nullptr
                                                 : "result is a scalar of the operand's elem";
      case Kind::reduce:
        if (is_mask(n) && n.sub != int(Binary::bit_or)) return "masks reduce by bit_or only";
        return n.type == Type{type(n.a).elem, 1} ? nullptr
                                                 : "result is a scalar of the operand's elem";
    }
    return "unknown kind";
  }

  const char* check_loop(const Node& n) {
    const Kind before = at_ ? f_.nodes[at_ - 1].kind : Kind::end;
    switch (n.kind) {
      case Kind::loop:
        if (!is_index(n.a) || !is_index(n.b) || !is_index(n.c))
          return "bounds and step are i64 scalars";
        if (n.type != Type{Elem::i64, 1}) return "the index is an i64 scalar";
        scope_[at_] = at_;
        open_.push_back(at_);
        return nullptr;
      case Kind::carried:
        if (before != Kind::loop && before != Kind::carried) return "stands behind its loop";
        return type(n.a) == n.type ? nullptr : "operand types differ";
      case Kind::yield: return check_yield(n);
      default:
        if (open_.empty() || n.a != open_.back()) return "does not close the innermost loop";
        if (yields(at_) != carried(n.a)) return "one yield per carried value";
        open_.pop_back();
        for (int32_t i = at_ - 1; f_.nodes[i].kind == Kind::yield; --i)
          scope_[i] = open_.empty() ? -1 : open_.back();
        return nullptr;
    }
  }

  const char* check_yield(const Node& n) {
    if (open_.empty()) return "outside of a loop";
    const int32_t place = n.a - open_.back() - 1;
    if (f_.nodes[n.a].kind != Kind::carried || place != yields(at_))
      return "yields follow the carried values' order";
    if (n.b >= at_ - yields(at_)) return "operand is a yield of the same loop";
    return type(n.a) == n.type && type(n.b) == n.type ? nullptr : "operand types differ";
  }

  int32_t yields(int32_t end) const {
    int32_t count = 0;
    while (end - count > 0 && f_.nodes[end - 1 - count].kind == Kind::yield) ++count;
    return count;
  }
  int32_t carried(int32_t loop) const {
    int32_t count = 0;
    while (f_.nodes[loop + 1 + count].kind == Kind::carried) ++count;
    return count;
  }

  const char* check_memory(const Node& n) {
    const bool load = n.kind == Kind::load;
    if (n.imm < 0 || n.imm >= static_cast<int64_t>(f_.args.size())) return "no such argument";
    if (!is_index(n.a)) return "the index is an i64 scalar";
    const int32_t active = load ? n.b : n.c;
    if (active >= 0 && !is_index(active)) return "the active count is an i64 scalar";
    const Elem value = load ? n.type.elem : type(n.b).elem;
    return value == value_elem(f_.args[n.imm]) ? nullptr : "not the argument's value type";
  }

  const char* check_unary(const Node& n) {
    if (n.sub > static_cast<uint8_t>(Unary::bit_not)) return "unknown operation";
    if (type(n.a) != n.type) return "operand types differ";
    switch (static_cast<Unary>(n.sub)) {
      case Unary::neg:
      case Unary::abs: return is_mask(n) ? "not for masks" : nullptr;
      case Unary::bit_not: return is_float(n.type.elem) ? "not for floats" : nullptr;
      default: return is_float(n.type.elem) ? nullptr : "for floats only";
    }
  }

  const char* check_binary(const Node& n) {
    if (n.sub > static_cast<uint8_t>(Binary::shr_logical)) return "unknown operation";
    if (type(n.a) != n.type || type(n.b) != n.type) return "operand types differ";
    const Binary op = static_cast<Binary>(n.sub);
    const bool logic = op >= Binary::bit_and && op <= Binary::bit_xor;
    if (logic || op > Binary::bit_xor)
      return is_float(n.type.elem) || (is_mask(n) && !logic) ? "for integers" : nullptr;
    return is_mask(n) ? "not for masks" : nullptr;
  }

  const Function& f_;
  std::vector<int32_t> scope_;  // innermost loop around each node, -1 outside
  std::vector<int32_t> open_;
  int32_t at_ = 0;
};

}  // namespace

std::string verify(const Function& f) { return Verifier(f).run(); }

}  // namespace fluxion::loops
