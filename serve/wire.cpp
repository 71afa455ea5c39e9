#include "serve/wire.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <optional>

#include "serve/json.h"
#include "serve/service.h"

namespace fluxion::serve {

namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;

constexpr size_t kKeptBody = 1 << 20;  // a longer body's memory is given back

/// string_body whose string has room for the JSON parser's padding.
struct PaddedBody {
  using value_type = std::string;
  static uint64_t size(const value_type& body) { return body.size(); }

  class reader {
   public:
    template <bool is_request, class Fields>
    reader(http::header<is_request, Fields>&, value_type& body) : body_(body) {}

    void init(const boost::optional<uint64_t>& length, error_code& error) {
      error = {};
      if (length) body_.reserve(static_cast<size_t>(*length) + kJsonPadding);
    }
    template <class Buffers>
    size_t put(const Buffers& buffers, error_code& error) {
      error = {};
      size_t n = 0;
      for (auto it = boost::asio::buffer_sequence_begin(buffers);
           it != boost::asio::buffer_sequence_end(buffers); ++it) {
        const boost::asio::const_buffer b = *it;
        body_.append(static_cast<const char*>(b.data()), b.size());
        n += b.size();
      }
      return n;
    }
    void finish(error_code& error) { error = {}; }

   private:
    value_type& body_;
  };
};

Method method_of(http::verb verb) {
  switch (verb) {
    case http::verb::get: return Method::get;
    case http::verb::head: return Method::head;
    case http::verb::post: return Method::post;
    default: return Method::other;
  }
}

template <class Fields>
std::string field(const Fields& fields, http::field name) {
  const auto it = fields.find(name);
  return it == fields.end() ? std::string() : std::string(it->value());
}

}  // namespace

struct RequestReader::Parser {
  std::optional<http::request_parser<PaddedBody>> beast;
};

RequestReader::RequestReader(const Limits& limits)
    : limits_(limits), parser_(std::make_unique<Parser>()) {
  reset();
}
RequestReader::~RequestReader() = default;

void RequestReader::reset() {
  std::string body = std::move(request_.body);
  body.clear();
  if (body.capacity() > kKeptBody) body = {};
  request_ = {};
  parser_->beast.emplace();
  parser_->beast->eager(true);
  parser_->beast->header_limit(limits_.header_bytes);
  parser_->beast->body_limit(limits_.body_bytes);
  parser_->beast->get().body() = std::move(body);
  state_ = State::partial;
  started_ = continue_seen_ = false;
}

size_t RequestReader::put(std::string_view bytes) {
  auto& parser = *parser_->beast;
  started_ |= !bytes.empty();
  size_t taken = 0;
  try {
    // Beast stops at the end of each part (header, chunk); as long as it moves there may be more.
    while (taken < bytes.size() && !parser.is_done()) {
      error_code error;
      const size_t n =
          parser.put(boost::asio::buffer(bytes.data() + taken, bytes.size() - taken), error);
      taken += n;
      if (error == http::error::need_more) break;
      if (error) {
        state_ = State::failed;
        error_status_ = error == http::error::header_limit ? 431
                        : error == http::error::body_limit ? 413
                                                           : 400;
        error_text_ = error_status_ == 431
                          ? fmt::format("the request line and headers exceed the limit of {} bytes",
                                        limits_.header_bytes)
                      : error_status_ == 413 ? fmt::format("the body exceeds the limit of {} bytes",
                                                           limits_.body_bytes)
                                             : "the request is not valid HTTP: " + error.message();
        return taken;
      }
      if (n == 0) break;
    }
    if (parser.is_done()) finish();
  } catch (const std::bad_alloc&) {
    state_ = State::failed;
    error_status_ = 503;
    error_text_ = "out of memory";
  }
  return taken;
}

bool RequestReader::takes_continue() {
  auto& parser = *parser_->beast;
  if (continue_seen_ || !parser.is_header_done() || state_ != State::partial) return false;
  continue_seen_ = true;
  return boost::beast::iequals(field(parser.get(), http::field::expect), "100-continue");
}

void RequestReader::finish() {
  auto& message = parser_->beast->get();
  state_ = State::done;
  keep_alive_ = message.keep_alive();
  http_1_0_ = message.version() < 11;
  request_.method = method_of(message.method());
  request_.target = std::string(message.target());
  request_.content_encoding = field(message, http::field::content_encoding);
  request_.accept_encoding = field(message, http::field::accept_encoding);
  const auto json = message.find("Inference-Header-Content-Length");
  if (json != message.end()) request_.json_bytes = std::string(json->value());
  request_.body = std::move(message.body());
}

Response RequestReader::error() const { return error_response(error_status_, error_text_); }

std::string answer_bytes(const Service& service, std::string_view bytes) {
  std::string out;
  RequestReader reader(service.limits());
  while (!bytes.empty()) {
    const size_t taken = reader.put(bytes);
    bytes.remove_prefix(taken);
    if (reader.state() == RequestReader::State::partial) break;
    const bool failed = reader.state() == RequestReader::State::failed;
    const Call call = failed ? Call{} : Service::route(reader.request());
    const Response response =
        failed ? reader.error()
               : service.answer(call, reader.request(), *service.repository().catalog());
    append_head(out, response, !failed && reader.keep_alive(), reader.is_http_1_0());
    if (failed || reader.request().method != Method::head) out += response.body;
    if (failed || !reader.keep_alive()) break;
    reader.reset();
  }
  return out;
}

}  // namespace fluxion::serve
