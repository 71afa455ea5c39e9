// From a request's method and target to the handler that answers it.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "serve/http.h"
#include "serve/limits.h"
#include "serve/repository.h"

namespace fluxion::serve {

/// What a handler may read and change; lives for one request.
struct Context {
  Request& request;
  const Catalog& catalog;
  Repository& repository;
  const Limits& limits;
  const HttpStatistics& http;
  bool ready = true;         // false while draining
  int64_t queued_ns = 0;     // waited for a compute thread
  std::string_view model;    // the * of the route, decoded
  std::string_view version;  // the # of the route: digits, empty if it has none

  const Version& served() const { return catalog.find(model, version); }
};

using Handler = Response (*)(Context&);

enum class Work : uint8_t {
  light,  // answered where it was read
  model,  // runs a model: where it was read if that is known to be quick
  heavy   // always on a compute thread
};

struct Route {
  Method method;
  /// "/v2/models/*/versions/#/infer": * any name, # digits. A last segment "*:predict" is two.
  std::string_view pattern;
  Handler handler;
  Work work = Work::light;
  int parse_status = 500;  // of ParseError
};

/// A matched request; `status` other than 200 says why there is no route.
struct Call {
  const Route* route = nullptr;
  int status = 200;
  const char* allow = nullptr;  // with 405: a header line
  std::string model, version;
};

/// 404 for an unknown path, 405 for a known one with another method.
Call match(std::span<const Route> routes, Method method, std::string_view target);

}  // namespace fluxion::serve
