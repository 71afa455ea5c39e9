// fluxion.Generator and the default one.
#pragma once

#include "python/src/object.h"
#include "tensor/random.h"

namespace fluxion::python {

bool to_generator(PyObject* o, Generator** out);
void add_generator(PyObject* module);

}  // namespace fluxion::python
