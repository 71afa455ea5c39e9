// Arguments that no program means: undefined tensors, empty lists, integers at the ends of their range, NaN where an
// integer is wanted. Each must give its result or an Error; under the sanitizers nothing else may happen.
#include <fluxion/fluxion.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "ops/op.h"

namespace fluxion {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max(),
                  kLeast = std::numeric_limits<int64_t>::min(), kHuge = int64_t{1} << 62;
constexpr int64_t kExtremes[] = {kLeast, kLeast + 1, -kHuge, -1, 0, 1, kHuge, kMost - 1, kMost};

/// The text of the error that the call raises, or nothing.
template <class F>
std::string error_of(F call) {
  try {
    call();
  } catch (const Error& e) {
    EXPECT_NE(e.kind(), ErrorKind::internal) << e.what();
    EXPECT_NE(std::string(e.what()), "");
    return e.what();
  }
  return "";
}

/// Whether the call returned; an Error is fine, too.
template <class F>
bool survives(F call) {
  return error_of(call).empty();
}

std::string values(const Tensor& t) { return to_text(t); }

TEST(Undefined, ErrorNamesFunctionAndArgument) {
  Tensor none, x = ones({2, 3});
  EXPECT_EQ(error_of([&] { add(x, none); }),
            "add: argument `other` has no value (a default-constructed Tensor, or one that was "
            "moved from)");
  EXPECT_EQ(error_of([&] { exp(none); }).substr(0, 36), "exp: argument `input` has no value (");
  EXPECT_EQ(error_of([&] { reshape(none, {2}); }).substr(0, 26), "reshape: argument `input` ");
  EXPECT_EQ(error_of([&] { conv2d(x, none); }).substr(0, 52),
            "conv2d: one of the arguments `input` and `weight` ha");
}

TEST(Undefined, EveryWayInRaises) {
  Tensor none, x = ones({2, 3}), i = zeros({2}, DType::i64);
  const Tensor list[] = {x, none};
  EXPECT_NE(error_of([&] { matmul(x, none); }), "");
  EXPECT_NE(error_of([&] { none + 1; }), "");
  EXPECT_NE(error_of([&] { sum(none); }), "");
  EXPECT_NE(error_of([&] { cat(list, 0); }), "");
  EXPECT_NE(error_of([&] { stack(list, 0); }), "");
  EXPECT_NE(error_of([&] { where(none, x, x); }), "");
  EXPECT_NE(error_of([&] { gather(x, 0, none); }), "");
  EXPECT_NE(error_of([&] { cross_entropy(x, none); }), "");
  EXPECT_NE(error_of([&] { layer_norm(none, {3}); }), "");
  EXPECT_NE(error_of([&] { softmax(none, 0); }), "");
  EXPECT_NE(error_of([&] { zeros_like(none); }), "");
  EXPECT_NE(error_of([&] { embedding(none, x); }), "");
  EXPECT_NE(error_of([&] { scaled_dot_product_attention(x, none, x); }), "");
  EXPECT_NE(error_of([&] { transpose(none, 0, 1); }), "");
  EXPECT_NE(error_of([&] { none.backward(); }), "");
  EXPECT_NE(error_of([&] { none.requires_grad(); }), "");
  EXPECT_NE(error_of([&] { none.detach(); }), "");
  EXPECT_NE(error_of([&] { none.item(); }), "");
  EXPECT_NE(error_of([&] { Tensor(none).set_requires_grad(true); }), "");
  EXPECT_NE(error_of([&] { Tensor(none).grad(); }), "");
  EXPECT_NE(error_of([&] { Tensor(none).set_grad(x); }), "");
  EXPECT_NE(error_of([&] { set_data(x, none); }), "");
  EXPECT_NE(error_of([&] { set_data(none, x); }), "");
  EXPECT_NE(error_of([&] { assign(x, none); }), "");
  EXPECT_NE(error_of([&] { assign(none, x); }), "");
  EXPECT_EQ(to_text(none), "tensor(undefined)");
  EXPECT_NE(error_of([&] { nn::Linear(3, 2).forward(none); }), "");
}

/// A parameter of a schema: "int[]? dim=None".
struct Parameter {
  std::string kind, name, fallback;
};
std::vector<Parameter> parameters_of(const std::string& schema) {
  std::vector<Parameter> all;
  size_t open = schema.find('(') + 1, close = schema.rfind(") ->");
  std::string inside = schema.substr(open, close - open), one;
  int depth = 0;
  auto finish = [&] {
    size_t space = one.find(' '), equals = one.find('=');
    if (space != std::string::npos && one.substr(0, space) != "ignored?")
      all.push_back({one.substr(0, space), one.substr(space + 1, equals - space - 1),
                     equals == std::string::npos ? "" : one.substr(equals + 1)});
    one.clear();
  };
  for (char c : inside) {
    depth += (c == '[') - (c == ']');
    if (c == ',' && depth == 0) finish();
    else if (c != ' ' || !one.empty()) one += c;
  }
  finish();
  return all;
}

/// A value that may fit the parameter; tensors are (2, 3) and float.
Arg plain_argument(const Parameter& p, const Tensor* tensors, const int64_t* ints) {
  Arg a;
  bool optional = p.kind.ends_with('?');
  a.none = optional;
  a.scalar = p.kind.starts_with("float") ? Scalar(0.5) : Scalar(1);
  if (p.kind.starts_with("dtype")) a.scalar = Scalar(static_cast<int64_t>(DType::f32));
  if (p.kind.starts_with("bool")) a.scalar = Scalar(p.fallback == "True");
  if (p.kind == "Tensor[]" || p.kind == "Tensor...") a.tensors = {tensors, 2};
  else if (p.kind.starts_with("Tensor") || p.kind.starts_with("Number")) a.tensor = tensors[0];
  a.ints = {ints, 1};
  static std::vector<std::unique_ptr<std::string>> texts;
  texts.push_back(std::make_unique<std::string>(p.fallback));
  std::string& text = *texts.back();
  std::erase(text, '\'');
  a.text = text.empty() ? "mean" : std::string_view(text);
  return a;
}

/// A function or an op that users know, not a helper of ours.
bool is_public(const std::string& name) {
  auto functions = function_table();
  return find_op(name) || std::ranges::any_of(functions, [&](const Function* f) {
           return std::string_view(f->schema).starts_with(name + "(");
         });
}

TEST(Undefined, EveryFunctionNamesOne) {
  const Tensor defined[] = {ones({2, 3}), ones({2, 3})}, half[] = {ones({2, 3}), Tensor()};
  const int64_t one = 1;
  int calls = 0, raised = 0;
  for (const Function* f : function_table()) {
    std::string name(f->schema, std::string(f->schema).find('('));
    std::vector<Parameter> parameters = parameters_of(f->schema);
    for (size_t missing = 0; missing < parameters.size(); ++missing) {
      const std::string& kind = parameters[missing].kind;
      bool list = kind == "Tensor[]" || kind == "Tensor...";
      if (!kind.starts_with("Tensor") && kind != "Number") continue;
      if (kind == "Tensor?" || name.starts_with("index") || name.ends_with("_")) continue;
      std::vector<Arg> args;
      for (const Parameter& p : parameters) args.push_back(plain_argument(p, defined, &one));
      if (list) args[missing].tensors = half;
      else args[missing].tensor = {};
      std::string error = error_of([&] {
        Result result;
        f->call(args.data(), result);
      });
      ++calls;
      bool undefined = error.find("has no value") != error.npos;
      raised += undefined;
      if (!undefined) continue;
      EXPECT_TRUE(is_public(error.substr(0, error.find(':')))) << f->schema << "\n  " << error;
    }
  }
  EXPECT_GT(raised, calls / 2);
}

TEST(EmptyLists, Raise) {
  Tensor x = ones({1, 1, 5}), w = ones({1, 1, 3}), x2 = ones({1, 1, 5, 5}), w2 = ones({1, 1, 3, 3});
  const int64_t one = 1, zero = 0;
  Ints ok(&one, 1), no, none(&zero, 1);
  EXPECT_NE(error_of([&] { conv1d(x, w, {}, no, none, ok, 1); }), "");
  EXPECT_NE(error_of([&] { conv1d(x, w, {}, ok, no, ok, 1); }), "");
  EXPECT_NE(error_of([&] { conv1d(x, w, {}, ok, none, no, 1); }), "");
  EXPECT_NE(error_of([&] { conv2d(x2, w2, {}, no, none, ok, 1); }), "");
  EXPECT_NE(error_of([&] { max_pool1d(x, no); }), "");
  EXPECT_NE(error_of([&] { max_pool1d(x, ok, {}, no); }), "");
  EXPECT_NE(error_of([&] { max_pool1d(x, ok, {}, none, no); }), "");
  EXPECT_NE(error_of([&] { avg_pool1d(x, no); }), "");
  EXPECT_NE(error_of([&] { avg_pool2d(x2, no); }), "");
  EXPECT_NE(error_of([&] { movedim(x, {0}, no); }), "");
  EXPECT_NE(error_of([&] { nn::Conv2d(4, 4, 3, 1, 0, 1, 0); }), "");
  EXPECT_NE(error_of([&] { nn::Conv2d(4, 4, 3, 1, 0, 1, 3); }), "");
  EXPECT_NE(error_of([&] { conv2d(x2, w2, {}, ok, none, ok, 0); }), "");
}

TEST(Ranks, AtMostSixteen) {
  const std::string text = "a tensor may have at most 16 dims, got 17";
  Shape sixteen(size_t{16}, 1), many(size_t{17}, 1);
  Tensor x = reshape(ones({1}), sixteen), y = ones({1});
  EXPECT_EQ(error_of([&] { unsqueeze(x, 0); }), text);
  EXPECT_EQ(error_of([&] { view(y, many); }), text);
  EXPECT_EQ(error_of([&] { reshape(y, many); }), text);
  EXPECT_EQ(error_of([&] { expand(y, many); }), text);
  EXPECT_EQ(error_of([&] { unflatten(y, 0, many); }), text);
  EXPECT_EQ(error_of([&] { unflatten(x, 0, {1, 1}); }), text);
  EXPECT_EQ(error_of([&] { stack({&x, 1}, 0); }), text);
  EXPECT_EQ(error_of([&] { one_hot(zeros(sixteen, DType::i64), 1); }), text);
  EXPECT_EQ(error_of([&] { unfold(x, 0, 1, 1); }), text);
  EXPECT_EQ(error_of([&] { diag_embed(x); }), text);
  EXPECT_EQ(error_of([&] { zeros(many); }), text);
  EXPECT_EQ(error_of([&] { as_strided(y, many, Shape(size_t{17}, 0)); }), text);
  std::vector<Tensor> lines(17, y);
  EXPECT_EQ(error_of([&] { meshgrid(lines); }), text);
  EXPECT_NE(error_of([&] { repeat(x, Shape(size_t{17}, 2)); }), "");
  Tensor index = zeros({1, 1}, DType::i64);
  EXPECT_NE(error_of([&] { index_put(x, {&index, 1}, reshape(y, many)); }), "");
  EXPECT_EQ(error_of([&] { fluxion::index(x, {&index, 1}); }), text);
  EXPECT_NE(error_of([&] { view(y, Shape(size_t{1000}, 1)); }), "");
  Tensor parts[] = {x, reshape(y, {1, 1})};
  EXPECT_NE(error_of([&] { einsum("abcdefghijklmnop,qr->abcdefghijklmnopqr", parts); }), "");
}

TEST(Extremes, Slices) {
  Tensor x = arange(5);
  EXPECT_EQ(values(slice(x, 0, {}, {}, kMost)), "tensor([0])");
  EXPECT_EQ(values(slice(x, 0, {}, {}, kLeast)), "tensor([4])");
  EXPECT_EQ(values(slice(transpose(reshape(arange(6), {2, 3}), 0, 1), 0, {}, {}, kMost)),
            "tensor([[0, 3]])");
  Tensor w = ones({2, 3}, DType::f32, true);
  sum(slice(w, 0, {}, {}, kMost)).backward();
  EXPECT_EQ(values(w.grad()), "tensor([[1., 1., 1.],\n        [0., 0., 0.]])");
  for (int64_t a : kExtremes)
    for (int64_t b : kExtremes) {
      for (int64_t step : kExtremes) survives([&] { slice(x, 0, a, b, step); });
      survives([&] { narrow(x, 0, a, b); });
      survives([&] { select(x, a, b); });
      survives([&] { unfold(x, 0, a, b); });
      survives([&] { transpose(x, a, b); });
      survives([&] { diagonal(ones({2, 3}), a, 0, b); });
      survives([&] { diag_embed(x, a, b, 0); });
      survives([&] { flatten(x, a, b); });
      survives([&] { roll(x, {a}, {b}); });
      survives([&] { as_strided(x, {2}, {a}, b); });
      survives([&] { as_strided(x, {a}, {1}, b); });
    }
}

TEST(Extremes, Triangles) {
  Tensor x = ones({2, 3}), all = x, none = zeros({2, 3});
  EXPECT_EQ(values(tril(x, kMost)), values(all));
  EXPECT_EQ(values(tril(x, kLeast)), values(none));
  EXPECT_EQ(values(triu(x, kMost)), values(none));
  EXPECT_EQ(values(triu(x, kLeast)), values(all));
  EXPECT_NE(error_of([] { tril_indices(int64_t{1} << 40, int64_t{1} << 40); }), "");
  EXPECT_EQ(tril_indices(kMost, 0).size(1), 0);
  EXPECT_EQ(triu_indices(kMost, 0).size(1), 0);
  EXPECT_EQ(tril_indices(0, kMost).size(1), 0);
  EXPECT_EQ(triu_indices(int64_t{1} << 40, 2).size(1), 3);
  EXPECT_EQ(tril_indices(2, int64_t{1} << 40).size(1), 3);
  for (int64_t rows = 0; rows < 5; ++rows)
    for (int64_t columns = 0; columns < 5; ++columns)
      for (int64_t offset = -6; offset < 7; ++offset) {
        Tensor m = ones({rows, columns});
        EXPECT_EQ(values(tril_indices(rows, columns, offset)),
                  values(transpose(nonzero(tril(m, offset)), 0, 1)));
        EXPECT_EQ(values(triu_indices(rows, columns, offset)),
                  values(transpose(nonzero(triu(m, offset)), 0, 1)));
      }
}

TEST(Extremes, Parts) {
  Tensor x = arange(3), nothing = zeros({0});
  EXPECT_EQ(chunk(x, kMost).size(), 3u);
  EXPECT_EQ(split(x, kMost).size(), 1u);
  EXPECT_NE(error_of([&] { chunk(nothing, kMost); }), "");
  EXPECT_NE(error_of([&] { tensor_split(x, kMost); }), "");
  EXPECT_NE(error_of([&] { unbind(zeros({kHuge, 0})); }), "");
  EXPECT_NE(error_of([&] { split(x, {kMost, kMost, 5}); }), "");
  for (int64_t a : kExtremes) {
    survives([&] { tensor_split(x, {a}); });
    survives([&] { repeat(x, {a}); });
    survives([&] { repeat_interleave(x, a); });
    survives([&] { one_hot(x, a); });
    survives([&] { bincount(x, {}, a); });
    survives([&] { eye(a, 0); });
    survives([&] { eye(0, a); });
    survives([&] { randperm(a == kMost ? a : 0); });
    survives([&] { rot90(ones({2, 2}), a, {0, 1}); });
    survives([&] { zeros({a, 0}); });
    survives([&] { zeros({0, a}); });
    survives([&] { reshape(nothing, {a, 0}); });
    survives([&] { expand(x, {a, 3}); });
    survives([&] { topk(x, a); });
  }
  EXPECT_EQ(error_of([] { zeros({-1, 0}); }).substr(0, 6), "zeros:");
}

TEST(Extremes, Windows) {
  Tensor x = ones({1, 1, 4, 4}), w = ones({1, 1, 2, 2}), point = ones({1, 1, 1, 1});
  for (int64_t a : kExtremes) {
    Ints v(&a, 1);
    const int64_t one = 1, none = 0;
    survives([&] { conv2d(x, w, {}, v); });
    survives([&] { conv2d(x, w, {}, Ints(&one, 1), v); });
    survives([&] { conv2d(x, w, {}, Ints(&one, 1), Ints(&none, 1), v); });
    survives([&] { conv2d(x, w, {}, v, v, v); });
    survives([&] { conv2d(x, w, {}, Ints(&one, 1), Ints(&none, 1), Ints(&one, 1), a); });
    survives([&] { conv2d(x, w, {}, Ints(&one, 1), "same", v); });
    survives([&] { conv2d(x, point, {}, v, Ints(&none, 1), v); });
    survives([&] { conv2d(zeros({0, 1, 4, 4}), w, {}, Ints(&one, 1), v); });
    for (bool ceil_mode : {false, true}) {
      survives([&] { max_pool2d(x, v, {}, Ints(&none, 1), Ints(&one, 1), ceil_mode); });
      survives([&] { max_pool2d(x, {2}, OptInts(v), Ints(&none, 1), Ints(&one, 1), ceil_mode); });
      survives([&] { max_pool2d(x, {2}, {}, v, Ints(&one, 1), ceil_mode); });
      survives([&] { max_pool2d(x, {2}, {}, Ints(&none, 1), v, ceil_mode); });
      survives([&] { max_pool2d(x, {1}, {}, Ints(&none, 1), v, ceil_mode); });
      const int64_t half = a > 0 ? a / 2 : 0;
      survives([&] { max_pool2d(x, v, OptInts(v), Ints(&half, 1), Ints(&one, 1), ceil_mode); });
      survives([&] { avg_pool2d(x, v, OptInts(v), Ints(&half, 1), ceil_mode); });
      survives([&] { avg_pool2d(x, v, {}, Ints(&none, 1), ceil_mode); });
      survives([&] { avg_pool2d(x, {2}, OptInts(v), Ints(&none, 1), ceil_mode); });
    }
    survives([&] { unfold(x, v, Ints(&one, 1), Ints(&none, 1), Ints(&one, 1)); });
    survives([&] { unfold(x, {2}, v, Ints(&none, 1), Ints(&one, 1)); });
    survives([&] { unfold(x, {2}, Ints(&one, 1), v, Ints(&one, 1)); });
    survives([&] { unfold(x, {2}, Ints(&one, 1), Ints(&none, 1), v); });
    for (const char* mode : {"constant", "reflect", "replicate", "circular"}) {
      survives([&] { pad(x, {a, 0}, mode); });
      survives([&] { pad(x, {0, a}, mode); });
      survives([&] { pad(x, {a, a}, mode); });
      survives([&] { pad(x, {a, -(a + 1)}, mode); });
    }
  }
  Tensor wide = max_pool2d(x, {kHuge}, {}, {kHuge / 2});
  EXPECT_EQ(wide.item(), 1);
  EXPECT_EQ(conv2d(x, w, {}, {kMost}).item(), 4);
  EXPECT_NE(error_of([] { avg_pool2d(ones({1, 1, 2, 2}), {2}, {}, {0}, false, true, 0); }), "");
}

TEST(Extremes, LargePlanesRaise) {
  Tensor plane = expand(ones({1}), {1, 1, 65536, 32768});
  EXPECT_NE(error_of([&] { max_pool2d(plane, {2}); }), "");
}

TEST(Extremes, Ranges) {
  for (int64_t a : kExtremes)
    for (int64_t b : kExtremes)
      if (a > b || a > kMost - 1000 || b > a + 1000)  // no error would be a large result
        survives([&] { arange(a, b, kMost); });
  EXPECT_NE(error_of([] { arange(0, kMost, 1); }), "");
  EXPECT_NE(error_of([] { arange(kLeast, kMost, 1); }), "");
  EXPECT_NE(error_of([] { arange(0.0, 1e300, 1.0); }), "");
  EXPECT_NE(error_of([] { arange(-1e308, 1e308, 1e-300); }), "");
  EXPECT_NE(error_of([] { arange(0.0, 1.0, std::nan("")); }), "");
  EXPECT_EQ(arange(0.0, 1.0, INFINITY).numel(), 0);
  EXPECT_NE(error_of([] { linspace(0.0, 1.0, kMost); }), "");
}

TEST(Numbers, ThatDoNotFitRaise) {
  const double nan = std::nan("");
  for (DType t : {DType::u8, DType::i8, DType::i16, DType::i32, DType::i64}) {
    for (double v : {nan, double{INFINITY}, -double{INFINITY}, 1e300})
      EXPECT_NE(error_of([&] { full({2}, v, t); }), "") << name(t) << " " << v;
    EXPECT_EQ(full({1}, 1.7, t).item(), 1);
    EXPECT_NE(error_of([&] { full_like(zeros({2}, t), nan); }), "");
  }
  EXPECT_NE(error_of([] { full({2}, 300, DType::u8); }), "");
  EXPECT_EQ(full({}, -1, DType::u8).item(), 255);
  EXPECT_EQ(full({}, kLeast, DType::i64).item_int(), kLeast);
  EXPECT_EQ(full({}, kMost, DType::i64).item_int(), kMost);
  EXPECT_EQ(full({}, nan, DType::bool_).item(), 1);
  EXPECT_EQ(full({}, INFINITY, DType::f16).item(), INFINITY);
  EXPECT_NE(error_of([] { full({2}, 1e300, DType::f32); }), "");
  EXPECT_NE(error_of([] { randint(0, 257, {2}, nullptr, DType::u8); }), "");
  EXPECT_NE(error_of([] { randint(-1, 2, {2}, nullptr, DType::u8); }), "");
  EXPECT_NE(error_of([] { randint(0, 129, {2}, nullptr, DType::i8); }), "");
  EXPECT_NE(error_of([] { randint(0, 3, {2}, nullptr, DType::bool_); }), "");
  EXPECT_NE(error_of([] { randint(0, 70000, {2}, nullptr, DType::f16); }), "");
  EXPECT_EQ(randint(0, 256, {2}, nullptr, DType::u8).numel(), 2);
}

TEST(CrossEntropy, IgnoreIndexBeyondDoubles) {
  const int64_t odd = (int64_t{1} << 60) + 1;
  Tensor logits = reshape(arange(15), {3, 5}), x = logits * 1.0;
  x.set_requires_grad(true);
  Tensor target = full({3}, odd, DType::i64);
  target.data<int64_t>()[1] = 2;
  Tensor loss = cross_entropy(x, target, {}, {}, odd, {}, "sum");
  loss.backward();
  Tensor y = (logits * 1.0).set_requires_grad(true), same = full({3}, -100, DType::i64);
  same.data<int64_t>()[1] = 2;
  Tensor expected = cross_entropy(y, same, {}, {}, -100, {}, "sum");
  expected.backward();
  EXPECT_EQ(loss.item(), expected.item());
  EXPECT_EQ(values(x.grad()), values(y.grad()));
  EXPECT_EQ(target.data<int64_t>()[0], odd) << "the target is the caller's";
  EXPECT_NE(error_of([&] { cross_entropy(x, target, {}, {}, odd - 1); }), "");
}

TEST(Texts, AreNotListsOfNumbers) {
  Tensor x = ones({1, 1, 4, 4}), w = ones({1, 1, 3, 3});
  EXPECT_EQ(conv2d(x, w, {}, {1}, {0}).size(2), 2);
  EXPECT_EQ(conv2d(x, w, {}, {1}, {1, 1}).size(2), 4);
  EXPECT_EQ(conv2d(x, w, {}, {1}, "same").size(2), 4);
  EXPECT_EQ(conv2d(x, w, {}, {1}, "valid").size(2), 2);
  EXPECT_EQ(conv1d(ones({1, 1, 4}), ones({1, 1, 2}), {}, {1}, "same").size(2), 4);
  EXPECT_NE(error_of([&] { conv2d(x, w, {}, {1}, "all"); }), "");
  EXPECT_NE(error_of([&] { conv2d(x, w, {}, {2}, "same"); }), "");
}

}  // namespace
}  // namespace fluxion
