// HTTP/1.1 requests from bytes, with Beast's parser behind it. No sockets.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "serve/http.h"
#include "serve/limits.h"

namespace fluxion::serve {

class Service;

/// Reads one request after the other.
class RequestReader {
 public:
  enum class State : uint8_t { partial, done, failed };

  explicit RequestReader(const Limits& limits);
  ~RequestReader();

  /// Takes what it can of the bytes and returns how many; what it leaves must come again with more
  /// behind it, or belongs to the next request.
  size_t put(std::string_view bytes);
  State state() const { return state_; }
  /// Some of a request has been taken or shown.
  bool started() const { return started_; }
  /// The client waits for "100 Continue"; true once.
  bool takes_continue();

  /// Of a finished request.
  Request& request() { return request_; }
  bool keep_alive() const { return keep_alive_; }
  bool is_http_1_0() const { return http_1_0_; }
  /// Of a failed one: the answer, after which the connection cannot go on.
  Response error() const;

  /// On to the next request.
  void reset();

 private:
  struct Parser;
  void finish();

  const Limits& limits_;
  std::unique_ptr<Parser> parser_;
  Request request_;
  State state_ = State::partial;
  bool started_ = false, keep_alive_ = false, http_1_0_ = false, continue_seen_ = false;
  int error_status_ = 0;
  std::string error_text_;
};

/// The bytes a server would send for these bytes of a connection, computing everything at once.
std::string answer_bytes(const Service& service, std::string_view bytes);

}  // namespace fluxion::serve
