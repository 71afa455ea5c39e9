// GET /metrics: Prometheus text, with Triton's names for what both count.
#pragma once

#include "serve/router.h"

namespace fluxion::serve {

Response metrics(Context&);

}  // namespace fluxion::serve
