// Fluxion's C++ API: tensors, operators, autograd, modules and optimizers.
#pragma once

#include "autograd/autograd.h"
#include "compile/compile.h"
#include "nn/init.h"
#include "nn/modules.h"
#include "nn/optim.h"
#include "ops/functions.h"
#include "ops/operators.h"
#include "tensor/tensor.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"
