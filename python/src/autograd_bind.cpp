// backward, grad, hooks, nodes and Python-defined functions.
#include "python/src/autograd_bind.h"

#include "autograd/autograd.h"
#include "python/src/module.h"

namespace fluxion::python {

namespace {

// --- nodes of the tape

struct PyNode {
  PyObject_HEAD Ref<Node> node;
};
PyTypeObject* node_type;

Node& node_of(PyObject* self) { return *reinterpret_cast<PyNode*>(self)->node; }

void destroy_node(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  reinterpret_cast<PyNode*>(self)->node.~Ref();
  type->tp_free(self);
  Py_DECREF(type);
}

std::string node_name(const Node& n) {
  if (n.is_leaf()) return "AccumulateGrad";
  std::string name;
  bool upper = true;
  for (const char* c = n.name(); *c; ++c) {
    if (*c == '_' && !n.custom) {
      upper = true;
      continue;
    }
    name += std::exchange(upper, false) ? static_cast<char>(std::toupper(*c)) : *c;
  }
  return n.custom ? name : name + "Backward0";
}

PyObject* node_repr(PyObject* self) {
  return guarded([&] {
    return PyUnicode_FromFormat("<%s object at %p>", node_name(node_of(self)).c_str(),
                                &node_of(self));
  });
}
PyObject* get_name(PyObject* self, PyObject*) {
  return guarded([&] { return text(node_name(node_of(self))); });
}
PyObject* next_functions(PyObject* self, void*) {
  return guarded([&] {
    Node& n = node_of(self);
    Object tuple = Object::own(PyTuple_New(n.inputs));
    for (size_t i = 0; i < n.inputs; ++i) {
      Object next = Object::own(wrap_node(n.edges[i].node));
      PyTuple_SET_ITEM(
          tuple.get(), static_cast<Py_ssize_t>(i),
          Object::own(Py_BuildValue("Oi", next.get(), static_cast<int>(n.edges[i].slot)))
              .release());
    }
    return tuple.release();
  });
}
PyObject* variable(PyObject* self, void*) {
  return guarded([&] { return wrap(node_of(self).variable()); });
}
PyObject* same_node(PyObject* a, PyObject* b, int op) {
  if (Py_TYPE(b) != node_type || (op != Py_EQ && op != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  return boolean((&node_of(a) == &node_of(b)) == (op == Py_EQ));
}
Py_hash_t hash_node(PyObject* self) {
  return static_cast<Py_hash_t>(reinterpret_cast<uintptr_t>(&node_of(self)) >> 4);
}

PyMethodDef node_methods[] = {
    {"name", get_name, METH_NOARGS, "name() -> str\n\nWhat kind of node it is."}, {}};
PyGetSetDef node_properties[] = {
    {"next_functions", next_functions, nullptr, "tuple: (node, slot) for every input.", nullptr},
    {"variable", variable, nullptr, "Tensor | None: the leaf of an AccumulateGrad node.", nullptr},
    {}};
PyType_Slot node_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(destroy_node)},
                            {Py_tp_repr, reinterpret_cast<void*>(node_repr)},
                            {Py_tp_richcompare, reinterpret_cast<void*>(same_node)},
                            {Py_tp_hash, reinterpret_cast<void*>(hash_node)},
                            {Py_tp_methods, node_methods},
                            {Py_tp_getset, node_properties},
                            {Py_tp_doc, const_cast<char*>("An executed op on the tape.")},
                            {}};
PyType_Spec node_spec{"fluxion._C.Node", sizeof(PyNode), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, node_slots};

// --- hooks

/// Calls a Python hook with a gradient; None leaves it as it is.
GradHook python_hook(PyObject* callable) {
  return [f = SharedObject(callable)](const Tensor& grad) -> Tensor {
    HoldGil gil;
    Object g = Object::own(wrap(grad));
    Object r = Object::own(PyObject_CallOneArg(f.get(), g.get()));
    if (r.get() == Py_None) return {};
    if (!is_tensor(r.get()))
      fail(ErrorKind::type, "a gradient hook must return a Tensor or None, not {}",
           type_name(r.get()));
    return tensor_of(r.get());
  };
}

/// Calls a Python hook with a leaf whose gradient has grown.
std::function<void(const Tensor&)> python_post_hook(PyObject* callable) {
  return [f = SharedObject(callable)](const Tensor& leaf) {
    HoldGil gil;
    Object t = Object::own(wrap(leaf));
    Object r = Object::own(PyObject_CallOneArg(f.get(), t.get()));
    if (r.get() != Py_None)
      fail(ErrorKind::runtime,
           "a post accumulate grad hook should return None, not {}; write to param.grad instead",
           type_name(r.get()));
  };
}

struct PyHandle {
  PyObject_HEAD HookHandle hook;
};
PyTypeObject* handle_type;

HookHandle& handle(PyObject* self) { return reinterpret_cast<PyHandle*>(self)->hook; }

void destroy_handle(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  handle(self).~HookHandle();
  type->tp_free(self);
  Py_DECREF(type);
}
PyObject* remove_handle(PyObject* self, PyObject*) {
  return guarded([&] {
    handle(self).remove();
    return none();
  });
}
PyObject* enter_handle(PyObject* self, PyObject*) { return Py_NewRef(self); }

PyMethodDef handle_methods[] = {
    {"remove", remove_handle, METH_NOARGS, "remove() -> None\n\nTakes the hook away."},
    {"__enter__", enter_handle, METH_NOARGS, nullptr},
    {"__exit__", remove_handle, METH_VARARGS, nullptr},
    {}};
PyType_Slot handle_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(destroy_handle)},
    {Py_tp_methods, handle_methods},
    {Py_tp_doc,
     const_cast<char*>("A registered gradient hook; `with handle:` removes it at the end.")},
    {}};
PyType_Spec handle_spec{"fluxion._C.HookHandle", sizeof(PyHandle), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, handle_slots};

PyObject* callable(Frame& f, const char* function) {
  if (!PyCallable_Check(f.object(1)))
    fail(ErrorKind::type, "{}(): argument 'hook' must be callable, not {}", function,
         type_name(f.object(1)));
  return f.object(1);
}
PyObject* wrap_handle(HookHandle hook) {
  Object h = Object::own(handle_type->tp_alloc(handle_type, 0));
  new (&handle(h.get())) HookHandle(std::move(hook));
  return h.release();
}
PyObject* register_hook(Frame& f) {
  return wrap_handle(add_hook(f.arg(0).tensor, python_hook(callable(f, "register_hook"))));
}
PyObject* register_post_hook(Frame& f) {
  PyObject* hook = callable(f, "register_post_accumulate_grad_hook");
  return wrap_handle(add_post_accumulate_grad_hook(f.arg(0).tensor, python_post_hook(hook)));
}

// --- functions defined in Python

/// A value saved by a Python function; unpacked through its node, which it must not own.
struct PySaved {
  PyObject_HEAD SavedTensor saved;
  bool is_output;
  uint32_t slot;
};
PyTypeObject* saved_type;

void destroy_saved(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  reinterpret_cast<PySaved*>(self)->saved.~SavedTensor();
  type->tp_free(self);
  Py_DECREF(type);
}
PyType_Slot saved_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(destroy_saved)},
    {Py_tp_doc, const_cast<char*>("A saved tensor: its bytes as they were.")},
    {}};
PyType_Spec saved_spec{"fluxion._C._Saved", sizeof(PySaved), 0,
                       Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, saved_slots};

PyObject* save(Frame& f) {
  Object o = Object::own(saved_type->tp_alloc(saved_type, 0));
  auto* s = reinterpret_cast<PySaved*>(o.get());
  int64_t slot = f.arg(1).scalar.i;
  s->is_output = slot >= 0;
  s->slot = static_cast<uint32_t>(slot);
  new (&s->saved) SavedTensor(f.arg(0).tensor, s->is_output);
  return o.release();
}

PyObject* unpack(Frame& f) {
  if (Py_TYPE(f.object(0)) != saved_type) fail(ErrorKind::type, "_unpack(): not a saved tensor");
  auto* s = reinterpret_cast<PySaved*>(f.object(0));
  if (!s->is_output) return wrap(s->saved.unpack());
  Ref<Node> producer;
  if (f.object(1) != Py_None) producer = reinterpret_cast<PyNode*>(f.object(1))->node;
  return wrap(s->saved.unpack(producer, s->slot));
}

class PythonFunction final : public CustomBackward {
 public:
  PythonFunction(std::string name, PyObject* run, PyObject* release)
      : name_(std::move(name)), run_(run), release_(release) {}
  Node* node = nullptr;  // the owner

  const char* name() const override { return name_.c_str(); }

  void backward(std::span<const Tensor> grad, std::span<Tensor> result) override {
    HoldGil gil;
    std::vector<Tensor> copies(grad.begin(), grad.end());
    Object grads = Object::own(wrap_tuple(copies));
    Object self = Object::own(wrap_node(node ? Ref<Node>::share(node) : Ref<Node>{}));
    Object out =
        Object::own(PyObject_CallFunctionObjArgs(run_.get(), self.get(), grads.get(), nullptr));
    std::vector<Tensor> given = optional_tensors(out.get(), name_.c_str());
    if (given.size() != result.size())
      fail(ErrorKind::runtime, "{}: backward returned {} gradients for {} tensor inputs", name_,
           given.size(), result.size());
    std::ranges::move(given, result.begin());
  }

  void release_saved() override {
    HoldGil gil;
    Object::own(PyObject_CallNoArgs(release_.get()));
  }

 private:
  std::string name_;
  SharedObject run_, release_;
};

/// Puts a Python function on the tape: run(node, grads) -> one gradient or None per input.
PyObject* record_function(Frame& f) {
  auto custom =
      std::make_unique<PythonFunction>(std::string(f.arg(0).text), f.object(1), f.object(2));
  PythonFunction* function = custom.get();
  std::vector<Tensor> out(f.arg(4).tensors.begin(), f.arg(4).tensors.end());
  record_custom(std::move(custom), f.arg(3).tensors, out);
  for (const Tensor& t : out)
    if (Ref<Node> n = grad_fn(t); n && n->custom.get() == function) function->node = n.get();
  return none();
}

// --- backward and grad

PyObject* tensor_backward(Frame& f) {
  Arg& retain = f.arg(2);
  bool create = f.arg(3).scalar.i;
  std::vector<Tensor> inputs;
  if (PyObject* given = f.object(4); given && given != Py_None)
    inputs = is_tensor(given) ? std::vector{tensor_of(given)}
                              : optional_tensors(given, "backward(): argument 'inputs'");
  Tensor output = f.arg(0).tensor;
  bool keep = retain.none ? create : retain.scalar.i;
  fluxion::backward({&output, 1}, {&f.arg(1).tensor, 1}, keep, create, inputs);
  return none();
}

PyObject* backward_many(Frame& f) {
  std::vector<Tensor> gradients =
      optional_tensors(f.object(1), "backward(): argument 'grad_tensors'");
  fluxion::backward(f.arg(0).tensors, gradients, f.arg(2).scalar.i, f.arg(3).scalar.i,
                    f.arg(4).tensors);
  return none();
}

PyObject* grad_many(Frame& f) {
  std::vector<Tensor> gradients = optional_tensors(f.object(2), "grad(): argument 'grad_outputs'");
  std::vector<Tensor> found = grad(f.arg(0).tensors, f.arg(1).tensors, gradients, f.arg(3).scalar.i,
                                   f.arg(4).scalar.i, f.arg(5).scalar.i);
  return wrap_tuple(found);
}

PyObject* detach_inplace(Frame& f) {
  const Tensor& t = f.arg(0).tensor;
  if (t.impl()->base && t.requires_grad() && !t.is_leaf())
    fail(ErrorKind::runtime, "detach_: a view cannot be detached in place; use detach()");
  set_history(t, nullptr, 0);
  Tensor(t).set_requires_grad(false);
  return Py_NewRef(f.self());
}

const NativeFunction kFunctions[] = {
    {"requires_grad_(Tensor input, bool requires_grad=True) -> Tensor",
     "Asks for gradients of this leaf (or no longer).", kMethod,
     [](Frame& f) {
       f.arg(0).tensor.set_requires_grad(f.arg(1).scalar.i);
       return Py_NewRef(f.self());
     }},
    {"backward(Tensor input, Tensor? gradient=None, bool? retain_graph=None, bool create_graph=False, object inputs=None) -> None",
     "Accumulates the gradient of this tensor into .grad of every leaf (or of `inputs`).", kMethod,
     tensor_backward},
    {"register_hook(Tensor input, object hook) -> HookHandle",
     "Calls hook(grad) whenever the gradient of this tensor is computed; a returned Tensor replaces it.",
     kMethod, register_hook},
    {"register_post_accumulate_grad_hook(Tensor input, object hook) -> HookHandle",
     "Calls hook(tensor) whenever backward has accumulated into .grad of this leaf.", kMethod,
     register_post_hook},
    {"is_inference(Tensor input) -> bool", "True for a tensor made in inference_mode().",
     kMethod | kFunction, [](Frame& f) { return boolean(f.arg(0).tensor.has(kInference)); }},
    {"retain_grad(Tensor input) -> None", "Keeps the gradient of this non-leaf in .grad.", kMethod,
     [](Frame& f) {
       retain_grad(f.arg(0).tensor);
       return none();
     }},
    {"detach_(Tensor input) -> Tensor", "Forgets the history of this tensor.", kMethod,
     detach_inplace},
    {"_backward(Tensor[] tensors, object gradients, bool retain_graph, bool create_graph, Tensor[] inputs) -> None",
     "See autograd.backward.", kPrivate, backward_many},
    {"_grad(Tensor[] outputs, Tensor[] inputs, object grad_outputs, bool retain_graph, bool create_graph, bool allow_unused) -> tuple",
     "See autograd.grad.", kPrivate, grad_many},
    {"_save(Tensor tensor, int slot) -> object",
     "Saves a tensor for backward; slot: which output it is, or -1.", kPrivate, save},
    {"_unpack(object saved, object node) -> Tensor", "The value of a saved tensor.", kPrivate,
     unpack},
    {"_record_function(str name, object run, object release, Tensor[] inputs, Tensor[] outputs) -> None",
     "See autograd.Function.", kPrivate, record_function},
};

}  // namespace

PyObject* wrap_node(Ref<Node> node) {
  if (!node) return none();
  Object o = Object::own(node_type->tp_alloc(node_type, 0));
  new (&reinterpret_cast<PyNode*>(o.get())->node) Ref<Node>(std::move(node));
  return o.release();
}

std::vector<Tensor> optional_tensors(PyObject* sequence, const char* what) {
  Object fast = Object::own(PySequence_Fast(sequence, "expected a sequence of tensors"));
  std::vector<Tensor> tensors(static_cast<size_t>(PySequence_Fast_GET_SIZE(fast.get())));
  for (size_t i = 0; i < tensors.size(); ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(fast.get(), static_cast<Py_ssize_t>(i));
    if (item == Py_None) continue;
    if (!is_tensor(item))
      fail(ErrorKind::type, "{}: item {} must be Tensor or None, not {}", what, i, type_name(item));
    tensors[i] = tensor_of(item);
  }
  return tensors;
}

void add_autograd(PyObject* module) {
  node_type = add_type(module, &node_spec);
  handle_type = add_type(module, &handle_spec);
  saved_type = add_type(module, &saved_spec);
  add_natives(kFunctions);
}

}  // namespace fluxion::python
