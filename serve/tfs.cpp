#include "serve/tfs.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <iterator>

#include "serve/execution.h"
#include "serve/json.h"
#include "serve/json_tensors.h"

namespace fluxion::serve::tfs {

namespace {

namespace dom = simdjson::dom;

const Version& find_served(const Context& c) {
  try {
    return c.served();
  } catch (const HttpError& e) {
    const std::string which = c.version.empty()
                                  ? fmt::format("Latest({})", c.model)
                                  : fmt::format("Specific({}, {})", c.model, c.version);
    fail_http(404, "Servable not found for request: {}: {}", which, e.what());
  }
}

const Signature& find_signature(const Version& v, const dom::object& request) {
  dom::element value;
  if (request["signature_name"].get(value)) return default_signature(*v.loaded);
  std::string_view name;
  if (value.get(name)) fail_parse("'signature_name' must be a string");
  if (name.empty() || name == "serving_default") return default_signature(*v.loaded);
  for (const Signature& s : v.loaded->signatures())
    if (s.name == name) return s;
  std::string known;
  for (const Signature& s : v.loaded->signatures())
    fmt::format_to(std::back_inserter(known), "{}'{}'", known.empty() ? "" : ", ", s.name);
  fail_http(400, "model '{}' has no signature '{}': it has {}", v.model, name, known);
}

void check_shape(const Tensor& t, const TensorSpec& spec, const Version& v) {
  if (!fits(t.sizes(), spec))
    fail_http(400, "input '{}' of model '{}' must have shape {}, got {}", spec.name, v.model,
              shape_json(spec.shape), shape_json(t.sizes()));
}

/// Each input of the signature by its name in `object`; nothing else may stand there.
template <class Read>
void read_named(const dom::object& object, const Signature& s, const char* where, Read&& read) {
  check_unique_keys(object, where);
  for (const dom::key_value_pair field : object)
    if (std::none_of(s.inputs.begin(), s.inputs.end(),
                     [&](const TensorSpec& spec) { return spec.name == field.key; }))
      fail_http(400, "'{}' in {} is not an input of signature '{}'", field.key, where, s.name);
  for (size_t i = 0; i < s.inputs.size(); ++i) {
    dom::element value;
    if (object[s.inputs[i].name].get(value))
      fail_http(400, "missing input '{}' in {}", s.inputs[i].name, where);
    read(i, value);
  }
}

const TensorSpec& only_input(const Signature& s, const char* where) {
  if (s.inputs.size() != 1)
    fail_http(400, "{} must give the {} inputs of signature '{}' by name", where, s.inputs.size(),
              s.name);
  return s.inputs[0];
}

/// "inputs": a tensor, or an object of tensors by name.
std::vector<Tensor> read_columns(const dom::element& inputs, const Signature& s) {
  dom::object object;
  if (inputs.get(object)) {
    const TensorSpec& spec = only_input(s, "'inputs'");
    return {read_nested(inputs, spec.dtype, spec.name)};
  }
  std::vector<Tensor> tensors(s.inputs.size());
  read_named(object, s, "'inputs'", [&](size_t i, const dom::element& value) {
    tensors[i] = read_nested(value, s.inputs[i].dtype, s.inputs[i].name);
  });
  return tensors;
}

/// "instances": a list of values, or of objects of values by name.
std::vector<Tensor> read_instances(const dom::element& instances, const Signature& s) {
  dom::array list;
  if (instances.get(list)) fail_parse("'instances' must be a list");
  std::vector<std::vector<dom::element>> rows(s.inputs.size());
  size_t count = 0;
  bool named = false;
  for (const dom::element instance : list) {
    dom::object object;
    const bool is_object = !instance.get(object);
    if (count++ == 0) named = is_object;
    if (named != is_object) fail_parse("'instances' mixes objects and values");
    if (!named) {
      only_input(s, "each of 'instances'");
      rows[0].push_back(instance);
      continue;
    }
    read_named(object, s, "an instance",
               [&](size_t i, const dom::element& value) { rows[i].push_back(value); });
  }
  if (count == 0) fail_parse("'instances' is empty");
  if (s.inputs.empty()) fail_http(400, "signature '{}' has no inputs: use 'inputs': {{}}", s.name);
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < s.inputs.size(); ++i)
    tensors.push_back(read_rows(rows[i], s.inputs[i].dtype, s.inputs[i].name));
  return tensors;
}

void append_columns(std::string& out, const Signature& s, const std::vector<Tensor>& results) {
  out += "{\"outputs\":";
  if (results.size() == 1) {
    append_nested(out, results[0]);
  } else {
    out += '{';
    for (size_t i = 0; i < results.size(); ++i) {
      if (i) out += ',';
      append_string(out, s.outputs[i].name);
      out += ':';
      append_nested(out, results[i]);
    }
    out += '}';
  }
  out += '}';
}

void append_rows(std::string& out, const Signature& s, const std::vector<Tensor>& results,
                 int64_t rows) {
  for (size_t i = 0; i < results.size(); ++i)
    if (results[i].dim() == 0 || results[i].sizes()[0] != rows)
      fail_http(400,
                "output '{}' has shape {}, which is not one row for each of the {} instances: use "
                "'inputs' instead of 'instances'",
                s.outputs[i].name, shape_json(results[i].sizes()), rows);
  out += "{\"predictions\":[";
  for (int64_t row = 0; row < rows; ++row) {
    if (row) out += ',';
    if (results.size() == 1) {
      append_row(out, results[0], row);
      continue;
    }
    out += '{';
    for (size_t i = 0; i < results.size(); ++i) {
      if (i) out += ',';
      append_string(out, s.outputs[i].name);
      out += ':';
      append_row(out, results[i], row);
    }
    out += '}';
  }
  out += "]}";
}

void append_version(std::string& out, int64_t version, const char* state, const char* code,
                    std::string_view message) {
  if (out.back() != '[') out += ',';
  fmt::format_to(std::back_inserter(out),
                 R"({{"version":"{}","state":"{}","status":{{"error_code":"{}","error_message":)",
                 version, state, code);
  append_string(out, message);
  out += "}}";
}

void append_infos(std::string& out, const std::vector<TensorSpec>& specs) {
  out += '{';
  for (const TensorSpec& s : specs) {
    if (out.back() != '{') out += ',';
    append_string(out, s.name);
    fmt::format_to(std::back_inserter(out), R"(:{{"dtype":"{}","tensor_shape":{{"dim":[)",
                   tensorflow_name(s.dtype));
    for (const int64_t d : s.shape)
      fmt::format_to(std::back_inserter(out), R"({}{{"size":"{}","name":""}})",
                     out.back() == '[' ? "" : ",", d);
    out += R"(],"unknown_rank":false},"name":)";
    append_string(out, s.name);
    out += '}';
  }
  out += '}';
}

}  // namespace

Response predict(Context& c) {
  const Version& version = find_served(c);
  Execution execution(version, c.queued_ns);
  const char* what = "JSON Parse error";
  const dom::element& root = parse_json(c.request.body, c.limits.json_depth, what);
  dom::object request;
  if (root.get(request)) fail_parse("{}: the request must be an object", what);
  check_unique_keys(request, "the request");
  const Signature& signature = find_signature(version, request);
  dom::element instances, columns;
  const bool row_form = !request["instances"].get(instances);
  if (row_form == !request["inputs"].get(columns))
    fail_parse("the request must have either 'instances' or 'inputs'");
  const std::vector<Tensor> inputs =
      row_form ? read_instances(instances, signature) : read_columns(columns, signature);
  for (size_t i = 0; i < inputs.size(); ++i) check_shape(inputs[i], signature.inputs[i], version);
  const std::vector<Tensor> results = execution.run(signature, inputs);
  Response response;
  response.compressible = true;
  if (row_form) append_rows(response.body, signature, results, inputs[0].sizes()[0]);
  else append_columns(response.body, signature, results);
  execution.done();
  return response;
}

Response unsupported(Context&) {
  fail_http(501, "only :predict is supported; :classify and :regress take TensorFlow examples");
}

Response metadata(Context& c) {
  const Version& v = find_served(c);
  std::string out = R"({"model_spec":{"name":)";
  append_string(out, c.model);
  fmt::format_to(std::back_inserter(out),
                 R"(,"signature_name":"","version":"{}"}},"metadata":{{"signature_def":{{)"
                 R"("signature_def":{{)",
                 v.number);
  const Signature& usual = default_signature(*v.loaded);
  for (const Signature& s : v.loaded->signatures()) {
    if (out.back() != '{') out += ',';
    append_string(out, &s == &usual ? "serving_default" : std::string_view(s.name));
    out += R"(:{"inputs":)";
    append_infos(out, s.inputs);
    out += R"(,"outputs":)";
    append_infos(out, s.outputs);
    out += R"(,"method_name":"tensorflow/serving/predict"})";
  }
  return json_response(out += "}}}}");
}

Response status(Context& c) {
  const Entry* entry = c.catalog.entry(c.model);
  if (!c.version.empty() || !entry) find_served(c);
  std::string out = R"({"model_version_status":[)";
  for (const auto& [number, version] : entry->versions)
    if (c.version.empty() || version.get() == &c.served())
      append_version(out, number, "AVAILABLE", "OK", "");
  if (c.version.empty())
    for (const auto& [number, fault] : entry->faults)
      if (!entry->versions.contains(number)) append_version(out, number, "END", "UNKNOWN", fault);
  out += ']';
  if (c.version.empty()) {
    out += ",\"id\":";
    append_string(out, c.model);
    out += R"(,"object":"model","created":0,"owned_by":"fluxion","name":)";
    append_string(out, c.model);
    fmt::format_to(std::back_inserter(out), R"(,"ready":{})", c.ready && !entry->versions.empty());
  }
  return json_response(out += '}');
}

Response list(Context& c) {
  std::string names = R"({"models":[)", objects = R"(],"object":"list","data":[)";
  for (const auto& [name, entry] : c.catalog.models) {
    if (entry.versions.empty()) continue;
    if (names.back() != '[') {
      names += ',';
      objects += ',';
    }
    append_string(names, name);
    objects += "{\"id\":";
    append_string(objects, name);
    objects += R"(,"object":"model","created":0,"owned_by":"fluxion"})";
  }
  return json_response(names + objects + "]}");
}

}  // namespace fluxion::serve::tfs
