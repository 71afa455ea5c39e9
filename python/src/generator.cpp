#include "python/src/generator.h"

#include <cstring>
#include <random>

#include "python/src/binder.h"
#include "python/src/convert.h"
#include "python/src/module.h"
#include "tensor/thread_generator.h"

namespace fluxion::python {

namespace {

struct PyGenerator {
  PyObject_HEAD Generator own;
  Generator* generator;  // &own, or the default one
};

PyTypeObject* generator_type;
PyObject* default_object;

Generator& generator(PyObject* self) { return *reinterpret_cast<PyGenerator*>(self)->generator; }

uint64_t to_seed(PyObject* o) {
  int64_t v;
  if (PyLong_Check(o)) {
    uint64_t bits = PyLong_AsUnsignedLongLongMask(o);
    if (bits == ~uint64_t{0} && PyErr_Occurred()) throw PythonError();
    return bits;
  }
  if (!to_integer(o, &v))
    fail(ErrorKind::type, "manual_seed(): argument 'seed' must be int, not {}", type_name(o));
  return static_cast<uint64_t>(v);
}

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) & 0x7fffffffffffffff;
}

Tensor state_of(const Generator& g) {
  Tensor t = empty(Ints({16}), DType::u8);
  uint64_t words[2] = {g.seed(), g.calls()};
  std::memcpy(t.data(), words, sizeof words);
  return t;
}

void restore(Generator& g, PyObject* state) {
  if (!is_tensor(state) || tensor_of(state).dtype() != DType::u8 ||
      tensor_of(state).numel() != 16 || !tensor_of(state).is_contiguous())
    fail(
        ErrorKind::type,
        "set_rng_state(): the state must be a uint8 Tensor of 16 elements, as get_rng_state() gives");
  uint64_t words[2];
  std::memcpy(words, tensor_of(state).data(), sizeof words);
  g.set_state(words[0], words[1]);
}

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"device", nullptr};
    PyObject* device = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Generator", const_cast<char**>(names),
                                     &device))
      return nullptr;
    require_cpu(device);
    Object self = Object::own(type->tp_alloc(type, 0));
    auto* g = reinterpret_cast<PyGenerator*>(self.get());
    new (&g->own) Generator();
    g->generator = &g->own;
    return self.release();
  });
}
void destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* manual_seed(PyObject* self, PyObject* seed) {
  return guarded([&] {
    generator(self).manual_seed(to_seed(seed));
    return Py_NewRef(self);
  });
}
PyObject* seed(PyObject* self, PyObject*) {
  return guarded([&] {
    uint64_t s = random_seed();
    generator(self).manual_seed(s);
    return PyLong_FromUnsignedLongLong(s);
  });
}
PyObject* initial_seed(PyObject* self, PyObject*) {
  return PyLong_FromUnsignedLongLong(generator(self).seed());
}
PyObject* get_state(PyObject* self, PyObject*) {
  return guarded([&] { return wrap(state_of(generator(self))); });
}
PyObject* set_state(PyObject* self, PyObject* state) {
  return guarded([&] {
    restore(generator(self), state);
    return Py_NewRef(self);
  });
}
PyObject* get_device(PyObject*, void*) { return Py_NewRef(cpu_device()); }

PyMethodDef methods[] = {
    {"manual_seed", manual_seed, METH_O,
     "manual_seed(seed: int) -> Generator\n\nStarts the sequence of `seed`."},
    {"seed", seed, METH_NOARGS,
     "seed() -> int\n\nStarts a sequence from the system's entropy; returns its seed."},
    {"initial_seed", initial_seed, METH_NOARGS,
     "initial_seed() -> int\n\nThe seed of the current sequence."},
    {"get_state", get_state, METH_NOARGS,
     "get_state() -> Tensor\n\nSeed and number of calls as a uint8 tensor."},
    {"set_state", set_state, METH_O,
     "set_state(state: Tensor) -> Generator\n\nGoes back to a state from get_state()."},
    {}};
PyGetSetDef properties[] = {{"device", get_device, nullptr, "Always the CPU.", nullptr}, {}};
PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(create)},
    {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_tp_doc, const_cast<char*>("Generator(device='cpu')\n\nA sequence of random numbers that "
                                  "depends on its seed and on nothing else.")},
    {}};
PyType_Spec spec{"fluxion.Generator", sizeof(PyGenerator), 0, Py_TPFLAGS_DEFAULT, slots};

const NativeFunction kFunctions[] = {
    {"manual_seed(object seed) -> Generator", "Seeds the default generator and returns it.",
     kFunction, [](Frame& f) { return manual_seed(default_object, f.object(0)); }},
    {"seed() -> int", "Seeds the default generator from the system's entropy.", kFunction,
     [](Frame&) { return seed(default_object, nullptr); }},
    {"initial_seed() -> int",
     "The seed of the default generator; in a loader's worker, of its own.", kFunction,
     [](Frame&) { return PyLong_FromUnsignedLongLong(current_generator().seed()); }},
    {"get_rng_state() -> Tensor", "The state of the default generator.", kFunction,
     [](Frame&) { return get_state(default_object, nullptr); }},
    {"set_rng_state(Tensor new_state) -> ()",
     "Sets the default generator to a state from get_rng_state().", kFunction,
     [](Frame& f) {
       restore(default_generator(), f.object(0));
       return none();
     }},
    {"_use_generator(object generator) -> None",
     "Ops of this thread draw from `generator`, which must outlive that; None: from the default one.",
     kPrivate,
     [](Frame& f) {
       Generator* g = nullptr;
       if (f.object(0) != Py_None && !to_generator(f.object(0), &g))
         fail(ErrorKind::type, "_use_generator(): expected a Generator or None, not {}",
              type_name(f.object(0)));
       set_thread_generator(g);
       return none();
     }},
};

}  // namespace

bool to_generator(PyObject* o, Generator** out) {
  if (Py_TYPE(o) != generator_type) return false;
  *out = &generator(o);
  return true;
}

void add_generator(PyObject* module) {
  generator_type = add_type(module, &spec);
  default_object =
      Object::own(PyObject_CallNoArgs(reinterpret_cast<PyObject*>(generator_type))).release();
  reinterpret_cast<PyGenerator*>(default_object)->generator = &default_generator();
  check(PyModule_AddObjectRef(module, "default_generator", default_object));
  add_natives(kFunctions);
}

}  // namespace fluxion::python
