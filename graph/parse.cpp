// Text -> graph.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "graph/attrs.h"
#include "graph/control.h"
#include "graph/scanner.h"

namespace fluxion::graph {

std::string Scanner::string() {
  expect('"');
  std::string out;
  while (true) {
    if (at_ == text_.size()) stop("the string has no end");
    char c = text_[at_++];
    if (c == '"') return out;
    if (c != '\\') {
      out += c;
      continue;
    }
    char kind = at_ < text_.size() ? text_[at_++] : '\0';
    if (kind == 'n') out += '\n';
    else if (kind == 't') out += '\t';
    else if (kind == '"' || kind == '\\') out += kind;
    else if (kind == 'x') {
      unsigned v = 0;
      std::string_view digits = text_.substr(at_, 2);
      auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), v, 16);
      if (error != std::errc() || end != digits.data() + 2) stop("\\x needs two hex digits");
      out += static_cast<char>(v);
      at_ += 2;
    } else {
      stop(R"(unknown escape; \" \\ \n \t and \xNN are known)");
    }
  }
}

namespace {

constexpr int kMaxDepth = 64;

/// What `nan(0x...)` gives; false if the text is something else.
bool parse_nan_bits(std::string_view s, uint64_t* bits) {
  if (!s.starts_with("nan(0x") || !s.ends_with(")")) return false;
  s = s.substr(6, s.size() - 7);
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *bits, 16);
  return error == std::errc() && end == s.data() + s.size();
}

template <class F>
bool parse_float(std::string_view s, F* v) {
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *v);
  return error == std::errc() && end == s.data() + s.size() && !s.empty() && !std::isnan(*v);
}

bool parse_real(std::string_view s, double* v) {
  uint64_t bits = 0x7ff8000000000000;
  if (s == "nan" || parse_nan_bits(s, &bits)) {
    std::memcpy(v, &bits, sizeof bits);
    return std::isnan(*v);
  }
  return parse_float(s, v);
}

bool parse_integer(std::string_view s, int64_t* v) {
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *v);
  return error == std::errc() && end == s.data() + s.size();
}

uint64_t usual_nan(DType t) {
  switch (t) {
    case DType::f16: return 0x7e00;
    case DType::bf16: return 0x7fc0;
    case DType::f32: return 0x7fc00000;
    default: return 0x7ff8000000000000;
  }
}

bool parse_floating_element(std::string_view s, DType t, char* to) {
  uint64_t bits = usual_nan(t);
  if (s == "nan" || parse_nan_bits(s, &bits)) {
    std::memcpy(to, &bits, static_cast<size_t>(size_of(t)));
    return std::isnan(load_double(to, t));
  }
  if (t == DType::f64) {
    double v = 0;
    if (!parse_float(s, &v)) return false;
    std::memcpy(to, &v, sizeof v);
    return true;
  }
  float v = 0;
  if (!parse_float(s, &v)) return false;
  if (t == DType::f32) {
    std::memcpy(to, &v, sizeof v);
    return true;
  }
  uint16_t half = t == DType::f16 ? float_to_half(v) : float_to_bfloat16(v);
  std::memcpy(to, &half, sizeof half);
  return true;
}

bool parse_element(std::string_view s, DType t, char* to) {
  if (is_floating(t)) return parse_floating_element(s, t, to);
  if (t == DType::bool_) {
    *to = s == "true";
    return s == "true" || s == "false";
  }
  int64_t v = 0;
  if (!parse_integer(s, &v)) return false;
  store_int(to, t, v);
  return load_int(to, t) == v;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : s_(text) {}

  Graph whole() {
    Graph g;
    g.locations.push_back({});
    root_ = &g;
    s_.expect_word("graph");
    graph(g, 0);
    if (s_.peek()) s_.stop("nothing was expected after the graph, got " + s_.next_text());
    return g;
  }

 private:
  /// The values that the text of one graph or region has named so far.
  struct Scope {
    std::unordered_map<std::string, ValueId> ids;
    std::vector<int64_t> numbers;  // of "%7"; -1 for values with a name
  };

  /// Turns the errors of a callee into errors with a place.
  template <class F>
  auto guarded(size_t position, F f) {
    try {
      return f();
    } catch (const Error& e) {
      s_.stop_at(position, e.what());
    }
  }

  void graph(Graph& g, int depth) {
    if (depth > kMaxDepth)
      s_.stop(fmt::format("regions are nested deeper than {} levels", kMaxDepth));
    Scope scope;
    g.name = s_.name("the name of the graph");
    if (depth == 0) find_dims(g);
    s_.expect('(');
    arguments(g, scope);
    if (s_.take_word("slots")) slots(g, scope);
    if (s_.take_word("dims")) skip_dims();
    s_.expect('{');
    body(g, scope, depth);
    renumber(g, scope);
  }

  /// Types come before the dims they use: looks ahead.
  void find_dims(Graph& g) {
    size_t start = s_.position();
    int depth = 0;
    while (char c = s_.peek()) {
      if (c == '"') {
        s_.string();
        continue;
      }
      if (c == '{' && depth == 0) break;
      if (depth == 0 && s_.take_word("dims")) {
        dims(g);
        break;
      }
      if (is_name_char(c)) {
        s_.word();
        continue;
      }
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      s_.take(c);
    }
    s_.go_to(start);
  }

  void dims(Graph& g) {
    s_.expect('(');
    do {
      DimSymbol d;
      d.name = s_.name("the name of a dim");
      s_.expect('=');
      d.low = s_.integer("the least size");
      s_.expect('.');
      s_.expect('.');
      char next = s_.peek();
      d.high = next == ',' || next == ')' ? INT64_MAX : s_.integer("the greatest size");
      g.dims.push_back(std::move(d));
    } while (s_.take(','));
    s_.expect(')');
  }
  void skip_dims() {
    Graph ignored;
    dims(ignored);
  }

  DType dtype() {
    size_t start = s_.position();
    std::string w = s_.word();
    DType t{};
    if (!parse_dtype(w, &t)) {
      s_.go_to(start);
      s_.stop("a dtype like f32 was expected, got " + s_.next_text());
    }
    return t;
  }

  Dim dim(std::string_view ends) {
    s_.peek();
    size_t start = s_.position();
    std::string_view text = s_.until(ends);
    return guarded(start, [&] { return Dim::parse(text, root_->dims); });
  }

  ValueType type() {
    ValueType t;
    t.weak = s_.take_word("weak");
    t.dtype = dtype();
    s_.expect('[');
    if (s_.take(']')) return t;
    do t.shape.push_back(dim(",]"));
    while (s_.take(','));
    s_.expect(']');
    return t;
  }

  ValueId define(Graph& g, Scope& scope, size_t position, const std::string& key, int64_t number,
                 ValueType t) {
    ValueId id = g.add_value(std::move(t));
    if (!scope.ids.emplace(key, id).second)
      s_.stop_at(position, fmt::format("{} is defined twice", key));
    scope.numbers.push_back(number);
    return id;
  }

  /// "%7" as key and number.
  std::pair<std::string, int64_t> numbered() {
    s_.expect('%');
    int64_t n = s_.integer("the number of a value");
    if (n < 0) s_.stop("the number of a value is not negative");
    return {fmt::format("%{}", n), n};
  }

  void arguments(Graph& g, Scope& scope) {
    if (s_.take(')')) return;
    do {
      s_.peek();
      size_t at = s_.position();
      Input in;
      in.name = s_.name("the name of an argument");
      s_.expect(':');
      in.value = define(g, scope, at, quoted(in.name), -1, type());
      g.inputs.push_back(std::move(in));
    } while (s_.take(','));
    s_.expect(')');
  }

  void slots(Graph& g, Scope& scope) {
    s_.expect('(');
    do {
      s_.peek();
      size_t at = s_.position();
      std::string short_name = s_.name("the short name of a slot");
      s_.expect('=');
      Input in;
      in.kind = InputKind::slot;
      in.name = s_.string();
      s_.expect(':');
      in.value = define(g, scope, at, quoted(short_name), -1, type());
      g.inputs.push_back(std::move(in));
    } while (s_.take(','));
    s_.expect(')');
  }

  void body(Graph& g, Scope& scope, int depth) {
    while (!s_.take('}')) {
      if (s_.take_word("const")) constant(g, scope);
      else if (s_.take_word("return")) results(g, scope);
      else if (s_.take_word("write")) write(g, scope);
      else if (s_.peek() == '%' || s_.peek() == '_') node(g, scope, depth);
      else s_.stop("a value, const, return, write or } was expected, got " + s_.next_text());
    }
  }

  void constant(Graph& g, Scope& scope) {
    s_.peek();
    size_t at = s_.position();
    auto [key, number] = numbered();
    Input in;
    in.kind = InputKind::constant;
    if (s_.peek() == '"') in.name = s_.string();
    s_.expect(':');
    ValueType t = type();
    s_.expect('=');
    in.data = constant_data(t);
    in.value = define(g, scope, at, key, number, std::move(t));
    g.inputs.push_back(std::move(in));
  }

  Tensor constant_data(const ValueType& t) {
    s_.peek();
    size_t start = s_.position();
    if (s_.peek() == '<')
      s_.stop(
          "the bytes of this constant were left out when the text was written; write it with_data");
    std::vector<std::string_view> items;
    bool scalar = t.shape.empty();
    if (scalar) {
      items.push_back(s_.until(" \n\t\r}"));
    } else {
      s_.expect('[');
      if (!s_.take(']')) {
        do items.push_back(s_.until(",]"));
        while (s_.take(','));
        s_.expect(']');
      }
    }
    std::vector<int64_t> shape;
    for (const Dim& d : t.shape) {
      if (!d.is_constant()) s_.stop_at(start, "a constant has no symbolic dims");
      shape.push_back(d.constant());
    }
    return guarded(start, [&] { return tensor_of(t, shape, items); });
  }

  static Tensor tensor_of(const ValueType& t, Ints shape,
                          const std::vector<std::string_view>& items) {
    if (shape.size() > kMaxRank || std::ranges::any_of(shape, [](int64_t s) { return s < 0; }))
      fail(ErrorKind::value, "{} is no shape of a constant", shape_text(shape));
    if (element_count(shape) != static_cast<int64_t>(items.size()))
      fail(ErrorKind::value, "{} elements for a constant of shape {}", items.size(),
           shape_text(shape));
    Tensor data = empty(shape, t.dtype);
    for (size_t i = 0; i < items.size(); ++i)
      if (!parse_element(items[i], t.dtype,
                         data.data<char>() + static_cast<int64_t>(i) * size_of(t.dtype)))
        fail(ErrorKind::value, "'{}' is no {}", items[i], short_name(t.dtype));
    if (t.weak) data.impl()->flags |= kWeak | kNumber;
    return data;
  }

  ValueId use(const Scope& scope) {
    s_.peek();
    size_t at = s_.position();
    std::string key = s_.peek() == '%' ? numbered().first
                                       : quoted(s_.name("a value (%7 or the name of an input)"));
    auto it = scope.ids.find(key);
    if (it == scope.ids.end()) s_.stop_at(at, fmt::format("{} is not defined before its use", key));
    return it->second;
  }

  void results(Graph& g, const Scope& scope) {
    if (!g.results.empty()) s_.stop("the graph returns twice");
    do {
      Result r;
      if (s_.peek() != '%') {
        size_t start = s_.position();
        r.name = s_.name("a result");
        if (!s_.take('=')) {
          s_.go_to(start);
          r.name.clear();
        }
      }
      r.value = use(scope);
      g.results.push_back(std::move(r));
    } while (s_.take(','));
  }

  void write(Graph& g, const Scope& scope) {
    s_.peek();
    size_t at = s_.position();
    ValueId slot = use(scope);
    auto it = std::ranges::find(g.inputs, slot, &Input::value);
    if (it == g.inputs.end() || it->kind != InputKind::slot)
      s_.stop_at(at, "only slots can be written");
    s_.expect('=');
    g.writes.push_back({static_cast<uint32_t>(it - g.inputs.begin()), use(scope)});
  }

  void node(Graph& g, Scope& scope, int depth) {
    struct Output {
      size_t at;
      std::string key;
      int64_t number;
      ValueType type;
    };
    std::vector<Output> outputs;
    do {
      size_t at = (s_.peek(), s_.position());
      if (s_.take_word("_")) {
        outputs.push_back({at, "", -1, {}});
        continue;
      }
      auto [key, number] = numbered();
      s_.expect(':');
      outputs.push_back({at, key, number, type()});
    } while (s_.take(','));
    s_.expect('=');
    Node n;
    s_.peek();
    size_t at = s_.position();
    std::string op = s_.name("the name of an op");
    n.op = find_graph_op(op);
    if (!n.op) s_.stop_at(at, fmt::format("no op is called '{}'", op));
    s_.expect('(');
    if (!s_.take(')')) {
      do n.in.push_back(use(scope));
      while (s_.take(','));
      s_.expect(')');
    }
    n.attrs.resize(n.op->attr_bytes);
    if (!n.op->fields.empty()) attributes(n);
    if (s_.take('{')) regions(n, depth);
    if (s_.take('@')) n.location = location();
    for (Output& o : outputs)
      n.out.push_back(o.key.empty() ? kNoValue
                                    : define(g, scope, o.at, o.key, o.number, std::move(o.type)));
    g.nodes.push_back(std::move(n));
  }

  void regions(Node& n, int depth) {
    while (!s_.take('}')) {
      s_.expect_word("region");
      n.regions.push_back(std::make_unique<Graph>());
      graph(*n.regions.back(), depth + 1);
    }
  }

  void attributes(Node& n) {
    s_.expect('{');
    uint64_t seen = 0;
    std::span<const Field> fields = n.op->fields;
    if (!s_.take('}')) {
      do {
        s_.peek();
        size_t at = s_.position();
        std::string name = s_.name("the name of an attribute");
        size_t i = 0;
        while (i < fields.size() && fields[i].name != name) ++i;
        if (i == fields.size())
          s_.stop_at(at, fmt::format("{} has no attribute '{}'", n.op->name, name));
        if (seen >> i & 1) s_.stop_at(at, fmt::format("attribute '{}' is given twice", name));
        seen |= uint64_t{1} << i;
        s_.expect('=');
        field(n, i);
      } while (s_.take(','));
      s_.expect('}');
    }
    for (size_t i = 0; i < fields.size(); ++i)
      if (!(seen >> i & 1))
        s_.stop(fmt::format("{}: attribute '{}' is missing", n.op->name, fields[i].name));
  }

  void field(Node& n, size_t index) {
    const Field& f = n.op->fields[index];
    std::byte* attrs = n.attrs.data();
    s_.peek();
    size_t at = s_.position();
    switch (f.kind) {
      case FieldKind::real: {
        double v = 0;
        std::string_view text = s_.until(",}");
        if (!parse_real(text, &v)) s_.stop_at(at, fmt::format("'{}' is no number", text));
        return write_real(attrs, f, v);
      }
      case FieldKind::boolean: {
        std::string w = s_.word();
        if (w != "true" && w != "false") s_.stop_at(at, "true or false was expected");
        return write_integer(attrs, f, w == "true");
      }
      case FieldKind::dtype: return write_integer(attrs, f, static_cast<int64_t>(dtype()));
      case FieldKind::integer: return integer(n, index, 0, ",}");
      case FieldKind::dims: {
        s_.expect('[');
        size_t count = 0;
        if (!s_.take(']')) {
          do {
            if (count == kMaxRank)
              s_.stop(fmt::format("a list holds at most {} integers", kMaxRank));
            integer(n, index, count++, ",]");
          } while (s_.take(','));
          s_.expect(']');
        }
        return write_dims_count(attrs, f, count);
      }
    }
  }

  /// A constant, or a symbolic integer with its value for the least sizes.
  void integer(Node& n, size_t field, size_t item, std::string_view ends) {
    size_t at = s_.position();
    Dim d = dim(ends);
    SymbolicAttr s{static_cast<uint16_t>(field), static_cast<uint16_t>(item), d};
    std::vector<int64_t> sizes;
    for (const DimSymbol& symbol : root_->dims) sizes.push_back(symbol.low);
    int64_t value = guarded(at, [&] { return d.evaluate(sizes); });
    write_symbolic(*n.op, n.attrs.data(), s, value);
    if (!d.is_constant()) n.symbolic.push_back(std::move(s));
  }

  uint32_t location() {
    Location l;
    if (s_.peek() == '"') l.file = s_.string();
    else l.file = std::string(s_.until(": \n"));
    s_.expect(':');
    int64_t line = s_.integer("the line");
    if (line < 0 || line > INT32_MAX) s_.stop(fmt::format("{} is no line number", line));
    l.line = static_cast<int32_t>(line);
    if (s_.peek() == '"') l.module = s_.string();
    auto& all = root_->locations;
    auto [it, fresh] = places_.emplace(fmt::format("{}:{}:{}", l.file, l.line, l.module),
                                       static_cast<uint32_t>(all.size()));
    if (fresh) all.push_back(std::move(l));
    return it->second;
  }

  /// Gives values the numbers that the text uses, if they are dense; inputs take the free ones.
  static void renumber(Graph& g, const Scope& scope) {
    size_t n = g.values.size();
    std::vector<ValueId> to(n, kNoValue);
    std::vector<bool> taken(n);
    for (size_t v = 0; v < n; ++v) {
      int64_t number = scope.numbers[v];
      if (number < 0) continue;
      if (number >= static_cast<int64_t>(n)) return;
      to[v] = static_cast<ValueId>(number);
      taken[static_cast<size_t>(number)] = true;
    }
    size_t free = 0;
    for (ValueId& id : to) {
      if (id != kNoValue) continue;
      while (taken[free]) ++free;
      id = static_cast<ValueId>(free++);
    }
    std::vector<ValueType> values(n);
    for (size_t v = 0; v < n; ++v) values[to[v]] = std::move(g.values[v]);
    g.values = std::move(values);
    auto move = [&](ValueId& v) {
      if (v != kNoValue) v = to[v];
    };
    for (Input& i : g.inputs) move(i.value);
    for (Node& node : g.nodes) {
      for (ValueId& v : node.in) move(v);
      for (ValueId& v : node.out) move(v);
    }
    for (Result& r : g.results) move(r.value);
    for (Write& w : g.writes) move(w.value);
  }

  Scanner s_;
  Graph* root_ = nullptr;
  std::unordered_map<std::string, uint32_t> places_;
};

}  // namespace

Graph parse(std::string_view text) { return Parser(text).whole(); }

}  // namespace fluxion::graph
