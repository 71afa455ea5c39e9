// What a graph must fulfil, and what it means.
#include <gtest/gtest.h>

#include "graph/attrs.h"
#include "graph_samples.h"
#include "ops/functions.h"

namespace fluxion::testing {
namespace {

using namespace graph;

std::string error_of(auto f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::value) << e.what();
    return e.what();
  }
  return "no error";
}

TEST(GraphVerify, EverySampleIsValid) {
  for (const Sample& s : all_samples())
    if (has_static_shape(*s.op)) {
      EXPECT_EQ(error_of([&] { verify(graph_of(s)); }), "no error") << s.text();
    }
}

TEST(GraphVerify, InterpretedIsEager) {
  for (const Sample& s : all_samples()) {
    if (!has_static_shape(*s.op)) continue;
    std::vector<Tensor> in = random_inputs(s), eager = run(s, in);
    Graph g = graph_of(s);
    std::erase_if(g.results, [&](const graph::Result& r) {
      return !eager[static_cast<size_t>(std::stoi(r.name.substr(1)))].defined();
    });
    std::vector<Tensor> out = interpret(g, in);
    for (size_t i = 0; i < out.size(); ++i) {
      const Tensor& e = eager[static_cast<size_t>(std::stoi(g.results[i].name.substr(1)))];
      EXPECT_EQ(bytes_of_tensor(out[i]), bytes_of_tensor(e)) << s.text();
      for (const Tensor& t : in) EXPECT_NE(t.storage(), out[i].storage()) << s.text();
    }
  }
}

Graph linear_graph() {
  return parse(R"(graph f(x: f32[B, 3], w: f32[2, 3]) dims(B = 1..64) {
  %2: f32[B, 2] = linear(x, w) @ net.py:7 "fc"
  %3: f32[2*B] = reshape(%2) {shape=[2*B]}
  return y = %3
})");
}

TEST(GraphVerify, SymbolicShapes) {
  Graph g = linear_graph();
  verify(g);
  g.values[3].shape[0] = Dim::symbol(0) * Dim::symbol(0);
  EXPECT_NE(error_of([&] { verify(g); }).find("node 1 (reshape): %3 is said to be f32[B*B]"),
            std::string::npos)
      << error_of([&] { verify(g); });
  g = linear_graph();
  g.nodes[1].symbolic.clear();  // fits the least size only
  EXPECT_NE(error_of([&] { verify(g); }), "no error");
}

TEST(GraphVerify, Specialized) {
  int64_t sizes[] = {5};
  Graph g = specialize(linear_graph(), sizes);
  verify(g);
  EXPECT_EQ(to_text(g), R"(graph f(x: f32[5, 3], w: f32[2, 3]) {
  %2: f32[5, 2] = linear(x, w) @ net.py:7 "fc"
  %3: f32[10] = reshape(%2) {shape=[10]}
  return y = %3
}
)");
  sizes[0] = 65;
  EXPECT_EQ(error_of([&] { specialize(linear_graph(), sizes); }),
            "graph f: dim B is 65; its range is 1..64");
}

TEST(GraphVerify, InterpretBindsDims) {
  Graph g = linear_graph();
  for (int64_t b : {1, 2, 7}) {
    Tensor in[] = {random_tensor({Shape{b, 3}}, 1), random_tensor({Shape{2, 3}}, 2)};
    std::vector<Tensor> out = interpret(g, in);
    EXPECT_EQ(bytes_of_tensor(out[0]), bytes_of_tensor(linear(in[0], in[1], {})));
  }
  Tensor bad[] = {random_tensor({Shape{2, 4}}, 1), random_tensor({Shape{2, 3}}, 2)};
  EXPECT_EQ(error_of([&] { interpret(g, bad); }),
            "graph f: \"x\" must be f32[B, 3], got f32[2, 4]");
  Tensor large[] = {random_tensor({Shape{65, 3}}, 1), random_tensor({Shape{2, 3}}, 2)};
  EXPECT_EQ(error_of([&] { interpret(g, large); }), "graph f: dim B is 65; its range is 1..64");
  EXPECT_EQ(error_of([&] { interpret(g, {}); }), "graph f: takes 2 arguments, got 0");
}

TEST(GraphVerify, InterpretReturnsFreshMemory) {
  Graph g = parse(R"(graph f(x: f32[2, 3]) slots(n = "n": f32[2, 3]) {
  %2: f32[3, 2] = permute(x) {dims=[1, 0]}
  return x, x, %2, n
  write n = x
})");
  EXPECT_EQ(error_of([&] {
              Tensor x = random_tensor({Shape{2, 3}}, 1);
              interpret(g, {&x, 1});
            }),
            "graph f: slot \"n\" is not bound");
  g.inputs[1].data = random_tensor({Shape{2, 3}}, 3);
  Tensor x = random_tensor({Shape{2, 3}}, 1);
  std::vector<Tensor> out = interpret(g, {&x, 1});
  ASSERT_EQ(out.size(), 5u);
  for (size_t i = 0; i < out.size(); ++i) {
    EXPECT_NE(out[i].storage(), x.storage());
    for (size_t j = 0; j < i; ++j) EXPECT_NE(out[i].storage(), out[j].storage());
  }
  EXPECT_EQ(bytes_of_tensor(out[3]), bytes_of_tensor(g.inputs[1].data));
  EXPECT_EQ(bytes_of_tensor(out[4]), bytes_of_tensor(x));
}

struct Broken {
  const char* error;
  void (*edit)(Graph&);
};

TEST(GraphVerify, Errors) {
  const Broken all[] = {
      {"node 0 (linear, net.py:7 in fc): %3 is used before it is defined",
       [](Graph& g) { g.nodes[0].in[0] = 3; }},
      {"node 0 (linear, net.py:7 in fc): value 77 does not exist; there are 4",
       [](Graph& g) { g.nodes[0].in[0] = 77; }},
      {"value 4294967295 does not exist", [](Graph& g) { g.nodes[0].in[0] = kNoValue; }},
      {"node 1 (reshape): %2 is defined twice", [](Graph& g) { g.nodes[1].out[0] = 2; }},
      {"reshape: 2 inputs; expected 1", [](Graph& g) { g.nodes[1].in.push_back(0); }},
      {"0 results; expected 1", [](Graph& g) { g.nodes[1].out.clear(); }},
      {"reshape: 8 bytes of attributes", [](Graph& g) { g.nodes[1].attrs.resize(8); }},
      {"reshape: shape holds 17 integers; at most 16 are allowed",
       [](Graph& g) { write_dims_count(g.nodes[1].attrs.data(), g.nodes[1].op->fields[0], 17); }},
      {"location 9 does not exist", [](Graph& g) { g.nodes[1].location = 9; }},
      {"the node has no op", [](Graph& g) { g.nodes[1].op = nullptr; }},
      {"%4 is never defined", [](Graph& g) { g.add_value({}); }},
      {"two arguments are called \"x\"", [](Graph& g) { g.inputs[1].name = "x"; }},
      {"%1 is defined twice", [](Graph& g) { g.inputs[0].value = 1; }},
      {"uses dim 5; the graph has 1 dims", [](Graph& g) { g.values[2].shape[0] = Dim::symbol(5); }},
      {"dim B has the range 9..3", [](Graph& g) { g.dims[0].low = 9, g.dims[0].high = 3; }},
      {"dim \"a b\" must be an identifier", [](Graph& g) { g.dims[0].name = "a b"; }},
      {"too large for memory", [](Graph& g) { g.values[0].shape[1] = int64_t{1} << 62; }},
      {"with a negative size", [](Graph& g) { g.values[0].shape[1] = -1; }},
      {"%0 has no dtype (200)", [](Graph& g) { g.values[0].dtype = static_cast<DType>(200); }},
      {"%0 has rank 17", [](Graph& g) { g.values[0].shape.resize(17); }},
      {"attribute 3 does not exist", [](Graph& g) { g.nodes[1].symbolic[0].field = 3; }},
      {"item 7 of attribute shape cannot be symbolic",
       [](Graph& g) { g.nodes[1].symbolic[0].item = 7; }},
      {"is symbolic twice",
       [](Graph& g) { g.nodes[1].symbolic.push_back(g.nodes[1].symbolic[0]); }},
      {"a write names input 0, which is no slot", [](Graph& g) { g.writes.push_back({0, 0}); }},
      {"value 9 does not exist", [](Graph& g) { g.results[0].value = 9; }},
      {"two results are called \"y\"", [](Graph& g) { g.results.push_back({"y", 2}); }},
      {"linear has no regions; got 1",
       [](Graph& g) { g.nodes[0].regions.push_back(std::make_unique<Graph>()); }},
      {"constant %0 has no data", [](Graph& g) { g.inputs[0].kind = InputKind::constant; }},
      {"%3 is said to be f64[2*B], but the op gives f32[2]",
       [](Graph& g) { g.values[3].dtype = DType::f64; }},
  };
  for (const Broken& b : all) {
    Graph g = linear_graph();
    b.edit(g);
    std::string e = error_of([&] { verify(g); });
    EXPECT_NE(e.find(b.error), std::string::npos) << "wanted: " << b.error << "\ngot: " << e;
  }
}

}  // namespace
}  // namespace fluxion::testing
