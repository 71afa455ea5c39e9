#include "python/src/binder.h"

#include <algorithm>

#include "autograd/autograd.h"
#include "ops/inplace.h"
#include "python/src/constants.h"
#include "python/src/convert.h"
#include "python/src/generator.h"
#include "python/src/writes.h"

namespace fluxion::python {

namespace {

/// Why a signature does not fit a call; the text is made only when it is shown.
struct Mismatch {
  enum class Why : uint8_t {
    none,
    too_many,
    unknown_keyword,
    twice,
    missing,
    wrong_type
  } why = Why::none;
  size_t param = 0;
  PyObject* given = nullptr;  // borrowed
  Py_ssize_t count = 0;
};
using Why = Mismatch::Why;

/// The call as Python passes it.
struct Call {
  PyObject* const* args;
  Py_ssize_t nargs;
  PyObject* kwnames;
  bool method;  // args[0] is the object

  Py_ssize_t keywords() const { return kwnames ? PyTuple_GET_SIZE(kwnames) : 0; }
};

/// Arguments by parameter, not yet converted.
struct Gathered {
  explicit Gathered(size_t params) { std::fill_n(objects, params, nullptr); }
  PyObject* objects[kMaxParams];
  PyObject* const* rest = nullptr;  // of a variadic parameter
  Py_ssize_t rest_count = 0;
  PyObject* out = nullptr;
};

bool same_text(PyObject* a, PyObject* b) { return a == b || PyUnicode_Compare(a, b) == 0; }

/// NumPy's spellings of PyTorch's parameters, which PyTorch accepts too.
PyObject* canonical(PyObject* keyword) {
  static PyObject* const axis = PyUnicode_InternFromString("axis");
  static PyObject* const dim = PyUnicode_InternFromString("dim");
  static PyObject* const keepdims = PyUnicode_InternFromString("keepdims");
  static PyObject* const keepdim = PyUnicode_InternFromString("keepdim");
  if (same_text(keyword, axis)) return dim;
  if (same_text(keyword, keepdims)) return keepdim;
  return nullptr;
}

int find_param(const Signature& s, PyObject* keyword) {
  for (size_t i = 0; i < s.params.size(); ++i)
    if (s.params[i].name == keyword) return static_cast<int>(i);
  for (size_t i = 0; i < s.params.size(); ++i)
    if (same_text(s.params[i].name, keyword)) return static_cast<int>(i);
  if (PyObject* other = canonical(keyword)) return find_param(s, other);
  return -1;
}

bool is_out(const Signature& s, PyObject* keyword) {
  static PyObject* const out = PyUnicode_InternFromString("out");
  return s.flags & kOut && same_text(keyword, out);
}

bool gather_positional(const Signature& s, const Call& c, Gathered& g, Mismatch& m) {
  Py_ssize_t next = 0;
  size_t p = 0;
  if (c.method) {
    g.objects[s.self] = c.args[0];
    next = 1;
    if (s.self == 0) p = 1;
  }
  for (; next < c.nargs; ++next, ++p) {
    if (c.method && p == s.self) ++p;
    if (s.variadic >= 0 && p == static_cast<size_t>(s.variadic)) {
      g.rest = c.args + next;
      g.rest_count = c.nargs - next;
      return true;
    }
    if (p >= s.positional) {
      m = {Why::too_many, 0, nullptr, c.nargs};
      return false;
    }
    g.objects[p] = c.args[next];
  }
  return true;
}

bool gather_keywords(const Signature& s, const Call& c, Gathered& g, Mismatch& m) {
  for (Py_ssize_t k = 0; k < c.keywords(); ++k) {
    PyObject* keyword = PyTuple_GET_ITEM(c.kwnames, k);
    PyObject* value = c.args[c.nargs + k];
    if (is_out(s, keyword)) {
      g.out = value == Py_None ? nullptr : value;
      continue;
    }
    int p = find_param(s, keyword);
    if (p < 0) {
      m = {Why::unknown_keyword, 0, keyword, 0};
      return false;
    }
    if (g.objects[p] || (p == s.variadic && g.rest_count)) {
      m = {Why::twice, static_cast<size_t>(p), nullptr, 0};
      return false;
    }
    g.objects[p] = value;
  }
  return true;
}

int64_t* take_ints(Frame& f, size_t n) {
  if (f.ints_used + n <= std::size(f.ints)) {
    int64_t* p = f.ints + f.ints_used;
    f.ints_used += n;
    return p;
  }
  return f.more_ints.emplace_back(new int64_t[n]).get();
}

bool convert_ints(PyObject* const* items, Py_ssize_t n, Frame& f, Arg& a) {
  int64_t* ints = take_ints(f, static_cast<size_t>(n));
  for (Py_ssize_t i = 0; i < n; ++i)
    if (!to_integer(items[i], &ints[i])) return false;
  a.ints = {ints, static_cast<size_t>(n)};
  return true;
}

bool is_sequence(PyObject* o) {
  return PyTuple_Check(o) || PyList_Check(o) ||
         (PySequence_Check(o) && !PyUnicode_Check(o) && !PyBytes_Check(o) && !is_tensor(o) &&
          !PyIndex_Check(o));
}

bool convert_ints(PyObject* o, Frame& f, Arg& a) {
  if (!is_sequence(o)) return convert_ints(&o, 1, f, a);
  Object fast = Object::own(PySequence_Fast(o, "expected a sequence"));
  return convert_ints(PySequence_Fast_ITEMS(fast.get()), PySequence_Fast_GET_SIZE(fast.get()), f,
                      a);
}

bool convert_tensors(PyObject* const* items, Py_ssize_t n, Frame& f, Arg& a) {
  std::vector<Tensor> tensors(static_cast<size_t>(n));
  for (Py_ssize_t i = 0; i < n; ++i) {
    if (!is_tensor(items[i])) return false;
    tensors[static_cast<size_t>(i)] = tensor_of(items[i]);
  }
  a.tensors = f.tensors.emplace_back(std::move(tensors));
  return true;
}

bool convert_tensors(PyObject* o, Frame& f, Arg& a) {
  if (is_tensor(o) || PyUnicode_Check(o) || is_numpy_array(o) ||
      !(Py_TYPE(o)->tp_iter || PySequence_Check(o)))
    return false;
  Object fast = Object::own(PySequence_Fast(o, "expected a sequence of tensors"));
  return convert_tensors(PySequence_Fast_ITEMS(fast.get()), PySequence_Fast_GET_SIZE(fast.get()), f,
                         a);
}

bool convert_text(PyObject* o, Arg& a) {
  if (!PyUnicode_Check(o)) return false;
  Py_ssize_t n = 0;
  const char* s = PyUnicode_AsUTF8AndSize(o, &n);
  if (!s) throw PythonError();
  a.text = {s, static_cast<size_t>(n)};
  return true;
}

bool convert(const Param& p, PyObject* o, Frame& f, Arg& a) {
  if (o == Py_None && p.kind != Kind::object) {
    a.none = true;
    return p.optional;
  }
  switch (p.kind) {
    case Kind::tensor:
      if (!is_tensor(o)) return false;
      a.tensor = tensor_of(o);
      return true;
    case Kind::number: return to_operand(o, &a.tensor);
    case Kind::tensors: return convert_tensors(o, f, a);
    case Kind::integers: return convert_ints(o, f, a);
    case Kind::text: return convert_text(o, a);
    case Kind::scalar: return to_scalar(o, &a.scalar);
    case Kind::generator: return to_generator(o, &a.generator);
    case Kind::object: return true;
    case Kind::integer: {
      int64_t v;
      return to_integer(o, &v) && (a.scalar = Scalar(v), true);
    }
    case Kind::real: {
      double v;
      return to_real(o, &v) && (a.scalar = Scalar(v), true);
    }
    case Kind::boolean: {
      bool v;
      return to_bool(o, &v) && (a.scalar = Scalar(v), true);
    }
    case Kind::dtype: {
      DType t;
      return to_dtype(o, &t) && (a.scalar = Scalar(static_cast<int64_t>(t)), true);
    }
    case Kind::ignored: break;
  }
  return true;
}

bool convert_rest(const Param& p, const Gathered& g, Frame& f, Arg& a) {
  bool one_sequence = g.rest_count == 1 && is_sequence(g.rest[0]);
  if (p.kind == Kind::tensors)
    return one_sequence ? convert_tensors(g.rest[0], f, a)
                        : convert_tensors(g.rest, g.rest_count, f, a);
  return one_sequence ? convert_ints(g.rest[0], f, a) : convert_ints(g.rest, g.rest_count, f, a);
}

void check_ignored(const Param& p, PyObject* o) {
  if (p.name_text() == "device") require_cpu(o);
}

void take_default(const Param& p, Frame& f) {
  new (f.args() + f.count) Arg(p.fallback);
  f.objects[f.count++] = nullptr;
}

bool convert_all(const Signature& s, const Gathered& g, Frame& f, Mismatch& m) {
  f.out = g.out;
  for (size_t i = 0; i < s.params.size(); ++i) {
    const Param& p = s.params[i];
    PyObject* o = g.objects[i];
    bool rest = g.rest_count && static_cast<int>(i) == s.variadic;
    if (!o && !rest && !p.has_default) {
      m = {Why::missing, i, nullptr, 0};
      return false;
    }
    if (p.kind == Kind::ignored) {
      if (o) check_ignored(p, o);
      continue;
    }
    if (!o && !rest) {
      take_default(p, f);
      continue;
    }
    Arg& a = *new (f.args() + f.count) Arg;
    f.objects[f.count++] = o;
    if (rest ? convert_rest(p, g, f, a) : convert(p, o, f, a)) continue;
    m = {Why::wrong_type, i, rest ? g.rest[0] : o, 0};
    return false;
  }
  return true;
}

/// The common call: arguments in order, no keywords.
bool bind_in_order(const Signature& s, const Call& c, Frame& f, Mismatch& m) {
  auto given = static_cast<size_t>(c.nargs);
  if (given > s.positional) return m = {Why::too_many, 0, nullptr, c.nargs}, false;
  for (size_t i = 0; i < s.params.size(); ++i) {
    const Param& p = s.params[i];
    if (i >= given && !p.has_default) return m = {Why::missing, i, nullptr, 0}, false;
    if (p.kind == Kind::ignored) {
      if (i < given) check_ignored(p, c.args[i]);
    } else if (i >= given) {
      take_default(p, f);
    } else {
      Arg& a = *new (f.args() + f.count) Arg;
      f.objects[f.count++] = c.args[i];
      if (!convert(p, c.args[i], f, a)) return m = {Why::wrong_type, i, c.args[i], 0}, false;
    }
  }
  return true;
}

bool bind(const Signature& s, const Call& c, Frame& f, Mismatch& m) {
  if (!c.kwnames && s.variadic < 0 && (!c.method || s.self == 0)) return bind_in_order(s, c, f, m);
  Gathered g(s.params.size());
  return gather_positional(s, c, g, m) && gather_keywords(s, c, g, m) && convert_all(s, g, f, m);
}

// --- results

PyTypeObject* result_type(const Signature& s) {
  static std::vector<std::pair<const Signature*, PyTypeObject*>> made;
  for (auto& [signature, type] : made)
    if (signature == &s) return type;
  auto* name = new std::string("fluxion.return_types." + s.name);  // the type refers to it for ever
  auto* fields = new std::vector<PyStructSequence_Field>;
  for (const std::string& r : s.results) fields->push_back({r.c_str(), nullptr});
  fields->push_back({});
  PyStructSequence_Desc desc{name->c_str(), nullptr, fields->data(),
                             static_cast<int>(s.results.size())};
  PyTypeObject* type = PyStructSequence_NewType(&desc);
  if (!type) throw PythonError();
  made.emplace_back(&s, type);
  return type;
}

PyObject* wrap_named(const Signature& s, std::vector<Tensor>& tensors) {
  Object tuple = Object::own(PyStructSequence_New(result_type(s)));
  for (size_t i = 0; i < tensors.size(); ++i)
    PyStructSequence_SetItem(tuple.get(), static_cast<Py_ssize_t>(i), wrap(std::move(tensors[i])));
  return tuple.release();
}

PyObject* to_python(const Signature& s, Result& r) {
  switch (r.kind) {
    case Result::Kind::tensor: return wrap(std::move(r.tensor));
    case Result::Kind::tuple:
      return s.results.empty() ? wrap_tuple(r.tensors) : wrap_named(s, r.tensors);
    case Result::Kind::list: return wrap_tuple(r.tensors);
    case Result::Kind::boolean:
    case Result::Kind::integer:
    case Result::Kind::real: return from_scalar(r.scalar);
    case Result::Kind::nothing: break;
  }
  return none();
}

PyObject* store_out(const Signature& s, Result& r, PyObject* out) {
  if (r.kind == Result::Kind::tensor && is_tensor(out)) {
    write_out(s.name.c_str(), tensor_of(out), r.tensor);
    return Py_NewRef(out);
  }
  if (!PyTuple_Check(out) || static_cast<size_t>(PyTuple_GET_SIZE(out)) != r.tensors.size() ||
      r.tensors.empty())
    fail(ErrorKind::type, "{}(): argument 'out' must be {}, not {}", s.name,
         r.kind == Result::Kind::tensor ? "Tensor" : "a tuple with one Tensor per result",
         type_name(out));
  for (size_t i = 0; i < r.tensors.size(); ++i) {
    PyObject* o = PyTuple_GET_ITEM(out, static_cast<Py_ssize_t>(i));
    if (!is_tensor(o))
      fail(ErrorKind::type, "{}(): out[{}] must be Tensor, not {}", s.name, i, type_name(o));
    write_out(s.name.c_str(), tensor_of(o), r.tensors[i]);
    r.tensors[i] = tensor_of(o);
  }
  return to_python(s, r);
}

/// As PyTorch, raises for an `out` that overlaps an argument unless it is that argument.
void check_outs(Frame& f, const char* name) {
  auto check_one = [&](PyObject* out) {
    if (!is_tensor(out)) return;
    for (size_t i = 0; i < f.count; ++i) {
      Arg& a = f.args()[i];
      if (a.tensor.defined()) check_no_partial_overlap(tensor_of(out), a.tensor, name);
      for (const Tensor& t : a.tensors) check_no_partial_overlap(tensor_of(out), t, name);
    }
  };
  if (!PyTuple_Check(f.out)) return check_one(f.out);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(f.out); ++i) check_one(PyTuple_GET_ITEM(f.out, i));
}

/// Two operands, every option at its default.
bool is_direct(const Signature& s, const Frame& f) {
  return s.direct && s.self == 0 &&
         std::all_of(f.objects + 2, f.objects + f.count, [](PyObject* o) { return !o; });
}

PyObject* run(const Signature& s, CallKind kind, const Call& c, const char* name, Frame& f) {
  if (s.native) return s.native(f);
  if (kind == CallKind::inplace)
    for (size_t i = 0; i < f.count; ++i)
      if (f.objects[i] && f.args()[i].tensor.defined())
        check_no_partial_overlap(tensor_of(c.args[0]), f.args()[i].tensor, name);
  Result r;
  if (kind == CallKind::inplace) {
    auto compute = [&] {
      s.call(f.args(), r);
      return std::move(r.tensor);
    };
    const Tensor& self = tensor_of(c.args[0]);
    if (is_direct(s, f)) update(name, s.direct, self, f.args()[1].tensor, compute);
    else write_inplace(name, self, compute());
    return Py_NewRef(c.args[0]);
  }
  if (f.out) check_outs(f, name);
  s.call(f.args(), r);
  return f.out ? store_out(s, r, f.out) : to_python(s, r);
}

// --- errors

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t best = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = std::exchange(row[j], best);
    }
  }
  return row[b.size()];
}

std::string suggestion(const Signature& s, std::string_view keyword) {
  std::string_view best;
  size_t least = std::max<size_t>(2, keyword.size() / 3) + 1;
  for (const Param& p : s.params)
    if (size_t d = edit_distance(keyword, p.name_text()); d < least) {
      least = d;
      best = p.name_text();
    }
  return best.empty() ? "" : fmt::format("; did you mean '{}'?", best);
}

/// What was given, shortened: "str ('max')", "Tensor of shape (2, 3)".
std::string given_text(PyObject* o) {
  if (is_tensor(o)) return "Tensor of type " + type_text(tensor_of(o));
  Object repr = Object::own(PyObject_Repr(o));
  std::string r = PyUnicode_AsUTF8(repr.get());
  std::string type = type_name(o);
  return r.size() > 40 || o == Py_None ? type : type + " (" + r + ")";
}

/// For sequences: the first item that is not what it should be.
std::string item_text(const Param& p, PyObject* o) {
  if (!PyTuple_Check(o) && !PyList_Check(o)) return "";
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(o); ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(o, i);
    int64_t v;
    bool good = p.kind == Kind::tensors ? is_tensor(item)
                                        : p.kind == Kind::integers && to_integer(item, &v);
    if (!good && (p.kind == Kind::tensors || p.kind == Kind::integers))
      return fmt::format("; item {} is {}", i, given_text(item));
  }
  return "";
}

std::string describe(const Signature& s, const std::string& name, const Mismatch& m) {
  switch (m.why) {
    case Why::too_many:
      return fmt::format("{}() takes at most {} positional argument{} ({} given)", name,
                         s.positional, s.positional == 1 ? "" : "s", m.count);
    case Why::unknown_keyword: {
      std::string_view keyword = PyUnicode_AsUTF8(m.given);
      std::string hint = suggestion(s, keyword);
      return fmt::format("{}() got an unexpected keyword argument '{}'{}", name, keyword, hint);
    }
    case Why::twice:
      return fmt::format("{}() got multiple values for argument '{}'", name,
                         s.params[m.param].name_text());
    case Why::missing:
      return fmt::format("{}() missing required argument '{}' ({})", name,
                         s.params[m.param].name_text(), wanted(s.params[m.param]));
    case Why::wrong_type: {
      const Param& p = s.params[m.param];
      return fmt::format("{}(): argument '{}' must be {}, not {}{}", name, p.name_text(), wanted(p),
                         given_text(m.given), item_text(p, m.given));
    }
    case Why::none: break;
  }
  return name;
}

[[noreturn]] void report_one(const Signature& s, const std::string& name, const Mismatch& m) {
  std::string what = describe(s, name, m);
  fail(ErrorKind::type, "{}{} Signature: {}", what, what.ends_with('?') ? "" : ".", s.text());
}

[[noreturn]] void report_all(const Overloads& f, const std::string& name, const Call& c) {
  std::string given;
  for (Py_ssize_t i = c.method; i < c.nargs + c.keywords(); ++i) {
    if (!given.empty()) given += ", ";
    if (i >= c.nargs)
      given.append(PyUnicode_AsUTF8(PyTuple_GET_ITEM(c.kwnames, i - c.nargs))).append("=");
    given += type_name(c.args[i]);
  }
  std::string text = fmt::format("{}() does not accept ({}). It can be called as:", name, given);
  for (const Signature* s : f.signatures) text += "\n    " + s->text();
  fail(ErrorKind::type, "{}", text);
}

}  // namespace

PyObject* call_overloads(const Overloads& f, CallKind kind, PyObject* const* args, Py_ssize_t nargs,
                         PyObject* kwnames) {
  return guarded([&]() -> PyObject* {
    Call c{args, nargs, kwnames, kind != CallKind::function};
    auto name = [&] { return f.name + (kind == CallKind::inplace ? "_" : ""); };
    if (c.method && (nargs == 0 || !is_tensor(args[0])))
      fail(ErrorKind::type, "{}() must be called on a Tensor, not {}", name(),
           nargs ? type_name(args[0]) : "nothing");
    Mismatch m;
    for (const Signature* s : f.signatures) {
      Frame frame;
      if (bind(*s, c, frame, m)) return run(*s, kind, c, f.name.c_str(), frame);
    }
    if (f.signatures.size() == 1) report_one(*f.signatures[0], name(), m);
    report_all(f, name(), c);
  });
}

}  // namespace fluxion::python
