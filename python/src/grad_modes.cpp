// no_grad, enable_grad, set_grad_enabled, inference_mode: context managers that also decorate functions.
#include "python/src/module.h"
#include "tensor/thread_state.h"

namespace fluxion::python {

namespace {

struct Mode {
  PyObject_HEAD bool grad;       // what holds inside
  int8_t inference;              // likewise; -1: not touched
  bool old_grad, old_inference;  // what held before
};

PyTypeObject *no_grad, *enable_grad, *set_enabled, *inference;

Mode& mode(PyObject* self) { return *reinterpret_cast<Mode*>(self); }

void switch_to(PyObject* self) {
  ThreadState& ts = thread_state();
  Mode& m = mode(self);
  m.old_grad = std::exchange(ts.grad_enabled, m.grad);
  m.old_inference =
      std::exchange(ts.inference_mode, m.inference < 0 ? ts.inference_mode : m.inference != 0);
}

PyObject* enter(PyObject* self, PyObject*) {
  switch_to(self);
  return none();
}
/// set_grad_enabled(...) acts when it is made; entering only confirms it.
PyObject* enter_again(PyObject*, PyObject*) { return none(); }

PyObject* leave(PyObject* self, PyObject* const*, Py_ssize_t) {
  thread_state().grad_enabled = mode(self).old_grad;
  thread_state().inference_mode = mode(self).old_inference;
  return none();
}

PyObject* make(PyTypeObject* type, bool grad, int8_t inference_mode = -1) {
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) throw PythonError();
  mode(self).grad = grad;
  mode(self).inference = inference_mode;
  if (type == set_enabled) switch_to(self);
  return self;
}

/// A fresh manager with the same setting: decorated functions enter one per call.
PyObject* clone(PyObject* self, PyObject*) {
  return guarded([&] { return make(Py_TYPE(self), mode(self).grad, mode(self).inference); });
}

PyObject* decorate(PyObject* self, PyObject* function) {
  Object wrap_function = import("fluxion._decorate", "decorate");
  return PyObject_CallFunctionObjArgs(wrap_function.get(), self, function, nullptr);
}
PyObject* call(PyObject* self, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    PyObject* function;
    if (kwargs && PyDict_Size(kwargs))
      fail(ErrorKind::type, "a gradient mode decorates one function");
    if (!PyArg_ParseTuple(args, "O", &function)) return nullptr;
    if (Py_TYPE(self) != set_enabled) return decorate(self, function);
    PyObject* r = decorate(self, function);
    leave(self, nullptr, 0);  // making the decorator must not switch the mode for good
    return r;
  });
}

/// no_grad() and `@no_grad` without parentheses.
PyObject* new_fixed(PyTypeObject* type, PyObject* args, PyObject* kwargs, bool grad) {
  return guarded([&]() -> PyObject* {
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    if (n > 1 || (kwargs && PyDict_Size(kwargs)))
      fail(ErrorKind::type, "{}() takes no arguments", type->tp_name);
    Object self = Object::own(make(type, grad));
    if (n == 0) return self.release();
    PyObject* function = PyTuple_GET_ITEM(args, 0);
    if (!PyCallable_Check(function))
      fail(ErrorKind::type, "{}() takes no arguments", type->tp_name);
    return decorate(self.get(), function);
  });
}
PyObject* new_no_grad(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return new_fixed(type, args, kwargs, false);
}
PyObject* new_enable_grad(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return new_fixed(type, args, kwargs, true);
}

bool parse_mode(PyObject* args, PyObject* kwargs, const char* format, int* on) {
  static const char* names[] = {"mode", nullptr};
  return PyArg_ParseTupleAndKeywords(args, kwargs, format, const_cast<char**>(names), on);
}
PyObject* new_set_enabled(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    int on = 1;
    if (!parse_mode(args, kwargs, "p:set_grad_enabled", &on)) return nullptr;
    return make(type, on);
  });
}
PyObject* new_inference(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    PyObject* first = PyTuple_GET_SIZE(args) == 1 ? PyTuple_GET_ITEM(args, 0) : nullptr;
    if (first && !PyBool_Check(first) && PyCallable_Check(first)) {
      Object self = Object::own(make(type, false, true));
      return decorate(self.get(), first);
    }
    int on = 1;
    if (!parse_mode(args, kwargs, "|p:inference_mode", &on)) return nullptr;
    return make(type, !on && thread_state().grad_enabled, static_cast<int8_t>(on));
  });
}

void destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

template <bool acts_at_once>
PyTypeObject* add_mode(PyObject* module, const char* name, const char* doc, newfunc create) {
  static PyMethodDef methods[] = {
      {"__enter__", acts_at_once ? enter_again : enter, METH_NOARGS, nullptr},
      {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(leave)), METH_FASTCALL,
       nullptr},
      {"clone", clone, METH_NOARGS, "clone()\n\nA fresh manager with the same setting."},
      {}};
  PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(create)},
                         {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
                         {Py_tp_call, reinterpret_cast<void*>(call)},
                         {Py_tp_methods, methods},
                         {Py_tp_doc, const_cast<char*>(doc)},
                         {}};
  PyType_Spec spec{name, sizeof(Mode), 0, Py_TPFLAGS_DEFAULT, slots};
  return add_type(module, &spec);
}

const NativeFunction kFunctions[] = {
    {"is_grad_enabled() -> bool", "True if ops are recorded for gradients.", kFunction,
     [](Frame&) { return boolean(thread_state().grad_enabled); }},
    {"_set_grad_enabled(bool mode) -> None", "Switches recording for this thread.", kPrivate,
     [](Frame& f) {
       thread_state().grad_enabled = f.arg(0).scalar.i;
       return none();
     }},
    {"is_inference_mode_enabled() -> bool", "True inside inference_mode().", kFunction,
     [](Frame&) { return boolean(thread_state().inference_mode); }},
};

}  // namespace

void add_grad_modes(PyObject* module) {
  no_grad = add_mode<false>(
      module, "fluxion.no_grad",
      "no_grad()\n\nNothing is recorded for gradients inside. Also a decorator.", new_no_grad);
  enable_grad = add_mode<false>(module, "fluxion.enable_grad",
                                "enable_grad()\n\nOps are recorded inside. Also a decorator.",
                                new_enable_grad);
  set_enabled = add_mode<true>(
      module, "fluxion.set_grad_enabled",
      "set_grad_enabled(mode)\n\nSwitches recording at once; as a context manager, until its end.",
      new_set_enabled);
  inference = add_mode<false>(
      module, "fluxion.inference_mode",
      "inference_mode(mode=True)\n\nLike no_grad(), for code that never needs gradients.",
      new_inference);
  add_natives(kFunctions);
}

}  // namespace fluxion::python
