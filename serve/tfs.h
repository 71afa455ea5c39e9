// TensorFlow Serving's REST API, and what else clients ask of /v1/models: the handlers of /v1/...
#pragma once

#include "serve/router.h"

namespace fluxion::serve::tfs {

Response predict(Context&);      // row form ("instances") and column form ("inputs")
Response unsupported(Context&);  // :classify and :regress
Response metadata(Context&);
/// model_version_status, KServe's name and ready, OpenAI's id, object, created and owned_by.
Response status(Context&);
/// KServe's "models", OpenAI's "object" and "data".
Response list(Context&);

}  // namespace fluxion::serve::tfs
