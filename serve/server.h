// The HTTP server: one thread and event loop per core, compute threads for long requests.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "serve/limits.h"
#include "serve/repository.h"

namespace fluxion::serve {

struct ServerOptions {
  std::string address = "127.0.0.1";
  uint16_t port = 8000;               // 0: any free one
  uint32_t threads = 0;               // that read and write; 0: one per core
  int access_log = -1;                // a file descriptor; -1: none
  std::chrono::milliseconds poll{0};  // between looks for changed models; 0: only on request
  Limits limits = {};
};

class Server {
 public:
  /// Listens and answers when it returns. Raises ErrorKind::value for a bad address, ErrorKind::io
  /// if it cannot listen there. The repository must outlive the server.
  Server(Repository& repository, const ServerOptions& options);
  /// stop() and wait().
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  uint16_t port() const;
  /// SIGTERM and SIGINT call stop().
  void stop_on_signals();
  /// Refuses new connections, finishes the requests that have begun, closes idle connections. May
  /// be called by any thread, and again.
  void stop();
  /// Returns when stop() has been called and everything is finished.
  void wait();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fluxion::serve
