// Gradients of graphs have the bits of eager gradients.
#include <gtest/gtest.h>

#include "autograd/autograd.h"
#include "graph/generalize.h"
#include "graph/passes.h"
#include "graph_samples.h"
#include "ops/functions.h"

namespace fluxion::testing {
namespace {

using namespace graph;

std::vector<uint32_t> floating_inputs(const Graph& g) {
  std::vector<uint32_t> at;
  for (uint32_t i = 0; i < g.inputs.size(); ++i)
    if (g.inputs[i].kind != InputKind::constant && is_floating(g.values[g.inputs[i].value].dtype))
      at.push_back(i);
  return at;
}

std::vector<Tensor> seeds_for(const Graph& g, std::span<const Tensor> results) {
  std::vector<Tensor> seeds;
  for (size_t i = 0; i < g.results.size(); ++i)
    if (is_floating(results[i].dtype()))
      seeds.push_back(
          random_tensor({Shape(results[i].sizes()), results[i].dtype(), 0.5, 1.5}, 70 + i));
  return seeds;
}

/// The gradients of the floating arguments: by the tape through interpret(), and by the gradient's graph.
void expect_eager_bits(const Graph& g, std::vector<Tensor> in, const std::string& what) {
  std::vector<uint32_t> at = floating_inputs(g);
  Graph d = gradient(g, at);
  ASSERT_NO_THROW(verify(d)) << what << "\n" << to_text(d);
  std::vector<Tensor> wanted;
  for (uint32_t i : at) wanted.push_back(in[i] = in[i].detach().set_requires_grad(true));
  std::vector<Tensor> results = interpret(g, in), seeds = seeds_for(g, results), ys, weights;
  for (size_t i = 0, k = 0; i < results.size(); ++i)
    if (is_floating(results[i].dtype())) {
      if (tracks_gradient(results[i])) ys.push_back(results[i]), weights.push_back(seeds[k]);
      ++k;
    }
  std::vector<Tensor> eager(wanted.size());
  if (!ys.empty()) eager = grad(ys, wanted, weights, false, false, true);
  NoGrad plain;
  std::vector<Tensor> all = in;
  all.insert(all.end(), seeds.begin(), seeds.end());
  std::vector<Tensor> out = interpret(d, all);
  ASSERT_EQ(out.size(), results.size() + wanted.size()) << what;
  for (size_t i = 0; i < results.size(); ++i)
    EXPECT_EQ(bytes_of_tensor(out[i]), bytes_of_tensor(results[i])) << what;
  for (size_t k = 0; k < wanted.size(); ++k) {
    Tensor e = eager[k].defined() ? eager[k] : zeros(wanted[k].sizes(), wanted[k].dtype());
    EXPECT_EQ(bytes_of_tensor(out[results.size() + k]), bytes_of_tensor(e))
        << what << ", gradient " << k << "\n"
        << to_text(d);
  }
}

TEST(GraphGradient, EverySample) {
  for (const Sample& s : all_samples()) {
    if (!has_static_shape(*s.op)) continue;
    Graph g = graph_of(s);
    std::vector<Tensor> in = random_inputs(s), eager = run(s, in);
    std::erase_if(g.results, [&](const graph::Result& r) {
      return !eager[static_cast<size_t>(std::stoi(r.name.substr(1)))].defined();
    });
    if (floating_inputs(g).empty()) continue;
    try {
      expect_eager_bits(g, in, s.text());
    } catch (const Error& e) {
      ADD_FAILURE() << s.text() << ": " << e.what();
    }
  }
}

const char* kMlp =
    R"(graph mlp(x: f32[B, 5], t: i64[B]) slots(w = "w": f32[7, 5], b = "b": f32[7], v = "v": f32[3, 7]) dims(B = 1..64) {
  const %5: weak f64[] = 2
  %6: f32[B, 7] = linear(x, w, b) @ net.py:3 "fc1"
  %7: f32[B, 7] = gelu(%6)
  %8: f32[B, 7] = mul(%7, %5)
  %9: f32[B, 7] = add(%8, %7)
  %10: f32[B, 3] = linear(%9, v) @ net.py:5 "fc2"
  %11: f32[], %12: f32[B], %13: f32[] = cross_entropy(%10, t) {label_smoothing=0, ignore_index=-100, reduction=1, has_weight=false}
  return loss = %11
})";

TEST(GraphGradient, SymbolicBatch) {
  Graph g = parse(kMlp);
  verify(g);
  const uint32_t at[] = {2, 3, 4};
  Graph d = gradient(g, at);
  verify(d);
  EXPECT_EQ(d.dims.size(), 1u);
  EXPECT_EQ(d.results.back().name, "grad.v");
  EXPECT_EQ(d.inputs.back().kind == InputKind::constant || d.inputs.back().name == "grad.loss",
            true);
  for (uint32_t i : at) {
    Shape shape;
    for (const Dim& s : g.values[g.inputs[i].value].shape) shape.push_back(s.constant());
    d.inputs[i].data = random_tensor({shape}, i);
  }
  for (int64_t batch : {1, 4, 64}) {
    Tensor x = random_tensor({Shape{batch, 5}}, 9),
           t = random_tensor({Shape{batch}, DType::i64, 0, 2}, 8);
    Tensor in[] = {x, t, scalar(1.0, DType::f32)};
    std::vector<Tensor> out = interpret(d, in), leaves;
    for (uint32_t i : at) leaves.push_back(d.inputs[i].data.detach().set_requires_grad(true));
    Tensor h = gelu(linear(x, leaves[0], leaves[1]), "none");
    Tensor loss = cross_entropy(linear(add(mul(h, number(2)), h), leaves[2], {}), t);
    backward({&loss, 1});
    EXPECT_EQ(bytes_of_tensor(out[0]), bytes_of_tensor(loss));
    for (size_t k = 0; k < 3; ++k)
      EXPECT_EQ(bytes_of_tensor(out[1 + k]), bytes_of_tensor(leaves[k].grad())) << k;
  }
}

TEST(GraphGradient, SecondOrder) {
  Graph g = parse(R"(graph f(x: f32[4]) {
  %1: f32[4] = exp(x)
  %2: f32[4] = mul(%1, x)
  %3: f32[4] = mul(%2, %1)
  return y = %3
})");
  const uint32_t at[] = {0};
  Graph first = gradient(g, at), second = gradient(first, at);
  verify(second);
  EXPECT_EQ(second.results.back().name, "grad.x.2");
  Tensor x = random_tensor({Shape{4}}, 1).set_requires_grad(true);
  Tensor y = mul(mul(exp(x), x), exp(x)), one = ones({4}, DType::f32);
  std::vector<Tensor> dx = grad({&y, 1}, {&x, 1}, {&one, 1}, true, true);
  std::vector<Tensor> ddx = grad({&dx[0], 1}, {&x, 1}, {&one, 1});
  NoGrad plain;
  // seeds: of y and of grad.x in the second gradient, y's weight 0
  Tensor zero = zeros({4}, DType::f32);
  Tensor in[] = {x.detach(), one, zero, one};
  std::vector<Tensor> out = interpret(second, in);
  Tensor got = out.back();
  for (int64_t i = 0; i < 4; ++i)
    EXPECT_NEAR(got.data<float>()[i], contiguous(ddx[0]).data<float>()[i],
                1e-4 * std::abs(got.data<float>()[i]));
}

TEST(GraphGradient, Case) {
  Graph g = parse(R"(graph f(b: bool[], x: f32[3], w: f32[3]) {
  %3: f32[3], %4: i64[] = case(b, x, w) {
    region no(x: f32[3], w: f32[3]) {
      const %2: i64[] = 7
      %3: f32[3] = mul(x, w)
      %4: f32[3] = mul(%3, x)
      return %4, %2
    }
    region yes(x: f32[3], w: f32[3]) {
      const %2: i64[] = 8
      %3: f32[3] = exp(x)
      return %3, %2
    }
  }
  return y = %3, n = %4
})");
  verify(g);
  for (int64_t b : {0, 1})
    expect_eager_bits(
        g, {scalar(b, DType::bool_), random_tensor({Shape{3}}, 1), random_tensor({Shape{3}}, 2)},
        "case");
}

TEST(GraphGradient, Scan) {
  for (const char* reverse : {"false", "true"}) {
    Graph g = parse(std::string(R"(graph f(h: f32[2], n: i64[], xs: f32[4, 2], w: f32[2]) {
  %4: f32[2], %5: i64[], %6: f32[4, 2], %7: f32[4] = scan(h, n, xs, w) {carry=2, xs=1, length=4, reverse=)") +
                    reverse + R"(} {
    region body(h: f32[2], n: i64[], x: f32[2], w: f32[2]) {
      const %4: i64[] = 1
      %5: f32[2] = mul(h, w)
      %6: f32[2] = add(%5, x)
      %7: f32[2] = tanh(%6)
      %8: i64[] = add(n, %4)
      %9: f32[] = reduce_sum(%7) {correction=0, keepdim=false, dims=[0]}
      return %7, %8, %7, %9
    }
  }
  return last = %4, count = %5, all = %6, sums = %7
})");
    verify(g);
    std::vector<uint32_t> at = floating_inputs(g);
    Graph d = gradient(g, at);
    verify(d);
    std::vector<Tensor> in = {random_tensor({Shape{2}}, 1), scalar(int64_t{0}, DType::i64),
                              random_tensor({Shape{4, 2}}, 2), random_tensor({Shape{2}}, 3)};
    std::vector<Tensor> leaves;
    for (uint32_t i : at) leaves.push_back(in[i] = in[i].detach().set_requires_grad(true));
    std::vector<Tensor> results = interpret(g, in), seeds = seeds_for(g, results);
    Tensor ys[] = {results[0], results[2], results[3]};
    std::vector<Tensor> eager = grad(ys, leaves, seeds);
    NoGrad plain;
    in.insert(in.end(), seeds.begin(), seeds.end());
    std::vector<Tensor> out = interpret(d, in);
    for (size_t k = 0; k < leaves.size(); ++k) {
      Tensor difference = amax(abs(sub(out[4 + k], eager[k])), {}, false);
      EXPECT_LE(difference.item(), 1e-6) << k;
      EXPECT_GT(amax(abs(eager[k]), {}, false).item(), 1e-3);
    }
  }
}

TEST(GraphGradient, Errors) {
  Graph g = parse("graph f(x: f32[2], n: i64[2]) {\n return x\n}");
  auto error = [&](uint32_t i) -> std::string {
    try {
      gradient(g, {&i, 1});
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error(1), "gradient: input \"n\" of type i64[2] has no gradient");
  EXPECT_EQ(error(2), "gradient: input 2 does not exist; graph f has 2");
}

TEST(GraphGeneralize, FindsPolynomials) {
  std::vector<std::vector<int64_t>> sizes = {{2, 5}, {3, 11}, {5, 23}, {7, 41}, {11, 13}, {13, 3}};
  auto fit = [&](auto f) {
    std::vector<int64_t> values;
    for (const auto& s : sizes) values.push_back(f(s[0], s[1]));
    const DimSymbol dims[] = {{"B"}, {"T"}};
    return fit_dim(sizes, values).text(dims);
  };
  EXPECT_EQ(fit([](int64_t, int64_t) { return 7; }), "7");
  EXPECT_EQ(fit([](int64_t b, int64_t) { return 3 * b - 1; }), "3*B - 1");
  EXPECT_EQ(fit([](int64_t b, int64_t t) { return b * t; }), "B*T");
  EXPECT_EQ(fit([](int64_t b, int64_t t) { return 2 * b + t; }), "2*B + T");
  EXPECT_EQ(fit([](int64_t b, int64_t t) { return b * t * t + 1; }), "B*T*T + 1");
  EXPECT_THROW(fit([](int64_t b, int64_t) { return b / 2; }), Error);
}

TEST(GraphSvg, DrawsEveryNodeAndRegion) {
  Graph g = parse(R"(graph f(b: bool[], x: f32[3]) slots(w = "m.w": f32[3]) {
  %3: f32[3] = case(b, x) {
    region no(x: f32[3]) {
      %1: f32[3] = exp(x)
      return %1
    }
    region yes(x: f32[3]) {
      return x
    }
  } @ "a<b>.py":3 "m"
  return "y<&>" = %3
  write w = %3
})");
  std::string svg = to_svg(g);
  for (const char* wanted :
       {"<svg ", ">case<", ">exp<", "f32[3]", "y&lt;&amp;&gt;", "a&lt;b&gt;.py:3", "f / case / no",
        "f / case / yes", "class=\"write\"", "</svg>"})
    EXPECT_NE(svg.find(wanted), std::string::npos) << wanted;
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace fluxion::testing
