#include "serve/server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <thread>
#include <vector>

#include "base/error.h"
#include "serve/connection.h"

namespace fluxion::serve {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using ReusePort = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;

constexpr std::chrono::milliseconds kTick{100};

tcp::acceptor listen(asio::io_context& io, const tcp::endpoint& at, bool shared) {
  tcp::acceptor acceptor(io);
  error_code error;
  acceptor.open(at.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error && shared) acceptor.set_option(ReusePort(true), error);
  if (!error) acceptor.bind(at, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error)
    fail(ErrorKind::io, "serve: cannot listen on {}:{}: {}", at.address().to_string(), at.port(),
         error.message());
  return acceptor;
}

/// One thread: its event loop, its listening socket, its connections.
class Worker {
 public:
  Worker(const Service& service, ComputeThreads& compute, const tcp::endpoint& at, int log)
      : station_{io_, service, compute, CatalogView(service.repository()), AccessLog(log)},
        acceptor_(listen(io_, at, true)),
        timer_(io_) {}

  tcp::endpoint endpoint() const { return acceptor_.local_endpoint(); }
  asio::io_context& io() { return io_; }

  void start() {
    accept();
    tick();
    thread_ = std::thread([this] { run(); });
  }
  void drain() {
    asio::post(io_, [this] { begin_drain(); });
  }
  void join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run() {
    for (;;) {
      try {
        io_.run();
        return;
      } catch (const std::exception&) {  // out of memory: that connection's time runs out
      }
    }
  }

  void accept() {
    accepting_ = true;
    acceptor_.async_accept([this](const error_code& error, tcp::socket socket) {
      if (station_.draining) return;
      if (!error) add(std::move(socket));
      if (!error || error == asio::error::connection_aborted) {
        if (acceptor_.is_open()) return accept();
      }
      accepting_ = false;  // no file descriptors, for example: the next tick tries again
    });
  }

  void add(tcp::socket socket) {
    error_code error;
    const int fd = socket.release(error);
    if (error) return;
    const Limits& limits = station_.service.limits();
    const bool full = station_.service.http().open_connections >= limits.connections;
    Connection& c = add_connection(station_, fd);
    if (full) c.refuse();
    else c.start();
  }

  void begin_drain() {
    if (std::exchange(station_.draining, true)) return;
    cut_at_ = Clock::now() + station_.service.limits().drain_timeout;
    error_code ignored;
    acceptor_.close(ignored);
    for_each_connection([](Connection& c) { c.drain(); });
    if (station_.connections.empty()) io_.stop();
  }

  void tick() {
    const Clock::time_point now = Clock::now();
    for_each_connection([&](Connection& c) { c.sweep(now); });
    station_.log.flush();
    station_.catalogs.current();  // lets go of what was unloaded
    if (station_.draining) {
      if (now > cut_at_) for_each_connection([](Connection& c) { c.cut(); });
      if (station_.connections.empty()) return io_.stop();
    } else if (!accepting_) {
      accept();
    }
    timer_.expires_after(kTick);
    timer_.async_wait([this](const error_code& error) {
      if (!error) tick();
    });
  }

  template <class F>
  void for_each_connection(F&& f) {
    std::vector<std::shared_ptr<Connection>> now;
    for (const auto& [key, c] : station_.connections) now.push_back(c);
    for (const auto& c : now) f(*c);
  }

  asio::io_context io_{1};
  Station station_;
  tcp::acceptor acceptor_;
  asio::steady_timer timer_;
  bool accepting_ = false;
  Clock::time_point cut_at_;
  std::thread thread_;
};

}  // namespace

struct Server::State {
  State(Repository& repository, const ServerOptions& options)
      : options(options),
        service(repository, options.limits),
        compute(options.limits.concurrent, options.limits.queue) {}

  void poll_models() {
    poll_timer->expires_after(options.poll);
    poll_timer->async_wait([this](const error_code& error) {
      if (error) return;
      const bool accepted = compute.submit([this] {
        try {
          service.repository().poll();
        } catch (const std::exception&) {  // out of memory: the next poll tries again
        }
        asio::post(workers[0]->io(), [this] { poll_models(); });
      });
      if (!accepted) poll_models();
    });
  }

  const ServerOptions options;
  uint16_t port = 0;
  Service service;
  std::vector<std::unique_ptr<Worker>> workers;
  std::unique_ptr<asio::signal_set> signals;
  std::unique_ptr<asio::steady_timer> poll_timer;
  ComputeThreads compute;  // first to go: its jobs use the rest
};

Server::Server(Repository& repository, const ServerOptions& options)
    : state_(std::make_unique<State>(repository, options)) {
  State& s = *state_;
  error_code error;
  const auto address = asio::ip::make_address(options.address, error);
  if (error)
    fail(ErrorKind::value,
         "serve: '{}' is not an IP address: give one like 127.0.0.1, 0.0.0.0 or ::",
         options.address);
  tcp::endpoint at(address, options.port);
  {
    // Sockets that share a port would also share it with another server: make sure there is none.
    asio::io_context io;
    listen(io, at, false);
  }
  const uint32_t threads =
      options.threads ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  for (uint32_t i = 0; i < threads; ++i) {
    s.workers.push_back(std::make_unique<Worker>(s.service, s.compute, at, options.access_log));
    at = s.workers[0]->endpoint();
    s.port = at.port();
  }
  if (options.poll.count() > 0) {
    s.poll_timer = std::make_unique<asio::steady_timer>(s.workers[0]->io());
    s.poll_models();
  }
  for (auto& w : s.workers) w->start();
}

Server::~Server() {
  stop();
  wait();
}

uint16_t Server::port() const { return state_->port; }

void Server::stop_on_signals() {
  state_->signals = std::make_unique<asio::signal_set>(state_->workers[0]->io(), SIGTERM, SIGINT);
  state_->signals->async_wait([this](const error_code& error, int) {
    if (!error) stop();
  });
}

void Server::stop() {
  state_->service.drain();
  for (auto& w : state_->workers) w->drain();
}

void Server::wait() {
  for (auto& w : state_->workers) w->join();
}

}  // namespace fluxion::serve
