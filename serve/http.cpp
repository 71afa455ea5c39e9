#include "serve/http.h"

#include <fmt/format.h>

#include "serve/json.h"

namespace fluxion::serve {

Response json_response(std::string body) {
  Response r;
  r.body = std::move(body);
  return r;
}

Response error_response(int status, std::string_view text) {
  Response r;
  r.status = status;
  r.body = "{\"error\":";
  append_string(r.body, text);
  r.body += '}';
  return r;
}

const char* reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Payload Too Large";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Unknown";
  }
}

void append_head(std::string& out, const Response& r, bool keep_alive, bool http_1_0) {
  const auto put = std::back_inserter(out);
  fmt::format_to(put, "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n", r.status,
                 reason_phrase(r.status), r.content_type, r.body.size());
  if (r.json_bytes) fmt::format_to(put, "Inference-Header-Content-Length: {}\r\n", *r.json_bytes);
  if (r.content_encoding) fmt::format_to(put, "Content-Encoding: {}\r\n", r.content_encoding);
  if (r.extra_header) out += r.extra_header;
  if (!keep_alive) out += "Connection: close\r\n";
  else if (http_1_0) out += "Connection: keep-alive\r\n";
  out += "\r\n";
}

}  // namespace fluxion::serve
