#include "serve/connection.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <vector>

#include "serve/wire.h"

namespace fluxion::serve {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr size_t kFirstBuffer = 4 << 10, kBodyBuffer = 64 << 10;
constexpr std::chrono::seconds kLinger{2};

const char* method_name(Method m) {
  constexpr const char* names[] = {"GET", "HEAD", "POST", "OTHER"};
  return names[static_cast<int>(m)];
}

class HttpConnection final : public Connection,
                             public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(Station& station, tcp::socket socket)
      : station_(station),
        limits_(station.service.limits()),
        socket_(std::move(socket)),
        reader_(limits_),
        http_(station.service.http()),
        buffer_(kFirstBuffer),
        started_(Clock::now()) {
    error_code ignored;
    socket_.non_blocking(true, ignored);
    socket_.set_option(tcp::no_delay(true), ignored);
    const tcp::endpoint peer = socket_.remote_endpoint(ignored);
    client_ = fmt::format("{}:{}", peer.address().to_string(), peer.port());
    http_.open_connections.fetch_add(1, std::memory_order_relaxed);
    http_.totals.add(2);
  }
  ~HttpConnection() override {
    release();
    http_.open_connections.fetch_sub(1, std::memory_order_relaxed);
  }

  void start() override {
    wait_for_request();
    read();
  }
  void refuse() override { fail(error_response(503, "too many connections")); }
  void sweep(Clock::time_point now) override;
  void drain() override {
    if (phase_ == Phase::idle) close();
  }
  void cut() override {
    if (phase_ != Phase::computing) close();
  }

 private:
  enum class Phase : uint8_t { idle, reading, computing, writing, lingering };

  void read();
  void on_read(const error_code& error, size_t n);
  void pump();
  bool dispatch();
  void compute(const Catalog& catalog, Clock::time_point queued);
  bool send(Response response, bool keep);
  void fail(Response response) { send(std::move(response), false); }
  bool sent();
  void linger();
  void close();
  void wait_for_request() {
    phase_ = Phase::idle;
    deadline_ = Clock::now() + limits_.idle_timeout;
  }
  /// Counts bytes of a long body against the limit of all connections; false beyond it.
  bool charge(size_t n) {
    charged_ += n;
    return http_.buffered_bytes.fetch_add(n, std::memory_order_relaxed) + n <=
           limits_.buffered_bytes;
  }
  void release() {
    http_.buffered_bytes.fetch_sub(std::exchange(charged_, 0), std::memory_order_relaxed);
  }
  /// More time for more bytes.
  Clock::duration time_for(uint64_t bytes) const {
    return std::chrono::milliseconds(bytes * 1000 / std::max<uint64_t>(1, limits_.body_rate));
  }
  bool may_continue() const { return reader_.keep_alive() && !station_.draining; }

  Station& station_;
  const Limits& limits_;
  tcp::socket socket_;
  std::string client_;
  RequestReader reader_;
  HttpStatistics& http_;  // outlives the station
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;  // of the bytes read and not yet taken
  Phase phase_ = Phase::idle;
  Clock::time_point deadline_, started_;
  uint64_t received_ = 0;  // bytes of this request so far
  uint64_t charged_ = 0;
  Call call_;
  std::string head_;
  Response response_;
  bool keep_ = false, closed_ = false;
};

void HttpConnection::read() {
  if (begin_ == end_) begin_ = end_ = 0;
  if (end_ == buffer_.size() && begin_ > 0) {
    std::copy(buffer_.begin() + begin_, buffer_.begin() + end_, buffer_.begin());
    end_ -= begin_;
    begin_ = 0;
  }
  // Full of what the reader cannot take yet: a header that is not complete, of request or chunk.
  if (end_ == buffer_.size()) {
    if (buffer_.size() > limits_.header_bytes + kBodyBuffer)
      return fail(error_response(431, "a header of the request is too long"));
    buffer_.resize(2 * buffer_.size());
  } else if (received_ > kFirstBuffer && buffer_.size() < kBodyBuffer) {
    buffer_.resize(kBodyBuffer);
  }
  socket_.async_read_some(
      asio::buffer(buffer_.data() + end_, buffer_.size() - end_),
      [self = shared_from_this()](const error_code& error, size_t n) { self->on_read(error, n); });
}

void HttpConnection::on_read(const error_code& error, size_t n) {
  if (closed_ || error == asio::error::operation_aborted) return;
  if (phase_ == Phase::lingering) {
    if (error) return close();
    begin_ = end_ = 0;
    return read();
  }
  if (error == asio::error::eof && phase_ == Phase::reading)
    return fail(error_response(400, "the connection ended before the request did"));
  if (error) return close();
  end_ += n;
  received_ += n;
  if (received_ > kBodyBuffer && !charge(n))
    return fail(error_response(503, "the server is receiving too many bytes at once"));
  pump();
}

/// Handles the requests that have arrived, one after the other, until one has to wait.
void HttpConnection::pump() {
  for (;;) {
    if (begin_ < end_) {
      if (!reader_.started()) {
        started_ = Clock::now();
        received_ = end_ - begin_;
      }
      begin_ += reader_.put({buffer_.data() + begin_, end_ - begin_});
    }
    if (reader_.state() == RequestReader::State::failed) return fail(reader_.error());
    if (reader_.state() == RequestReader::State::partial) {
      if (reader_.takes_continue()) {
        error_code ignored;  // a client that cannot take it will send the body anyway
        socket_.write_some(asio::buffer(std::string_view("HTTP/1.1 100 Continue\r\n\r\n")),
                           ignored);
      }
      if (reader_.started()) {
        phase_ = Phase::reading;
        deadline_ = started_ + limits_.read_timeout + time_for(received_);
      } else if (station_.draining) {
        return close();
      } else {
        wait_for_request();
      }
      return read();
    }
    if (!dispatch()) return;
  }
}

/// True if the answer is out and the connection goes on.
bool HttpConnection::dispatch() {
  const std::shared_ptr<const Catalog>& catalog = station_.catalogs.current();
  call_ = Service::route(reader_.request());
  if (station_.service.is_quick(call_, reader_.request(), *catalog))
    return send(station_.service.answer(call_, reader_.request(), *catalog), may_continue());
  phase_ = Phase::computing;
  const bool accepted = station_.compute.submit(
      [self = shared_from_this(), catalog, now = Clock::now()] { self->compute(*catalog, now); });
  if (accepted) return false;
  return send(station_.service.reject(call_, *catalog, "Exceeds maximum queue size"),
              may_continue());
}

/// On a compute thread.
void HttpConnection::compute(const Catalog& catalog, Clock::time_point queued) {
  const Clock::duration waited = Clock::now() - queued;
  Response response =
      waited > limits_.queue_timeout
          ? station_.service.reject(call_, catalog, "Request timeout expired")
          : station_.service.answer(call_, reader_.request(), catalog, nanoseconds(waited));
  asio::post(socket_.get_executor(),
             [self = shared_from_this(), response = std::move(response)]() mutable {
               if (self->send(std::move(response), self->may_continue())) self->pump();
             });
}

bool HttpConnection::send(Response response, bool keep) {
  response_ = std::move(response);
  keep_ = keep;
  const Request& request = reader_.request();
  head_.clear();
  append_head(head_, response_, keep_, reader_.is_http_1_0());
  if (request.method == Method::head) response_.body.clear();
  const uint64_t in = request.body.size(), out = response_.body.size();
  http_.count(response_.status, in, out);
  const bool parsed = reader_.state() == RequestReader::State::done;
  station_.log.add(client_, parsed ? method_name(request.method) : "-",
                   parsed ? std::string_view(request.target) : "-", response_.status, in, out,
                   Clock::now() - started_);
  const std::array<asio::const_buffer, 2> parts = {asio::buffer(head_),
                                                   asio::buffer(response_.body)};
  error_code error;
  const size_t n = socket_.write_some(parts, error);
  if (!error && n == head_.size() + out) return sent();
  if (error && error != asio::error::would_block) {
    close();
    return false;
  }
  phase_ = Phase::writing;
  deadline_ = Clock::now() + limits_.write_timeout + time_for(out);
  const std::array<asio::const_buffer, 2> rest = {
      parts[0] + n, parts[1] + (n > head_.size() ? n - head_.size() : 0)};
  asio::async_write(socket_, rest, [self = shared_from_this()](const error_code& e, size_t) {
    if (e) return self->close();
    if (self->sent()) self->pump();
  });
  return false;
}

bool HttpConnection::sent() {
  response_.body = {};
  if (charged_) release();
  if (!keep_) {
    linger();
    return false;
  }
  reader_.reset();
  return true;
}

/// Closes our half and drops what still comes, so that the client gets the answer and no reset.
void HttpConnection::linger() {
  if (closed_) return;
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  phase_ = Phase::lingering;
  deadline_ = Clock::now() + kLinger;
  begin_ = end_ = 0;
  read();
}

void HttpConnection::close() {
  if (std::exchange(closed_, true)) return;
  error_code ignored;
  socket_.close(ignored);
  if (charged_) release();
  station_.connections.erase(this);
}

void HttpConnection::sweep(Clock::time_point now) {
  if (now < deadline_ || phase_ == Phase::computing) return;
  if (phase_ != Phase::reading) return close();
  socket_.cancel();
  fail(error_response(408, "the request did not arrive in time"));
}

}  // namespace

Connection& add_connection(Station& station, int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length);
  const tcp protocol = address.ss_family == AF_INET6 ? tcp::v6() : tcp::v4();
  auto c = std::make_shared<HttpConnection>(station, tcp::socket(station.io, protocol, socket));
  station.connections.emplace(c.get(), c);
  return *c;
}

}  // namespace fluxion::serve
