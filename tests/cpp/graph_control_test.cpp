// case, while and scan: text, checks, meaning.
#include <gtest/gtest.h>

#include "graph/control.h"
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

const char* kCaseText = R"(graph choose(which: i64[], x: f32[B, 3]) dims(B = 1..) {
  %2: f32[B, 3] = case(which, x) {
    region first(a: f32[B, 3]) {
      %1: f32[B, 3] = neg(a) @ net.py:3
      return %1
    }
    region second(a: f32[B, 3]) {
      const %0: f32[] = 2
      %2: f32[B, 3] = mul(a, %0)
      return %2
    }
    region third(a: f32[B, 3]) {
      return a
    }
  } @ net.py:2 "net"
  return y = %2
}
)";

TEST(GraphControl, Case) {
  Graph g = parse(kCaseText);
  verify(g);
  EXPECT_EQ(to_text(g), kCaseText);
  Tensor x = random_tensor({Shape{2, 3}}, 1);
  Tensor wanted[] = {neg(x), mul(x, number(2)), x};
  int64_t picks[][2] = {{-5, 0}, {0, 0}, {1, 1}, {2, 2}, {9, 2}};
  for (auto [which, region] : picks) {
    Tensor in[] = {scalar(which, DType::i64), x};
    EXPECT_EQ(bytes_of_tensor(interpret(g, in)[0]), bytes_of_tensor(wanted[region])) << which;
  }
}

const char* kPowerText = R"(graph power(x: f32[], n: i64[]) {
  const %2: i64[] = 0
  const %3: f32[] = 1
  %4: i64[], %5: f32[] = while(%2, %3, x, n) {carry=2} {
    region condition(i: i64[], y: f32[], x: f32[], n: i64[]) {
      %4: bool[] = lt(i, n)
      return %4
    }
    region body(i: i64[], y: f32[], x: f32[], n: i64[]) {
      const %4: i64[] = 1
      %5: i64[] = add(i, %4)
      %6: f32[] = mul(y, x)
      return %5, %6
    }
  }
  return y = %5
}
)";

TEST(GraphControl, While) {
  Graph g = parse(kPowerText);
  verify(g);
  EXPECT_EQ(to_text(g), kPowerText);
  for (int64_t n : {0, 1, 5}) {
    Tensor in[] = {scalar(3.0, DType::f32), scalar(n, DType::i64)};
    EXPECT_EQ(interpret(g, in)[0].item(), std::pow(3.0, n));
  }
}

std::string scan_text(const char* reverse) {
  return std::string(R"(graph sums(start: f32[2], xs: f32[T, 2], scale: f32[]) dims(T = 0..100) {
  %3: f32[2], %4: f32[T, 2] = scan(start, xs, scale) {carry=1, xs=1, length=T, reverse=)") +
         reverse + R"(} {
    region body(total: f32[2], x: f32[2], scale: f32[]) {
      %3: f32[2] = mul(x, scale)
      %4: f32[2] = add(total, %3)
      return %4, %4
    }
  }
  return last = %3, all = %4
}
)";
}

TEST(GraphControl, Scan) {
  for (const char* reverse : {"false", "true"}) {
    Graph g = parse(scan_text(reverse));
    verify(g);
    EXPECT_EQ(to_text(g), scan_text(reverse));
    for (int64_t n : {0, 1, 4}) {
      Tensor start = random_tensor({Shape{2}}, 1), xs = random_tensor({Shape{n, 2}}, 2),
             scale = scalar(0.5, DType::f32);
      Tensor in[] = {start, xs, scale};
      std::vector<Tensor> out = interpret(g, in);
      EXPECT_EQ(shape_text(out[1].sizes()), shape_text(Ints({n, 2})));
      Tensor total = start;
      for (int64_t i = 0; i < n; ++i) {
        int64_t t = *reverse == 't' ? n - 1 - i : i;
        total = add(total, mul(select(xs, 0, t), scale));
        EXPECT_EQ(bytes_of_tensor(select(out[1], 0, t)), bytes_of_tensor(total));
      }
      EXPECT_EQ(bytes_of_tensor(out[0]), bytes_of_tensor(total));
    }
  }
}

TEST(GraphControl, SpecializedRegions) {
  int64_t sizes[] = {3};
  Graph g = specialize(parse(scan_text("false")), sizes);
  verify(g);
  EXPECT_NE(to_text(g).find("length=3"), std::string::npos);
}

void replace_first(std::string& s, const std::string& from, const std::string& to) {
  size_t at = s.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  s.replace(at, from.size(), to);
}

TEST(GraphControl, Errors) {
  struct Case {
    std::string text, from, to, error;
  };
  const Case all[] = {
      {kCaseText, "which: i64[]", "which: f32[]",
       "case: the selector must be bool[], i32[] or i64[], got f32[]"},
      {kCaseText, "which: i64[]", "which: bool[]", "case: 3 regions; expected 2 for a bool"},
      {kCaseText, "third(a: f32[B, 3])", "third(a: f32[3])",
       "case: the arguments of region 2 are (f32[3]); expected (f32[B, 3])"},
      {kCaseText, "return a", "return a, a",
       "case: the results of region 2 are (f32[B, 3], f32[B, 3]); expected (f32[B, 3])"},
      {kCaseText, "%2: f32[B, 3] = case", "%2: f64[B, 3] = case",
       "case: result 0 is said to be f64[B, 3], but the regions give f32[B, 3]"},
      {kCaseText, "neg(a)", "neg(%1)", "is not defined before its use"},
      {kCaseText, "neg(a)", "neg(x)", "\"x\" is not defined before its use"},
      {kPowerText, "carry=2", "carry=5", "while: carry is 5; there are 4 inputs"},
      {kPowerText, "carry=2", "carry=-1", "while: carry is -1; there are 4 inputs"},
      {kPowerText, "%4: bool[] = lt", "%4: bool[1] = lt",
       "region 0, node 0 (lt): %4 is said to be"},
      {kPowerText, "return %5, %6", "return %6, %5",
       "while: the results of the body are (f32[], i64[]); expected (i64[], f32[])"},
      {scan_text("false"), "length=T", "length=4",
       "scan: input 1 of type f32[T, 2] must have 4 as first size"},
      {scan_text("false"), "xs=1", "xs=9", "scan: xs is 9; there are 3 inputs"},
      {scan_text("false"), "return %4, %4", "return scale, %4",
       "scan: the body turns carry 0 from f32[2] into f32[]"},
      {scan_text("false"), "%4: f32[T, 2] = scan", "%4: f32[2, T] = scan",
       "scan: result 1 is said to be f32[2, T], but the regions give f32[T, 2]"},
  };
  for (const Case& c : all) {
    std::string text = c.text;
    replace_first(text, c.from, c.to);
    std::string e = error_of([&] { verify(parse(text)); });
    EXPECT_NE(e.find(c.error), std::string::npos) << "wanted: " << c.error << "\ngot: " << e;
  }
}

TEST(GraphControl, DeepRegionsAreAnError) {
  auto nested = [](int depth) {
    Graph g = parse("graph g(b: bool[]) {\n return b\n}");
    for (int i = 0; i < depth; ++i) {
      Graph outer = parse(
          "graph g(b: bool[]) {\n %1: bool[] = case(b, b) {\n region f(b: bool[]) "
          "{\n return b\n}\n region t(b: bool[]) {\n return b\n}\n}\n return %1\n}");
      g.locations.clear();
      outer.nodes[0].regions[0] = std::make_unique<Graph>(std::move(g));
      g = std::move(outer);
    }
    return g;
  };
  EXPECT_EQ(error_of([&] { verify(nested(64)); }), "no error");
  EXPECT_NE(error_of([&] { verify(nested(65)); }).find("nested deeper than 64 levels"),
            std::string::npos);
}

}  // namespace
}  // namespace fluxion::testing
