// The recorder and captured functions as Python objects; the policy on top is fluxion/capture.
#include <cstring>

#include "compile/captured.h"
#include "python/src/convert.h"
#include "python/src/generator.h"
#include "python/src/module.h"
#include "tensor/thread_state.h"
#include "trace/recorder.h"

namespace fluxion::python {

namespace {

using compile::Captured;
using tracing::Recorder;

struct PyRecorder {
  PyObject_HEAD Recorder* recorder;
};
struct PyCaptured {
  PyObject_HEAD Captured* captured;
  std::vector<Tensor>* results;  // computed and not yet committed
};

PyTypeObject *recorder_type, *captured_type;
PyObject *item_hook, *number_type;

Recorder& recorder(PyObject* self) {
  Recorder* r = reinterpret_cast<PyRecorder*>(self)->recorder;
  if (!r) fail(ErrorKind::runtime, "_Recorder: finish() was called");
  return *r;
}
Captured& captured(PyObject* self) { return *reinterpret_cast<PyCaptured*>(self)->captured; }

std::vector<Tensor> tensors_of(PyObject* o) {
  Object fast = Object::own(PySequence_Fast(o, "expected a sequence of tensors"));
  std::vector<Tensor> all;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(fast.get()); ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(fast.get(), i);
    if (!is_tensor(item)) fail(ErrorKind::type, "expected a Tensor, got {}", type_name(item));
    all.push_back(tensor_of(item));
  }
  return all;
}

PyObject* list_of(std::span<const Tensor> tensors) {
  Object list = Object::own(PyList_New(static_cast<Py_ssize_t>(tensors.size())));
  for (size_t i = 0; i < tensors.size(); ++i)
    PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), wrap(tensors[i]));
  return list.release();
}

/// (file, line, module) from a Python callable; an error there ends the trace.
graph::Location locate(PyObject* where) {
  Object at = Object::own(PyObject_CallNoArgs(where));
  const char *file = "", *module = "";
  int line = 0;
  if (!PyArg_ParseTuple(at.get(), "sis", &file, &line, &module)) throw PythonError();
  return {file, line, module};
}

PyObject* create_recorder(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"where", "allow_reads", nullptr};
    PyObject* where = Py_None;
    int allow_reads = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Op:_Recorder", const_cast<char**>(names),
                                     &where, &allow_reads))
      return nullptr;
    Recorder::Locator locator;
    if (where != Py_None) locator = [held = SharedObject(where)] { return locate(held.get()); };
    Object self = Object::own(type->tp_alloc(type, 0));
    reinterpret_cast<PyRecorder*>(self.get())->recorder =
        new Recorder(std::move(locator), allow_reads != 0);
    return self.release();
  });
}
void destroy_recorder(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<PyRecorder*>(self)->recorder;
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* argument(PyObject* self, PyObject* args) {
  return guarded([&]() -> PyObject* {
    PyObject* t;
    const char* name;
    if (!PyArg_ParseTuple(args, "O!s:argument", tensor_type, &t, &name)) return nullptr;
    recorder(self).argument(tensor_of(t), name);
    return none();
  });
}
PyObject* start(PyObject* self, PyObject*) {
  return guarded([&] { return recorder(self).start(), none(); });
}
PyObject* stop(PyObject* self, PyObject*) {
  return guarded([&] { return recorder(self).stop(), none(); });
}
PyObject* number(PyObject* self, PyObject* value) {
  return guarded([&] {
    Scalar s;
    if (!to_scalar(value, &s))
      fail(ErrorKind::type, "number: expected a number, got {}", type_name(value));
    return wrap(recorder(self).number(s));
  });
}
PyObject* survivors(PyObject* self, PyObject* known) {
  return guarded([&] { return list_of(recorder(self).survivors(tensors_of(known))); });
}
PyObject* finish(PyObject* self, PyObject* results) {
  return guarded([&] {
    std::vector<Tensor> all = tensors_of(results);
    if (thread_state().grad_enabled) recorder(self).differentiate(all);
    auto trace = recorder(self).finish(all);
    delete std::exchange(reinterpret_cast<PyRecorder*>(self)->recorder, nullptr);
    Object c = Object::own(captured_type->tp_alloc(captured_type, 0));
    auto* p = reinterpret_cast<PyCaptured*>(c.get());
    p->results = new std::vector<Tensor>();
    p->captured = new Captured(std::move(trace));
    return c.release();
  });
}

void destroy_captured(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<PyCaptured*>(self)->captured;
  delete reinterpret_cast<PyCaptured*>(self)->results;
  type->tp_free(self);
  Py_DECREF(type);
}

/// compute(arguments) -> results, or None if the trace does not fit the call.
PyObject* compute(PyObject* self, PyObject* arguments) {
  return guarded([&]() -> PyObject* {
    std::vector<Tensor> in = tensors_of(arguments);
    auto& results = *reinterpret_cast<PyCaptured*>(self)->results;
    bool busy = false;
    if (!captured(self).compute(in, results, &busy)) return busy ? boolean(false) : none();
    return list_of(std::span(results).first(captured(self).result_count()));
  });
}
PyObject* commit(PyObject* self, PyObject*) {
  return guarded([&] {
    auto& results = *reinterpret_cast<PyCaptured*>(self)->results;
    captured(self).commit(results);
    results.clear();
    return none();
  });
}
PyObject* discard(PyObject* self, PyObject*) {
  return guarded([&] {
    reinterpret_cast<PyCaptured*>(self)->results->clear();
    captured(self).discard();
    return none();
  });
}
PyObject* run(PyObject* self, PyObject* arguments) {
  return guarded([&]() -> PyObject* {
    std::vector<Tensor> in = tensors_of(arguments), results;
    bool busy = false;
    if (!captured(self).run(in, results, &busy)) return busy ? boolean(false) : none();
    return list_of(results);
  });
}
PyObject* why(PyObject* self, PyObject*) { return text(captured(self).why()); }
PyObject* program_text(PyObject* self, PyObject*) {
  return guarded([&] { return text(captured(self).program().text()); });
}
PyObject* bind(PyObject* self, PyObject* args) {
  return guarded([&]() -> PyObject* {
    unsigned index;
    PyObject* t;
    if (!PyArg_ParseTuple(args, "IO!:bind", &index, tensor_type, &t)) return nullptr;
    if (index >= captured(self).input_count())
      fail(ErrorKind::index, "bind: there is no input {}", index);
    captured(self).bind(index, tensor_of(t));
    return none();
  });
}
/// [(input index, memory, written)] of every slot that is bound to memory.
PyObject* slots(PyObject* self, PyObject*) {
  return guarded([&] {
    const Captured& c = captured(self);
    Object list = Object::own(PyList_New(0));
    for (uint32_t k = 0; k < c.input_count(); ++k) {
      if (c.kind(k) != graph::InputKind::slot || !c.slot(k).defined()) continue;
      Object row = Object::own(
          Py_BuildValue("(INO)", k, wrap(c.slot(k)), c.is_written(k) ? Py_True : Py_False));
      check(PyList_Append(list.get(), row.get()));
    }
    return list.release();
  });
}
PyObject* statistics(PyObject* self, PyObject*) {
  return guarded([&] {
    const auto& p = captured(self).program();
    return Py_BuildValue("{s:n,s:n,s:n,s:n}", "steps", static_cast<Py_ssize_t>(p.steps().size()),
                         "nodes", static_cast<Py_ssize_t>(p.graph().nodes.size()), "arena_bytes",
                         static_cast<Py_ssize_t>(p.arena_bytes()), "live_bytes",
                         static_cast<Py_ssize_t>(p.live_bytes()));
  });
}

PyMethodDef recorder_methods[] = {
    {"argument", argument, METH_VARARGS, "Makes a tensor an argument, before start()."},
    {"start", start, METH_NOARGS, "Begins to write down what this thread runs."},
    {"stop", stop, METH_NOARGS, "Ends it."},
    {"number", number, METH_O, "A number that is an input of the graph, as a weak 0-dim tensor."},
    {"survivors", survivors, METH_O,
     "Tensors made since start() that live on, besides those given."},
    {"finish", finish, METH_O, "The captured function with these result tensors."},
    {}};
PyType_Slot recorder_slots[] = {{Py_tp_new, reinterpret_cast<void*>(create_recorder)},
                                {Py_tp_dealloc, reinterpret_cast<void*>(destroy_recorder)},
                                {Py_tp_methods, recorder_methods},
                                {}};
PyType_Spec recorder_spec{"fluxion._C._Recorder", sizeof(PyRecorder), 0, Py_TPFLAGS_DEFAULT,
                          recorder_slots};
PyMethodDef captured_methods[] = {
    {"compute", compute, METH_O,
     "Results for these arguments, nothing committed; None: no fit; False: another thread runs it."},
    {"commit", commit, METH_NOARGS, "Commits the writes of the last compute()."},
    {"discard", discard, METH_NOARGS, "Instead of commit()."},
    {"run", run, METH_O, "compute() and commit()."},
    {"why", why, METH_NOARGS, "Why the last call did not fit."},
    {"bind", bind, METH_VARARGS, "Rebinds a slot."},
    {"slots", slots, METH_NOARGS, "(index, memory, written) of each slot."},
    {"text", program_text, METH_NOARGS, "The program, one line per step."},
    {"statistics", statistics, METH_NOARGS, "Steps, nodes, bytes."},
    {}};
PyType_Slot captured_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(destroy_captured)},
                                {Py_tp_methods, captured_methods},
                                {}};
PyType_Spec captured_spec{"fluxion._C._Captured", sizeof(PyCaptured), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, captured_slots};

const NativeFunction kFunctions[] = {
    {"_is_tracing() -> bool", "True while a recorder runs on this thread.", kFunction | kPrivate,
     [](Frame&) { return boolean(is_tracing()); }},
    {"_all_tensors(object args, bool grad) -> bool",
     "Whether a tuple holds nothing but tensors, gradients are as given, and no recorder runs.",
     kFunction | kPrivate,
     [](Frame& f) {
       PyObject* args = f.object(0);
       if (!PyTuple_Check(args))
         fail(ErrorKind::type, "_all_tensors: args must be a tuple, not {}", type_name(args));
       bool fits = thread_state().grad_enabled == (f.arg(1).scalar.i != 0) && !is_tracing();
       for (Py_ssize_t i = 0; fits && i < PyTuple_GET_SIZE(args); ++i)
         fits = is_tensor(PyTuple_GET_ITEM(args, i));
       return boolean(fits);
     }},
    {"_set_number(Tensor memory, object value) -> ()",
     "Writes a number into the memory of _Recorder.number().", kFunction | kPrivate,
     [](Frame& f) {
       const Tensor& t = f.arg(0).tensor;
       Scalar s;
       if (!to_scalar(f.object(1), &s) || t.numel() != 1 || t.storage()->read_only)
         fail(ErrorKind::type, "_set_number: needs a number, and memory of one");
       if (is_floating(t.dtype())) store_double(t.data<char>(), t.dtype(), s.as_double());
       else store_int(t.data<char>(), t.dtype(), s.as_int());
       return none();
     }},
    {"_same_bits(Tensor input, Tensor other) -> bool",
     "Whether two row-major tensors have the same type and bytes.", kFunction | kPrivate,
     [](Frame& f) {
       const Tensor &a = f.arg(0).tensor, &b = f.arg(1).tensor;
       if (!a.is_contiguous() || !b.is_contiguous())
         fail(ErrorKind::runtime, "_same_bits: both tensors must be row-major");
       return boolean(a.dtype() == b.dtype() && std::ranges::equal(a.sizes(), b.sizes()) &&
                      !std::memcmp(a.data(), b.data(), static_cast<size_t>(a.nbytes())));
     }},
    {"_set_capture_hooks(object item, object number_type) -> ()",
     "What item() gives while tracing, and the class of numbers that stand for values of a trace.",
     kFunction | kPrivate,
     [](Frame& f) {
       Py_XSETREF(item_hook, Py_NewRef(f.object(0)));
       Py_XSETREF(number_type, Py_NewRef(f.object(1)));
       return none();
     }},
};

}  // namespace

PyObject* traced_item(PyObject* tensor) {
  if (!item_hook || !is_tracing()) return nullptr;
  return Object::own(PyObject_CallOneArg(item_hook, tensor)).release();
}

bool is_traced_number(PyObject* o) {
  return number_type && reinterpret_cast<PyObject*>(Py_TYPE(o)) == number_type;
}

Tensor tensor_of_number(PyObject* o) {
  Object t = Object::own(PyObject_CallMethod(o, "tensor", nullptr));
  if (!is_tensor(t.get())) fail(ErrorKind::internal, "a traced number without a tensor");
  return tensor_of(t.get());
}

void add_capture(PyObject* module) {
  recorder_type = add_type(module, &recorder_spec);
  captured_type = add_type(module, &captured_spec);
  add_natives(kFunctions);
}

}  // namespace fluxion::python
