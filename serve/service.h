// What the server answers, without sockets: routes, encodings, errors. One for all threads.
#pragma once

#include <atomic>

#include "serve/router.h"

namespace fluxion::serve {

class Service {
 public:
  Service(Repository& repository, const Limits& limits)
      : repository_(repository), limits_(limits) {}

  static Call route(const Request& request);
  /// Whether to answer at once on the thread that read the request; else on a compute thread.
  bool is_quick(const Call& call, const Request& request, const Catalog& catalog) const;
  /// Never throws: what goes wrong becomes {"error": ...} with its status.
  Response answer(const Call& call, Request& request, const Catalog& catalog,
                  int64_t queued_ns = 0) const noexcept;
  /// The 503 of a request that found the queue full or waited there too long.
  Response reject(const Call& call, const Catalog& catalog, const char* why) const noexcept;

  /// From now on the server says that it is not ready.
  void drain() { draining_.store(true, std::memory_order_relaxed); }
  Repository& repository() const { return repository_; }
  const Limits& limits() const { return limits_; }
  HttpStatistics& http() const { return http_; }

 private:
  Response handle(const Call& call, Request& request, const Catalog& catalog,
                  int64_t queued_ns) const;

  Repository& repository_;
  const Limits limits_;
  mutable HttpStatistics http_;
  std::atomic<bool> draining_{false};
};

}  // namespace fluxion::serve
