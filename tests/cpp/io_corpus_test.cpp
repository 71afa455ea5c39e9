// Files of older versions: each tests/corpus/NAME.fluxion loads, and every signature gives the bits that stand in
// NAME.expected.safetensors ("in.SIGNATURE.ARGUMENT", "out.SIGNATURE.NUMBER": results, then writes).
//
// With FLUXION_RECORD set, models that have no file yet get one. A file is never rewritten: it shows that today's
// code reads what was written then.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "io_models.h"

namespace fluxion::io {
namespace {

namespace fs = std::filesystem;
using testing::contents_of;
using testing::sample_model;

const fs::path kCorpus = FLUXION_CORPUS;

std::vector<Tensor> arguments_for(const graph::Graph& g, uint64_t seed) {
  std::vector<Tensor> arguments;
  const std::vector<int64_t> sizes(g.dims.size(), 5);
  for (const graph::Input& i : g.inputs) {
    if (i.kind != graph::InputKind::argument) continue;
    const graph::ValueType& t = g.values[i.value];
    SampleSink::Input spec;
    for (const graph::Dim& d : t.shape) spec.shape.push_back(d.evaluate(sizes));
    spec.dtype = t.dtype;
    if (t.dtype == DType::bool_) spec.low = 0, spec.high = 1;
    arguments.push_back(testing::random_tensor(spec, seed + arguments.size()));
  }
  return arguments;
}

void record_outputs(const Model& m, const std::map<std::string, std::vector<Tensor>>& arguments,
                    const std::string& path) {
  std::vector<NamedTensor> expected;
  for (const auto& [name, g] : m.signatures) {
    const std::vector<Tensor>& in = arguments.at(name);
    for (size_t i = 0; i < in.size(); ++i)
      expected.push_back({fmt::format("in.{}.{}", name, i), in[i]});
    const std::vector<Tensor> out = graph::interpret(g, in);
    for (size_t i = 0; i < out.size(); ++i)
      expected.push_back({fmt::format("out.{}.{}", name, i), out[i]});
  }
  FileImage(expected, {}).write(path);
}

bool runs(const graph::Graph& g, const std::vector<Tensor>& in) {
  try {
    graph::interpret(g, in);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// The first sample of every op that runs as a graph by itself, each as a signature.
Model op_model(std::map<std::string, std::vector<Tensor>>& arguments) {
  Model m;
  for (const testing::Sample& s : testing::all_samples()) {
    if (!testing::has_static_shape(*s.op) || m.signatures.contains(s.op->name)) continue;
    graph::Graph g = testing::graph_of(s);
    std::vector<Tensor> in = testing::random_inputs(s);
    if (!runs(g, in)) continue;
    m.signatures.emplace(s.op->name, std::move(g));
    arguments.emplace(s.op->name, std::move(in));
  }
  return m;
}

void record(const std::string& name, const Model& m,
            const std::map<std::string, std::vector<Tensor>>& arguments) {
  const fs::path file = kCorpus / (name + ".fluxion");
  if (fs::exists(file)) return;
  save_model(file.string(), m);
  record_outputs(m, arguments, (kCorpus / (name + ".expected.safetensors")).string());
}

void record_missing() {
  std::map<std::string, std::vector<Tensor>> arguments;
  const Model model = sample_model();
  for (const auto& [name, g] : model.signatures) arguments[name] = arguments_for(g, 10);
  record("step-1", model, arguments);
  Model control;
  control.signatures.emplace("control", graph::parse(testing::kControlText));
  arguments = {{"control",
                {scalar(int64_t{1}, DType::bool_), scalar(int64_t{3}, DType::i64),
                 testing::random_tensor({Shape{2}}, 1), testing::random_tensor({Shape{4, 2}}, 2)}}};
  record("control-1", control, arguments);
  arguments.clear();
  const Model ops = op_model(arguments);
  record("ops-1", ops, arguments);
}

TEST(Corpus, EveryFileGivesItsBits) {
  if (std::getenv("FLUXION_RECORD")) record_missing();
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(kCorpus)) {
    if (entry.path().extension() != ".fluxion") continue;
    ++files;
    const Model m = load_model(entry.path().string());
    std::map<std::string, Tensor> expected;
    const fs::path other = fs::path(entry.path()).replace_extension(".expected.safetensors");
    for (const NamedTensor& t : read_safetensors(other.string()).tensors)
      expected.emplace(t.name, t.tensor);
    for (const auto& [name, g] : m.signatures) {
      std::vector<Tensor> in;
      while (expected.contains(fmt::format("in.{}.{}", name, in.size())))
        in.push_back(expected.at(fmt::format("in.{}.{}", name, in.size())));
      const std::vector<Tensor> out = graph::interpret(g, in);
      for (size_t i = 0; i < out.size(); ++i) {
        const Tensor& want = expected.at(fmt::format("out.{}.{}", name, i));
        EXPECT_EQ(out[i].dtype(), want.dtype()) << entry.path() << " " << name;
        EXPECT_EQ(shape_text(out[i].sizes()), shape_text(want.sizes()))
            << entry.path() << " " << name;
        EXPECT_EQ(contents_of(out[i]), contents_of(want))
            << entry.path() << " " << name << " result " << i;
      }
    }
  }
  EXPECT_GE(files, 3u);
}

}  // namespace
}  // namespace fluxion::io
