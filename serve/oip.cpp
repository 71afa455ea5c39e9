#include "serve/oip.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <iterator>
#include <thread>

#include "serve/json.h"
#include "serve/json_tensors.h"

namespace fluxion::serve::oip {

namespace {

namespace dom = simdjson::dom;

/// Appends formatted text.
template <class... A>
void put(std::string& out, fmt::format_string<A...> text, A&&... args) {
  fmt::format_to(std::back_inserter(out), text, std::forward<A>(args)...);
}

std::string json_text(std::string_view text) {
  std::string out;
  append_string(out, text);
  return out;
}

/// A comma before every item but the first.
void separate(std::string& out) {
  if (out.back() != '[' && out.back() != '{') out += ',';
}

void put_specs(std::string& out, const std::vector<TensorSpec>& specs) {
  out += '[';
  for (const TensorSpec& s : specs) {
    separate(out);
    put(out, R"({{"name":{},"datatype":"{}","shape":{}}})", json_text(s.name), oip_name(s.dtype),
        shape_json(s.shape));
  }
  out += ']';
}

/// The datatype's name in a model configuration.
std::string config_type(DType t) {
  return t == DType::bf16 ? "TYPE_BF16" : fmt::format("TYPE_{}", oip_name(t));
}

void put_config_specs(std::string& out, const std::vector<TensorSpec>& specs) {
  out += '[';
  for (const TensorSpec& s : specs) {
    separate(out);
    put(out, R"({{"name":{},"data_type":"{}","dims":{}}})", json_text(s.name), config_type(s.dtype),
        shape_json(s.shape));
  }
  out += ']';
}

void put_duration(std::string& out, const char* name, uint64_t count, uint64_t ns) {
  separate(out);
  put(out, R"("{}":{{"count":{},"ns":{}}})", name, count, ns);
}

void put_compute(std::string& out, const Statistics& s, uint64_t n) {
  put_duration(out, "compute_input", n, s.counts.sum(kInputNs));
  put_duration(out, "compute_infer", n, s.counts.sum(kInferNs));
  put_duration(out, "compute_output", n, s.counts.sum(kOutputNs));
}

void put_statistics(std::string& out, const Version& v) {
  const Statistics& s = v.statistics;
  const uint64_t n = s.counts.sum(kSuccess);
  separate(out);
  put(out,
      R"({{"name":{},"version":"{}","last_inference":{},"inference_count":{},"execution_count":{},)"
      R"("inference_stats":{{)",
      json_text(v.model), v.number, s.last_inference_ms.load(std::memory_order_relaxed), n, n);
  put_duration(out, "success", n, s.counts.sum(kSuccessNs));
  put_duration(out, "fail", s.failures(), s.counts.sum(kFailNs));
  put_duration(out, "queue", n, s.counts.sum(kQueueNs));
  put_compute(out, s, n);
  put_duration(out, "cache_hit", 0, 0);
  put_duration(out, "cache_miss", 0, 0);
  out += R"(},"response_stats":{},"batch_stats":[)";
  if (n) {
    out += R"({"batch_size":1,)";
    std::string compute = "{";
    put_compute(compute, s, n);
    out.append(compute, 1);
    out += '}';
  }
  out += R"(],"memory_usage":[]})";
}

void put_index_row(std::string& out, std::string_view model, int64_t version, const char* state,
                   std::string_view reason) {
  separate(out);
  put(out, R"({{"name":{},"version":"{}","state":"{}")", json_text(model), version, state);
  if (!reason.empty()) put(out, R"(,"reason":{})", json_text(reason));
  out += '}';
}

/// The body's object, or nothing if the body is empty.
bool parse_body(Context& c, dom::object* object) {
  if (c.request.body.empty()) return false;
  const char* what = "failed to parse the request JSON buffer";
  const dom::element& root = parse_json(c.request.body, c.limits.json_depth, what);
  if (root.get(*object)) fail_parse("{}: it must be an object", what);
  check_unique_keys(*object, "the request");
  return true;
}

}  // namespace

Response live(Context&) { return json_response(R"({"live":true})"); }

Response ready(Context& c) {
  Response r = json_response(c.ready ? R"({"ready":true})" : R"({"ready":false})");
  r.status = c.ready ? 200 : 503;
  return r;
}

Response server_metadata(Context&) {
  return json_response(
      R"({"name":"fluxion","version":")" FLUXION_VERSION
      R"(","extensions":["model_repository","model_configuration","binary_tensor_data",)"
      R"("parameters","statistics"]})");
}

Response list_models(Context& c) {
  std::string out = R"({"models":[)";
  for (const auto& [name, entry] : c.catalog.models) {
    if (entry.versions.empty()) continue;
    separate(out);
    append_string(out, name);
  }
  return json_response(out += "]}");
}

Response model_metadata(Context& c) {
  const Version& v = c.served();
  const Signature& s = default_signature(*v.loaded);
  std::string out;
  put(out, R"({{"name":{},"versions":[)", json_text(c.model));
  if (!c.version.empty()) {
    put(out, "\"{}\"", v.number);
  } else {
    for (const auto& [number, version] : c.catalog.entry(c.model)->versions) {
      separate(out);
      put(out, "\"{}\"", number);
    }
  }
  out += R"(],"platform":"fluxion","inputs":)";
  put_specs(out, s.inputs);
  out += R"(,"outputs":)";
  put_specs(out, s.outputs);
  return json_response(out += '}');
}

Response model_ready(Context& c) {
  c.served();
  std::string out;
  put(out, R"({{"name":{},"ready":{}}})", json_text(c.model), c.ready);
  Response r = json_response(std::move(out));
  r.status = c.ready ? 200 : 503;
  return r;
}

Response model_config(Context& c) {
  const Signature& s = default_signature(*c.served().loaded);
  const std::string name = json_text(c.model);
  std::string out;
  put(out,
      R"({{"name":{},"platform":"fluxion","backend":"fluxion","version_policy":{{"all":{{}}}},)"
      R"("max_batch_size":0,"input":)",
      name);
  put_config_specs(out, s.inputs);
  out += R"(,"output":)";
  put_config_specs(out, s.outputs);
  put(out,
      R"(,"instance_group":[{{"name":{},"kind":"KIND_CPU","count":{},"gpus":[]}}],)"
      R"("default_model_filename":"model.fluxion","parameters":{{}},"model_warmup":[]}})",
      name, c.limits.concurrent ? c.limits.concurrent : std::thread::hardware_concurrency());
  return json_response(std::move(out));
}

Response statistics(Context& c) {
  std::string out = R"({"model_stats":[)";
  if (!c.version.empty()) {
    put_statistics(out, c.served());
  } else {
    if (!c.model.empty()) c.served();
    for (const auto& [name, entry] : c.catalog.models)
      if (c.model.empty() || name == c.model)
        for (const auto& [number, version] : entry.versions) put_statistics(out, *version);
  }
  return json_response(out += "]}");
}

Response repository_index(Context& c) {
  dom::object body;
  bool only_ready = false;
  dom::element wanted;
  if (parse_body(c, &body) && !body["ready"].get(wanted) && wanted.get(only_ready))
    fail_parse("'ready' must be true or false");
  std::string out = "[";
  for (const auto& [name, entry] : c.catalog.models) {
    for (const auto& [number, version] : entry.versions) {
      const auto fault = entry.faults.find(number);
      put_index_row(out, name, number, "READY", fault == entry.faults.end() ? "" : fault->second);
    }
    if (only_ready) continue;
    for (const auto& [number, fault] : entry.faults)
      if (!entry.versions.contains(number)) put_index_row(out, name, number, "UNAVAILABLE", fault);
    if (entry.unloaded) {
      separate(out);
      put(out, R"({{"name":{},"version":"","state":"UNAVAILABLE","reason":"unloaded"}})",
          json_text(name));
    }
  }
  return json_response(out += ']');
}

Response repository_load(Context& c) {
  dom::object body;
  dom::object parameters;
  if (parse_body(c, &body) && !body["parameters"].get(parameters))
    for (const dom::key_value_pair p : parameters)
      fail_http(400, "load parameter '{}' is not supported: models are loaded from the repository",
                p.key);
  c.repository.load(c.model);
  return json_response("{}");
}

Response repository_unload(Context& c) {
  dom::object body;
  parse_body(c, &body);
  c.repository.unload(c.model);
  return json_response("{}");
}

}  // namespace fluxion::serve::oip
