#include "base/error.h"

namespace fluxion {

void raise(ErrorKind kind, std::string text) { throw Error(kind, text); }

}  // namespace fluxion
