// POST /v2/models/*/infer.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "serve/execution.h"
#include "serve/json.h"
#include "serve/json_tensors.h"
#include "serve/oip.h"

namespace fluxion::serve::oip {

namespace {

namespace dom = simdjson::dom;

constexpr const char* kBuffer = "failed to parse the request JSON buffer";

struct RequestedOutput {
  size_t index;
  bool binary;
};

/// One infer request, as it is read.
struct Inference {
  Context& context;
  const Version& version;
  const Signature& signature;
  std::string_view binary;  // what is left of the bytes behind the JSON
  std::optional<std::string_view> id = {};
  bool binary_outputs = false;  // of outputs that do not say
  std::vector<Tensor> inputs = {};
  std::vector<RequestedOutput> outputs = {};

  std::string_view model() const { return version.model; }
  std::string request_id() const {
    return fmt::format("[request id: {}] ", id && !id->empty() ? *id : "<id_unknown>");
  }
};

std::optional<dom::element> find(const dom::object& object, const char* key) {
  dom::element value;
  if (object[key].get(value)) return {};
  return value;
}

std::string_view string_at(const dom::object& object, const char* key, const char* where) {
  const auto value = find(object, key);
  if (!value)
    fail_parse("Unable to parse '{}': attempt to access non-existing object member '{}'", where,
               key);
  std::string_view text;
  if (value->get(text)) fail_parse("Unable to parse '{}': '{}' must be a string", where, key);
  return text;
}

dom::object object_of(const dom::element& e, const char* where) {
  dom::object object;
  if (e.get(object)) fail_parse("Unable to parse '{}': it must be an object", where);
  check_unique_keys(object, where);
  return object;
}

dom::array array_of(const dom::element& e, const char* where) {
  dom::array list;
  if (e.get(list)) fail_parse("Unable to parse '{}': it must be a list", where);
  return list;
}

/// The object `parameters` of an input, output or request, if it has one.
std::optional<dom::object> parameters_of(const dom::object& object) {
  const auto value = find(object, "parameters");
  if (!value) return {};
  const dom::object parameters = object_of(*value, "parameters");
  for (const dom::key_value_pair p : parameters)
    if (p.value.is_array() || p.value.is_object() || p.value.is_null())
      fail_parse("parameter '{}' must be a string, a number or a boolean", p.key);
  return parameters;
}

bool flag(const dom::object& parameters, const char* key, bool otherwise) {
  const auto value = find(parameters, key);
  bool on = otherwise;
  if (value && value->get(on)) fail_parse("parameter '{}' must be true or false", key);
  return on;
}

void refuse_shared_memory(const std::optional<dom::object>& parameters) {
  if (parameters && find(*parameters, "shared_memory_region"))
    fail_http(400, "shared memory is not supported: send tensors as JSON or as binary data");
}

Shape shape_of(const dom::object& input, std::string_view name) {
  const auto value = find(input, "shape");
  if (!value)
    fail_parse("Unable to parse 'shape': attempt to access non-existing object member 'shape'");
  Shape shape;
  for (const dom::element size : array_of(*value, "shape")) {
    int64_t n;
    if (size.get(n) || n < 0)
      fail_parse("Unable to parse 'shape' of input '{}': sizes are non-negative integers", name);
    if (shape.size() == static_cast<size_t>(kMaxRank))
      fail_http(400, "input '{}': the rank exceeds {}", name, kMaxRank);
    shape.push_back(n);
  }
  return shape;
}

/// The next `n` bytes behind the JSON.
std::string_view take_binary(Inference& r, std::string_view name, uint64_t n) {
  if (n > r.binary.size())
    fail_http(400, "unexpected size for input '{}', expecting {} additional bytes for model '{}'",
              name, n - r.binary.size(), r.model());
  const std::string_view bytes = r.binary.substr(0, n);
  r.binary.remove_prefix(n);
  return bytes;
}

Tensor tensor_of_bytes(std::string_view bytes, DType dtype, Ints shape) {
  Tensor t = empty(shape, dtype);
  char* to = t.data<char>();
  if (dtype == DType::bool_)
    std::transform(bytes.begin(), bytes.end(), to, [](char c) { return c != 0; });
  else if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
  return t;
}

Tensor read_binary(Inference& r, const TensorSpec& spec, Ints shape, const dom::element& size) {
  uint64_t n;
  if (size.get(n)) fail_parse("parameter 'binary_data_size' must be a non-negative integer");
  const std::string_view bytes = take_binary(r, spec.name, n);
  const int64_t wanted = element_count(shape);
  if (wanted > static_cast<int64_t>(r.context.request.body.size()) ||
      static_cast<uint64_t>(wanted * size_of(spec.dtype)) != n)
    fail_http(400,
              "{}input byte size mismatch for input '{}' for model '{}'. Expected {} elements of "
              "{} bytes, got {} bytes",
              r.request_id(), spec.name, r.model(), wanted, size_of(spec.dtype), n);
  return tensor_of_bytes(bytes, spec.dtype, shape);
}

Tensor read_json(Inference& r, const dom::object& input, const TensorSpec& spec, Ints shape) {
  if (is_half(spec.dtype))
    fail_http(400,
              "receiving {} data via JSON is not supported. Please use the binary data format for "
              "input {}",
              oip_name(spec.dtype), spec.name);
  const auto data = find(input, "data");
  if (!data)
    fail_parse("Unable to parse 'data': input '{}' has neither 'data' nor 'binary_data_size'",
               spec.name);
  return read_flat(*data, spec.dtype, shape, spec.name, r.context.request.body.size());
}

size_t input_index(const Inference& r, std::string_view name) {
  const auto& specs = r.signature.inputs;
  const auto at =
      std::find_if(specs.begin(), specs.end(), [&](const TensorSpec& s) { return s.name == name; });
  if (at == specs.end())
    fail_http(400, "{}unexpected inference input '{}' for model '{}'", r.request_id(), name,
              r.model());
  return static_cast<size_t>(at - specs.begin());
}

void read_input(Inference& r, const dom::object& input) {
  const std::string_view name = string_at(input, "name", "inputs");
  const std::string_view datatype = string_at(input, "datatype", "inputs");
  if (!is_oip_datatype(datatype)) fail_http(400, "invalid datatype for input {}", name);
  const Shape sizes = shape_of(input, name);
  const Ints shape(sizes.data(), sizes.size());
  const size_t index = input_index(r, name);
  const TensorSpec& spec = r.signature.inputs[index];
  if (r.inputs[index].defined()) fail_http(400, "{}input '{}' stands twice", r.request_id(), name);
  if (datatype != oip_name(spec.dtype))
    fail_http(400, "{}inference input '{}' data-type is '{}', but model '{}' expects '{}'",
              r.request_id(), name, datatype, r.model(), oip_name(spec.dtype));
  if (!fits(shape, spec))
    fail_http(400, "{}unexpected shape for input '{}' for model '{}'. Expected {}, got {}.",
              r.request_id(), name, r.model(), shape_json(spec.shape), shape_json(shape));
  const auto parameters = parameters_of(input);
  refuse_shared_memory(parameters);
  const auto size = parameters ? find(*parameters, "binary_data_size") : std::nullopt;
  if (size && find(input, "data"))
    fail_http(400, "input '{}' has both 'data' and 'binary_data_size'", name);
  r.inputs[index] = size ? read_binary(r, spec, shape, *size) : read_json(r, input, spec, shape);
}

void check_inputs(const Inference& r, size_t given) {
  std::string got, missing;
  for (size_t i = 0; i < r.inputs.size(); ++i) {
    std::string& list = r.inputs[i].defined() ? got : missing;
    fmt::format_to(std::back_inserter(list), "{}'{}'", list.empty() ? "" : ",",
                   r.signature.inputs[i].name);
  }
  if (!missing.empty())
    fail_http(400,
              "{}expected {} inputs but got {} inputs for model '{}'. Got input(s) [{}], but "
              "missing required input(s) [{}]. Please provide all required input(s).",
              r.request_id(), r.inputs.size(), given, r.model(), got, missing);
  if (!r.binary.empty())
    fail_http(400, "unexpected additional input data for model '{}'", r.model());
}

void want_output(Inference& r, size_t index, bool binary) {
  const TensorSpec& spec = r.signature.outputs[index];
  if (!binary && is_half(spec.dtype))
    fail_http(400,
              "sending {} data via JSON is not supported. Please use the binary data format for "
              "output {}",
              oip_name(spec.dtype), spec.name);
  for (const RequestedOutput& o : r.outputs)
    if (o.index == index) fail_http(400, "output '{}' is requested twice", spec.name);
  r.outputs.push_back({index, binary});
}

void read_output(Inference& r, const dom::object& output) {
  const std::string_view name = string_at(output, "name", "outputs");
  const auto& specs = r.signature.outputs;
  const auto at =
      std::find_if(specs.begin(), specs.end(), [&](const TensorSpec& s) { return s.name == name; });
  if (at == specs.end())
    fail_http(400, "unexpected inference output '{}' for model '{}'", name, r.model());
  bool binary = r.binary_outputs;
  if (const auto parameters = parameters_of(output)) {
    refuse_shared_memory(parameters);
    if (find(*parameters, "classification"))
      fail_http(400, "classification is not supported: request output '{}' as a tensor", name);
    binary = flag(*parameters, "binary_data", binary);
  }
  want_output(r, static_cast<size_t>(at - specs.begin()), binary);
}

void read_request(Inference& r, std::string_view json) {
  const dom::element& root = parse_json(json, r.context.limits.json_depth, kBuffer);
  const dom::object request = object_of(root, "request");
  if (find(request, "id")) r.id = string_at(request, "id", "request");
  if (const auto parameters = parameters_of(request)) {
    for (const dom::key_value_pair p : *parameters)
      if (p.key.starts_with("triton_") && p.key != "triton_enable_empty_final_response")
        fail_http(400, "parameter '{}': keys that start with 'triton_' are reserved", p.key);
    r.binary_outputs = flag(*parameters, "binary_data_output", false);
  }
  const auto inputs = find(request, "inputs");
  if (!inputs)
    fail_parse("Unable to parse 'inputs': attempt to access non-existing object member 'inputs'");
  size_t given = 0;
  for (const dom::element input : array_of(*inputs, "inputs")) {
    read_input(r, object_of(input, "inputs"));
    ++given;
  }
  check_inputs(r, given);
  if (const auto outputs = find(request, "outputs"))
    for (const dom::element output : array_of(*outputs, "outputs"))
      read_output(r, object_of(output, "outputs"));
}

/// Raw binary: the whole body is the one input; a single unknown size follows from its length, and
/// a leading one before that is a batch of 1.
void read_raw(Inference& r) {
  if (r.signature.inputs.size() != 1)
    fail_http(400, "model '{}' has {} inputs: a raw binary request needs exactly one", r.model(),
              r.signature.inputs.size());
  const TensorSpec& spec = r.signature.inputs[0];
  std::vector<int64_t> shape = spec.shape;
  int64_t unknown = std::count(shape.begin(), shape.end(), -1);
  if (unknown > 1 && shape[0] == -1) {
    shape[0] = 1;
    --unknown;
  }
  if (unknown > 1)
    fail_http(400,
              "the shape {} of input '{}' has more than one variable-sized dimension: a raw binary "
              "request cannot tell it",
              shape_json(spec.shape), spec.name);
  const auto at = std::find(shape.begin(), shape.end(), -1);
  if (at != shape.end()) *at = 1;
  const int64_t block = element_count({shape.data(), shape.size()}) * size_of(spec.dtype);
  const auto bytes = static_cast<int64_t>(r.binary.size());
  if (at != shape.end()) *at = block ? bytes / block : 0;
  if (at == shape.end() || !block ? bytes != block : bytes % block)
    fail_http(400, "the {} bytes of the body are not a tensor {} of {} for input '{}'", bytes,
              shape_json(spec.shape), oip_name(spec.dtype), spec.name);
  r.inputs[0] = tensor_of_bytes(take_binary(r, spec.name, r.binary.size()), spec.dtype,
                                {shape.data(), shape.size()});
  r.binary_outputs = true;
}

/// How many bytes of the body are JSON.
size_t json_bytes(const Request& request) {
  const size_t whole = request.body.size();
  if (!request.json_bytes) return whole;
  const std::string& text = *request.json_bytes;
  int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error == std::errc::invalid_argument || end != text.data() + text.size())
    fail_http(400, "Unable to parse Inference-Header-Content-Length, got: {}", text);
  if (error != std::errc() || n < 0 || static_cast<uint64_t>(n) > whole)
    fail_http(400, "inference header size should be in range (0, {}), got: {}", whole, text);
  return static_cast<size_t>(n);
}

void append_output(std::string& out, const TensorSpec& spec, const Tensor& t, bool binary) {
  out += "{\"name\":";
  append_string(out, spec.name);
  out.append(",\"datatype\":\"").append(oip_name(spec.dtype)).append("\",\"shape\":");
  out += shape_json(t.sizes());
  if (binary) {
    out += ",\"parameters\":{\"binary_data_size\":";
    append_integer(out, t.nbytes());
    out += "}}";
  } else {
    out += ",\"data\":";
    append_flat(out, t);
    out += '}';
  }
}

Response answer(const Inference& r, const std::vector<Tensor>& results) {
  Response response;
  response.compressible = true;
  std::string& out = response.body;
  out = '{';
  if (r.id && !r.id->empty()) {
    out += "\"id\":";
    append_string(out, *r.id);
    out += ',';
  }
  out += "\"model_name\":";
  append_string(out, r.model());
  out += ",\"model_version\":\"";
  append_integer(out, r.version.number);
  out += "\",\"outputs\":[";
  bool any_binary = false;
  for (const RequestedOutput& o : r.outputs) {
    if (out.back() != '[') out += ',';
    append_output(out, r.signature.outputs[o.index], results[o.index], o.binary);
    any_binary |= o.binary && results[o.index].numel() > 0;
  }
  out += "]}";
  if (!any_binary) return response;
  response.json_bytes = out.size();
  response.content_type = "application/octet-stream";
  for (const RequestedOutput& o : r.outputs)
    if (o.binary) out.append(results[o.index].data<char>(), results[o.index].nbytes());
  return response;
}

}  // namespace

Response infer(Context& c) {
  const Version& version = c.served();
  const Signature& signature = default_signature(*version.loaded);
  Execution execution(version, c.queued_ns);
  const size_t json = json_bytes(c.request);
  const std::string_view body = c.request.body;
  Inference r{c, version, signature, body.substr(json)};
  r.inputs.resize(signature.inputs.size());
  if (json == 0) read_raw(r);
  else read_request(r, body.substr(0, json));
  if (r.outputs.empty())
    for (size_t i = 0; i < signature.outputs.size(); ++i) want_output(r, i, r.binary_outputs);
  Response response = answer(r, execution.run(signature, r.inputs));
  execution.done();
  return response;
}

}  // namespace fluxion::serve::oip
