// Capture and programs: what a recorded function computes is what eager computes, bit for bit.
#include <gtest/gtest.h>

#include <cstring>

#include "autograd/autograd.h"
#include "compile/compile.h"
#include "ops/functions.h"
#include "ops/operators.h"
#include "trace/recorder.h"

namespace fluxion {
namespace {

using compile::Captured;

bool same_bits(const Tensor& a, const Tensor& b) {
  Tensor x = contiguous(a.detach()), y = contiguous(b.detach());
  return x.dtype() == y.dtype() && std::ranges::equal(x.sizes(), y.sizes()) &&
         !std::memcmp(x.data(), y.data(), static_cast<size_t>(x.nbytes()));
}

template <class F>
Captured capture(F f, std::vector<Tensor> arguments) {
  tracing::Recorder recorder;
  for (size_t i = 0; i < arguments.size(); ++i)
    recorder.argument(arguments[i], fmt::format("x{}", i));
  recorder.start();
  std::vector<Tensor> results = f(arguments);
  recorder.stop();
  return Captured(recorder.finish(results));
}

TEST(Capture, PureFunction) {
  auto f = [](std::vector<Tensor> x) -> std::vector<Tensor> {
    Tensor h = relu(x[0] * number(2) + x[1]);
    return {softmax(h.detach(), -1), h};
  };
  Captured c = capture(f, {randn({4, 8}), randn({8})});
  for (int i = 0; i < 3; ++i) {
    Tensor a = randn({4, 8}), b = randn({8});
    std::vector<Tensor> got, want = f({a, b});
    ASSERT_TRUE(c.run(std::vector{a, b}, got)) << c.why();
    ASSERT_EQ(got.size(), 2u);
    EXPECT_TRUE(same_bits(got[0], want[0]));
    EXPECT_TRUE(same_bits(got[1], want[1]));
  }
  std::vector<Tensor> got;
  EXPECT_FALSE(c.run(std::vector{randn({5, 8}), randn({8})}, got));
  EXPECT_NE(c.why().find("argument 0"), std::string::npos) << c.why();
}

/// A training step with momentum-like state, gradients and a buffer written through a view.
struct Model {
  Tensor w = randn({3, 5}), b = zeros({3}), buffer = zeros({4, 3});
  Model() {
    w.set_requires_grad(true);
    b.set_requires_grad(true);
  }
  Model(const Model& o) : w(clone(o.w.detach())), b(clone(o.b.detach())), buffer(clone(o.buffer)) {
    w.set_requires_grad(true);
    b.set_requires_grad(true);
  }
  std::vector<Tensor> step(const Tensor& x, const Tensor& y) {
    w.set_grad({});
    b.set_grad({});
    Tensor out = linear(dropout(x, 0.25, true), w, b);
    Tensor loss = mse_loss(out, y);
    loss.backward();
    NoGrad plain;
    assign(select(buffer, 0, 1), mean(out.detach(), Ints{0}));
    assign(w, w - w.grad() * number(0.1));
    assign(b, b - b.grad() * number(0.1));
    return {loss.detach()};
  }
};

TEST(Capture, TrainingStep) {
  Model eager, compiled(eager);
  default_generator().manual_seed(3);
  std::vector<std::pair<Tensor, Tensor>> data;
  for (int i = 0; i < 6; ++i) data.emplace_back(randn({7, 5}), randn({7, 3}));
  Generator before;
  default_generator().manual_seed(5);
  std::vector<Tensor> losses;
  for (auto& [x, y] : data) losses.push_back(eager.step(x, y)[0]);

  default_generator().manual_seed(5);
  Captured c = capture([&](std::vector<Tensor> a) { return compiled.step(a[0], a[1]); },
                       {data[0].first, data[0].second});
  for (size_t i = 1; i < data.size(); ++i) {
    std::vector<Tensor> got;
    ASSERT_TRUE(c.run(std::vector{data[i].first, data[i].second}, got)) << c.why();
    EXPECT_TRUE(same_bits(got[0], losses[i])) << i;
  }
  EXPECT_TRUE(same_bits(eager.w, compiled.w));
  EXPECT_TRUE(same_bits(eager.b, compiled.b));
  EXPECT_TRUE(same_bits(eager.buffer, compiled.buffer));
  EXPECT_TRUE(same_bits(eager.w.grad(), compiled.w.grad()));
  EXPECT_LE(c.program().arena_bytes(), c.program().live_bytes() * 2);
}

TEST(Capture, ValueGuard) {
  auto f = [](std::vector<Tensor> x) -> std::vector<Tensor> {
    if (sum(x[0]).item() > 0) return {x[0] * number(2)};
    return {x[0] - number(1)};
  };
  // The decision reads the sum itself, so only equal sums take the path again.
  Captured c = capture(f, {ones({4}, DType::f32)});
  std::vector<Tensor> got;
  EXPECT_TRUE(c.run(std::vector{ones({4}, DType::f32)}, got));
  EXPECT_FALSE(c.run(std::vector{zeros({4}, DType::f32)}, got));
}

TEST(Capture, ResultsAliasAsInEager) {
  auto f = [](std::vector<Tensor> x) -> std::vector<Tensor> {
    Tensor y = x[0] + number(1);
    return {y, select(y, 0, 1), transpose(x[0], 0, 1)};
  };
  Captured c = capture(f, {randn({3, 2})});
  Tensor x = randn({3, 2});
  std::vector<Tensor> got;
  ASSERT_TRUE(c.run(std::span(&x, 1), got));
  EXPECT_EQ(got[0].storage(), got[1].storage());
  EXPECT_EQ(got[2].storage(), x.storage());
  EXPECT_TRUE(same_bits(got[1], select(x + number(1), 0, 1)));
  EXPECT_TRUE(same_bits(got[2], transpose(x, 0, 1)));
}

/// A compiled function within a larger eager computation: gradients flow through it as in eager.
TEST(Compiled, ResultsHaveHistory) {
  Tensor w = randn({3, 3}).set_requires_grad(true);
  auto f = [&](std::span<const Tensor> in) { return std::vector{tanh(matmul(in[0], w))}; };
  Compiled compiled(f);
  for (int i = 0; i < 3; ++i) {
    Tensor x = randn({2, 3}).set_requires_grad(true);
    Tensor a = x * number(3);
    sum(f(std::span(&a, 1))[0] * number(2)).backward();
    Tensor gx = x.grad(), gw = w.grad();
    x.set_grad({});
    w.set_grad({});
    Tensor b = x * number(3);
    sum(compiled({b})[0] * number(2)).backward();
    EXPECT_TRUE(same_bits(x.grad(), gx)) << i;
    EXPECT_TRUE(same_bits(w.grad(), gw)) << i;
    w.set_grad({});
  }
  EXPECT_EQ(compiled.traces().size(), 1u);
}

TEST(Compiled, AnotherTypeIsAnotherTrace) {
  Compiled f([](std::span<const Tensor> in) { return std::vector{in[0] * number(2)}; });
  for (int64_t n : {3, 4, 3, 4}) {
    Tensor x = randn({n});
    EXPECT_TRUE(same_bits(f({x})[0], x * number(2)));
  }
  EXPECT_EQ(f.traces().size(), 2u);
  EXPECT_NE(f.explain()[1].find("argument 0"), std::string::npos);
}

}  // namespace
}  // namespace fluxion
