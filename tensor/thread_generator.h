// The random numbers of one thread, such as a loader's worker: repeatable whatever other threads draw.
#pragma once

#include "tensor/random.h"

namespace fluxion {

/// From now on ops of this thread that are given no generator draw from this one; null: from the default one again.
void set_thread_generator(Generator* generator);

/// What ops of this thread draw from.
Generator& current_generator();

}  // namespace fluxion
