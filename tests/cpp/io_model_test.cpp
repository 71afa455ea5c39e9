// Graphs and models as bytes: everything comes back, and what does not belong is an error that says so.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "graph/control.h"
#include "io/upgrade.h"
#include "io_models.h"

namespace fluxion::io {
namespace {

using graph::Graph;
using testing::contents_of;
using testing::error_of;
using testing::filled;
using testing::Folder;
using testing::sample_model;

std::span<const std::byte> bytes_of_text(const std::string& s) {
  return std::as_bytes(std::span(s));
}

Signatures one(Graph g) {
  Signatures s;
  s.emplace("g", std::move(g));
  return s;
}

struct RoundTrip {
  GraphBytes bytes;
  std::vector<Tensor> constants;
  Signatures back;
};
RoundTrip round_trip(const Signatures& s) {
  RoundTrip r;
  r.bytes = write_graphs(s, r.constants);
  r.back =
      read_graphs(bytes_of_text(r.bytes.graphs), bytes_of_text(r.bytes.locations), r.constants);
  return r;
}

TEST(GraphFile, EverySampleComesBack) {
  size_t count = 0;
  for (const testing::Sample& sample : testing::all_samples()) {
    if (!testing::has_static_shape(*sample.op)) continue;
    const Signatures s = one(testing::graph_of(sample));
    const RoundTrip r = round_trip(s);
    ASSERT_TRUE(graph::same(s.at("g"), r.back.at("g"))) << sample.text();
    EXPECT_EQ(s.at("g").nodes[0].attrs, r.back.at("g").nodes[0].attrs) << sample.text();
    std::vector<Tensor> constants;
    EXPECT_EQ(write_graphs(r.back, constants).graphs, r.bytes.graphs) << sample.text();
    ++count;
  }
  EXPECT_GT(count, 500u);
}

TEST(GraphFile, DimsConstantsAndSourceLinesComeBack) {
  const Signatures s = one(graph::parse(testing::kInferText));
  const RoundTrip r = round_trip(s);
  EXPECT_TRUE(graph::same(s.at("g"), r.back.at("g"))) << graph::to_text(r.back.at("g"));
  EXPECT_EQ(graph::to_text(r.back.at("g")), testing::kInferText);
  EXPECT_TRUE(r.constants.empty());

  const Signatures bare = read_graphs(bytes_of_text(r.bytes.graphs), {}, {});
  for (const graph::Node& n : bare.at("g").nodes) EXPECT_EQ(n.location, 0u);
}

TEST(GraphFile, RegionsComeBack) {
  const RoundTrip r = round_trip(one(graph::parse(testing::kControlText)));
  EXPECT_EQ(graph::to_text(r.back.at("g")), testing::kControlText);
}

TEST(GraphFile, EveryRealKeepsItsBits) {
  Graph g = graph::parse(
      "graph g() {\n %0: f64[2] = full() {value=0, integer=0, dtype=f64, shape=[2]}\n return %0\n}");
  for (const uint64_t bits :
       {uint64_t{0}, uint64_t{1} << 63, uint64_t{0x7ff0000000000000}, uint64_t{0xfff8000000000001},
        uint64_t{0x7ff0000000000001}, uint64_t{1}}) {
    std::memcpy(g.nodes[0].attrs.data(), &bits, 8);
    const RoundTrip r = round_trip(one(graph::copy(g)));
    EXPECT_EQ(r.back.at("g").nodes[0].attrs, g.nodes[0].attrs) << std::hex << bits;
  }
}

TEST(GraphFile, BigConstantsAreTensorsOfTheFileOnce) {
  const char* text = R"(graph g(x: f32[100]) {
  const %1: f32[100] = [ZEROS]
  const %2: f32[100] = [ZEROS]
  %3: f32[100] = add(x, %1)
  %4: f32[100] = add(%3, %2)
  return %4
}
)";
  std::string zeros = "0", filled_text = text;
  for (int i = 1; i < 100; ++i) zeros += ", 0";
  for (size_t at; (at = filled_text.find("ZEROS")) != std::string::npos;)
    filled_text.replace(at, 5, zeros);
  const RoundTrip r = round_trip(one(graph::parse(filled_text)));
  EXPECT_EQ(r.constants.size(), 1u);
  EXPECT_LT(r.bytes.graphs.size(), 1000u);
  EXPECT_EQ(r.back.at("g").inputs[1].data.data(), r.constants[0].data());
  EXPECT_EQ(error_of([&] { read_graphs(bytes_of_text(r.bytes.graphs), {}, {}); }),
            "signature \"g\": constant 0 is not in the file; there are 0");
}

std::string replaced(std::string s, std::string_view from, std::string_view to) {
  size_t count = 0;
  for (size_t at = 0; (at = s.find(from, at)) != std::string::npos; ++at, ++count)
    s.replace(at, from.size(), to);
  EXPECT_GT(count, 0u) << from;
  return s;
}

TEST(GraphFile, ErrorsNameWhatIsWrong) {
  const std::string bytes = round_trip(one(graph::parse(testing::kInferText))).bytes.graphs;
  auto error = [&](const std::string& b) {
    return error_of([&] { read_graphs(bytes_of_text(b), {}, {}); });
  };
  EXPECT_EQ(error(bytes), "(no error)");
  EXPECT_EQ(
      error(replaced(bytes, "linear", "linaer")),
      "signature \"g\": op linaer (version 1) is unknown: the file was written by a newer Fluxion or is damaged");
  EXPECT_EQ(error(replaced(bytes, "high", "hihg")),
            "signature \"g\": op pad (version 1) lacks the attribute high");
  EXPECT_EQ(error(replaced(bytes, "FXGR", "FXGS")),
            "__fx.graph is damaged: not a valid FlatBuffer 'FXGR'");
  EXPECT_EQ(error(bytes.substr(0, bytes.size() / 2)),
            "__fx.graph is damaged: not a valid FlatBuffer 'FXGR'");
  EXPECT_EQ(error(""), "__fx.graph is damaged: not a valid FlatBuffer 'FXGR'");
  EXPECT_EQ(error_of([&] { read_graphs(bytes_of_text(bytes), bytes_of_text(bytes), {}); }),
            "__fx.locs is damaged: not a valid FlatBuffer 'FXLO'");
}

TEST(GraphFile, BytesNeedNoAlignment) {
  const std::string bytes = "x" + round_trip(one(graph::parse(testing::kInferText))).bytes.graphs;
  EXPECT_EQ(read_graphs(bytes_of_text(bytes).subspan(1), {}, {}).size(), 1u);
}

// Upgrades

NodeRecord record(std::string_view op, uint16_t version) {
  NodeRecord n;
  n.op = op;
  n.version = version;
  return n;
}

TEST(Upgrade, EveryTableEntryLeadsToToday) {
  for (const Upgrade& u : upgrades()) {
    const OpDef* op = graph::find_graph_op(u.op);
    EXPECT_TRUE(!op || u.from < op->version) << u.op;
  }
  for (const OpDef* op : op_table())
    for (uint16_t v = 1; v < op->version; ++v)
      EXPECT_TRUE(std::ranges::any_of(
          upgrades(), [&](const Upgrade& u) { return u.op == op->name && u.from == v; }))
          << op->name << " of version " << v << " cannot be read";
}

TEST(Upgrade, ErrorsNameOpAndVersion) {
  auto error = [](NodeRecord n, std::span<const Upgrade> table) {
    return error_of([&] { upgrade(n, table); });
  };
  EXPECT_EQ(
      error(record("relu", 9), upgrades()),
      "op relu has version 9 in the file, known is 1: the file was written by a newer Fluxion");
  EXPECT_EQ(error(record("relu", 0), upgrades()),
            "op relu has version 0 in the file, which cannot be upgraded to 1");
  EXPECT_EQ(
      error(record("rel\"u", 1), upgrades()),
      "op \"rel\\\"u\" (version 1) is unknown: the file was written by a newer Fluxion or is damaged");
  const Upgrade circle[] = {{"a", 1, [](NodeRecord& n) { n = record("b", 1); }},
                            {"b", 1, [](NodeRecord& n) { n = record("a", 1); }}};
  EXPECT_EQ(error(record("a", 1), circle),
            "op b (version 1) is unknown: the file was written by a newer Fluxion or is damaged");
}

TEST(Upgrade, AnOpMayBecomeAnother) {
  const Upgrade table[] = {{"old_relu", 1, [](NodeRecord& n) { n.op = "older_relu"; }},
                           {"older_relu", 2, [](NodeRecord& n) { n.op = "relu", n.version = 1; }}};
  NodeRecord n = record("old_relu", 1);
  upgrade(n, table);
  EXPECT_EQ(n.op, "relu");
  EXPECT_EQ(n.version, 1);
}

// Models

TEST(ModelFile, EverythingComesBack) {
  Folder folder;
  const Model m = sample_model();
  save_model(folder / "m", m);
  for (const Reading how : {Reading::mapped, Reading::copied}) {
    const Model back = load_model(folder / "m", how);
    EXPECT_EQ(back.metadata, m.metadata);
    ASSERT_EQ(back.state.size(), m.state.size());
    for (const auto& [name, t] : m.state) {
      EXPECT_EQ(contents_of(back.state.at(name)), contents_of(t)) << name;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(back.state.at(name).data()) % 64, 0u) << name;
    }
    ASSERT_EQ(back.signatures.size(), 2u);
    for (const auto& [name, g] : m.signatures)
      EXPECT_TRUE(graph::same(g, back.signatures.at(name))) << name;
  }
}

TEST(ModelFile, SlotsOfOneNameAreOneTensorAndTiesStayTied) {
  Folder folder;
  save_model(folder / "m", sample_model());
  Model back = load_model(folder / "m");
  auto slot = [&](const char* signature, size_t index) {
    return back.signatures.at(signature).inputs[index].data;
  };
  EXPECT_TRUE(slot("infer", 2).is_same(slot("train.step", 2)));
  EXPECT_TRUE(slot("infer", 2).is_same(back.state.at("fc.weight")));
  EXPECT_TRUE(back.state.at("tied").is_same(back.state.at("fc.weight")));
}

TEST(ModelFile, AStepWrittenToStateIsWhatTheNextFileHas) {
  Folder folder;
  save_model(folder / "m", sample_model());
  Model m = load_model(folder / "m");
  const Graph& step = m.signatures.at("train.step");
  const Tensor arguments[] = {testing::random_tensor({Shape{5, 4}}, 3),
                              testing::random_tensor({Shape{5, 3}}, 4)};
  const std::vector<Tensor> out = graph::interpret(step, arguments);
  for (size_t i = 0; i < step.writes.size(); ++i) {
    const Tensor& to = step.inputs[step.writes[i].input].data;
    begin_write(to.storage());
    std::memcpy(to.data<char>(), out[1 + i].data<char>(), static_cast<size_t>(to.nbytes()));
  }
  const std::string before = folder.text("m");
  save_model(folder / "n", m);
  EXPECT_EQ(folder.text("m"), before);
  const Model next = load_model(folder / "n");
  EXPECT_EQ(next.state.at("optim.step").item_int(), 8);
  EXPECT_EQ(contents_of(next.state.at("fc.bias")), contents_of(out[1]));
}

TEST(ModelFile, OtherWeightsForTheSameGraphs) {
  Folder folder;
  Model m = sample_model(), other = sample_model();
  for (auto& [name, g] : other.signatures)
    for (graph::Input& i : g.inputs)
      if (i.kind == graph::InputKind::slot) i.data = Tensor();
  other.state["fc.bias"] = testing::random_tensor({Shape{3}}, 99);
  save_model(folder / "other", other);
  load_state(m, folder / "other");
  EXPECT_EQ(contents_of(m.state.at("fc.bias")), contents_of(other.state.at("fc.bias")));
  EXPECT_TRUE(m.signatures.at("infer").inputs[3].data.is_same(m.state.at("fc.bias")));

  const Tensor kept = m.state.at("fc.bias");
  other.state["fc.bias"] = filled({4}, DType::f32);
  save_model(folder / "other", other);
  EXPECT_EQ(
      error_of([&] { load_state(m, folder / "other"); }),
      fmt::format("load: {}: the state \"fc.bias\" is float32 (4,), the model wants float32 (3,)",
                  folder / "other"));
  other.state.erase("fc.bias");
  save_model(folder / "other", other);
  EXPECT_EQ(error_of([&] { load_state(m, folder / "other"); }),
            fmt::format("load: {}: it has no state \"fc.bias\", which the model needs",
                        folder / "other"));
  EXPECT_TRUE(m.state.at("fc.bias").is_same(kept));
}

TEST(ModelFile, SignaturesAreReadableWithoutUs) {
  Folder folder;
  save_model(folder / "m", sample_model());
  const Metadata metadata = read_safetensors(folder / "m").metadata;
  EXPECT_EQ(
      metadata.at("fx.signatures"),
      R"({"infer":{"inputs":[{"name":"x","dtype":"F32","shape":["B",4]},{"name":"mask","dtype":"BOOL","shape":["B",3]}],"outputs":[{"name":"y","dtype":"F32","shape":["B",3]},{"name":"flat","dtype":"F32","shape":["3*B + 2"]},{"name":"","dtype":"BOOL","shape":["B",3]}],"dims":{"B":[1,64]},"doc":"Three numbers \"a\", b and ü."},"train.step":{"inputs":[{"name":"x","dtype":"F32","shape":["B",4]},{"name":"target","dtype":"F32","shape":["B",3]}],"outputs":[{"name":"loss","dtype":"F32","shape":[]}],"dims":{"B":[1,64]},"doc":""}})");
  EXPECT_EQ(metadata.at("fx.format"), "1");
  EXPECT_EQ(metadata.at("fx.tied.tied"), "fc.weight");
}

TEST(ModelFile, WhatCannotBeSaved) {
  Folder folder;
  auto error = [&](auto change) {
    Model m = sample_model();
    change(m);
    return error_of([&] { save_model(folder / "m", m); });
  };
  EXPECT_EQ(error([](Model& m) { m.state["fc.bias"] = filled({3}, DType::f32); }),
            "save: the state \"fc.bias\" is another tensor in signature \"infer\" than elsewhere; "
            "state of one name is one tensor");
  EXPECT_EQ(
      error([](Model& m) { m.state["__fx.graph"] = filled({3}, DType::f32); }),
      "save: \"__fx.graph\" cannot be the name of state: it is reserved for the file's own tensors");
  EXPECT_EQ(error([](Model& m) { m.metadata["fx.format"] = "2"; }),
            "save: the metadata key \"fx.format\" is reserved");
  EXPECT_EQ(error([](Model& m) { m.signatures.at("infer").nodes[0].in[0] = 99; }).substr(0, 12),
            "graph infer,");
  EXPECT_FALSE(std::filesystem::exists(folder / "m"));
}

TEST(ModelFile, WhatCannotBeLoaded) {
  Folder folder;
  const Model m = sample_model();
  auto error = [&](auto change) {
    save_model(folder / "m", m);
    SafeTensors f = read_safetensors(folder / "m", Reading::copied);
    change(f);
    FileImage(f.tensors, f.metadata).write(folder / "m");
    const std::string text = error_of([&] { load_model(folder / "m"); });
    const std::string prefix = fmt::format("load: {}: ", folder / "m");
    EXPECT_TRUE(text.starts_with(prefix)) << text;
    return text.substr(std::min(text.size(), prefix.size()));
  };
  auto tensor = [](SafeTensors& f, std::string_view name) -> Tensor& {
    return std::ranges::find(f.tensors, name, &NamedTensor::name)->tensor;
  };
  EXPECT_EQ(error([](SafeTensors& f) { f.metadata["fx.min_reader"] = "2"; }),
            "needs a reader of version 2, this is 1: the file was written by a newer Fluxion");
  EXPECT_EQ(error([](SafeTensors& f) { f.metadata["fx.min_reader"] = "1x"; }),
            "fx.min_reader is not a version: \"1x\"");
  EXPECT_EQ(
      error([](SafeTensors& f) { f.metadata.clear(); }),
      "no model: __metadata__ has no fx.format; tensors alone are read by load_state or as safetensors");
  EXPECT_EQ(error([](SafeTensors& f) { f.metadata["fx.tied.tied"] = "fc.bias"; }),
            "fx.tied.tied cannot be one tensor with \"fc.bias\"");
  EXPECT_EQ(error([&](SafeTensors& f) { tensor(f, "__fx.graph") = filled({8}, DType::f32); }),
            "__fx.graph must be one row of U8");
  EXPECT_EQ(error([&](SafeTensors& f) { tensor(f, "fc.bias") = filled({4}, DType::f32); }),
            "the state \"fc.bias\" is float32 (4,), signature \"infer\" wants f32[3]");
  EXPECT_EQ(error([&](SafeTensors& f) {
              std::erase_if(f.tensors, [](const NamedTensor& t) { return t.name == "__fx.graph"; });
            }),
            "no model: it has no __fx.graph");
}

TEST(ModelFile, SourceLinesMayBeDropped) {
  Folder folder;
  save_model(folder / "m", sample_model());
  SafeTensors f = read_safetensors(folder / "m");
  std::erase_if(f.tensors, [](const NamedTensor& t) { return t.name == "__fx.locs"; });
  FileImage(f.tensors, f.metadata).write(folder / "n");
  EXPECT_EQ(load_model(folder / "n").signatures.at("infer").nodes[0].location, 0u);
  EXPECT_NE(load_model(folder / "m").signatures.at("infer").nodes[0].location, 0u);
}

}  // namespace
}  // namespace fluxion::io
