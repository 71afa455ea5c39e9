// CPU time of the server per request: an identity of 4 floats as JSON over 64 connections. The floor
// is a process that reads the same bytes and writes a ready answer, with nothing in between.
// usage: benchmark_serve [SECONDS]      prints a JSON object
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "serve/server.h"

namespace {

using namespace fluxion;
using Seconds = std::chrono::duration<double>;

constexpr int kConnections = 64;
const std::string kBody =
    R"({"inputs":[{"name":"INPUT0","shape":[1,4],"datatype":"FP32","data":[1.5,2.25,-3.125,4.0625]}]})";
const std::string kRequest =
    "POST /v2/models/identity/infer HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: "
    "application/json\r\nContent-Length: " +
    std::to_string(kBody.size()) + "\r\n\r\n" + kBody;
const std::string kAnswerBody =
    R"({"model_name":"identity","model_version":"1","outputs":[{"name":"OUTPUT0","datatype":"FP32","shape":[1,4],"data":[1.5,2.25,-3.125,4.0625]}]})";
const std::string kAnswer =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
    std::to_string(kAnswerBody.size()) + "\r\n\r\n" + kAnswerBody;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

class Identity : public serve::Model {
 public:
  std::span<const serve::Signature> signatures() const override { return {&signature_, 1}; }
  std::vector<Tensor> run(const serve::Signature&, std::span<const Tensor> in) const override {
    return {in.begin(), in.end()};
  }

 private:
  const serve::Signature signature_{
      "infer", {{"INPUT0", DType::f32, {-1, -1}}}, {{"OUTPUT0", DType::f32, {-1, -1}}}};
};

/// Until a signal ends it.
void run_server(int port_pipe) {
  const auto root =
      std::filesystem::temp_directory_path() / ("serve_" + std::to_string(::getpid()));
  std::filesystem::create_directories(root / "identity/1");
  std::ofstream(root / "identity/1/model.fluxion") << "-";
  {
    serve::Repository repository(root, [](const auto&) { return std::make_shared<Identity>(); });
    const int log = ::open("/dev/null", O_WRONLY);  // lines are made and written
    serve::Server server(repository, {.port = 0, .access_log = log});
    server.stop_on_signals();
    const uint16_t port = server.port();
    if (::write(port_pipe, &port, sizeof port) != sizeof port) die("write");
    server.wait();
  }
  std::filesystem::remove_all(root);
}

/// One thread of epoll, read and write.
void run_floor(int port_pipe) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof at;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at) || ::listen(listener, 128))
    die("listen");
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &length);
  const uint16_t port = ntohs(at.sin_port);
  if (::write(port_pipe, &port, sizeof port) != sizeof port) die("write");
  const int poll = ::epoll_create1(0);
  epoll_event e{EPOLLIN, {.fd = listener}};
  ::epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e);
  std::vector<epoll_event> events(kConnections);
  char block[4096];
  for (;;) {
    const int n = ::epoll_wait(poll, events.data(), kConnections, -1);
    for (int i = 0; i < n; ++i) {
      if (events[i].data.fd == listener) {
        e.data.fd = ::accept(listener, nullptr, nullptr);
        ::epoll_ctl(poll, EPOLL_CTL_ADD, e.data.fd, &e);
      } else if (::read(events[i].data.fd, block, sizeof block) <= 0 ||
                 ::write(events[i].data.fd, kAnswer.data(), kAnswer.size()) <= 0) {
        ::close(events[i].data.fd);
      }
    }
  }
}

struct Child {
  pid_t pid;
  uint16_t port;
};

Child start(void (*body)(int)) {
  int ends[2];
  if (::pipe(ends)) die("pipe");
  Child child{::fork(), 0};
  if (child.pid == 0) {
    body(ends[1]);
    std::_Exit(0);
  }
  if (::read(ends[0], &child.port, sizeof child.port) != sizeof child.port) die("read");
  return child;
}

double cpu_seconds(pid_t pid) {
  clockid_t clock;
  timespec t;
  if (::clock_getcpuclockid(pid, &clock) || ::clock_gettime(clock, &t)) die("clock");
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

int connect_to(uint16_t port) {
  const int s = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(s, reinterpret_cast<sockaddr*>(&to), sizeof to)) die("connect");
  const int on = 1;
  ::setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return s;
}

void receive_answer(int s) {
  char block[4096];
  for (size_t got = 0; got < kAnswer.size();) {
    const ssize_t n = ::read(s, block, sizeof block);
    if (n <= 0) die("read");
    if (got == 0 && std::string_view(block, 12) != "HTTP/1.1 200") die("status");
    got += static_cast<size_t>(n);
  }
}

struct Result {
  double cpu_us, per_second;
};

/// Every connection has one request under way at any time.
Result measure(void (*body)(int), double seconds) {
  const Child child = start(body);
  std::vector<int> sockets;
  for (int i = 0; i < kConnections; ++i) sockets.push_back(connect_to(child.port));
  double best = 1e9, rate = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    const double cpu = cpu_seconds(child.pid);
    int64_t requests = 0;
    while (Seconds(std::chrono::steady_clock::now() - begin).count() < seconds / 5) {
      for (const int s : sockets)
        if (::write(s, kRequest.data(), kRequest.size()) < 0) die("write");
      for (const int s : sockets) receive_answer(s);
      requests += kConnections;
    }
    const double elapsed = Seconds(std::chrono::steady_clock::now() - begin).count();
    best = std::min(best, 1e6 * (cpu_seconds(child.pid) - cpu) / static_cast<double>(requests));
    rate = std::max(rate, static_cast<double>(requests) / elapsed);
  }
  for (const int s : sockets) ::close(s);
  ::kill(child.pid, SIGTERM);
  ::waitpid(child.pid, nullptr, 0);
  return {best, rate};
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 5;
  ::signal(SIGPIPE, SIG_IGN);
  const Result floor = measure(run_floor, seconds);
  const Result server = measure(run_server, seconds);
  std::printf(
      "{\"cpu_us\":%.2f,\"requests_per_second\":%.0f,\"floor_cpu_us\":%.2f,"
      "\"floor_requests_per_second\":%.0f}\n",
      server.cpu_us, server.per_second, floor.cpu_us, floor.per_second);
  return 0;
}
