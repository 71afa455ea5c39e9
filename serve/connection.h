// One client's connection; belongs to one thread.
#pragma once

#include <memory>
#include <unordered_map>

#include "serve/access_log.h"
#include "serve/compute.h"
#include "serve/service.h"

namespace boost::asio {
class io_context;
}

namespace fluxion::serve {

class Connection {
 public:
  virtual ~Connection() = default;
  virtual void start() = 0;
  /// Answers 503 and closes.
  virtual void refuse() = 0;
  /// Ends it if its time is up.
  virtual void sweep(Clock::time_point now) = 0;
  /// Closes it if it is between requests; otherwise it closes after the answer.
  virtual void drain() = 0;
  /// Closes it, unless a request is being computed.
  virtual void cut() = 0;
};

/// What the connections of one thread share.
struct Station {
  boost::asio::io_context& io;
  const Service& service;
  ComputeThreads& compute;
  CatalogView catalogs;
  AccessLog log;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections = {};
  bool draining = false;
};

/// Takes over an accepted socket and adds itself to the station's connections.
Connection& add_connection(Station& station, int socket);

}  // namespace fluxion::serve
