// Passes: what each does, that none changes a bit, that none is slower than linear.
#include "graph/passes.h"

#include <gtest/gtest.h>
#include <time.h>

#include "graph_random.h"
#include "ops/functions.h"

namespace fluxion::testing {
namespace {

using namespace graph;

std::string after(bool (*pass)(Graph&), const char* text) {
  Graph g = parse(text);
  verify(g);
  pass(g);
  verify(g);
  EXPECT_FALSE(pass(g)) << "a second run found something:\n" << to_text(g);
  return to_text(g);
}

TEST(GraphPasses, DeadCode) {
  EXPECT_EQ(
      after(
          dead_code,
          R"(graph f(x: f32[2], y: f32[2]) slots(a = "a": f32[2], b = "b": f32[2], c = "c": f32[2]) {
  const %5: f32[] = 2
  const %6: f32[] = 3
  %7: f32[2] = mul(x, %5)
  %8: f32[2] = mul(%7, %6)
  %9: f32[2] = add(%7, b)
  %10: f32[2], %11: i64[2] = sort(x) {axis=0, descending=false}
  return r = %9, i = %11
  write c = x
})"),
      R"(graph f(x: f32[2], y: f32[2]) slots(b = "b": f32[2], c = "c": f32[2]) {
  const %4: f32[] = 2
  %5: f32[2] = mul(x, %4)
  %6: f32[2] = add(%5, b)
  %7: f32[2], %8: i64[2] = sort(x) {axis=0, descending=false}
  return r = %6, i = %8
  write c = x
}
)");
}

TEST(GraphPasses, CommonSubexpressions) {
  EXPECT_EQ(after(common_subexpressions, R"(graph f(x: f32[B], s: i64[2]) dims(B = 1..) {
  const %2: f32[] = 2
  const %3: f32[] = 2
  const %4: f32[] = -0
  const %5: f32[] = 0
  %6: f32[B] = mul(x, %2)
  %7: f32[B] = mul(x, %3)
  %8: f32[B] = add(%6, %4)
  %9: f32[B] = add(%7, %5)
  %10: f32[B] = random_uniform(s) {low=0, range=1, dtype=f32, shape=[B]}
  %11: f32[B] = random_uniform(s) {low=0, range=1, dtype=f32, shape=[B]}
  %12: f32[2*B] = random_uniform(s) {low=0, range=1, dtype=f32, shape=[2*B]}
  return %8, %9, %10, %11, %12
})"),
            R"(graph f(x: f32[B], s: i64[2]) dims(B = 1..) {
  const %2: f32[] = 2
  const %3: f32[] = -0
  const %4: f32[] = 0
  %5: f32[B] = mul(x, %2)
  %6: f32[B] = add(%5, %3)
  %7: f32[B] = add(%5, %4)
  %8: f32[B] = random_uniform(s) {low=0, range=1, dtype=f32, shape=[B]}
  %9: f32[2*B] = random_uniform(s) {low=0, range=1, dtype=f32, shape=[2*B]}
  return %6, %7, %8, %8, %9
}
)");
}

TEST(GraphPasses, FoldConstants) {
  EXPECT_EQ(after(fold_constants, R"(graph f(x: f32[2]) {
  const %1: f32[2] = [1, 2]
  %2: f32[2] = full() {value=3, integer=3, dtype=f32, shape=[2]}
  %3: f32[2] = mul(%1, %2)
  %4: f32[2] = neg(%3)
  %5: f32[2] = add(x, %4)
  %6: f32[2] = add(%5, %2)
  return %6
})"),
            R"(graph f(x: f32[2]) {
  const %1: f32[2] = [1, 2]
  const %3: f32[2] = [-3, -6]
  %2: f32[2] = full() {value=3, integer=3, dtype=f32, shape=[2]}
  %4: f32[2] = add(x, %3)
  %5: f32[2] = add(%4, %2)
  return %5
}
)");
}

TEST(GraphPasses, FoldingStaysSmallAndLeavesErrorsToTheRun) {
  const char* text = R"(graph f(x: f32[2]) {
  const %1: f32[] = 1
  const %2: i64[1] = [7]
  %3: f32[600, 1000] = expand(%1) {shape=[600, 1000]}
  %4: f32[200, 1000] = expand(%1) {shape=[200, 1000]}
  %5: f32[200, 1000] = neg(%4)
  %6: f32[200, 1000] = exp(%4)
  %7: f32[1] = index(x, %2) {dims=[0], accumulate=false}
  %8: i64[1] = neg(%2)
  return %3, %5, %6, %7, %8
})";
  Graph g = parse(text);
  verify(g);
  fold_constants(g);
  verify(g);
  std::vector<std::string> left;
  for (const Node& n : g.nodes) left.push_back(n.op->name);
  EXPECT_EQ(left, (std::vector<std::string>{"expand", "expand", "neg", "index"})) << to_text(g);
}

TEST(GraphPasses, Simplify) {
  EXPECT_EQ(after(simplify, R"(graph f(x: f32[B, 4, 6], h: f16[3], w: f32[3, 5]) dims(B = 1..) {
  const %3: f32[] = 1
  const %4: weak f64[] = 0
  const %5: f32[] = -0
  %6: f32[B, 4, 6] = mul(%3, x)
  %7: f32[B, 4, 6] = sub(%6, %4)
  %8: f32[B, 4, 6] = div(%7, %3)
  %9: f32[B, 4, 6] = neg(%8)
  %10: f32[B, 4, 6] = neg(%9)
  %11: f32[B, 4, 6] = sub(%10, %5)
  %12: f32[4*B, 6] = reshape(x) {shape=[4*B, 6]}
  %13: f32[24*B] = reshape(%12) {shape=[24*B]}
  %14: f32[B, 4, 6] = reshape(%13) {shape=[B, 4, 6]}
  %15: f32[4, 6, B] = permute(%14) {dims=[1, 2, 0]}
  %16: f32[B, 4, 6] = permute(%15) {dims=[2, 0, 1]}
  %17: f32[6, B, 4] = permute(%15) {dims=[1, 2, 0]}
  %18: f32[B, 3, 6] = slice(%16) {dim=1, start=3, length=3, step=-1}
  %19: f32[B, 2, 6] = slice(%18) {dim=1, start=0, length=2, step=2}
  %20: f32[B, 2, 6] = slice(%19) {dim=0, start=0, length=B, step=1}
  %21: f32[3] = cast(h) {dtype=f32}
  %22: f64[3] = cast(%21) {dtype=f64}
  %23: f16[3] = cast(%22) {dtype=f16}
  %24: f32[2, 2] = take_region(w) {base_strides=[5, 1], sizes=[2, 2], strides=[5, 2], offset=1}
  %25: f32[3, 5] = put_region(w, %24) {base_strides=[5, 1], sizes=[2, 2], strides=[5, 2], offset=1}
  %26: f32[2, 2] = take_region(%25) {base_strides=[5, 1], sizes=[2, 2], strides=[5, 2], offset=1}
  %27: f32[3, 5] = put_region(w, %25) {base_strides=[1, 3], sizes=[3, 5], strides=[1, 3], offset=0}
  return %11, %17, %20, %23, %26, %27
})"),
            R"(graph f(x: f32[B, 4, 6], h: f16[3], w: f32[3, 5]) dims(B = 1..) {
  const %3: f32[] = -0
  %4: f32[B, 4, 6] = sub(x, %3)
  %5: f32[6, B, 4] = permute(x) {dims=[2, 0, 1]}
  %6: f32[B, 2, 6] = slice(x) {dim=1, start=3, length=2, step=-2}
  %7: f32[2, 2] = take_region(w) {base_strides=[5, 1], sizes=[2, 2], strides=[5, 2], offset=1}
  %8: f32[3, 5] = put_region(w, %7) {base_strides=[5, 1], sizes=[2, 2], strides=[5, 2], offset=1}
  return %4, %5, %6, h, %7, %8
}
)");
}

/// What would change bits stays.
TEST(GraphPasses, SimplifyLeavesInexact) {
  const char* text = R"(graph f(x: f32[2], i: i32[2], w: f32[3]) {
  const %3: f32[] = 0
  const %4: f32[] = 1
  const %5: f64[1] = [1]
  %6: f32[2] = add(x, %3)
  %7: f32[2] = mul(x, %3)
  %8: f32[2] = mul(i, %4)
  %9: f64[2] = mul(x, %5)
  %10: f16[2] = cast(x) {dtype=f16}
  %11: f32[2] = cast(%10) {dtype=f32}
  %12: f32[2] = cast(i) {dtype=f32}
  %13: i32[2] = cast(%12) {dtype=i32}
  %14: f32[2] = sub(%3, x)
  %15: f32[2] = div(%4, x)
  %16: f32[2] = take_region(w) {base_strides=[1], sizes=[2], strides=[0], offset=1}
  %17: f32[3] = put_region(w, x) {base_strides=[1], sizes=[2], strides=[0], offset=1}
  %18: f32[2] = take_region(%17) {base_strides=[1], sizes=[2], strides=[0], offset=1}
  return %6, %7, %8, %9, %11, %13, %14, %15, %16, %18
}
)";
  EXPECT_EQ(after(simplify, text), text);
}

TEST(GraphPasses, Regions) {
  const char* text = R"(graph f(b: bool[], x: f32[2]) {
  %2: f32[2] = case(b, x) {
    region no(x: f32[2]) {
      const %1: f32[] = 1
      %2: f32[2] = mul(x, %1)
      %3: f32[2] = exp(x)
      return %2
    }
    region yes(x: f32[2]) {
      return x
    }
  }
  return %2
})";
  EXPECT_EQ(after(simplify, text), R"(graph f(b: bool[], x: f32[2]) {
  %2: f32[2] = case(b, x) {
    region no(x: f32[2]) {
      return x
    }
    region yes(x: f32[2]) {
      return x
    }
  }
  return %2
}
)");
}

constexpr Pass kAll[] = {{"simplify", "", simplify},
                         {"fold_constants", "", fold_constants},
                         {"common_subexpressions", "", common_subexpressions},
                         {"dead_code", "", dead_code}};

TEST(GraphPasses, RandomGraphsKeepTheirBits) {
  size_t changed[std::size(kAll)] = {};
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    RandomGraph random(seed);
    Graph g = random.make(60);
    ASSERT_NO_THROW(verify(g)) << to_text(g);
    std::vector<Tensor> in = random.arguments(g), before = interpret(g, in);
    std::string text = to_text(g);
    for (int round = 0; round < 2; ++round)
      for (size_t p = 0; p < std::size(kAll); ++p) {
        changed[p] += kAll[p].run(g);
        ASSERT_NO_THROW(verify(g)) << kAll[p].name << "\n" << text << to_text(g);
        std::vector<Tensor> now = interpret(g, in);
        for (size_t i = 0; i < before.size(); ++i)
          ASSERT_EQ(bytes_of_tensor(before[i]), bytes_of_tensor(now[i]))
              << "seed " << seed << ", result " << i << " after " << kAll[p].name << "\n"
              << text << to_text(g);
      }
  }
  for (size_t p = 0; p < std::size(kAll); ++p) EXPECT_GT(changed[p], 100u) << kAll[p].name;
}

TEST(GraphPasses, RunPassesReportsAndSwitchesOff) {
  const char* text =
      "graph f(x: f32[2]) {\n %1: f32[2] = neg(x)\n %2: f32[2] = neg(%1)\n return %2\n}";
  Graph g = parse(text);
  std::vector<PassReport> reports = run_passes(g, kAll);
  ASSERT_EQ(reports.size(), 4u);
  EXPECT_STREQ(reports[0].name, "simplify");
  EXPECT_TRUE(reports[0].changed);
  EXPECT_EQ(reports[0].nodes_before, 2u);
  EXPECT_EQ(reports[0].nodes_after, 0u);
  EXPECT_FALSE(reports[1].changed);
  g = parse(text);
  const std::string_view off[] = {"simplify"};
  setenv("FLUXION_PASSES_OFF", "dead_code,other", 1);
  reports = run_passes(g, kAll, off);
  unsetenv("FLUXION_PASSES_OFF");
  EXPECT_EQ(reports.size(), 2u);
  EXPECT_EQ(g.nodes.size(), 2u);
}

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// n groups of nodes that every pass has something to do with.
Graph long_graph(int n) {
  Graph g = parse("graph f(x: f32[4]) {\n const %1: f32[] = 1\n const %2: f32[] = 2\n return x\n}");
  auto add = [&](const char* op, std::vector<ValueId> in) {
    Node node;
    node.op = find_graph_op(op);
    ValueType type = g.values[0];
    if (in[0] > 0 && in[0] < 3) type = g.values[1];
    node.in = std::move(in);
    node.out = {g.add_value(type)};
    g.nodes.push_back(std::move(node));
    return g.nodes.back().out[0];
  };
  ValueId x = 0, c = 2;
  for (int i = 0; i < n; ++i) {
    c = i % 8 ? add("neg", {c}) : c;
    if (i % 8) g.values[c] = g.values[1];
    x = add("mul", {x, 1});
    ValueId a = add("exp", {x}), b = add("exp", {x});
    add("sin", {a});
    x = add("add", {a, b});
    x = add("neg", {add("neg", {x})});
    x = add("mul", {x, c});
  }
  g.results[0].value = x;
  return g;
}

/// Ten times the nodes take about ten times as long; a quadratic pass would take a hundred times.
TEST(GraphPasses, LinearTime) {
  auto seconds = [](bool (*pass)(Graph&), int n) {
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
      Graph g = long_graph(n);
      double start = cpu_seconds();
      pass(g);
      best = std::min(best, cpu_seconds() - start);
    }
    return best;
  };
  for (const Pass& p : kAll) {
    double small = seconds(p.run, 1000), large = seconds(p.run, 10000);
    EXPECT_LT(large, 40 * small + 0.02) << p.name;
  }
  auto checked = [](Graph& g) {
    verify(g);
    return false;
  };
  EXPECT_LT(seconds(checked, 10000), 40 * seconds(checked, 1000) + 0.02);
  auto differentiated = [](Graph& g) {
    const uint32_t at[] = {0};
    return gradient(g, at).nodes.empty();
  };
  EXPECT_LT(seconds(differentiated, 2000), 40 * seconds(differentiated, 200) + 0.02);
  auto read = [](Graph& g) { return parse(to_text(g)).nodes.empty(); };
  EXPECT_LT(seconds(read, 10000), 40 * seconds(read, 1000) + 0.02);
}

}  // namespace
}  // namespace fluxion::testing
