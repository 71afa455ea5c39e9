// The extension module fluxion._C.
#include "python/src/module.h"

#include "python/src/generator.h"

namespace fluxion::python {

namespace {

int fill_module(PyObject* module) {
  return guarded_status([&] {
    add_constants(module);
    add_size(module);
    add_device(module);
    add_tensor_type(module);
    add_generator(module);
    add_grad_modes(module);
    add_construction();
    add_methods();
    add_numpy(module);
    add_dlpack();
    add_pickle();
    add_files();
    add_autograd(module);
    add_settings();
    add_capture(module);
    add_functions(module);
    Object make_subclass = Object::own(PyObject_GetAttrString(module, "_make_subclass"));
    check(PyObject_SetAttrString(reinterpret_cast<PyObject*>(tensor_type), "_make_subclass",
                                 make_subclass.get()));
    return 0;
  });
}

PyModuleDef definition{PyModuleDef_HEAD_INIT,
                       "fluxion._C",
                       "The core of Fluxion.",
                       -1,
                       nullptr,
                       nullptr,
                       nullptr,
                       nullptr,
                       nullptr};

}  // namespace

}  // namespace fluxion::python

PyMODINIT_FUNC PyInit__C() {
  using namespace fluxion::python;
  PyObject* module = PyModule_Create(&definition);
  if (module && fill_module(module) < 0) Py_CLEAR(module);
  return module;
}
