// A plain blocking HTTP client that also misbehaves on request.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace fluxion::serve_test {

struct Answer {
  int status = 0;                              // 0: the connection ended without one
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

inline std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

inline std::string request_text(const std::string& method, const std::string& path,
                                const std::string& body = "", const std::string& headers = "") {
  return method + " " + path + " HTTP/1.1\r\nHost: test\r\n" + headers +
         (method == "POST" ? "Content-Length: " + std::to_string(body.size()) + "\r\n" : "") +
         "\r\n" + body;
}

class Client {
 public:
  explicit Client(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
    const timeval patience{20, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    const int on = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  int socket() const { return socket_; }
  /// False once the server has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  void shutdown_send() { ::shutdown(socket_, SHUT_WR); }

  Answer receive(bool head_only = false) {
    Answer a;
    size_t end;
    while ((end = data_.find("\r\n\r\n")) == std::string::npos)
      if (!more()) return a;
    parse_head(data_.substr(0, end + 2), a);
    data_.erase(0, end + 4);
    const auto length = a.headers.find("content-length");
    const size_t n = length == a.headers.end() || head_only ? 0 : std::stoull(length->second);
    while (data_.size() < n)
      if (!more()) return {};
    a.body = data_.substr(0, n);
    data_.erase(0, n);
    return a;
  }
  /// True if nothing but the end of the connection comes.
  bool ended() {
    while (more()) {
    }
    return data_.empty();
  }

  Answer get(const std::string& path) {
    return send(request_text("GET", path)) ? receive() : Answer{};
  }
  Answer post(const std::string& path, const std::string& body, const std::string& headers = "") {
    return send(request_text("POST", path, body, headers)) ? receive() : Answer{};
  }

 private:
  bool more() {
    char block[16384];
    const ssize_t n = ::recv(socket_, block, sizeof block, 0);
    if (n > 0) data_.append(block, static_cast<size_t>(n));
    return n > 0;
  }
  static void parse_head(const std::string& head, Answer& a) {
    size_t at = head.find("\r\n");
    a.status = std::stoi(head.substr(9, 3));
    while (at + 2 < head.size()) {
      const size_t start = at + 2;
      at = head.find("\r\n", start);
      const size_t colon = head.find(": ", start);
      a.headers[lower(head.substr(start, colon - start))] = head.substr(colon + 2, at - colon - 2);
    }
  }

  int socket_;
  bool connected_;
  std::string data_;
};

}  // namespace fluxion::serve_test
