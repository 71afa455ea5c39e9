// The server over loopback: limits, misbehaving clients, drain, hot swap, many connections.
#include "serve/server.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "serve_client.h"
#include "serve_models.h"

namespace fluxion::serve_test {
namespace {

using namespace std::chrono_literals;
using serve::Limits;

struct Running {
  explicit Running(const Limits& limits = {}, std::chrono::milliseconds poll = 0ms) {
    folder.write("echo", 1, "identity INPUT0:f32:-1");
    folder.write("slow", 1, "sleep 300 INPUT0:f32:-1");
    folder.write("scale", 1, "scale 1");
    repository = std::make_unique<serve::Repository>(folder.path(), load_model);
    server = std::make_unique<serve::Server>(
        *repository, serve::ServerOptions{.port = 0, .threads = 2, .poll = poll, .limits = limits});
  }
  uint16_t port() const { return server->port(); }

  ModelFolder folder;
  std::unique_ptr<serve::Repository> repository;
  std::unique_ptr<serve::Server> server;
};

const std::string kEcho = "/v2/models/echo/infer", kSlow = "/v2/models/slow/infer";
const std::string kOne =
    R"({"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[1]}]})";

std::string echo_answer(const std::string& model) {
  return R"({"model_name":")" + model +
         R"(","model_version":"1","outputs":[{"name":"OUTPUT0","datatype":"FP32","shape":[1],"data":[1.0]}]})";
}

bool is_json_error(const Answer& a) {
  return a.body.starts_with("{\"error\":\"") && a.headers.at("content-type") == "application/json";
}

// ---- limits

TEST(LimitsTest, Header) {
  Running r({.header_bytes = 1000});
  Client c(r.port());
  EXPECT_EQ(c.get("/v2/health/live?" + std::string(500, 'x')).status, 200);
  const Answer a = c.get("/v2/health/live?" + std::string(2000, 'x'));
  EXPECT_EQ(a.status, 431);
  EXPECT_TRUE(is_json_error(a)) << a.body;
  EXPECT_EQ(a.headers.at("connection"), "close");
  EXPECT_TRUE(c.ended());
}

TEST(LimitsTest, Body) {
  Running r({.body_bytes = 1000});
  Client fits(r.port());
  EXPECT_EQ(fits.post(kEcho, std::string(1000, ' ')).status, 500);
  Client announced(r.port());
  const Answer a = announced.post(kEcho, std::string(1001, ' '));
  EXPECT_EQ(a.status, 413);
  EXPECT_TRUE(is_json_error(a)) << a.body;
  Client chunked(r.port());
  chunked.send("POST " + kEcho + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 3; ++i) chunked.send("190\r\n" + std::string(400, ' ') + "\r\n");
  EXPECT_EQ(chunked.receive().status, 413);
}

TEST(LimitsTest, ChunkHeader) {
  Running r({.header_bytes = 1000});
  Client c(r.port());
  c.send("POST " + kEcho + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;");
  for (int i = 0; i < 100 && c.send(std::string(10'000, 'x')); ++i) {
  }
  const int status = c.receive().status;
  EXPECT_TRUE(status == 431 || status == 400 || status == 413) << status;
}

TEST(LimitsTest, Depth) {
  Running r({.json_depth = 10});
  Client c(r.port());
  const auto nested = [](int n) {
    return R"({"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":)" +
           std::string(n, '[') + "1" + std::string(n, ']') + "}]}";
  };
  EXPECT_EQ(c.post(kEcho, nested(6)).status, 200);
  const Answer a = c.post(kEcho, nested(20));
  EXPECT_EQ(a.status, 400);
  EXPECT_NE(a.body.find("nested deeper than the 10 levels"), a.body.npos) << a.body;
  EXPECT_EQ(c.post(kEcho, nested(400'000)).status, 400);
}

TEST(LimitsTest, Queue) {
  Running r({.concurrent = 1, .queue = 1});
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Client>(r.port()));
    clients.back()->send(request_text("POST", kSlow, kOne));
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_EQ(Client(r.port()).get("/v2/health/live").status, 200);  // never behind the queue
  for (int i : {2, 3}) {
    const Answer a = clients[i]->receive();
    EXPECT_EQ(a.status, 503);
    EXPECT_EQ(a.body, R"({"error":"Exceeds maximum queue size"})");
  }
  for (int i : {0, 1}) EXPECT_EQ(clients[i]->receive().body, echo_answer("slow"));
  EXPECT_EQ(clients[2]->post(kSlow, kOne).status, 200);  // the connection lives on
  const std::string metrics = clients[3]->get("/metrics").body;
  EXPECT_NE(metrics.find(R"({model="slow",reason="REJECTED",version="1"} 2)"), metrics.npos);
}

TEST(LimitsTest, QueueTime) {
  Running r({.concurrent = 1, .queue_timeout = 100ms});
  Client a(r.port()), b(r.port());
  a.send(request_text("POST", kSlow, kOne));
  std::this_thread::sleep_for(20ms);
  const Answer late = b.post(kSlow, kOne);
  EXPECT_EQ(late.status, 503);
  EXPECT_EQ(late.body, R"({"error":"Request timeout expired"})");
  EXPECT_EQ(a.receive().status, 200);
}

TEST(LimitsTest, Connections) {
  Running r({.connections = 3});
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<Client>(r.port()));
    EXPECT_EQ(clients.back()->get("/v2/health/live").status, 200);
  }
  {
    Client refused(r.port());
    EXPECT_EQ(refused.receive().status, 503);
    EXPECT_TRUE(refused.ended());
  }
  clients.pop_back();
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(Client(r.port()).get("/v2/health/live").status, 200);
}

TEST(LimitsTest, BytesOfAllConnections) {
  Running r({.buffered_bytes = 1 << 20});
  const std::string head = "POST " + kEcho + " HTTP/1.1\r\nContent-Length: 800000\r\n\r\n";
  {
    Client first(r.port()), second(r.port());
    first.send(head + std::string(700'000, ' '));
    std::this_thread::sleep_for(200ms);
    second.send(head + std::string(799'999, ' '));
    EXPECT_EQ(second.receive().status, 503);
    EXPECT_EQ(Client(r.port()).post(kEcho, kOne).status, 200);
    first.send(std::string(100'000, ' '));
    EXPECT_EQ(first.receive().status, 500);
    EXPECT_EQ(first.post(kEcho, std::string(800'000, ' ')).status, 500);  // given back
  }
}

TEST(LimitsTest, SlowClients) {
  Running r({.read_timeout = 300ms, .idle_timeout = 600ms});
  Client header(r.port()), body(r.port()), idle(r.port());
  header.send("GET /v2/health");
  body.send("POST " + kEcho + " HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");
  for (int i = 0; i < 6; ++i) {
    std::this_thread::sleep_for(100ms);
    body.send(" ");
  }
  for (Client* c : {&header, &body}) {
    const Answer a = c->receive();
    EXPECT_EQ(a.status, 408);
    EXPECT_TRUE(is_json_error(a)) << a.body;
    EXPECT_TRUE(c->ended());
  }
  EXPECT_TRUE(idle.ended());  // without a word
}

TEST(LimitsTest, LongBodiesHaveMoreTime) {
  Running r({.read_timeout = 200ms, .body_rate = 100'000});
  Client c(r.port());
  const std::string body = std::string(100'000, ' ') + kOne;
  c.send("POST " + kEcho + " HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n");
  for (size_t at = 0; at < body.size(); at += 20'000) {
    EXPECT_TRUE(c.send(std::string_view(body).substr(at, 20'000)));
    std::this_thread::sleep_for(100ms);
  }
  EXPECT_EQ(c.receive().status, 200);
}

TEST(LimitsTest, ClientThatDoesNotRead) {
  Running r({.body_rate = 1'000'000'000, .write_timeout = 300ms});
  const int64_t n = 12 << 20;  // more than the socket buffers hold
  std::string floats(static_cast<size_t>(n), '\0');
  Client c(r.port());
  EXPECT_TRUE(
      c.send(request_text("POST", kEcho, floats, "Inference-Header-Content-Length: 0\r\n")));
  std::this_thread::sleep_for(1500ms);
  EXPECT_EQ(c.receive().status, 0);  // cut off
  EXPECT_EQ(Client(r.port()).get("/v2/health/live").status, 200);
}

// ---- clients

TEST(ClientTest, HalfClosed) {
  Running r;
  Client whole(r.port());
  whole.send(request_text("POST", kSlow, kOne));
  whole.shutdown_send();
  EXPECT_EQ(whole.receive().body, echo_answer("slow"));
  EXPECT_TRUE(whole.ended());
  Client part(r.port());
  part.send("POST " + kEcho + " HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");
  part.shutdown_send();
  const Answer a = part.receive();
  EXPECT_EQ(a.status, 400);
  EXPECT_TRUE(is_json_error(a)) << a.body;
  EXPECT_TRUE(part.ended());
}

TEST(ClientTest, GoneBeforeTheAnswer) {
  Running r;
  for (int i = 0; i < 10; ++i) Client(r.port()).send(request_text("POST", kSlow, kOne));
  EXPECT_EQ(Client(r.port()).post(kEcho, kOne).status, 200);
}

TEST(ClientTest, Pipelined) {
  Running r;
  Client c(r.port());
  std::string all;
  for (int i = 0; i < 50; ++i)
    all += request_text("POST", i % 10 == 3 ? "/v2/models/none/infer" : kEcho, kOne);
  c.send(all);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(c.receive().status, i % 10 == 3 ? 404 : 200) << i;
}

TEST(ClientTest, ByteByByte) {
  Running r;
  Client c(r.port());
  for (const char byte : request_text("POST", kEcho, kOne)) c.send({&byte, 1});
  EXPECT_EQ(c.receive().body, echo_answer("echo"));
}

TEST(ClientTest, ExpectContinue) {
  Running r;
  Client c(r.port());
  c.send("POST " + kEcho + " HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: " +
         std::to_string(kOne.size()) + "\r\n\r\n");
  EXPECT_EQ(c.receive().status, 100);
  c.send(kOne);
  EXPECT_EQ(c.receive().body, echo_answer("echo"));
}

TEST(ClientTest, Chunked) {
  Running r;
  Client c(r.port());
  c.send("POST " + kEcho + " HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (const char byte : kOne) c.send("1\r\n" + std::string(1, byte) + "\r\n");
  c.send("0\r\n\r\n");
  EXPECT_EQ(c.receive().body, echo_answer("echo"));
}

TEST(ClientTest, MethodsAndVersions) {
  Running r;
  Client c(r.port());
  c.send("HEAD /v2/health/live HTTP/1.1\r\n\r\n");
  const Answer head = c.receive(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), "13");
  c.send("DELETE /v2/health/live HTTP/1.1\r\n\r\n");
  const Answer wrong = c.receive();
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "GET, HEAD");
  c.send("GET /v2/health/live HTTP/1.0\r\n\r\n");
  EXPECT_EQ(c.receive().headers.at("connection"), "close");
  EXPECT_TRUE(c.ended());
  Client kept(r.port());
  kept.send("GET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(kept.receive().headers.at("connection"), "keep-alive");
  EXPECT_EQ(kept.get("/v2/health/live").status, 200);
}

TEST(ClientTest, NotHttp) {
  Running r;
  for (const char* text : {"\x16\x03\x01\x02\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/3.9\r\n\r\n",
                           "GET / HTTP/1.1\r\nno colon\r\n\r\n",
                           "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
                           "POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\n"}) {
    Client c(r.port());
    c.send(text);
    const Answer a = c.receive();
    EXPECT_EQ(a.status, 400) << text;
    EXPECT_TRUE(is_json_error(a)) << a.body;
    EXPECT_TRUE(c.ended());
  }
}

TEST(ClientTest, ManyConnections) {
  Running r;
  constexpr int kThreads = 4, kEach = 100;
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      std::vector<std::unique_ptr<Client>> clients;
      for (int i = 0; i < kEach; ++i) clients.push_back(std::make_unique<Client>(r.port()));
      for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < kEach; ++i)
          clients[i]->send(request_text(
              "POST", kEcho,
              fmt::format(
                  R"({{"inputs":[{{"name":"INPUT0","datatype":"FP32","shape":[2],"data":[{},{}]}}]}})",
                  t, i)));
        for (int i = 0; i < kEach; ++i)
          good += clients[i]->receive().body.find(fmt::format("\"data\":[{}.0,{}.0]", t, i)) !=
                  std::string::npos;
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(good, kThreads * kEach * 3);
}

// ---- bits

TEST(BitsTest, AnswersAreEagers) {
  Running r;
  r.folder.write("linear", 1, "linear 1");
  r.repository->poll();
  Tensor x = empty({5, 8}, DType::f32);
  for (int i = 0; i < 40; ++i) x.data<float>()[i] = static_cast<float>(std::cos(i) / 3);
  const Tensor y = matmul(x, weight(8, 3, 1));
  const std::string in(x.data<char>(), x.nbytes()), want(y.data<char>(), y.nbytes());
  std::atomic<bool> busy{true};
  std::thread noise([&] {
    Client c(r.port());
    while (busy) c.post("/v1/models/linear:predict", R"({"instances":[[1,2,3,4,5,6,7,8]]})");
  });
  Client c(r.port());
  for (int i = 0; i < 50; ++i) {
    const std::string json =
        R"({"inputs":[{"name":"x","datatype":"FP32","shape":[5,8],"parameters":{"binary_data_size":160}}],)"
        R"("parameters":{"binary_data_output":true}})";
    const Answer a =
        c.post("/v2/models/linear/infer", json + in,
               "Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n");
    ASSERT_EQ(a.status, 200) << a.body;
    EXPECT_EQ(a.body.substr(std::stoul(a.headers.at("inference-header-content-length"))), want);
  }
  std::string rows;
  for (int i = 0; i < 5; ++i) {
    rows += i ? ",[" : "[";
    for (int j = 0; j < 8; ++j)
      rows += fmt::format("{}{}", j ? "," : "", x.data<float>()[i * 8 + j]);
    rows += "]";
  }
  const Answer a = c.post("/v1/models/linear:predict", "{\"instances\":[" + rows + "]}");
  busy = false;
  noise.join();
  ASSERT_EQ(a.status, 200) << a.body;
  const char* at = a.body.data();
  for (int i = 0; i < 15; ++i) {
    while (*at && !std::isdigit(static_cast<unsigned char>(*at)) && *at != '-') ++at;
    char* end;
    const float v = std::strtof(at, &end);
    at = end;
    EXPECT_EQ(std::memcmp(&v, y.data<float>() + i, 4), 0) << i;
  }
}

// ---- models that change

TEST(SwapTest, UnderLoad) {
  Running r;
  std::atomic<bool> busy{true};
  std::atomic<int> wrong{0}, answers{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 3; ++t)
    clients.emplace_back([&] {
      Client c(r.port());
      int last = 1;
      while (busy) {
        const Answer a = c.post("/v1/models/scale:predict", R"({"instances":[[1,1,1,1]]})");
        int factor = 0;
        if (a.status == 200) std::sscanf(a.body.c_str(), "{\"predictions\":[[%d", &factor);
        const std::string want =
            fmt::format("{{\"predictions\":[[{0}.0,{0}.0,{0}.0,{0}.0]]}}", factor);
        wrong += a.body != want || factor < last;  // whole, and never an older one again
        last = factor;
        ++answers;
      }
    });
  for (int factor = 2; factor <= 20; ++factor) {
    // Half of them replace the file, half add a version.
    r.folder.write("scale", factor % 2 ? factor : factor - 1, fmt::format("scale {}", factor));
    EXPECT_EQ(Client(r.port()).post("/v2/repository/models/scale/load", "{}").status, 200);
    std::this_thread::sleep_for(10ms);
  }
  busy = false;
  for (std::thread& t : clients) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(answers, 100);
}

TEST(SwapTest, VanishedDirectory) {
  Running r({}, 20ms);
  Client c(r.port());
  std::filesystem::remove_all(r.folder.path() / "scale");
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(c.post("/v1/models/scale:predict", R"({"instances":[[1,1,1,1]]})").status, 200);
  const Answer a = c.post("/v2/repository/models/scale/load", "{}");
  EXPECT_EQ(a.status, 500);
  EXPECT_EQ(a.body, R"({"error":"failed to load 'scale', failed to poll from model repository"})");
  EXPECT_EQ(c.post("/v1/models/scale:predict", R"({"instances":[[1,1,1,1]]})").status, 200);
  std::filesystem::remove_all(r.folder.path());
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(c.post(kEcho, kOne).status, 200);
}

TEST(SwapTest, BrokenReplacementLeavesTheOld) {
  Running r;
  Client c(r.port());
  r.folder.write("scale", 1, "broken on purpose");
  const Answer a = c.post("/v2/repository/models/scale/load", "{}");
  EXPECT_EQ(a.status, 500);
  EXPECT_NE(a.body.find("on purpose"), a.body.npos) << a.body;
  EXPECT_EQ(c.post("/v1/models/scale:predict", R"({"instances":[[1,1,1,1]]})").body,
            R"({"predictions":[[1.0,1.0,1.0,1.0]]})");
  EXPECT_NE(c.post("/v2/repository/index", "").body.find("on purpose"), std::string::npos);
  r.folder.write("scale", 1, "scale 7");
  EXPECT_EQ(c.post("/v2/repository/models/scale/load", "{}").status, 200);
  EXPECT_EQ(c.post("/v2/repository/index", "").body.find("on purpose"), std::string::npos);
}

TEST(SwapTest, PollFindsNewVersions) {
  Running r({}, 20ms);
  Client c(r.port());
  r.folder.write("scale", 2, "scale 2");
  r.folder.write("more", 5, "scale 5");
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(c.post("/v1/models/scale:predict", R"({"instances":[[1,1,1,1]]})").body,
            R"({"predictions":[[2.0,2.0,2.0,2.0]]})");
  EXPECT_EQ(c.post("/v1/models/scale/versions/1:predict", R"({"instances":[[1,1,1,1]]})").body,
            R"({"predictions":[[1.0,1.0,1.0,1.0]]})");
  EXPECT_EQ(c.get("/v2/models/more/ready").status, 200);
  EXPECT_EQ(c.post("/v2/repository/models/more/unload", "{}").status, 200);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(c.get("/v2/models/more/ready").status, 404);  // polling does not bring it back
  EXPECT_EQ(c.post("/v2/repository/models/more/load", "{}").status, 200);
  EXPECT_EQ(c.get("/v2/models/more/ready").status, 200);
}

// ---- the end

TEST(DrainTest, FinishesWhatIsInFlight) {
  Running r;
  Client computing(r.port()), sending(r.port()), idle(r.port());
  EXPECT_EQ(idle.get("/v2/health/ready").status, 200);
  computing.send(request_text("POST", kSlow, kOne));
  const std::string text = request_text("POST", kEcho, kOne);
  sending.send(text.substr(0, 60));
  std::this_thread::sleep_for(50ms);
  const uint16_t port = r.port();
  r.server->stop();
  std::this_thread::sleep_for(50ms);
  EXPECT_FALSE(Client(port).connected());
  EXPECT_TRUE(idle.ended());
  sending.send(text.substr(60));
  for (Client* c : {&sending, &computing}) {
    const Answer a = c->receive();
    EXPECT_EQ(a.status, 200);
    EXPECT_EQ(a.headers.at("connection"), "close");
    EXPECT_TRUE(c->ended());
  }
  r.server->wait();
}

TEST(DrainTest, CutsWhatDoesNotEnd) {
  Running r({.drain_timeout = 200ms});
  Client stuck(r.port());
  stuck.send("GET /v2");
  std::this_thread::sleep_for(50ms);
  const auto start = std::chrono::steady_clock::now();
  r.server->stop();
  r.server->wait();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 2s);
  EXPECT_TRUE(stuck.ended());
}

TEST(ServerTest, ListensOnceAndSaysWhyNot) {
  Running r;
  try {
    serve::Server second(*r.repository, {.port = r.port()});
    FAIL() << "two servers share a port";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::io);
    EXPECT_EQ(
        std::string(e.what()),
        fmt::format("serve: cannot listen on 127.0.0.1:{}: Address already in use", r.port()));
  }
  EXPECT_THROW(serve::Server(*r.repository, {.address = "nowhere"}), Error);
  EXPECT_THROW(serve::Repository("/none/such", load_model), Error);
}

}  // namespace
}  // namespace fluxion::serve_test
