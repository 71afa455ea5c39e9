// The callables: one `Function` or `Method` object per name, all overloads behind it.
#include <algorithm>
#include <deque>
#include <map>

#include "python/src/module.h"
#include "python/src/writes.h"

namespace fluxion::python {

namespace {

struct Callable {
  PyObject_HEAD vectorcallfunc vectorcall;
  const Overloads* overloads;
  CallKind kind;
};

PyTypeObject *function_type, *method_type;

std::deque<Signature> signatures;  // of everything; addresses stay
std::map<std::string, Overloads> functions, methods;

Callable& callable(PyObject* self) { return *reinterpret_cast<Callable*>(self); }

std::string name_of(PyObject* self) {
  const Callable& c = callable(self);
  return c.overloads->name + (c.kind == CallKind::inplace ? "_" : "");
}

PyObject* call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  const Callable& c = callable(self);
  return call_overloads(*c.overloads, c.kind, args, PyVectorcall_NARGS(nargsf), kwnames);
}

PyObject* bind_method(PyObject* self, PyObject* object, PyObject*) {
  return object && object != Py_None ? PyMethod_New(self, object) : Py_NewRef(self);
}

std::string signature_lines(PyObject* self) {
  std::string lines;
  for (const Signature* s : callable(self).overloads->signatures) {
    std::string line = s->text();
    line.replace(0, s->name.size(), name_of(self));
    lines += line + "\n";
  }
  return lines;
}

PyObject* repr(PyObject* self) {
  const char* kind = callable(self).kind == CallKind::function ? "function" : "method";
  return PyUnicode_FromFormat("<fluxion %s %s>", kind, name_of(self).c_str());
}
PyObject* get_name(PyObject* self, void*) {
  return guarded([&] { return text(name_of(self)); });
}
PyObject* get_qualname(PyObject* self, void*) {
  return guarded([&] {
    return text((callable(self).kind == CallKind::function ? "" : "Tensor.") + name_of(self));
  });
}
PyObject* get_module(PyObject* self, void*) {
  return PyUnicode_FromString(callable(self).kind == CallKind::function ? "fluxion._C" : "fluxion");
}
PyObject* get_doc(PyObject* self, void*) {
  return guarded([&] {
    std::string doc = signature_lines(self);
    std::string_view last;
    for (const Signature* s : callable(self).overloads->signatures)
      if (std::exchange(last, s->doc) != s->doc) doc.append("\n").append(s->doc).append("\n");
    if (callable(self).kind == CallKind::inplace)
      doc += "\nIn place: the result is written into the tensor, which is returned.\n";
    return text(doc);
  });
}
/// inspect.signature() asks for this; made in Python, where it is needed once.
PyObject* get_signature(PyObject* self, void*) {
  return guarded([&] {
    Object make = import("fluxion._schema", "signature");
    Object line = Object::own(text(callable(self).overloads->signatures.front()->text()));
    return PyObject_CallOneArg(make.get(), line.get());
  });
}
PyObject* reduce(PyObject* self, PyObject*) {
  if (callable(self).kind == CallKind::function) return get_name(self, nullptr);
  return guarded([&] {
    Object getattr = import("builtins", "getattr");
    Object name = Object::own(get_name(self, nullptr));
    return Py_BuildValue("O(OO)", getattr.get(), tensor_type, name.get());
  });
}

PyMethodDef callable_methods[] = {{"__reduce__", reduce, METH_NOARGS, nullptr}, {}};
PyGetSetDef callable_properties[] = {{"__name__", get_name, nullptr, nullptr, nullptr},
                                     {"__qualname__", get_qualname, nullptr, nullptr, nullptr},
                                     {"__module__", get_module, nullptr, nullptr, nullptr},
                                     {"__doc__", get_doc, nullptr, nullptr, nullptr},
                                     {"__signature__", get_signature, nullptr, nullptr, nullptr},
                                     {}};
PyMemberDef callable_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Callable, vectorcall), READONLY, nullptr}, {}};

PyTypeObject* make_type(const char* name, bool descriptor) {
  PyType_Slot slots[] = {{Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                         {Py_tp_repr, reinterpret_cast<void*>(repr)},
                         {Py_tp_methods, callable_methods},
                         {Py_tp_members, callable_members},
                         {Py_tp_getset, callable_properties},
                         {descriptor ? Py_tp_descr_get : 0, reinterpret_cast<void*>(bind_method)},
                         {}};
  unsigned flags =
      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  if (descriptor)
    flags |= Py_TPFLAGS_METHOD_DESCRIPTOR;  // calls on an instance make no bound object
  PyType_Spec spec{name, sizeof(Callable), 0, flags, slots};
  return reinterpret_cast<PyTypeObject*>(Object::own(PyType_FromSpec(&spec)).release());
}

Object make_callable(const Overloads& overloads, CallKind kind) {
  PyTypeObject* type = kind == CallKind::function ? function_type : method_type;
  Object o = Object::own(type->tp_alloc(type, 0));
  callable(o.get()) = {callable(o.get()).ob_base, call, &overloads, kind};
  return o;
}

/// (schema, doc, flags) of everything, for stubs and docs.
std::vector<std::tuple<const char*, const char*, uint16_t>> schemas;

Signature& enter(const char* schema, const char* doc, uint16_t flags) {
  Signature& s = signatures.emplace_back(parse_schema(schema));
  if (s.params.size() > kMaxParams)
    fail(ErrorKind::internal, "schema \"{}\": too many parameters", schema);
  schemas.emplace_back(schema, doc, flags);
  s.doc = doc;
  s.flags = flags;
  auto add = [&](std::map<std::string, Overloads>& table) {
    Overloads& o = table[s.name];
    o.name = s.name;
    o.signatures.push_back(&s);
  };
  if (flags & (kFunction | kNN | kPrivate)) add(functions);
  if (flags & (kMethod | kInplace)) add(methods);
  return s;
}

std::vector<std::span<const NativeFunction>> natives;

bool any_flag(const Overloads& o, uint16_t flag) {
  return std::ranges::any_of(o.signatures, [flag](const Signature* s) { return s->flags & flag; });
}

void put_methods() {
  auto* type = reinterpret_cast<PyObject*>(tensor_type);
  for (const auto& [name, overloads] : methods) {
    if (any_flag(overloads, kMethod))
      check(PyObject_SetAttrString(type, name.c_str(),
                                   make_callable(overloads, CallKind::method).get()));
    if (any_flag(overloads, kInplace))
      check(PyObject_SetAttrString(type, (name + "_").c_str(),
                                   make_callable(overloads, CallKind::inplace).get()));
  }
}

void put_functions(PyObject* module) {
  Object nn = Object::own(PyModule_New("fluxion._C._nn"));
  Object public_names = Object::own(PyList_New(0));
  for (const auto& [name, overloads] : functions) {
    Object f = make_callable(overloads, CallKind::function);
    check(PyModule_AddObjectRef(module, name.c_str(), f.get()));
    if (any_flag(overloads, kNN)) check(PyModule_AddObjectRef(nn.get(), name.c_str(), f.get()));
    if (!any_flag(overloads, kFunction)) continue;
    check(PyList_Append(public_names.get(), Object::own(text(name)).get()));
  }
  check(PyModule_AddObjectRef(module, "_nn", nn.get()));
  check(PyModule_AddObjectRef(module, "_public", public_names.get()));
}

const NativeFunction kSchemas[] = {
    {"_schemas() -> object", "All functions as (schema, doc, flags).", kPrivate, [](Frame&) {
       Object list = Object::own(PyList_New(0));
       for (auto [schema, doc, flags] : schemas)
         check(PyList_Append(list.get(),
                             Object::own(Py_BuildValue("ssi", schema, doc, flags)).get()));
       return list.release();
     }}};

}  // namespace

void add_natives(std::span<const NativeFunction> list) { natives.push_back(list); }

void add_functions(PyObject* module) {
  function_type = make_type("fluxion.Function", false);
  method_type = make_type("fluxion.Method", true);
  add_natives(kSchemas);
  // The table first: overloads are tried in order, and its are the hot ones.
  for (const Function* f : function_table()) {
    Signature& s = enter(f->schema, f->doc, f->flags);
    s.call = f->call;
    if (f->flags & kInplace) s.direct = direct_op(s.name);
  }
  for (std::span<const NativeFunction> list : natives)
    for (const NativeFunction& f : list) enter(f.schema, f.doc, f.flags).native = f.call;
  put_methods();
  put_functions(module);
}

}  // namespace fluxion::python
