// The GIL during long C++ work, and edits of tensors that such work reads.
#pragma once

namespace fluxion::python {

/// From now on long work runs without the GIL.
void install_long_work();

/// Returns, with the GIL held, when no kernel runs without it. Precedes every change of a handle's shape or memory:
/// kernels of other threads read both.
void wait_for_long_work();

}  // namespace fluxion::python
