// Graph -> text.
#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "graph/attrs.h"
#include "graph/graph.h"
#include "graph/names.h"
#include "graph/value_names.h"

namespace fluxion::graph {

ValueNames::ValueNames(const Graph& g) : names_(g.values.size()) {
  for (const Input& i : g.inputs)
    if (i.kind == InputKind::argument) {
      taken_.insert(i.name);
      if (i.value < names_.size()) names_[i.value] = name_text(i.name);
    }
  for (const Input& i : g.inputs)
    if (i.kind == InputKind::slot && i.value < names_.size())
      names_[i.value] = unused(i.name.substr(i.name.rfind('.') + 1));
}

std::string ValueNames::operator()(ValueId v) const {
  if (v == kNoValue) return "_";
  return v < names_.size() && !names_[v].empty() ? names_[v] : fmt::format("%{}", v);
}

std::string ValueNames::unused(std::string name) {
  for (char& c : name)
    if (!is_name_char(c)) c = '_';
  if (!is_identifier(name)) name = "slot_" + name;
  std::string tried = name;
  for (int n = 2; !taken_.insert(tried).second; ++n) tried = fmt::format("{}_{}", name, n);
  return tried;
}

namespace {

constexpr int64_t kInlineElements = 16;

/// The shortest decimal that reads back; NaNs other than the usual one by their bits.
template <class F, class Bits>
std::string float_text(F v, Bits usual) {
  auto bits = std::bit_cast<Bits>(v);
  if (std::isnan(v)) return bits == usual ? "nan" : fmt::format("nan({:#x})", bits);
  return fmt::format("{}", v);
}
std::string real_text(double v) { return float_text(v, uint64_t{0x7ff8000000000000}); }

std::string half_text(float value, uint16_t bits, uint16_t usual) {
  if (std::isnan(value)) return bits == usual ? "nan" : fmt::format("nan({:#x})", bits);
  return fmt::format("{}", value);
}

std::string element_text(const char* p, DType t) {
  uint16_t half = 0;
  if (is_half(t)) std::memcpy(&half, p, sizeof half);
  switch (t) {
    case DType::bool_: return *p ? "true" : "false";
    case DType::f16: return half_text(half_to_float(half), half, 0x7e00);
    case DType::bf16: return half_text(bfloat16_to_float(half), half, 0x7fc0);
    case DType::f32: {
      float v;
      std::memcpy(&v, p, sizeof v);
      return float_text(v, uint32_t{0x7fc00000});
    }
    case DType::f64: return real_text(load_double(p, t));
    default: return fmt::format("{}", load_int(p, t));
  }
}

std::string constant_text(const Tensor& t, bool with_data) {
  if (!t.defined()) return "undefined";
  if (t.numel() > kInlineElements && !with_data) return fmt::format("<{} bytes>", t.nbytes());
  if (t.dim() == 0) return element_text(t.data<char>(), t.dtype());
  std::string out = "[";
  std::vector<int64_t> at(static_cast<size_t>(t.dim()), 0);
  for (int64_t i = 0; i < t.numel(); ++i) {
    int64_t offset = 0;
    for (int d = 0; d < t.dim(); ++d) offset += at[d] * t.strides()[d];
    if (i) out += ", ";
    out += element_text(t.data<char>() + offset * size_of(t.dtype()), t.dtype());
    for (int d = t.dim() - 1; d >= 0 && ++at[d] == t.sizes()[d]; --d) at[d] = 0;
  }
  return out + "]";
}

class Writer {
 public:
  Writer(const Graph& root, bool with_data) : root_(root), with_data_(with_data) {}

  void graph(const Graph& g, const std::string& indent, const char* keyword) {
    ValueNames names(g);
    out_ += indent + keyword + " " + name_text(g.name);
    header(g, names);
    out_ += " {\n";
    std::string inner = indent + "  ";
    for (const Input& i : g.inputs)
      if (i.kind == InputKind::constant) constant(g, i, inner, names);
    for (const Node& n : g.nodes) node(g, n, inner, names);
    ends(g, inner, names);
    out_ += indent + "}\n";
  }
  std::string take() { return std::move(out_); }

 private:
  std::string type(const Graph& g, ValueId v) const {
    return v < g.values.size() ? type_text(g.values[v], root_.dims) : "?";
  }

  void header(const Graph& g, const ValueNames& names) {
    std::string arguments, slots, dims;
    auto add = [](std::string& list, const std::string& item) {
      list += (list.empty() ? "" : ", ") + item;
    };
    for (const Input& i : g.inputs) {
      if (i.kind == InputKind::argument)
        add(arguments, name_text(i.name) + ": " + type(g, i.value));
      if (i.kind == InputKind::slot)
        add(slots, names(i.value) + " = " + quoted(i.name) + ": " + type(g, i.value));
    }
    for (const DimSymbol& d : g.dims)
      add(dims, fmt::format("{} = {}..{}", name_text(d.name), d.low,
                            d.high == INT64_MAX ? "" : fmt::format("{}", d.high)));
    out_ += "(" + arguments + ")";
    if (!slots.empty()) out_ += " slots(" + slots + ")";
    if (!dims.empty()) out_ += " dims(" + dims + ")";
  }

  void constant(const Graph& g, const Input& i, const std::string& indent,
                const ValueNames& names) {
    out_ += indent + "const " + names(i.value);
    if (!i.name.empty()) out_ += " " + quoted(i.name);
    out_ += ": " + type(g, i.value) + " = " + constant_text(i.data, with_data_) + "\n";
  }

  void node(const Graph& g, const Node& n, const std::string& indent, const ValueNames& names) {
    out_ += indent;
    for (size_t i = 0; i < n.out.size(); ++i) {
      out_ += (i ? ", " : "") + names(n.out[i]);
      if (n.out[i] != kNoValue) out_ += ": " + type(g, n.out[i]);
    }
    out_ += fmt::format("{}{}(", n.out.empty() ? "" : " = ", n.op ? n.op->name : "?");
    for (size_t i = 0; i < n.in.size(); ++i) out_ += (i ? ", " : "") + names(n.in[i]);
    out_ += ")";
    if (n.op && !n.op->fields.empty()) attributes(n);
    if (!n.regions.empty()) {
      out_ += " {\n";
      for (const auto& r : n.regions) graph(*r, indent + "  ", "region");
      out_ += indent + "}";
    }
    location(n);
    out_ += "\n";
  }

  void attributes(const Node& n) {
    out_ += " {";
    for (size_t i = 0; i < n.op->fields.size(); ++i) {
      const Field& f = n.op->fields[i];
      out_ += fmt::format("{}{}={}", i ? ", " : "", f.name, field_text(n, i, f));
    }
    out_ += "}";
  }

  std::string integer_text(const Node& n, size_t field, size_t item, int64_t value) const {
    for (const SymbolicAttr& s : n.symbolic)
      if (s.field == field && s.item == item) return s.value.text(root_.dims);
    return fmt::format("{}", value);
  }

  std::string field_text(const Node& n, size_t index, const Field& f) const {
    if (n.attrs.size() != n.op->attr_bytes) return "?";
    const std::byte* attrs = n.attrs.data();
    if (f.kind == FieldKind::real) return real_text(read_real(attrs, f));
    if (f.kind == FieldKind::dims) {
      std::string list = "[";
      size_t count = std::min<size_t>(read_dims_count(attrs, f), kMaxRank);
      for (size_t i = 0; i < count; ++i)
        list += (i ? ", " : "") + integer_text(n, index, i, read_dims_item(attrs, f, i));
      return list + "]";
    }
    int64_t v = read_integer(attrs, f);
    if (f.kind == FieldKind::boolean && (v == 0 || v == 1)) return v ? "true" : "false";
    if (f.kind == FieldKind::dtype && v >= 0 && v < kDTypes)
      return std::string(short_name(static_cast<DType>(v)));
    return integer_text(n, index, 0, v);
  }

  static bool plain_file(const std::string& s) {
    for (char c : s)
      if (!is_name_char(c) && c != '.' && c != '/' && c != '-' && c != '+') return false;
    return !s.empty();
  }
  void location(const Node& n) {
    if (n.location >= root_.locations.size()) return;
    const Location& l = root_.locations[n.location];
    if (l == Location{}) return;
    out_ += fmt::format(" @ {}:{}", plain_file(l.file) ? l.file : quoted(l.file), l.line);
    if (!l.module.empty()) out_ += " " + quoted(l.module);
  }

  void ends(const Graph& g, const std::string& indent, const ValueNames& names) {
    if (!g.results.empty()) {
      out_ += indent + "return ";
      for (size_t i = 0; i < g.results.size(); ++i) {
        const Result& r = g.results[i];
        out_ +=
            (i ? ", " : "") + (r.name.empty() ? "" : name_text(r.name) + " = ") + names(r.value);
      }
      out_ += "\n";
    }
    for (const Write& w : g.writes)
      out_ += indent + "write " +
              (w.input < g.inputs.size() ? names(g.inputs[w.input].value) : "?") + " = " +
              names(w.value) + "\n";
  }

  const Graph& root_;
  bool with_data_;
  std::string out_;
};

}  // namespace

std::string to_text(const Graph& g, bool with_data) {
  Writer w(g, with_data);
  w.graph(g, "", "graph");
  return w.take();
}

}  // namespace fluxion::graph
