// Requests changed at random, through parser, router and handlers, without sockets. What is called
// for each, `answer_bytes`, is what a coverage-guided fuzzer would call.
#include <gtest/gtest.h>

#include <random>
#include <regex>

#include "serve/service.h"
#include "serve/wire.h"
#include "serve_client.h"
#include "serve_models.h"

namespace fluxion::serve_test {
namespace {

struct Seed {
  std::string method, path, headers, body;
};

std::vector<Seed> seeds() {
  const std::string binary =
      R"({"id":"1","inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}],)"
      R"("outputs":[{"name":"OUTPUT0","parameters":{"binary_data":true}}]})";
  return {
      {"GET", "/v2", "", ""},
      {"GET", "/v2/models/identity/versions/1/stats", "", ""},
      {"GET", "/v2/models/id_two/config", "", ""},
      {"GET", "/v1/models/pair/metadata", "", ""},
      {"GET", "/metrics?x=y", "Accept-Encoding: gzip;q=0.5, deflate\r\n", ""},
      {"POST", "/v2/repository/index", "", R"({"ready":true})"},
      {"POST", "/v2/repository/models/pair/load", "", R"({"parameters":{}})"},
      {"POST", "/v2/models/identity/infer", "",
       R"({"id":"a\u00e9","parameters":{"p":1.5,"binary_data_output":false},"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[2,2],"data":[[1,2.5e-3],[NaN,-Infinity]]}],"outputs":[{"name":"OUTPUT0"}]})"},
      {"POST", "/v2/models/identity/infer",
       "Inference-Header-Content-Length: " + std::to_string(binary.size()) + "\r\n",
       binary + std::string("\0\0\x80?\0\0\0@", 8)},
      {"POST", "/v2/models/id_nobatch/infer", "Inference-Header-Content-Length: 0\r\n", "12345678"},
      {"POST", "/v2/models/id_two/infer", "",
       R"({"inputs":[{"name":"INPUT0","datatype":"INT32","shape":[1,2],"data":[1,2]},{"name":"INPUT1","datatype":"FP16","shape":[1,2],"parameters":{"binary_data_size":4}}]})"},
      {"POST", "/v1/models/pair:predict", "",
       R"({"signature_name":"infer","instances":[{"INPUT0":[1,2,3,4],"INPUT1":[1,1,1,1]}]})"},
      {"POST", "/v1/models/pair/versions/1:predict", "Accept-Encoding: gzip\r\n",
       R"({"inputs":{"INPUT0":[[1,2,3,4]],"INPUT1":[[4,3,2,1]]}})"},
      {"POST", "/v1/models/id_nobatch:predict", "Content-Encoding: gzip\r\n",
       std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03", 10)},
  };
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  size_t below(size_t n) { return n ? random_() % n : 0; }

  std::string mutate(std::string text) {
    for (size_t n = 1 + below(4); n > 0; --n) change(text);
    return text;
  }

 private:
  void change(std::string& text) {
    static const std::string tokens[] = {"{",
                                         "}",
                                         "[",
                                         "]",
                                         "\"",
                                         ",",
                                         ":",
                                         "null",
                                         "true",
                                         "-1",
                                         "1e400",
                                         "NaN",
                                         "\\",
                                         "\\u",
                                         "\r\n",
                                         "\0",
                                         "%",
                                         "%00",
                                         "../",
                                         "0",
                                         "99999999999999999999",
                                         "\xff",
                                         "/",
                                         "\xc3",
                                         "[[[[[",
                                         "{\"a\":",
                                         "-Infinity",
                                         "\"shape\":[1099511627776]",
                                         "Transfer-Encoding: chunked\r\n",
                                         "Content-Length: 5\r\n",
                                         "Expect: 100-continue\r\n"};
    const size_t at = below(text.size() + 1), n = 1 + below(8);
    switch (below(6)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1: text.erase(at, n); break;
      case 2: text.insert(at, tokens[below(std::size(tokens))]); break;
      case 3: text.insert(at, text.substr(below(text.size()), n * 4)); break;
      case 4: text.resize(at); break;
      default:
        if (at < text.size()) text[at] = static_cast<char>(random_());
    }
  }

  std::mt19937_64 random_;
};

TEST(FuzzTest, MutatedRequests) {
  ModelFolder folder;
  write_recorded_models(folder);
  folder.write("pair", 1, "add_sub");
  serve::Repository repository(folder.path(), load_model);
  const serve::Service service(repository, {.body_bytes = 1 << 20, .json_depth = 32});
  Mutator m(20240607);
  const std::vector<Seed> all = seeds();
  std::map<int, int> statuses;
  const std::regex whole("HTTP/1\\.1 [2-5]\\d\\d ");
  const char* wanted = std::getenv("FLUXION_FUZZ_REQUESTS");
  const int requests = wanted ? std::atoi(wanted) : 100'000;
  for (int i = 0; i < requests; ++i) {
    Seed s = all[m.below(all.size())];
    std::string text;
    if (m.below(3) == 0) {  // anything anywhere
      text = m.mutate(request_text(s.method, s.path, s.body, s.headers));
    } else {  // valid HTTP around changed parts
      if (m.below(4) == 0) s.path = all[m.below(all.size())].path;
      s.body = m.mutate(s.body);
      text = request_text(s.method, s.path, s.body, s.headers);
    }
    const std::string answer = serve::answer_bytes(service, text);
    if (answer.empty()) continue;  // the request is not complete
    ASSERT_TRUE(std::regex_search(answer.begin(), answer.begin() + 13, whole)) << text;
    ++statuses[std::stoi(answer.substr(9, 3))];
  }
  for (const auto& [status, count] : statuses)
    EXPECT_TRUE(status == 200 || status == 400 || status == 404 || status == 405 || status == 413 ||
                status == 431 || status == 500 || status == 501)
        << status << " " << count;
  for (const int status : {200, 400, 500}) EXPECT_GT(statuses[status], requests / 20) << status;
  const Seed& good = all[12];
  EXPECT_NE(
      serve::answer_bytes(service, request_text(good.method, good.path, good.body))
          .find(R"({"outputs":{"OUTPUT0":[[5.0,5.0,5.0,5.0]],"OUTPUT1":[[-3.0,-1.0,1.0,3.0]]}})"),
      std::string::npos);
}

}  // namespace
}  // namespace fluxion::serve_test
