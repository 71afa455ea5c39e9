#include "python/src/schema.h"

#include <charconv>
#include <limits>

namespace fluxion::python {

namespace {

[[noreturn]] void malformed(std::string_view schema, const char* what) {
  fail(ErrorKind::internal, "schema \"{}\": {}", schema, what);
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

/// Splits at commas outside brackets and quotes.
std::vector<std::string_view> split(std::string_view s) {
  std::vector<std::string_view> parts;
  int depth = 0;
  bool quoted = false;
  size_t begin = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    char c = s[i];
    if (c == '\'' || c == '"') quoted = !quoted;
    if (quoted) continue;
    depth += (c == '[' || c == '(') - (c == ']' || c == ')');
    if (c == ',' && depth == 0) {
      parts.push_back(trim(s.substr(begin, i - begin)));
      begin = i + 1;
    }
  }
  if (!trim(s.substr(begin)).empty()) parts.push_back(trim(s.substr(begin)));
  return parts;
}

struct KindName {
  std::string_view name;
  Kind kind;
};
constexpr KindName kKinds[] = {
    {"Tensor", Kind::tensor},  {"Tensor[]", Kind::tensors},    {"Number", Kind::number},
    {"int", Kind::integer},    {"int[]", Kind::integers},      {"float", Kind::real},
    {"bool", Kind::boolean},   {"Scalar", Kind::scalar},       {"dtype", Kind::dtype},
    {"str", Kind::text},       {"Generator", Kind::generator}, {"object", Kind::object},
    {"ignored", Kind::ignored}};

void parse_type(std::string_view schema, std::string_view type, Param& p) {
  if (type.ends_with('?')) {
    p.optional = true;
    type.remove_suffix(1);
  }
  std::string plain(type);
  if (plain.ends_with("...")) {
    p.variadic = true;
    plain.replace(plain.size() - 3, 3, "[]");
  }
  if (size_t open = plain.find('['); open != std::string::npos)
    plain.replace(open, std::string::npos, "[]");
  for (const KindName& k : kKinds)
    if (k.name == plain) {
      p.kind = k.kind;
      return;
    }
  malformed(schema, "unknown parameter type");
}

Scalar parse_number(std::string_view schema, std::string_view s) {
  if (s == "True" || s == "False") return Scalar(s == "True");
  if (s == "inf" || s == "-inf")
    return Scalar(s == "inf" ? std::numeric_limits<double>::infinity()
                             : -std::numeric_limits<double>::infinity());
  int64_t i = 0;
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), i);
  if (error == std::errc{} && end == s.data() + s.size()) return Scalar(i);
  double d = 0;
  auto [end_d, error_d] = std::from_chars(s.data(), s.data() + s.size(), d);
  if (error_d == std::errc{} && end_d == s.data() + s.size()) return Scalar(d);
  malformed(schema, "a default is not a number");
}

void parse_default(std::string_view schema, std::string_view value, Param& p) {
  p.has_default = true;
  p.default_text = value;
  if (p.kind == Kind::object || p.kind == Kind::ignored) return;
  if (value == "None") {
    p.optional = true;
    p.fallback.none = true;
    return;
  }
  switch (p.kind) {
    case Kind::text:
      p.fallback.text = value.substr(1, value.size() - 2);
      break;  // points into the schema
    case Kind::integers: {
      if (value.starts_with('[') || value.starts_with('('))
        value = value.substr(1, value.size() - 2);
      for (std::string_view item : split(value))
        p.fallback_ints.push_back(parse_number(schema, item).as_int());
      p.fallback.ints = p.fallback_ints;
      break;
    }
    case Kind::dtype: {
      DType t;
      if (!parse_dtype(value, &t)) malformed(schema, "unknown default dtype");
      p.fallback.scalar = Scalar(static_cast<int64_t>(t));
      break;
    }
    case Kind::number: p.fallback.tensor = parse_number(schema, value).tensor(); break;
    default: p.fallback.scalar = parse_number(schema, value);
  }
}

Param parse_param(std::string_view schema, std::string_view s) {
  Param p;
  size_t space = s.find(' ');
  if (space == std::string_view::npos) malformed(schema, "a parameter needs a type and a name");
  parse_type(schema, s.substr(0, space), p);
  std::string_view rest = s.substr(space + 1);
  size_t equals = rest.find('=');
  std::string name(trim(rest.substr(0, equals)));
  p.name = Object::own(PyUnicode_InternFromString(name.c_str())).release();
  if (p.kind == Kind::ignored && p.optional && equals == std::string_view::npos)
    parse_default(schema, "None", p);
  if (equals != std::string_view::npos) parse_default(schema, trim(rest.substr(equals + 1)), p);
  return p;
}

/// "(Tensor values, Tensor indices)" -> values, indices.
std::vector<std::string> parse_results(std::string_view s) {
  std::vector<std::string> names;
  if (!s.starts_with('(')) return names;
  for (std::string_view item : split(s.substr(1, s.size() - 2))) {
    size_t space = item.find(' ');
    if (space == std::string_view::npos) return {};
    names.emplace_back(trim(item.substr(space)));
  }
  return names;
}

}  // namespace

std::string_view Param::name_text() const { return PyUnicode_AsUTF8(name); }

Signature parse_schema(std::string_view schema) {
  Signature s;
  size_t open = schema.find('('), arrow = schema.find("->");
  if (open == std::string_view::npos || arrow == std::string_view::npos)
    malformed(schema, "no '(' or '->'");
  size_t close = schema.rfind(')', arrow);
  s.name = schema.substr(0, open);
  bool keyword_only = false;
  for (std::string_view part : split(schema.substr(open + 1, close - open - 1))) {
    if (part == "*") {
      keyword_only = true;
      continue;
    }
    Param p = parse_param(schema, part);
    p.keyword_only = keyword_only;
    if (!keyword_only) ++s.positional;
    if (p.variadic) s.variadic = static_cast<int>(s.params.size());
    if (p.name_text() == "input" || p.name_text() == "self") s.self = s.params.size();
    s.params.push_back(std::move(p));
    s.params.back().fallback.ints = s.params.back().fallback_ints;
  }
  s.results = parse_results(trim(schema.substr(arrow + 2)));
  return s;
}

std::string Signature::text() const {
  std::string out = name + "(";
  bool star = false;
  for (size_t i = 0; i < params.size(); ++i) {
    const Param& p = params[i];
    if (i) out += ", ";
    if (p.keyword_only && !std::exchange(star, true)) out += "*, ";
    if (p.variadic) out += "*";
    out += p.name_text();
    if (p.has_default) out.append("=").append(p.default_text);
  }
  return out + ")";
}

std::string wanted(const Param& p) {
  auto base = [&]() -> std::string {
    switch (p.kind) {
      case Kind::tensor: return "Tensor";
      case Kind::tensors: return "tuple of Tensors";
      case Kind::number: return "Tensor or number";
      case Kind::integer: return "int";
      case Kind::integers: return "int or tuple of ints";
      case Kind::real: return "float";
      case Kind::boolean: return "bool";
      case Kind::scalar: return "number";
      case Kind::dtype: return "fluxion.dtype";
      case Kind::text: return "str";
      case Kind::generator: return "fluxion.Generator";
      case Kind::object:
      case Kind::ignored: break;
    }
    return "object";
  };
  return base() + (p.optional ? " or None" : "");
}

}  // namespace fluxion::python
