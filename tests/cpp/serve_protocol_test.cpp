// Both protocols without sockets: what is accepted, what is refused and with which words.
#include <gtest/gtest.h>
#include <zlib.h>

#include "serve/encoding.h"
#include "serve/json.h"
#include "serve/service.h"
#include "serve/wire.h"
#include "serve_client.h"
#include "serve_models.h"

namespace fluxion::serve_test {
namespace {

class ProtocolTest : public testing::Test {
 protected:
  ProtocolTest() {
    write_recorded_models(folder_);
    folder_.write("pair", 1, "add_sub");
    folder_.write("linear", 1, "linear 1");
    folder_.write("linear", 12, "linear 2");
    folder_.write("half", 1, "identity INPUT0:f16:-1");
    folder_.write("bools", 1, "identity INPUT0:bool:-1");
    folder_.write("bytes", 1, "identity INPUT0:u8:-1");
    folder_.write("scalar", 1, "identity INPUT0:f64:");
    folder_.write("fixed", 1, "identity INPUT0:f32:2,2");
    folder_.write("none", 1, "identity");
    folder_.write("raises", 1, "raises on purpose");
    folder_.write("wrong", 1, "wrong");
    folder_.write("a \"b\"", 1, "identity INPUT0:f32:-1");
    repository_ = std::make_unique<serve::Repository>(folder_.path(), load_model);
    service_ = std::make_unique<serve::Service>(*repository_, limits_);
  }

  /// Status and body, as "200 {...}".
  std::string ask(const std::string& method, const std::string& path, const std::string& body = "",
                  const std::string& headers = "") {
    const std::string all =
        serve::answer_bytes(*service_, request_text(method, path, body, headers));
    return all.size() < 12 ? all : all.substr(9, 4) + all.substr(all.find("\r\n\r\n") + 4);
  }
  std::string infer(const std::string& model, const std::string& body) {
    return ask("POST", "/v2/models/" + model + "/infer", body);
  }
  /// One input of identity, its text after the name.
  std::string infer_one(const std::string& model, const std::string& rest) {
    return infer(model, R"({"inputs":[{"name":"INPUT0",)" + rest + "}]}");
  }
  std::string predict(const std::string& model, const std::string& body) {
    return ask("POST", "/v1/models/" + model + ":predict", body);
  }

  ModelFolder folder_;
  serve::Limits limits_;
  std::unique_ptr<serve::Repository> repository_;
  std::unique_ptr<serve::Service> service_;
};

using OipTest = ProtocolTest;
using TfsTest = ProtocolTest;

TEST_F(OipTest, InputsThatDoNotFit) {
  const struct {
    const char *model, *rest, *want;
  } cases[] = {
      {"identity", R"("datatype":"FP32","shape":[1,2],"data":[1,2,3])",
       "500 {\"error\":\"Failed to parse 'data' field: shape does not match true shape: input "
       "'INPUT0' needs 2 elements\"}"},
      {"identity", R"("datatype":"FP32","shape":[1,2],"data":["a",1])",
       "500 {\"error\":\"Unable to parse 'data': attempt to access JSON non-number as double (input "
       "'INPUT0', element 0)\"}"},
      {"identity", R"("datatype":"FP32","shape":[1,-2],"data":[1])",
       "500 {\"error\":\"Unable to parse 'shape' of input 'INPUT0': sizes are non-negative "
       "integers\"}"},
      {"identity", R"("datatype":"FP32","shape":[1,1.5],"data":[1])",
       "500 {\"error\":\"Unable to parse 'shape' of input 'INPUT0': sizes are non-negative "
       "integers\"}"},
      {"identity", R"("datatype":"FP32","shape":[9223372036854775807,9],"data":[1])", "400 *"},
      {"identity", R"("datatype":"FP32","shape":[4000000000,1000000000],"data":[1])", "500 *"},
      {"identity", R"("datatype":"FP32","shape":[1,1],"data":1)",
       "500 {\"error\":\"Unable to parse 'data' of input 'INPUT0': not a list\"}"},
      {"identity", R"("datatype":"FP32","shape":[1,1])",
       "500 {\"error\":\"Unable to parse 'data': input 'INPUT0' has neither 'data' nor "
       "'binary_data_size'\"}"},
      {"identity", R"("datatype":"FP64","shape":[1,1],"data":[1])",
       "400 {\"error\":\"[request id: <id_unknown>] inference input 'INPUT0' data-type is 'FP64', "
       "but model 'identity' expects 'FP32'\"}"},
      {"identity", R"("datatype":"BYTES","shape":[1,1],"data":["a"])",
       "400 {\"error\":\"[request id: <id_unknown>] inference input 'INPUT0' data-type is 'BYTES', "
       "but model 'identity' expects 'FP32'\"}"},
      {"identity",
       R"("datatype":"FP32","shape":[1,1],"data":[1],"parameters":{"binary_data_size":4})",
       "400 {\"error\":\"input 'INPUT0' has both 'data' and 'binary_data_size'\"}"},
      {"identity", R"("datatype":"FP32","shape":[1,1],"data":[1],"shape":[1,1])",
       "400 {\"error\":\"key 'shape' stands twice in inputs\"}"},
      {"fixed", R"("datatype":"FP32","shape":[2,3],"data":[1,2,3,4,5,6])",
       "400 {\"error\":\"[request id: <id_unknown>] unexpected shape for input 'INPUT0' for model "
       "'fixed'. Expected [2,2], got [2,3].\"}"},
      {"half", R"("datatype":"FP16","shape":[1],"data":[1])",
       "400 {\"error\":\"receiving FP16 data via JSON is not supported. Please use the binary data "
       "format for input INPUT0\"}"},
      {"bools", R"("datatype":"BOOL","shape":[1],"data":[1])", "500 *non-boolean as boolean*"},
      {"bytes", R"("datatype":"UINT8","shape":[1],"data":[256])", "500 *256 is out of range*"},
      {"bytes", R"("datatype":"UINT8","shape":[1],"data":[1.0])", "500 *non-signed-integer*"},
      {"id_int64", R"("datatype":"INT64","shape":[1,1],"data":[9223372036854775808])", "500 *"},
  };
  for (const auto& c : cases) {
    const std::string got = infer_one(c.model, c.rest), want = c.want;
    const size_t star = want.find('*');
    if (star == want.npos) EXPECT_EQ(got, want);
    else
      EXPECT_TRUE(got.starts_with(want.substr(0, star)) &&
                  got.find(want.substr(star + 1, want.rfind('*') - star - 1)) != got.npos)
          << c.rest << "\n"
          << got;
  }
}

TEST_F(OipTest, RequestsThatDoNotFit) {
  const std::string good = R"({"name":"INPUT0","datatype":"FP32","shape":[1,1],"data":[1]})";
  EXPECT_EQ(
      infer("identity", "{}"),
      "500 {\"error\":\"Unable to parse 'inputs': attempt to access non-existing object member "
      "'inputs'\"}");
  EXPECT_EQ(infer("identity", "[]"),
            "500 {\"error\":\"Unable to parse 'request': it must be an object\"}");
  EXPECT_EQ(infer("identity", R"({"inputs":{}})"),
            "500 {\"error\":\"Unable to parse 'inputs': it must be a list\"}");
  EXPECT_EQ(infer("identity", R"({"inputs":[)" + good + "," + good + "]}"),
            "400 {\"error\":\"[request id: <id_unknown>] input 'INPUT0' stands twice\"}");
  EXPECT_EQ(
      infer("identity", R"({"id":"7","inputs":[{"name":"X","datatype":"FP32","shape":[1]}]})"),
      "400 {\"error\":\"[request id: 7] unexpected inference input 'X' for model 'identity'\"}");
  EXPECT_EQ(infer("identity", R"({"id":7,"inputs":[]})"),
            "500 {\"error\":\"Unable to parse 'request': 'id' must be a string\"}");
  EXPECT_EQ(infer("identity", R"({"id":"1","id":"2","inputs":[]})"),
            "400 {\"error\":\"key 'id' stands twice in request\"}");
  EXPECT_EQ(
      infer("identity", R"({"parameters":{"triton_x":1},"inputs":[]})"),
      "400 {\"error\":\"parameter 'triton_x': keys that start with 'triton_' are reserved\"}");
  EXPECT_EQ(infer("identity", R"({"parameters":{"x":[]},"inputs":[]})"),
            "500 {\"error\":\"parameter 'x' must be a string, a number or a boolean\"}");
  EXPECT_EQ(infer("identity", R"({"inputs":[)" + good +
                                  R"(],"outputs":[{"name":"OUTPUT0"},{"name":"OUTPUT0"}]})"),
            "400 {\"error\":\"output 'OUTPUT0' is requested twice\"}");
  EXPECT_EQ(
      infer("pair",
            R"({"inputs":[{"name":"INPUT1","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]})"),
      "400 {\"error\":\"[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model "
      "'pair'. Got input(s) ['INPUT1'], but missing required input(s) ['INPUT0']. Please "
      "provide all required input(s).\"}");
  EXPECT_EQ(infer("raises",
                  R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]})"),
            "500 {\"error\":\"raised: on purpose\"}");
  EXPECT_EQ(
      infer("wrong",
            R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]})"),
      "500 {\"error\":\"model 'wrong' returned float32 (3,) as output 'y', its signature promises "
      "float32 [2]\"}");
}

TEST_F(OipTest, BinaryThatDoesNotFit) {
  const auto binary = [&](const std::string& json, const std::string& bytes,
                          const std::string& length = "") {
    return ask("POST", "/v2/models/identity/infer", json + bytes,
               "inference-header-content-length: " +
                   (length.empty() ? std::to_string(json.size()) : length) + "\r\n");
  };
  const std::string json =
      R"({"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]})";
  EXPECT_EQ(binary(json, std::string(12, 'x')),
            "400 {\"error\":\"unexpected additional input data for model 'identity'\"}");
  EXPECT_EQ(binary(json, ""),
            "400 {\"error\":\"unexpected size for input 'INPUT0', expecting 8 additional bytes for "
            "model 'identity'\"}");
  EXPECT_EQ(
      binary(
          R"({"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,3],"parameters":{"binary_data_size":8}}]})",
          std::string(8, 'x')),
      "400 {\"error\":\"[request id: <id_unknown>] input byte size mismatch for input 'INPUT0' "
      "for model 'identity'. Expected 3 elements of 4 bytes, got 8 bytes\"}");
  EXPECT_EQ(binary(json, "", "x"),
            "400 {\"error\":\"Unable to parse Inference-Header-Content-Length, got: x\"}");
  EXPECT_EQ(binary("{}", "", "-1"),
            "400 {\"error\":\"inference header size should be in range (0, 2), got: -1\"}");
  EXPECT_EQ(binary("{}", "", "99999999999999999999999"),
            "400 {\"error\":\"inference header size should be in range (0, 2), got: "
            "99999999999999999999999\"}");
}

TEST_F(OipTest, RawBinary) {
  const auto raw = [&](const std::string& model, const std::string& body) {
    return ask("POST", "/v2/models/" + model + "/infer", body,
               "Inference-Header-Content-Length: 0\r\n");
  };
  EXPECT_EQ(
      raw("id_nobatch", std::string(8, '\0')),
      R"(200 {"model_name":"id_nobatch","model_version":"1","outputs":[{"name":"OUTPUT0","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]})" +
          std::string(8, '\0'));
  EXPECT_EQ(raw("id_nobatch", "12345"),
            "400 {\"error\":\"the 5 bytes of the body are not a tensor [-1] of FP32 for input "
            "'INPUT0'\"}");
  EXPECT_NE(raw("fixed", std::string(16, '\0')).find("\"shape\":[2,2]"), std::string::npos);
  EXPECT_TRUE(raw("fixed", std::string(20, '\0')).starts_with("400 "));
  EXPECT_EQ(
      raw("pair", "1234"),
      "400 {\"error\":\"model 'pair' has 2 inputs: a raw binary request needs exactly one\"}");
}

TEST_F(OipTest, BooleanBytesAreNormalised) {
  const std::string json =
      R"({"inputs":[{"name":"INPUT0","datatype":"BOOL","shape":[3],"parameters":{"binary_data_size":3}}]})";
  const std::string answer =
      ask("POST", "/v2/models/bools/infer", json + std::string("\x00\x01\xff", 3),
          "Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n");
  EXPECT_NE(answer.find("\"data\":[false,true,true]"), answer.npos) << answer;
}

TEST_F(OipTest, HalfOutputsAreBinary) {
  const std::string json =
      R"({"inputs":[{"name":"INPUT0","datatype":"FP16","shape":[1],"parameters":{"binary_data_size":2}}]})";
  EXPECT_EQ(
      ask("POST", "/v2/models/half/infer", json + "ab",
          "Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n"),
      "400 {\"error\":\"sending FP16 data via JSON is not supported. Please use the binary data "
      "format for output OUTPUT0\"}");
}

TEST_F(OipTest, OutputsInTheOrderAsked) {
  EXPECT_EQ(
      infer("pair",
            R"({"inputs":[{"name":"INPUT1","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]},)"
            R"({"name":"INPUT0","datatype":"FP32","shape":[1,4],"data":[[10,20,30,40]]}],)"
            R"("outputs":[{"name":"OUTPUT1"},{"name":"OUTPUT0"}]})"),
      R"(200 {"model_name":"pair","model_version":"1","outputs":[)"
      R"({"name":"OUTPUT1","datatype":"FP32","shape":[1,4],"data":[9.0,18.0,27.0,36.0]},)"
      R"({"name":"OUTPUT0","datatype":"FP32","shape":[1,4],"data":[11.0,22.0,33.0,44.0]}]})");
}

TEST_F(OipTest, SpecialValuesAndStrings) {
  EXPECT_EQ(
      infer(
          "id_nobatch",
          R"({"id":"NaN \" Infinity","inputs":[{"name":"INPUT0","datatype":"FP32","shape":[3],"data":[NaN,-Infinity,1e39]}]})"),
      R"(200 {"id":"NaN \" Infinity","model_name":"id_nobatch","model_version":"1","outputs":[)"
      R"({"name":"OUTPUT0","datatype":"FP32","shape":[3],"data":[NaN,-Infinity,Infinity]}]})");
  EXPECT_TRUE(
      infer_one("id_nobatch", R"("datatype":"FP32","shape":[1],"data":[Nan])").starts_with("500 "));
  const std::string odd = ask("GET", "/v2/models/a%20%22b%22");
  EXPECT_TRUE(odd.starts_with(R"(200 {"name":"a \"b\"",)")) << odd;
  EXPECT_EQ(ask("GET", "/v2/models/%ff%01x"),
            "404 {\"error\":\"Request for unknown model: '?\\u0001x' is not found\"}");
}

TEST_F(OipTest, ScalarsHaveRankZero) {
  EXPECT_EQ(
      infer_one("scalar", R"("datatype":"FP64","shape":[],"data":[0.1])"),
      R"(200 {"model_name":"scalar","model_version":"1","outputs":[{"name":"OUTPUT0","datatype":"FP64","shape":[],"data":[0.1]}]})");
}

TEST_F(OipTest, Versions) {
  EXPECT_TRUE(
      ask("GET", "/v2/models/linear").starts_with(R"(200 {"name":"linear","versions":["1","12"])"));
  const std::string x =
      R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,8],"data":[1,0,0,0,0,0,0,0]}]})";
  EXPECT_NE(infer("linear", x).find(R"("model_version":"12")"), std::string::npos);
  EXPECT_NE(ask("POST", "/v2/models/linear/versions/1/infer", x).find(R"("model_version":"1")"),
            std::string::npos);
  for (const char* v : {"2", "01", "99999999999999999999"})
    EXPECT_EQ(
        ask("GET", std::string("/v2/models/linear/versions/") + v),
        fmt::format(
            "404 {{\"error\":\"Request for unknown model: 'linear' version {} is not found\"}}",
            v));
}

TEST_F(OipTest, Statistics) {
  const std::string x = R"("datatype":"FP32","shape":[1,1],"data":[1])";
  infer_one("identity", x);
  infer_one("identity", x);
  infer_one("identity", R"("datatype":"FP32","shape":[1,1],"data":[])");
  const std::string stats = ask("GET", "/v2/models/identity/versions/1/stats");
  for (const char* part :
       {R"("inference_count":2,"execution_count":2,)", R"("success":{"count":2,"ns":)",
        R"("fail":{"count":1,"ns":)", R"("queue":{"count":2,"ns":)",
        R"("compute_input":{"count":2,)", R"("compute_infer":{"count":2,)",
        R"("compute_output":{"count":2,)", R"("cache_hit":{"count":0,"ns":0})",
        R"("cache_miss":{"count":0,"ns":0})",
        R"("batch_stats":[{"batch_size":1,"compute_input":{"count":2,)"})
    EXPECT_NE(stats.find(part), stats.npos) << part << "\n" << stats;
  const std::string metrics = ask("GET", "/metrics");
  for (const char* line :
       {"nv_inference_request_success{model=\"identity\",version=\"1\"} 2\n",
        "nv_inference_request_failure{model=\"identity\",reason=\"OTHER\",version=\"1\"} 1\n",
        "# TYPE nv_inference_request_duration_us counter\n",
        "nv_inference_count{model=\"a \\\"b\\\"\",version=\"1\"} 0\n"})
    EXPECT_NE(metrics.find(line), metrics.npos) << line;
}

TEST_F(OipTest, Repository) {
  EXPECT_EQ(ask("POST", "/v2/repository/models/..%2f..%2fetc/load", "{}"),
            "500 {\"error\":\"failed to load '../../etc', failed to poll from model repository\"}");
  EXPECT_EQ(ask("POST", "/v2/repository/models/identity/load", R"({"parameters":{"config":"{}"}})"),
            "400 {\"error\":\"load parameter 'config' is not supported: models are loaded from the "
            "repository\"}");
  EXPECT_EQ(ask("POST", "/v2/repository/models/identity/unload",
                R"({"parameters":{"unload_dependents":false}})"),
            "200 {}");
  EXPECT_EQ(infer("identity", "{}"),
            "404 {\"error\":\"Request for unknown model: 'identity' has no available versions\"}");
  const std::string index = ask("POST", "/v2/repository/index", "");
  EXPECT_NE(
      index.find(R"({"name":"identity","version":"","state":"UNAVAILABLE","reason":"unloaded"})"),
      index.npos);
  EXPECT_EQ(ask("POST", "/v2/repository/index", R"({"ready":true})").find("UNAVAILABLE"),
            std::string::npos);
  EXPECT_EQ(ask("POST", "/v2/repository/index", R"({"ready":1})"),
            "500 {\"error\":\"'ready' must be true or false\"}");
}

TEST_F(OipTest, NotReadyWhileDraining) {
  service_->drain();
  EXPECT_EQ(ask("GET", "/v2/health/live"), R"(200 {"live":true})");
  EXPECT_EQ(ask("GET", "/v2/health/ready"), R"(503 {"ready":false})");
  EXPECT_EQ(ask("GET", "/v2/models/identity/ready"), R"(503 {"name":"identity","ready":false})");
}

TEST_F(TfsTest, RowsAndColumns) {
  EXPECT_EQ(
      predict(
          "pair",
          R"({"instances":[{"INPUT0":[1,2,3,4],"INPUT1":[1,1,1,1]},{"INPUT1":[0,0,0,0],"INPUT0":[5,6,7,8]}]})"),
      R"(200 {"predictions":[{"OUTPUT0":[2.0,3.0,4.0,5.0],"OUTPUT1":[0.0,1.0,2.0,3.0]},)"
      R"({"OUTPUT0":[5.0,6.0,7.0,8.0],"OUTPUT1":[5.0,6.0,7.0,8.0]}]})");
  EXPECT_EQ(predict("pair", R"({"inputs":{"INPUT0":[[1,2,3,4]],"INPUT1":[[1,1,1,1]]}})"),
            R"(200 {"outputs":{"OUTPUT0":[[2.0,3.0,4.0,5.0]],"OUTPUT1":[[0.0,1.0,2.0,3.0]]}})");
  EXPECT_EQ(predict("id_nobatch", R"({"instances":[1,NaN,-Infinity]})"),
            R"(200 {"predictions":[1.0,NaN,-Infinity]})");
  EXPECT_EQ(predict("id_nobatch", R"({"inputs":[]})"), R"(200 {"outputs":[]})");
  EXPECT_EQ(predict("half", R"({"instances":[0.1,65504,1e6]})"),
            R"(200 {"predictions":[0.099975586,65504.0,Infinity]})");
  EXPECT_EQ(predict("scalar", R"({"inputs":0.1})"), R"(200 {"outputs":0.1})");
  EXPECT_EQ(predict("linear", R"({"signature_name":"gram","instances":[[1,2,0,0],[1,0,0,0]]})"),
            R"(200 {"predictions":[[5.0,1.0],[1.0,1.0]]})");
  EXPECT_EQ(predict("linear/versions/1",
                    R"({"signature_name":"serving_default","instances":[[0,0,0,0,0,0,0,0]]})"),
            R"(200 {"predictions":[[0.0,0.0,0.0]]})");
  EXPECT_EQ(predict("none", R"({"inputs":{}})"), R"(200 {"outputs":{}})");
}

TEST_F(TfsTest, Refused) {
  const struct {
    const char *model, *body, *want;
  } cases[] = {
      {"pair", "", "400 {\"error\":\"JSON Parse error: "},
      {"pair", "{", "400 {\"error\":\"JSON Parse error: "},
      {"pair", "[]", "400 {\"error\":\"JSON Parse error: the request must be an object\"}"},
      {"pair", "{}", "400 {\"error\":\"the request must have either 'instances' or 'inputs'\"}"},
      {"pair", R"({"instances":[],"inputs":[]})", "400 {\"error\":\"the request must have either"},
      {"pair", R"({"instances":[]})", "400 {\"error\":\"'instances' is empty\"}"},
      {"pair", R"({"instances":[1]})",
       "400 {\"error\":\"each of 'instances' must give the 2 inputs of signature 'infer' by name\"}"},
      {"pair", R"({"instances":[{"INPUT0":[1,2,3,4],"INPUT1":[1,1,1,1]},2]})",
       "400 {\"error\":\"'instances' mixes objects and values\"}"},
      {"pair", R"({"instances":[{"INPUT0":[1,2,3,4]}]})",
       "400 {\"error\":\"missing input 'INPUT1' in an instance\"}"},
      {"pair", R"({"instances":[{"INPUT0":1,"INPUT1":1,"X":1}]})",
       "400 {\"error\":\"'X' in an instance is not an input of signature 'infer'\"}"},
      {"pair", R"({"instances":[{"INPUT0":1,"INPUT0":1,"INPUT1":1}]})",
       "400 {\"error\":\"key 'INPUT0' stands twice in an instance\"}"},
      {"linear", R"({"signature_name":"train","instances":[1]})",
       "400 {\"error\":\"model 'linear' has no signature 'train': it has 'infer', 'gram'\"}"},
      {"linear", R"({"instances":[[1,2],[1]]})",
       "400 {\"error\":\"input 'x': encountered a list of size 1 at depth 0, expected size 2\"}"},
      {"linear", R"({"inputs":[[1,2],3]})",
       "400 {\"error\":\"input 'x': a list was expected at depth 1, got a value\"}"},
      {"linear", R"({"inputs":[1,[2]]})",
       "400 {\"error\":\"input 'x': a value was expected at depth 1, got a list\"}"},
      {"linear", R"({"instances":[[1,2]]})",
       "400 {\"error\":\"input 'x' of model 'linear' must have shape [-1,8], got [1,2]\"}"},
      {"linear", R"({"instances":[["a"]]})", "400 {\"error\":\"Unable to parse 'data': "},
      {"linear", R"({"instances":[{"b64":"aGk="}]})",
       "400 {\"error\":\"'b64' in an instance is not an input of signature 'infer'\"}"},
      {"none", R"({"instances":[{}]})", "400 {\"error\":\"signature 'infer' has no inputs"},
      {"missing", R"({"instances":[1]})",
       "404 {\"error\":\"Servable not found for request: Latest(missing): "},
      {"pair/versions/7", R"({"instances":[1]})",
       "404 {\"error\":\"Servable not found for request: Specific(pair, 7): "},
  };
  for (const auto& c : cases) {
    const std::string got = predict(c.model, c.body);
    EXPECT_TRUE(got.starts_with(c.want)) << c.body << "\n" << got << "\n" << c.want;
  }
  EXPECT_TRUE(ask("POST", "/v1/models/pair:classify", "{}").starts_with("501 "));
  EXPECT_TRUE(ask("GET", "/v1/models/pair:predict").starts_with("405 "));
  EXPECT_EQ(ask("POST", "/v1/models/pair:nothing", "{}"), R"(404 {"error":"Not Found"})");
}

TEST_F(TfsTest, RowsNeedRowOutputs) {
  folder_.write("collapse", 1, "wrong");
  EXPECT_TRUE(predict("fixed", R"({"instances":[[1,2],[3,4]]})").starts_with("200 "));
}

TEST_F(TfsTest, StatusAndLists) {
  EXPECT_EQ(
      ask("GET", "/v1/models/pair"),
      R"(200 {"model_version_status":[{"version":"1","state":"AVAILABLE","status":{"error_code":"OK","error_message":""}}],)"
      R"("id":"pair","object":"model","created":0,"owned_by":"fluxion","name":"pair","ready":true})");
  EXPECT_EQ(
      ask("GET", "/v1/models/linear/versions/12"),
      R"(200 {"model_version_status":[{"version":"12","state":"AVAILABLE","status":{"error_code":"OK","error_message":""}}]})");
  EXPECT_TRUE(ask("GET", "/v1/models/linear/versions/13").starts_with("404 "));
  const std::string list = ask("GET", "/v1/models");
  EXPECT_NE(list.find(R"("object":"list","data":[{"id":"a \"b\"","object":"model")"), list.npos)
      << list;
  EXPECT_NE(list.find(R"({"models":["a \"b\"",)"), list.npos) << list;
  repository_->unload("pair");
  EXPECT_NE(ask("GET", "/v1/models/pair").find(R"("ready":false)"), std::string::npos);
}

// ---- encodings

std::string deflated(const std::string& data, int window) {
  z_stream z{};
  deflateInit2(&z, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&z, data.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  z.avail_in = static_cast<uInt>(data.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

TEST_F(OipTest, ContentEncodings) {
  const std::string x =
      R"({"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[1]}]})";
  const std::string path = "/v2/models/id_nobatch/infer";
  const std::string plain = ask("POST", path, x);
  EXPECT_EQ(ask("POST", path, deflated(x, 31), "Content-Encoding: gzip\r\n"), plain);
  EXPECT_EQ(ask("POST", path, deflated(x, 15), "Content-Encoding: deflate\r\n"), plain);
  EXPECT_EQ(ask("POST", path, deflated(x, -15), "Content-Encoding: Deflate\r\n"), plain);
  EXPECT_EQ(ask("POST", path, x, "Content-Encoding: identity\r\n"), plain);
  EXPECT_EQ(
      ask("POST", path, x, "Content-Encoding: br\r\n"),
      "501 {\"error\":\"content encoding 'br' is not supported: send gzip, deflate or none\"}");
  EXPECT_TRUE(ask("POST", path, x, "Content-Encoding: gzip\r\n").starts_with("400 "));
  const std::string whole = deflated(x, 31);
  EXPECT_EQ(ask("POST", path, whole.substr(0, whole.size() - 9), "Content-Encoding: gzip\r\n"),
            "400 {\"error\":\"the body is not valid gzip data: it ends too early\"}");
  EXPECT_EQ(ask("POST", path, whole + "more", "Content-Encoding: gzip\r\n"),
            "400 {\"error\":\"4 bytes follow the gzip data of the body\"}");
  const std::string bomb = deflated(std::string(80 << 20, ' '), 31);
  EXPECT_LT(bomb.size(), size_t{100'000});
  EXPECT_EQ(ask("POST", path, bomb, "Content-Encoding: gzip\r\n"),
            "413 {\"error\":\"the decompressed body exceeds the limit of 67108864 bytes\"}");
}

TEST_F(OipTest, CompressedAnswers) {
  std::string data = "1";
  for (int i = 0; i < 999; ++i) data += ",1";
  const std::string x =
      R"({"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1000],"data":[)" + data + "]}]}";
  const std::string plain = ask("POST", "/v2/models/id_nobatch/infer", x).substr(4);
  for (const char* encoding : {"gzip", "deflate"}) {
    const std::string all = serve::answer_bytes(
        *service_, request_text("POST", "/v2/models/id_nobatch/infer", x,
                                std::string("Accept-Encoding: br, ") + encoding + ";q=0.5\r\n"));
    const size_t end = all.find("\r\n\r\n");
    EXPECT_NE(all.substr(0, end).find(std::string("Content-Encoding: ") + encoding), all.npos);
    EXPECT_LT(all.size(), size_t{500});
    EXPECT_EQ(serve::decompress(std::string_view(all).substr(end + 4), encoding, 1 << 20), plain);
  }
  for (const char* refused : {"br", "gzip;q=0", "gzip; q=0.0, deflate;q=0"})
    EXPECT_EQ(serve::accepted_encoding(refused), nullptr) << refused;
}

// ---- numbers

TEST(JsonTest, FloatsReadBack) {
  uint64_t state = 1;
  for (int i = 0; i < 200'000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto bits = static_cast<uint32_t>(state >> 32);
    float f, back;
    std::memcpy(&f, &bits, 4);
    if (!std::isfinite(f)) continue;
    std::string text;
    serve::append_float(text, f);
    ASSERT_NE(text.find_first_of(".e"), text.npos) << text;
    back = static_cast<float>(std::strtod(text.c_str(), nullptr));  // as our reader does
    ASSERT_EQ(std::memcmp(&f, &back, 4), 0) << text;
  }
}

}  // namespace
}  // namespace fluxion::serve_test
