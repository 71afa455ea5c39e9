// Requests and responses as the handlers see them, free of sockets.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace fluxion::serve {

enum class Method : uint8_t { get, head, post, other };

struct Request {
  Method method = Method::get;
  std::string target;
  std::string body;
  std::string content_encoding;
  std::string accept_encoding;
  /// Inference-Header-Content-Length, as sent.
  std::optional<std::string> json_bytes;
};

struct Response {
  int status = 200;
  std::string body;
  const char* content_type = "application/json";
  std::optional<size_t> json_bytes;        // sent as Inference-Header-Content-Length
  const char* content_encoding = nullptr;  // null: as it is
  const char* extra_header = nullptr;      // a whole line, "Allow: GET\r\n"
  bool compressible = false;               // may be compressed if the client accepts it
};

/// Ends a request with that status and {"error": text}.
class HttpError : public std::exception {
 public:
  HttpError(int status, std::string text) : status_(status), text_(std::move(text)) {}
  int status() const { return status_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  int status_;
  std::string text_;
};

/// The body is not what the protocol's grammar asks for. Open Inference servers answer 500 (their
/// clients and test suites expect it), TensorFlow Serving 400.
class ParseError : public std::exception {
 public:
  explicit ParseError(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

template <class... A>
[[noreturn]] void fail_http(int status, fmt::format_string<A...> text, A&&... args) {
  throw HttpError(status, fmt::format(text, std::forward<A>(args)...));
}
template <class... A>
[[noreturn]] void fail_parse(fmt::format_string<A...> text, A&&... args) {
  throw ParseError(fmt::format(text, std::forward<A>(args)...));
}

/// {"error": text}.
Response error_response(int status, std::string_view text);
Response json_response(std::string body);

const char* reason_phrase(int status);
/// Status line and headers, with the blank line.
void append_head(std::string& out, const Response& response, bool keep_alive, bool http_1_0);

}  // namespace fluxion::serve
