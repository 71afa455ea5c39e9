#include "serve/service.h"

#include <new>

#include "base/error.h"
#include "serve/encoding.h"
#include "serve/json.h"
#include "serve/metrics.h"
#include "serve/oip.h"
#include "serve/tfs.h"

namespace fluxion::serve {

namespace {

constexpr auto kGet = Method::get, kPost = Method::post;

/// The busiest first.
constexpr Route kRoutes[] = {
    {kPost, "/v2/models/*/infer", oip::infer, Work::model},
    {kPost, "/v1/models/*:predict", tfs::predict, Work::model, 400},
    {kPost, "/v2/models/*/versions/#/infer", oip::infer, Work::model},
    {kPost, "/v1/models/*/versions/#:predict", tfs::predict, Work::model, 400},
    {kGet, "/v2/health/live", oip::live},
    {kGet, "/v2/health/ready", oip::ready},
    {kGet, "/metrics", metrics},
    {kGet, "/v2", oip::server_metadata},
    {kGet, "/v2/", oip::server_metadata},
    {kGet, "/v2/models", oip::list_models},
    {kGet, "/v2/models/stats", oip::statistics},
    {kGet, "/v2/models/*", oip::model_metadata},
    {kGet, "/v2/models/*/versions/#", oip::model_metadata},
    {kGet, "/v2/models/*/ready", oip::model_ready},
    {kGet, "/v2/models/*/versions/#/ready", oip::model_ready},
    {kGet, "/v2/models/*/config", oip::model_config},
    {kGet, "/v2/models/*/versions/#/config", oip::model_config},
    {kGet, "/v2/models/*/stats", oip::statistics},
    {kGet, "/v2/models/*/versions/#/stats", oip::statistics},
    {kPost, "/v2/repository/index", oip::repository_index},
    {kPost, "/v2/repository/models/*/load", oip::repository_load, Work::heavy},
    {kPost, "/v2/repository/models/*/unload", oip::repository_unload, Work::heavy},
    {kGet, "/v1/models", tfs::list},
    {kGet, "/v1/models/*", tfs::status, Work::light, 400},
    {kGet, "/v1/models/*/versions/#", tfs::status, Work::light, 400},
    {kGet, "/v1/models/*/metadata", tfs::metadata, Work::light, 400},
    {kGet, "/v1/models/*/versions/#/metadata", tfs::metadata, Work::light, 400},
    {kPost, "/v1/models/*:classify", tfs::unsupported, Work::light, 400},
    {kPost, "/v1/models/*:regress", tfs::unsupported, Work::light, 400},
};

constexpr int64_t kQuickNs = 100'000;     // a model this fast may run where the request was read
constexpr size_t kQuickBytes = 64 << 10;  // so may a body this short be parsed there
constexpr size_t kCompressFrom = 1024;    // shorter answers fill a packet anyway
constexpr size_t kCompressTo = size_t{1} << 30;

int status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::internal:
    case ErrorKind::io: return 500;
    case ErrorKind::memory: return 503;
    case ErrorKind::not_implemented: return 501;
    default: return 400;
  }
}

Response refusal(const Call& call) {
  Response r = error_response(call.status, call.status == 405 ? "Method Not Allowed" : "Not Found");
  r.extra_header = call.allow;
  return r;
}

}  // namespace

Call Service::route(const Request& request) {
  return match(kRoutes, request.method, request.target);
}

bool Service::is_quick(const Call& call, const Request& request, const Catalog& catalog) const {
  if (!call.route || call.route->work == Work::light) return true;
  if (call.route->work == Work::heavy || request.body.size() > kQuickBytes ||
      !request.content_encoding.empty())
    return false;
  const Entry* entry = catalog.entry(call.model);
  if (!entry || entry->versions.empty()) return true;  // an error
  if (!call.version.empty()) {
    try {
      const int64_t ns = catalog.find(call.model, call.version).statistics.average_ns;
      return ns > 0 && ns <= kQuickNs;
    } catch (const HttpError&) {
      return true;
    }
  }
  const int64_t ns = entry->versions.rbegin()->second->statistics.average_ns;
  return ns > 0 && ns <= kQuickNs;
}

Response Service::handle(const Call& call, Request& request, const Catalog& catalog,
                         int64_t queued_ns) const {
  if (!call.route) return refusal(call);
  if (!request.content_encoding.empty() && request.content_encoding != "identity")
    request.body = decompress(request.body, request.content_encoding, limits_.body_bytes);
  request.body.reserve(request.body.size() + kJsonPadding);
  Context context{.request = request,
                  .catalog = catalog,
                  .repository = repository_,
                  .limits = limits_,
                  .http = http_,
                  .ready = !draining_.load(std::memory_order_relaxed),
                  .queued_ns = queued_ns,
                  .model = call.model,
                  .version = call.version};
  Response response = call.route->handler(context);
  const char* encoding = response.compressible && response.body.size() >= kCompressFrom &&
                                 response.body.size() <= kCompressTo &&
                                 !request.accept_encoding.empty()
                             ? accepted_encoding(request.accept_encoding)
                             : nullptr;
  if (encoding) {
    response.body = compress(response.body, encoding);
    response.content_encoding = encoding;
  }
  return response;
}

Response Service::answer(const Call& call, Request& request, const Catalog& catalog,
                         int64_t queued_ns) const noexcept {
  try {
    try {
      return handle(call, request, catalog, queued_ns);
    } catch (const HttpError& e) {
      Response r = error_response(e.status(), e.what());
      if (e.status() == 501 && !request.content_encoding.empty())
        r.extra_header = "Accept-Encoding: gzip, deflate\r\n";
      return r;
    } catch (const ParseError& e) {
      return error_response(call.route ? call.route->parse_status : 400, e.what());
    } catch (const Error& e) {
      return error_response(status_of(e.kind()), e.what());
    } catch (const std::bad_alloc&) {
      return error_response(503, "out of memory");
    } catch (const std::exception& e) {
      return error_response(500, e.what());
    }
  } catch (...) {  // even the error text found no memory
    Response r;
    r.status = 503;
    return r;
  }
}

Response Service::reject(const Call& call, const Catalog& catalog, const char* why) const noexcept {
  try {
    if (call.route && call.route->work == Work::model)
      catalog.find(call.model, call.version).statistics.counts.add(kRejected);
    return error_response(503, why);
  } catch (const std::exception& e) {  // no such model
    Response r;
    r.status = 503;
    return r;
  }
}

}  // namespace fluxion::serve
