// What a client may ask of the server; each violation has a status of its own.
#pragma once

#include <chrono>
#include <cstdint>

namespace fluxion::serve {

struct Limits {
  uint32_t header_bytes = 16 << 10;             // request line and headers: 431
  uint64_t body_bytes = 64 << 20;               // as received and as decompressed: 413
  uint64_t buffered_bytes = uint64_t{1} << 30;  // of long bodies, all connections: 503 and close
  uint32_t json_depth = 64;                     // nesting of arrays and objects: 400
  uint32_t connections = 10'000;                // open at once: 503 and close
  /// Requests computed at once by the compute threads; 0: one per core. Short requests to models
  /// known to be fast run on the connection's own thread and do not count.
  uint32_t concurrent = 0;
  uint32_t queue = 1024;                            // waiting for a compute thread: 503
  std::chrono::milliseconds queue_timeout{30'000};  // waited longer than this: 503

  /// Time from a request's first byte to its last: read_timeout, and more for long bodies as long
  /// as they arrive at body_rate bytes per second: 408.
  std::chrono::milliseconds read_timeout{10'000};
  uint64_t body_rate = 64 << 10;
  std::chrono::milliseconds idle_timeout{75'000};   // between requests: closed
  std::chrono::milliseconds write_timeout{30'000};  // a client that does not read: closed
  std::chrono::milliseconds drain_timeout{30'000};  // after stop(): connections still open are cut
};

}  // namespace fluxion::serve
