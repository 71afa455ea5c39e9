// Nodes of the tape as Python objects.
#pragma once

#include "autograd/node.h"
#include "python/src/object.h"

namespace fluxion::python {

/// None for no node.
PyObject* wrap_node(Ref<Node> node);

/// A list or tuple of Tensors and Nones as tensors; `what` names it in errors.
std::vector<Tensor> optional_tensors(PyObject* sequence, const char* what);

}  // namespace fluxion::python
