// Symbolic sizes and the text form of graphs.
#include <gtest/gtest.h>

#include <limits>

#include "graph/attrs.h"
#include "graph_samples.h"

namespace fluxion::testing {
namespace {

using namespace graph;

const std::vector<DimSymbol> kDims = {{"B"}, {"T"}, {"n_heads"}};

std::string error_of(auto f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::value) << e.what();
    return e.what();
  }
  return "no error";
}

TEST(GraphDim, NormalForm) {
  Dim b = Dim::symbol(0), t = Dim::symbol(1);
  EXPECT_EQ((b + t) * (b + t), t * t + Dim(2) * b * t + b * b);
  EXPECT_EQ(b + Dim(-1) * b, Dim(0));
  EXPECT_EQ(((b + Dim(1)) * (t + Dim(-3))).text(kDims), "B*T - 3*B + T - 3");
  EXPECT_EQ((Dim(2) * b * t + Dim(1)).text(kDims), "2*B*T + 1");
  EXPECT_EQ(Dim(0).text(kDims), "0");
  EXPECT_EQ((Dim(-1) * b).text(kDims), "-B");
  EXPECT_EQ(Dim(INT64_MIN).text(kDims), "-9223372036854775808");
  EXPECT_TRUE(Dim(7).is_constant());
  EXPECT_EQ(Dim(7).constant(), 7);
  EXPECT_FALSE(b.is_constant());
  int64_t sizes[] = {3, 5};
  EXPECT_EQ((Dim(2) * b * t + Dim(1)).evaluate(sizes), 31);
}

TEST(GraphDim, TextReadsBack) {
  for (const char* text : {"0", "-5", "B", "2*B*T + 1", "-B + 1", "B*B*T - 3*n_heads + 12",
                           "-9223372036854775808", "9223372036854775807*B"})
    EXPECT_EQ(Dim::parse(text, kDims).text(kDims), text);
  EXPECT_EQ(Dim::parse(" T * 2*B+ B*T -T+T", kDims).text(kDims), "3*B*T");
}

TEST(GraphDim, Errors) {
  EXPECT_EQ(error_of([] { Dim::parse("2*C", kDims); }), "dim '2*C': no dim is called 'C'");
  EXPECT_EQ(error_of([] { Dim::parse("B +", kDims); }),
            "dim 'B +': a number or the name of a dim was expected");
  EXPECT_EQ(error_of([] { Dim::parse("B)", kDims); }), "dim 'B)': unexpected ')'");
  EXPECT_EQ(error_of([] { Dim::parse("9223372036854775808", kDims); }),
            "dim '9223372036854775808': '9223372036854775808' is not a 64-bit integer");
  EXPECT_EQ(error_of([] { Dim(INT64_MAX) + Dim(1); }),
            "dim: the size does not fit in 64 bits; the shape is too large");
  Dim b = Dim::symbol(0);
  int64_t large[] = {int64_t{1} << 40};
  EXPECT_EQ(error_of([&] { (b * b).evaluate(large); }),
            "dim: the size does not fit in 64 bits; the shape is too large");
  std::string product = "B";
  for (int i = 0; i < 40; ++i) product += "*B";
  EXPECT_EQ(error_of([&] { Dim::parse(product, kDims); }),
            "dim: a product of 17 sizes; at most 16 are allowed");
}

const char* kDigits =
    R"(graph digits(x: f32[B, 784]) slots(weight = "model.fc1.weight": f32[64, 784], bias = "model.fc1.bias": f32[64]) dims(B = 1..1024) {
  const %3: f32[] = 0.5
  const %4 "two": weak f64[] = 2
  %5: f32[B, 64] = linear(x, weight, bias) @ train.py:12 "fc1"
  %6: f32[B, 64] = mul(%5, %4) @ train.py:13
  %7: f32[64*B] = reshape(%6) {shape=[64*B]}
  %8: f32[64] = mul(bias, %3)
  return y = %7, %5
  write bias = %8
}
)";

TEST(GraphText, ReadsBack) {
  Graph g = parse(kDigits);
  verify(g);
  EXPECT_EQ(to_text(g), kDigits);
  EXPECT_EQ(g.inputs.size(), 5u);
  EXPECT_EQ(g.inputs[1].name, "model.fc1.weight");
  EXPECT_EQ(g.locations.size(), 3u);
  EXPECT_EQ(g.locations[1], (Location{"train.py", 12, "fc1"}));
  EXPECT_TRUE(g.inputs[4].data.has(kWeak));
  EXPECT_TRUE(same(g, copy(g)));
  EXPECT_EQ(to_text(copy(g)), kDigits);
}

TEST(GraphText, EverySampleReadsBack) {
  size_t count = 0;
  for (const Sample& s : all_samples()) {
    if (!has_static_shape(*s.op)) continue;
    Graph g = graph_of(s);
    std::string text = to_text(g);
    Graph back = parse(text);
    EXPECT_TRUE(same(g, back)) << text;
    EXPECT_EQ(to_text(back), text);
    EXPECT_EQ(g.nodes[0].attrs, back.nodes[0].attrs) << text;
    ++count;
  }
  EXPECT_GT(count, 500u);
}

TEST(GraphText, FieldsLieInTheirPod) {
  for (const OpDef* op : op_table()) {
    std::vector<bool> covered(op->attr_bytes);
    for (const Field& f : op->fields) {
      for (size_t i = 0; i < field_bytes(f.kind); ++i) {
        ASSERT_LT(f.offset + i, covered.size()) << op->name << "." << f.name;
        EXPECT_FALSE(covered[f.offset + i]) << op->name << "." << f.name;
        covered[f.offset + i] = true;
      }
    }
  }
}

TEST(GraphText, EveryDoubleReadsBack) {
  double values[] = {0.0,
                     -0.0,
                     0.1,
                     1e300,
                     5e-324,
                     -std::numeric_limits<double>::infinity(),
                     std::numeric_limits<double>::quiet_NaN(),
                     -std::numeric_limits<double>::quiet_NaN(),
                     1.0 / 3};
  Graph g =
      parse("graph g() {\n %0: f64[2] = full() {value=0, integer=0, dtype=f64, shape=[2]}\n}");
  for (double v : values) {
    write_real(g.nodes[0].attrs.data(), g.nodes[0].op->fields[0], v);
    Graph back = parse(to_text(g));
    EXPECT_EQ(back.nodes[0].attrs, g.nodes[0].attrs) << to_text(g);
  }
}

TEST(GraphText, ConstantsReadBack) {
  const char* text = R"(graph constants() {
  const %0: bool[2] = [true, false]
  const %1: u8[] = 255
  const %2: i8[] = -128
  const %3: i64[] = -9223372036854775808
  const %4: f16[3] = [65504, nan, 6e-08]
  const %5: bf16[] = inf
  const %6: f32[2, 2] = [0.1, -0, nan, nan(0xffc00000)]
  const %7: f64[0, 3] = []
  return %0
}
)";
  Graph g = parse(text);
  Graph back = parse(to_text(g));
  EXPECT_TRUE(same(g, back)) << to_text(g);
  EXPECT_EQ(to_text(g), to_text(back));
}

TEST(GraphText, LargeConstantsNeedWithData) {
  Graph g;
  Input in;
  in.kind = InputKind::constant;
  in.data = random_tensor({Shape{5, 4}}, 1);
  in.value = g.add_value({DType::f32, false, {5, 4}});
  g.inputs.push_back(in);
  g.name = "g";
  EXPECT_NE(to_text(g).find("= <80 bytes>"), std::string::npos);
  EXPECT_EQ(error_of([&] { parse(to_text(g)); }),
            "graph text, line 2, column 25: the bytes of this constant were left out when the text "
            "was written; write it with_data");
  EXPECT_TRUE(same(g, parse(to_text(g, true))));
}

TEST(GraphText, OddNames) {
  const char* text =
      R"--(graph "a \"graph\""("the x": f32[2], dims: f32[2]) slots(w = "a.w": f32[2], w_2 = "b.w": f32[2], slot_1 = "layers.1": f32[2]) {
  %0: f32[2] = add("the x", dims) @ "my file\n.py":3 "m(\x01)"
  %1: f32[2] = add(w, w_2)
  return "the y" = %0, y = %1, slot_1
}
)--";
  Graph g = parse(text);
  verify(g);
  EXPECT_EQ(to_text(g), text);
}

struct BadText {
  const char* text;
  const char* error;
};

TEST(GraphText, Errors) {
  const BadText all[] = {
      {"", "line 1, column 1: 'graph' was expected, got the end"},
      {"graph g(x f32[]) {}", "line 1, column 11: ':' was expected, got \"f32\""},
      {"graph g(x: f31[]) {}", "line 1, column 12: a dtype like f32 was expected, got \"f31\""},
      {"graph g(x: f32[C]) {}", "line 1, column 16: dim 'C': no dim is called 'C'"},
      {"graph g(x: f32[2]) {\n %1: f32[2] = neg(y)\n}",
       "line 2, column 19: \"y\" is not defined before its use"},
      {"graph g(x: f32[2]) {\n %1: f32[2] = nog(x)\n}", "line 2, column 15: no op is called 'nog'"},
      {"graph g(x: f32[2]) {\n %1: f32[2] = cast(x)\n}",
       "line 3, column 1: '{' was expected, got \"}\""},
      {"graph g(x: f32[2]) {\n %1: f32[2] = cast(x) {}\n}",
       "line 2, column 25: cast: attribute 'dtype' is missing"},
      {"graph g(x: f32[2]) {\n %1: f32[2] = cast(x) {dtype=f32, dtype=f32}\n}",
       "line 2, column 35: attribute 'dtype' is given twice"},
      {"graph g(x: f32[2]) {\n %1: f32[2] = cast(x) {to=f32}\n}",
       "line 2, column 24: cast has no attribute 'to'"},
      {"graph g(x: f32[2]) {\n %1: f32[2] = neg(x)\n %1: f32[2] = neg(x)\n}",
       "line 3, column 2: %1 is defined twice"},
      {"graph g() {\n const %0: u8[] = 256\n}", "line 2, column 19: '256' is no u8"},
      {"graph g() {\n const %0: u8[3] = [1]\n}",
       "line 2, column 20: 1 elements for a constant of shape (3,)"},
      {"graph g() {\n const %0: u8[4611686018427387904, 4] = []\n}",
       "line 2, column 41: shape (4611686018427387904, 4) has more elements than fit in 64 bits"},
      {"graph g(x: f32[2]) {\n write x = x\n}", "line 2, column 8: only slots can be written"},
      {"graph g() {\n return \"\n}", "line 3, column 2: the string has no end"},
      {"graph g(x: f32[2]) {",
       "line 1, column 21: a value, const, return, write or } was "
       "expected, got the end"},
      {"graph g(x: f32[B]) dims(B = 1..99999999999999999999) {}",
       "line 1, column 32: the greatest size, a 64-bit integer, was expected, got "
       "\"99999999999999999999\""},
  };
  for (const BadText& b : all)
    EXPECT_EQ(error_of([&] { parse(b.text); }), std::string("graph text, ") + b.error) << b.text;
}

TEST(GraphText, DeepRegionsAreAnError) {
  std::string text = "graph g(x: f32[2]) {\n";
  for (int i = 0; i < 100000; ++i) text += "%0: f32[2] = neg(x) { region r(x: f32[2]) {";
  EXPECT_NE(error_of([&] { parse(text); }).find("nested deeper than 64 levels"), std::string::npos);
}

}  // namespace
}  // namespace fluxion::testing
