// Exchanges recorded from another Open Inference server, sent again to ours. Where we answer
// otherwise, the table says how and why.
#include <gtest/gtest.h>
#include <simdjson.h>
#include <zlib.h>

#include "serve/server.h"
#include "serve_client.h"
#include "serve_models.h"

namespace fluxion::serve_test {
namespace {

struct Exchange {
  std::string name, method, path, body, headers;
  bool no_length = false;
  int status = 0;
  std::map<std::string, std::string> answer_headers;
  std::string answer;
};

/// The recording writes each byte as one character.
std::string bytes_of(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x80) out += text[i];
    else out += static_cast<char>((c & 3) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3f));
  }
  return out;
}

std::string gunzip(const std::string& data) {
  std::string out(1 << 16, '\0');
  z_stream z{};
  inflateInit2(&z, 16 + MAX_WBITS);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  z.avail_in = static_cast<uInt>(data.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  inflateEnd(&z);
  return out;
}

std::vector<Exchange> load_exchanges() {
  simdjson::dom::parser parser;
  std::vector<Exchange> all;
  for (const auto e : parser.load(DATA_DIR "/oip_exchanges.json").get_array()) {
    Exchange x;
    x.name = std::string(std::string_view(e["name"]));
    x.method = std::string(std::string_view(e["request"]["method"]));
    x.path = std::string(std::string_view(e["request"]["path"]));
    x.body = bytes_of(e["request"]["body"]);
    for (const auto h : e["request"]["headers"].get_object())
      x.headers += std::string(h.key) + ": " + std::string(std::string_view(h.value)) + "\r\n";
    x.no_length = x.name.find("no Content-Length") != x.name.npos;
    for (const auto line : e["response"]["head"].get_array()) {
      const std::string text{std::string_view(line)};
      const size_t colon = text.find(": ");
      if (colon == text.npos) x.status = std::stoi(text.substr(9, 3));
      else x.answer_headers[lower(text.substr(0, colon))] = text.substr(colon + 2);
    }
    x.answer = bytes_of(e["response"]["body"]);
    all.push_back(std::move(x));
  }
  return all;
}

void replace(std::string& text, const std::string& what, const std::string& with) {
  for (size_t at; (at = text.find(what)) != text.npos;) text.replace(at, what.size(), with);
}

/// What we expect given what was recorded, but for the listed differences.
void normalize(Exchange& x) {
  if (x.answer_headers.contains("content-encoding")) {  // ours is short: sent plain
    x.answer = gunzip(x.answer);
    x.answer_headers.erase("content-encoding");
  }
  const std::string sample =  // made up by the recorded backend
      R"("parameters":{"param0":"an example string parameter","param1":42,"param2":false,"param3":123.123},)";
  if (x.answer.find(sample) != x.answer.npos) {
    replace(x.answer, sample, "");
    std::string& length = x.answer_headers["inference-header-content-length"];
    length = length.empty() ? "" : std::to_string(std::stoull(length) - sample.size());
  }
  replace(x.answer, R"("platform":"identity")", R"("platform":"fluxion")");
}

struct Difference {
  int first, last;
  int status;
  std::string_view body;  // a final * stands for anything
  const char* why;
};

constexpr std::string_view kNotFound = R"({"error":"Not Found"})";
constexpr Difference kDifferences[] = {
    {0, 1, 200, "{}", "every answer has a JSON body"},
    {2, 2, 500, "*failed to poll from model repository*", "no BYTES tensors, so no such model"},
    {3, 6, 200, "{}", "every answer has a JSON body"},
    {7, 8, 200, R"({"name":"fluxion","version":"*)", "our name; /v2/ is in the protocol's text"},
    {9, 9, 200, R"({"live":true})", "other clients read the body"},
    {10, 10, 200, R"({"ready":true})", "other clients read the body"},
    {14, 14, 200, R"({"models":["id_int64","id_nobatch","id_queue","id_two","identity","labels"]})",
     "other servers list models here"},
    {16, 16, 200, R"({"name":"identity","ready":true})", "other clients read the body"},
    {17, 17, 200, R"({"name":"identity","platform":"fluxion",*"max_batch_size":0,*)", "a subset"},
    {19, 19, 200, R"({"name":"id_nobatch","ready":true})", "other clients read the body"},
    {20, 20, 200, R"({"name":"id_nobatch","platform":"fluxion",*"dims":[-1]*)", "a subset"},
    {21, 23, 404, R"({"error":"Request for unknown model: 'id_bytes' is not found"})", "no BYTES"},
    {25, 25, 200, R"({"name":"id_two","ready":true})", "other clients read the body"},
    {26, 26, 200, R"({"name":"id_two","platform":"fluxion",*"data_type":"TYPE_FP16"*)", "a subset"},
    {28, 28, 200, R"({"name":"labels","ready":true})", "other clients read the body"},
    {29, 29, 200, R"({"name":"labels","platform":"fluxion",*"dims":[-1,4]*)", "a subset"},
    {41, 41, 400, R"(*unexpected shape for input 'INPUT0'*Expected [-1,-1], got [4]."})",
     "we have no max_batch_size to explain"},
    {42, 42, 200, R"(*"shape":[0,4],"data":[]}]})", "tensors may be empty"},
    {46, 46, 500, R"({"error":"failed to parse the request JSON buffer: *)",
     "another parser's text"},
    {58, 59, 404, R"({"error":"Request for unknown model: 'id_bytes' is not found"})", "no BYTES"},
    {61, 61, 400, R"({"error":"classification is not supported*)", "no BYTES"},
    {62, 64, 200, R"({"model_stats":[{"name":"id*,"inference_stats":{"success":{"count":*)",
     "times"},
    {65, 67, 200,
     R"([{"name":"id_int64","version":"1","state":"READY"},{"name":"id_nobatch","version":"1",)"
     R"("state":"READY"},{"name":"id_queue","version":"1","state":"READY"},{"name":"id_two",)"
     R"("version":"1","state":"READY"},{"name":"identity","version":"1","state":"READY"},)"
     R"({"name":"labels","version":"1","state":"READY"}])",
     "the models that we have"},
    {69, 69, 200, "{}", "every answer has a JSON body"},
    {71, 75, 404, kNotFound, "no shared memory"},
    {76, 76, 400, R"({"error":"shared memory is not supported*)", "no shared memory"},
    {77, 78, 404, kNotFound, "no shared memory"},
    {79, 80, 404, kNotFound, "logging is set on the command line"},
    {81, 81, 404, kNotFound, "no tracing"},
    {82, 84, 200, R"(*"data":[1.0]}]})", "recorded with a full queue: see LimitsTest.Queue"},
    {88, 88, 200, "{}", "every answer has a JSON body"},
};

bool matches(std::string_view text, std::string_view pattern) {
  const size_t star = pattern.find('*');
  if (star == pattern.npos) return text == pattern;
  if (text.substr(0, star) != pattern.substr(0, star)) return false;
  pattern.remove_prefix(star + 1);
  for (size_t at = star; at <= text.size(); ++at)
    if (matches(text.substr(at), pattern)) return true;
  return false;
}

/// Recorded errors are ours, or begin ours: we add what was given.
bool same_error(const std::string& ours, const std::string& recorded) {
  return recorded.starts_with("{\"error\":\"") &&
         ours.starts_with(recorded.substr(0, recorded.size() - 2));
}

TEST(ReplayTest, RecordedExchanges) {
  ModelFolder folder;
  write_recorded_models(folder);
  serve::Repository repository(folder.path(), load_model);
  serve::Server server(repository, {.port = 0});
  Client client(server.port());
  std::vector<Exchange> all = load_exchanges();
  ASSERT_EQ(all.size(), 90u);
  for (size_t i = 0; i < all.size(); ++i) {
    Exchange& x = all[i];
    SCOPED_TRACE(fmt::format("{}: {} {} {}", i, x.name, x.method, x.path));
    std::string text = request_text(x.method, x.path, x.body, x.headers);
    if (x.no_length) replace(text, "Content-Length: 0\r\n", "");
    ASSERT_TRUE(client.send(text));
    const Answer ours = client.receive();
    const auto at = static_cast<int>(i);
    const auto d = std::find_if(std::begin(kDifferences), std::end(kDifferences),
                                [&](const Difference& e) { return e.first <= at && at <= e.last; });
    if (d != std::end(kDifferences)) {
      EXPECT_EQ(ours.status, d->status) << d->why << ": " << ours.body;
      EXPECT_TRUE(matches(ours.body, d->body)) << d->why << ": " << ours.body;
      EXPECT_FALSE(ours.status == x.status && ours.body == x.answer) << "listed, but the same";
      continue;
    }
    normalize(x);
    EXPECT_EQ(ours.status, x.status) << ours.body;
    if (x.status != 200) {
      EXPECT_TRUE(same_error(ours.body, x.answer)) << ours.body << "\n" << x.answer;
      EXPECT_EQ(ours.headers.at("content-type"), "application/json");
      continue;
    }
    EXPECT_EQ(ours.body, x.answer);
    for (const auto& [name, value] : x.answer_headers)
      if (name != "content-length" && !value.empty()) {
        EXPECT_TRUE(ours.headers.contains(name) && ours.headers.at(name) == value) << name;
      }
  }
}

}  // namespace
}  // namespace fluxion::serve_test
