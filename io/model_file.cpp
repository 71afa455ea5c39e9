#include "io/model_file.h"

#include <charconv>
#include <cstring>

#include "graph/names.h"
#include "io/mapped_file.h"

namespace fluxion::io {
namespace {

using graph::InputKind;

constexpr int kFormat = 1;  // of what is written
constexpr int kReader = 1;  // fx.min_reader that this code can read
constexpr std::string_view kReserved = "__fx.", kReservedKey = "fx.", kConstant = "__fx.const.",
                           kTied = "fx.tied.";

bool same_memory(const Tensor& a, const Tensor& b) {
  return a.is_same(b) ||
         (a.data() == b.data() && a.dtype() == b.dtype() &&
          std::ranges::equal(a.sizes(), b.sizes()) && std::ranges::equal(a.strides(), b.strides()));
}

// Writing

/// All state by name, the model's own and what slots hold.
std::map<std::string, Tensor> all_state(const Model& model) {
  std::map<std::string, Tensor> state = model.state;
  for (const auto& [signature, g] : model.signatures)
    for (const graph::Input& i : g.inputs) {
      if (i.kind != InputKind::slot || !i.data.defined()) continue;
      const auto [at, added] = state.emplace(i.name, i.data);
      if (!added && !same_memory(at->second, i.data))
        fail(ErrorKind::value,
             "save: the state {} is another tensor in signature {} than elsewhere; state of one "
             "name is one tensor",
             graph::quoted(i.name), graph::quoted(signature));
    }
  for (const auto& [name, t] : state) {
    if (name.starts_with(kReserved) || name.empty())
      fail(ErrorKind::value, "save: {} cannot be the name of state: it is {}", graph::quoted(name),
           name.empty() ? "empty" : "reserved for the file's own tensors");
    if (!t.defined())
      fail(ErrorKind::value, "save: the state {} is undefined", graph::quoted(name));
  }
  return state;
}

std::string type_json(const graph::ValueType& t, const graph::Graph& g) {
  std::string shape;
  for (const graph::Dim& d : t.shape) {
    const std::string text = d.text(g.dims);
    shape += (shape.empty() ? "" : ",") + (d.is_constant() ? text : json_quoted(text));
  }
  return fmt::format(R"("dtype":"{}","shape":[{}])", safetensors_name(t.dtype), shape);
}

/// {"inputs": [...], "outputs": [...], "dims": {"B": [1, 64]}, "doc": "..."}.
std::string signature_json(const graph::Graph& g, const std::string& doc) {
  std::string in, out, dims;
  auto add = [&](std::string& list, const std::string& name, graph::ValueId v) {
    list += fmt::format(R"({}{{"name":{},{}}})", list.empty() ? "" : ",", json_quoted(name),
                        type_json(g.values[v], g));
  };
  for (const graph::Input& i : g.inputs)
    if (i.kind == InputKind::argument) add(in, i.name, i.value);
  for (const graph::Result& r : g.results) add(out, r.name, r.value);
  for (const graph::DimSymbol& d : g.dims)
    dims += fmt::format("{}{}:[{},{}]", dims.empty() ? "" : ",", json_quoted(d.name), d.low,
                        d.high == INT64_MAX ? "null" : std::to_string(d.high));
  return fmt::format(R"({{"inputs":[{}],"outputs":[{}],"dims":{{{}}},"doc":{}}})", in, out, dims,
                     json_quoted(doc));
}

std::string signatures_json(const Model& model) {
  std::string all;
  for (const auto& [name, g] : model.signatures) {
    const auto doc = model.metadata.find("doc." + name);
    all += (all.empty() ? "" : ",") + json_quoted(name) + ":" +
           signature_json(g, doc == model.metadata.end() ? "" : doc->second);
  }
  return "{" + all + "}";
}

Tensor bytes_tensor(const std::string& bytes) {
  Tensor t = empty(Ints({static_cast<int64_t>(bytes.size())}), DType::u8);
  std::memcpy(t.data<char>(), bytes.data(), bytes.size());
  return t;
}

void note_ties(const std::map<std::string, Tensor>& state, Metadata& metadata) {
  std::map<const void*, std::vector<std::string_view>> by_address;
  for (const auto& [name, t] : state) {
    if (t.numel() == 0) continue;
    std::vector<std::string_view>& names = by_address[t.data()];
    for (const std::string_view first : names)
      if (same_memory(state.at(std::string(first)), t)) {
        metadata.emplace(std::string(kTied) + name, first);
        break;
      }
    names.push_back(name);
  }
}

// Reading

struct File {
  std::string_view name;
  SafeTensors contents;
  std::map<std::string_view, const Tensor*> sections;  // "__fx." tensors

  [[noreturn]] void fail_with(std::string_view problem) const {
    fail(ErrorKind::runtime, "load: {}: {}", name, problem);
  }
  std::span<const std::byte> bytes(std::string_view section) const {
    const auto at = sections.find(section);
    if (at == sections.end()) return {};
    const Tensor& t = *at->second;
    if (t.dtype() != DType::u8 || t.dim() != 1)
      fail_with(fmt::format("{} must be one row of U8", section));
    return {t.data<const std::byte>(), static_cast<size_t>(t.numel())};
  }
  std::vector<Tensor> constants() const {
    std::vector<Tensor> all;
    for (;;) {
      const auto at = sections.find(fmt::format("{}{}", kConstant, all.size()));
      if (at == sections.end()) return all;
      all.push_back(*at->second);
    }
  }
};

/// A number in the metadata; raises if it is missing or none.
int version_at(const File& file, const char* key) {
  const auto at = file.contents.metadata.find(key);
  int v = 0;
  if (at == file.contents.metadata.end())
    file.fail_with(fmt::format(
        "no model: __metadata__ has no {}; tensors alone are read by load_state or as safetensors",
        key));
  const std::string& text = at->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (error != std::errc() || end != text.data() + text.size() || v < 1)
    file.fail_with(fmt::format("{} is not a version: {}", key, graph::quoted(text)));
  return v;
}

void check_versions(const File& file) {
  version_at(file, "fx.format");
  const int wanted = version_at(file, "fx.min_reader");
  if (wanted > kReader)
    file.fail_with(fmt::format(
        "needs a reader of version {}, this is {}: the file was written by a newer Fluxion", wanted,
        kReader));
}

void restore_ties(const File& file, std::map<std::string, Tensor>& state) {
  for (const auto& [key, target] : file.contents.metadata) {
    if (!key.starts_with(kTied)) continue;
    const auto at = state.find(key.substr(kTied.size())), to = state.find(target);
    if (at == state.end() || to == state.end() || at->second.dtype() != to->second.dtype() ||
        !std::ranges::equal(at->second.sizes(), to->second.sizes()))
      file.fail_with(fmt::format("{} cannot be one tensor with {}", key, graph::quoted(target)));
    at->second = to->second;
  }
}

/// Slots take the state of their name.
void bind(std::string_view file, Signatures& signatures,
          const std::map<std::string, Tensor>& state) {
  for (auto& [signature, g] : signatures)
    for (graph::Input& i : g.inputs) {
      if (i.kind != InputKind::slot) continue;
      const auto at = state.find(i.name);
      if (at == state.end()) continue;
      const Tensor& t = at->second;
      const graph::ValueType& type = g.values[i.value];
      bool fits = t.dtype() == type.dtype && static_cast<size_t>(t.dim()) == type.shape.size();
      for (size_t d = 0; fits && d < type.shape.size(); ++d)
        fits = !type.shape[d].is_constant() || type.shape[d].constant() == t.sizes()[d];
      if (!fits)
        fail(ErrorKind::runtime, "load: {}: the state {} is {}, signature {} wants {}", file,
             graph::quoted(i.name), fluxion::type_text(t), graph::quoted(signature),
             graph::type_text(type, g.dims));
      i.data = type.weak ? alias(t, t.sizes(), t.strides(), t.storage_offset()) : t;
      if (type.weak) i.data.impl()->flags |= kWeak;
    }
}

File opened(SafeTensors contents, std::string_view name) {
  File file{name, std::move(contents), {}};
  for (const NamedTensor& t : file.contents.tensors)
    if (t.name.starts_with(kReserved)) file.sections.emplace(t.name, &t.tensor);
  return file;
}

std::map<std::string, Tensor> state_of(const File& file) {
  std::map<std::string, Tensor> state;
  for (const NamedTensor& t : file.contents.tensors)
    if (!t.name.starts_with(kReserved)) state.emplace(t.name, t.tensor);
  restore_ties(file, state);
  return state;
}

Model model_of(SafeTensors contents, std::string_view name) {
  const File file = opened(std::move(contents), name);
  check_versions(file);
  Model model;
  if (!file.sections.contains("__fx.graph")) file.fail_with("no model: it has no __fx.graph");
  const auto graphs = file.bytes("__fx.graph"), locations = file.bytes("__fx.locs");
  try {
    model.signatures = read_graphs(graphs, locations, file.constants());
  } catch (const Error& e) {
    file.fail_with(e.what());
  }
  model.state = state_of(file);
  bind(name, model.signatures, model.state);
  for (const auto& [key, value] : file.contents.metadata)
    if (!key.starts_with(kReservedKey)) model.metadata.emplace(key, value);
  return model;
}

}  // namespace

FileImage model_image(const Model& model) {
  const std::map<std::string, Tensor> state = all_state(model);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, t] : state) tensors.push_back({name, t});
  std::vector<Tensor> constants;
  const GraphBytes bytes = write_graphs(model.signatures, constants);
  tensors.push_back({"__fx.graph", bytes_tensor(bytes.graphs)});
  tensors.push_back({"__fx.locs", bytes_tensor(bytes.locations)});
  for (size_t i = 0; i < constants.size(); ++i)
    tensors.push_back({fmt::format("{}{}", kConstant, i), constants[i]});

  Metadata metadata = model.metadata;
  for (const auto& [key, value] : metadata)
    if (key.starts_with(kReservedKey))
      fail(ErrorKind::value, "save: the metadata key {} is reserved", graph::quoted(key));
  note_ties(state, metadata);
  metadata.emplace("fx.format", std::to_string(kFormat));
  metadata.emplace("fx.min_reader", std::to_string(kFormat));
  metadata.emplace("fx.producer", "fluxion " FLUXION_VERSION);
  metadata.emplace("fx.signatures", signatures_json(model));
  return FileImage(tensors, metadata, Padding::align);
}

void save_model(const std::string& path, const Model& model) { model_image(model).write(path); }

Model parse_model(const Ref<Storage>& bytes, std::string_view name) {
  return model_of(parse_safetensors(bytes, name), name);
}

Model load_model(const std::string& path, Reading how) {
  return parse_model(how == Reading::mapped ? map_file(path) : read_file(path), path);
}

void load_state(Model& model, const std::string& path, Reading how) {
  const File file = opened(read_safetensors(path, how), path);
  std::map<std::string, Tensor> found = state_of(file), state;
  for (const auto& [name, old] : model.state) {
    const auto at = found.find(name);
    if (at == found.end())
      file.fail_with(fmt::format("it has no state {}, which the model needs", graph::quoted(name)));
    const Tensor& t = at->second;
    if (t.dtype() != old.dtype() || !std::ranges::equal(t.sizes(), old.sizes()))
      file.fail_with(fmt::format("the state {} is {}, the model wants {}", graph::quoted(name),
                                 fluxion::type_text(t), fluxion::type_text(old)));
    state.emplace(name, t);
  }
  bind(path, model.signatures, state);
  model.state = std::move(state);
}

}  // namespace fluxion::io
