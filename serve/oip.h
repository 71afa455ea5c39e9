// The Open Inference Protocol over REST, with Triton's extensions: the handlers of /v2/...
#pragma once

#include "serve/router.h"

namespace fluxion::serve::oip {

Response live(Context&);
Response ready(Context&);
Response server_metadata(Context&);
Response list_models(Context&);
Response model_metadata(Context&);
Response model_ready(Context&);
Response model_config(Context&);
Response statistics(Context&);  // of the model, or of all
Response infer(Context&);       // JSON, binary tensors, raw binary
Response repository_index(Context&);
Response repository_load(Context&);
Response repository_unload(Context&);

}  // namespace fluxion::serve::oip
