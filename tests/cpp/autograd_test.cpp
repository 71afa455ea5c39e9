// The tape by itself: runs inside and beside each other, the life of accumulators, hooks, failures.
#include "autograd/autograd.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ops/functions.h"

namespace fluxion {
namespace {

Tensor leaf(Ints shape) { return ones(shape, DType::f32, true); }
Tensor times(const Tensor& t, double k) { return mul(t, number(k)); }
double first(const Tensor& t) { return t.data<float>()[0]; }

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "(no error)";
}

/// Runs `work(k)` on two threads at once.
void on_two_threads(const std::function<void(int)>& work) {
  std::atomic<int> ready{0};
  auto start = [&](int k) {
    ++ready;
    while (ready < 2) std::this_thread::yield();
    work(k);
  };
  std::thread other(start, 1);
  start(0);
  other.join();
}

Tensor gradient(const Tensor& y, const Tensor& x) {
  return grad({&y, 1}, {&x, 1}, {}, true, false, true)[0];
}

TEST(Runs, NestedInAHook) {
  Tensor x = leaf({1}), a = times(x, 2), b = times(a, 3), c = times(a, 5);
  double inner = 0;
  add_hook(b, [&](const Tensor&) {
    inner = first(gradient(c, x));
    return Tensor{};
  });
  sum(add(b, c)).backward();
  EXPECT_EQ(inner, 10);
  EXPECT_EQ(first(x.grad()), 16);
}

struct BackwardInside final : CustomBackward {
  Tensor y, x;  // of another graph
  const char* name() const override { return "backward_inside"; }
  void backward(std::span<const Tensor> g, std::span<Tensor> r) override {
    y.backward({}, true);
    r[0] = g[0];
  }
};

TEST(Runs, NestedInACustomFunction) {
  Tensor x = leaf({1}), other = times(times(x, 2), 7);
  auto custom = std::make_unique<BackwardInside>();
  custom->y = other;
  Tensor y = clone(x.detach());
  record_custom(std::move(custom), {&x, 1}, {&y, 1});
  sum(add(y, times(x, 100))).backward();
  EXPECT_EQ(first(x.grad()), 14 + 1 + 100);
}

TEST(Runs, TwoThreadsOnOneGraph) {
  Tensor x = leaf({8});
  Tensor y = x;
  for (int i = 0; i < 50; ++i) y = add(mul(y, times(x, 0.5)), y);
  y = sum(y);
  std::vector<float> want(8), wrong;
  Tensor once = gradient(y, x);
  std::copy_n(once.data<float>(), 8, want.begin());
  std::atomic<int> bad{0};
  on_two_threads([&](int) {
    for (int i = 0; i < 200; ++i) {
      Tensor g = gradient(y, x);
      bad += !std::equal(want.begin(), want.end(), g.data<float>());
    }
  });
  EXPECT_EQ(bad, 0);
}

TEST(Runs, TwoThreadsFreeOneGraph) {
  for (int i = 0; i < 200; ++i) {
    Tensor x = leaf({4}), shared = exp(times(x, 0)), y = shared;
    for (int k = 0; k < 5; ++k) y = mul(y, shared);
    y = sum(y);
    std::atomic<int> failed{0};
    on_two_threads([&](int) {
      std::string error = error_of([&] { y.backward(); });
      if (error == "(no error)") return;
      EXPECT_NE(error.find("was freed by an earlier backward pass"), std::string::npos) << error;
      ++failed;
    });
    EXPECT_LT(failed, 2) << "one of them got everything first";
  }
}

TEST(Runs, TwoThreadsAccumulateIntoOneLeaf) {
  Tensor w = leaf({4096});
  on_two_threads([&](int) {
    Tensor seed = full({4096}, Scalar(3.0), DType::f32);
    for (int i = 0; i < 100000; ++i) w.backward(seed);
  });
  for (int i = 0; i < 4096; ++i) ASSERT_EQ(w.grad().data<float>()[i], 3 * 2 * 100000) << i;
}

TEST(Runs, TwoThreadsRetainOneGradient) {
  Tensor x = leaf({16}), y = times(x, 2);
  retain_grad(y);
  Tensor seed = full({16}, Scalar(3.0), DType::f32);
  on_two_threads([&](int) {
    for (int i = 0; i < 5000; ++i) y.backward(seed, true);
  });
  EXPECT_EQ(first(y.grad()), 3 * 2 * 5000);
}

TEST(Runs, AVariableMayGoWhileItsGradientIsRetained) {
  for (int i = 0; i < 300; ++i) {
    Tensor x = leaf({4}), y = times(x, 2), z = sum(times(y, 3));
    retain_grad(y);
    on_two_threads([&](int k) {
      if (k) y = {};
      else z.backward();
    });
    EXPECT_EQ(first(x.grad()), 6);
  }
}

TEST(Runs, ManyTargets) {
  std::vector<Tensor> xs, twice;
  for (int i = 0; i < 100; ++i) xs.push_back(leaf({1}));
  for (int i = 0; i < 100; ++i) twice.push_back(times(xs[i], i));
  Tensor y = sum(cat(twice, 0));
  xs.push_back(xs[7]);
  std::vector<Tensor> found = grad({&y, 1}, xs);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(first(found[i]), i);
  EXPECT_EQ(first(found[100]), 7);
}

TEST(Accumulator, ThreadsPickItUpWhileItDies) {
  Tensor x = leaf({1});
  on_two_threads([&](int) {
    for (int i = 0; i < 20000; ++i) Edge e = gradient_edge(x);
  });
  sum(times(x, 3)).backward();
  EXPECT_EQ(first(x.grad()), 3);
  EXPECT_EQ(x.impl()->refs.load(), 1u);
}

Tensor kept;
/// Uses its leaf again while its node is being destroyed, as an object held by a context may.
struct LastWords final : CustomBackward {
  Tensor leaf;
  ~LastWords() override { kept = times(leaf, 2); }
  const char* name() const override { return "last_words"; }
  void backward(std::span<const Tensor> g, std::span<Tensor> r) override { r[0] = g[0]; }
};

TEST(Accumulator, IsNotPickedUpOnceItsLastReferenceWent) {
  Tensor x = leaf({4});
  {
    Tensor y = clone(x.detach());
    auto custom = std::make_unique<LastWords>();
    custom->leaf = x;
    record_custom(std::move(custom), {&x, 1}, {&y, 1});
  }
  std::vector<Tensor> others;  // take the memory that was freed
  for (int i = 0; i < 50; ++i) others.push_back(times(leaf({4}), 2));
  sum(kept).backward();
  kept = {};
  EXPECT_EQ(first(x.grad()), 2);
}

TEST(Variables, ALongChainOfGradientsIsFreed) {
  for (bool retained : {false, true}) {
    Tensor source = leaf({1}), t = ones({1});
    for (int i = 0; i < 300000; ++i) {
      Tensor next = retained && i % 1000 == 0 ? times(source, 2) : ones({1});
      if (retained && i % 1000 == 0) retain_grad(next);
      next.set_grad(t);
      t = next;
    }
    t = {};
  }
}

TEST(Variables, AFailedRecordKeepsNothing) {
  Tensor x = leaf({4}), made;
  {
    InferenceMode on;
    made = ones({4});
  }
  EXPECT_NE(error_of([&] { mul(x, made); }).find("Inference tensors cannot be saved"),
            std::string::npos);
  EXPECT_EQ(x.impl()->refs.load(), 1u) << "a node that was begun still holds the leaf";
}

TEST(Hooks, AHandleHoldsNothing) {
  HookHandle handle;
  int fired = 0;
  auto count = [&](const Tensor&) {
    ++fired;
    return Tensor{};
  };
  Tensor x = leaf({1});
  {
    Tensor y = times(x, 2), z = times(y, 3);
    handle = add_hook(y, count);
    assign(y, zeros({1}));
    sum(z).backward({}, true);
    EXPECT_EQ(fired, 1);
    handle.remove();
    sum(z).backward();
    EXPECT_EQ(fired, 1);
  }
  EXPECT_TRUE(handle.list.expired());
  handle.remove();
}

TEST(Hooks, ResultsAreChecked) {
  Tensor w = leaf({3});
  add_hook(w, [](const Tensor&) { return ones({5}); });
  EXPECT_NE(error_of([&] { sum(times(w, 2)).backward(); }).find("has changed the size"),
            std::string::npos);
  EXPECT_FALSE(w.grad().defined());
}

struct WrongShape final : CustomBackward {
  const char* name() const override { return "wrong_shape"; }
  void backward(std::span<const Tensor>, std::span<Tensor> r) override { r[0] = ones({7}); }
};

TEST(Hooks, CustomGradientsOfAnotherShapeDoNotReachALeaf) {
  Tensor x = leaf({3}), y = clone(x.detach());
  record_custom(std::make_unique<WrongShape>(), {&x, 1}, {&y, 1});
  EXPECT_NE(error_of([&] { sum(y).backward(); }).find("got a gradient of shape (7,)"),
            std::string::npos);
  EXPECT_FALSE(x.grad().defined());
}

TEST(Hooks, AfterAccumulation) {
  Tensor x = leaf({1});
  std::vector<double> seen;
  HookHandle h =
      add_post_accumulate_grad_hook(x, [&](const Tensor& t) { seen.push_back(first(t.grad())); });
  for (int i = 0; i < 2; ++i) sum(times(x, 3)).backward();
  gradient(sum(times(x, 3)), x);
  h.remove();
  sum(times(x, 3)).backward();
  EXPECT_EQ(seen, (std::vector<double>{3, 6}));
}

TEST(Writes, TheHistoryOfAValueThatLivesOnStaysItsOwn) {
  Tensor w = leaf({1}), z = times(w, 2), x = zeros({1});
  assign(x, z);
  EXPECT_NE(grad_fn(x), grad_fn(z));
  Tensor y = zeros({1});
  assign(y, times(w, 2));
  EXPECT_EQ(grad_fn_name(y), "MulBackward0") << "a temporary's history is taken over";
  Tensor l = zeros({1});
  assign(l, w);
  EXPECT_FALSE(grad_fn(l)->is_leaf());
}

}  // namespace
}  // namespace fluxion
