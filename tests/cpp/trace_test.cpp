// What a tracer sees: functions that read no values, and in-place writes as pure ops.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "ops/apply.h"
#include "ops/functions.h"
#include "tensor/thread_state.h"

namespace fluxion {
namespace {

/// Notes ops by name and hands out zeros of the inferred types: nothing is computed.
struct Recorder final : Tracer {
  std::vector<std::string> ops;
  std::vector<size_t> inputs, outputs;

  void record(const OpDef& op, const void* attrs, std::span<const Tensor> in,
              std::span<Tensor> out) override {
    Override<Tracer*> off(thread_state().tracer, nullptr);
    ops.emplace_back(op.name);
    inputs.push_back(in.size());
    outputs.push_back(out.size());
    std::vector<Type> types, results(out.size());
    for (const Tensor& t : in) types.push_back(type_of(t));
    op.infer({op, attrs, types, results});
    for (size_t i = 0; i < out.size(); ++i) {
      EXPECT_FALSE(out[i].defined()) << op.name << " writes in place under a tracer";
      out[i] = zeros(results[i].shape, results[i].dtype);
    }
  }
  void write(const Tensor&, const Tensor&) override {}
  void touch_grad(const Tensor&, bool) override {}
  void rebind(const Tensor&) override {}
  void draw(Generator&, const Tensor&) override {}
};

template <class F>
Recorder trace(F f) {
  Recorder r;
  Override<Tracer*> on(thread_state().tracer, &r);
  f();
  return r;
}

struct Refusal {
  const char* text;
  std::function<void()> call;
};

Tensor ints(int64_t v) { return full({2}, Scalar(v), DType::i64); }

TEST(Trace, ValuesAreRefusedByTheOpAndNotByTheFunction) {
  Tensor one = ints(1), none = ints(0), minus = ints(-1), far = ints(7);
  Tensor big = full({}, Scalar(300.0), DType::f64), bytes = zeros({2}, DType::u8);
  Tensor half = full({2}, Scalar(0.5)), two = full({2}, Scalar(2.0)), rows = zeros({2, 3});
  Tensor infinite = full({2}, Scalar(std::numeric_limits<double>::infinity()));
  const Refusal refusals[] = {
      {"floor_divide: ZeroDivisionError", [&] { floor_divide(one, none); }},
      {"div: ZeroDivisionError", [&] { div(one, none, "trunc"); }},
      {"remainder: ZeroDivisionError", [&] { remainder(one, none); }},
      {"fmod: ZeroDivisionError", [&] { fmod(one, none); }},
      {"pow: integers to negative", [&] { pow(one, minus); }},
      {"bernoulli: probabilities", [&] { bernoulli(two); }},
      {"one_hot: class 7 needs", [&] { one_hot(far, 3); }},
      {"fill: the value 300 does not fit", [&] { masked_fill(bytes, gt(half, two), big); }},
      {"nll_loss: target 7 is out of range", [&] { nll_loss(rows, far); }},
      {"index 7 is out of range", [&] { index_select(rows, 1, far); }},
      {"the total norm of order 2.0 is inf", [&] { _total_norm({&infinite, 1}, 2, true); }},
      {"multinomial: weights must be finite", [&] { multinomial(infinite, 1); }},
  };
  for (const Refusal& r : refusals) {
    try {
      r.call();
      ADD_FAILURE() << "nothing refuses: " << r.text;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(r.text), std::string::npos) << e.what();
    }
    EXPECT_NO_THROW(trace(r.call)) << r.text;
  }
}

struct Parameters {
  std::vector<Tensor> p, g, m, v, steps;
  explicit Parameters(size_t n) {
    for (size_t i = 0; i < n; ++i) {
      p.push_back(ones({3, 2}));
      g.push_back(ones({3, 2}));
      m.push_back(zeros({3, 2}));
      v.push_back(zeros({3, 2}));
      steps.push_back(zeros({}));
    }
  }
  void adam(const Tensor& lr) {
    _fused_adam_(p, g, m, v, {}, steps, lr, 0.9, 0.999, 1e-8, 0, false, false, false);
  }
};

TEST(Trace, AnOptimizerStepIsOneOp) {
  Parameters all(6);
  Tensor lr = full({}, Scalar(0.5), DType::f64);
  Recorder adam = trace([&] { all.adam(lr); });
  EXPECT_EQ(adam.ops, std::vector<std::string>{"adam_step"});
  EXPECT_EQ(adam.inputs[0], 6 * 5 + 1);
  EXPECT_EQ(adam.outputs[0], 6 * 4);
  Recorder sgd =
      trace([&] { _fused_sgd_(all.p, all.g, all.m, number(0.5), 0.9, 0, 0, false, false, false); });
  EXPECT_EQ(sgd.ops, std::vector<std::string>{"sgd_step"});
  EXPECT_EQ(sgd.outputs[0], 12);
}

TEST(Trace, ManyParametersAreAFewOps) {
  Parameters all(300), few(1);
  EXPECT_EQ(trace([&] { all.adam(number(0.5)); }).ops.size(), 2u);
  Parameters fresh(300);
  fresh.adam(number(0.5));
  few.adam(number(0.5));
  EXPECT_EQ(fresh.p[299].data<float>()[0], few.p[0].data<float>()[0]);
  EXPECT_EQ(fresh.steps[299].item(), 1);
}

TEST(Trace, TheRateIsReadWhenTheOpRuns) {
  Tensor lr = full({}, Scalar(0.25), DType::f64);
  Parameters a(1), b(1);
  a.adam(lr);
  b.adam(number(0.25));
  EXPECT_EQ(a.p[0].data<float>()[0], b.p[0].data<float>()[0]);
  lr.data<double>()[0] = 0;
  float before = a.p[0].data<float>()[0];
  a.adam(lr);
  EXPECT_EQ(a.p[0].data<float>()[0], before);
  EXPECT_EQ(a.steps[0].item(), 2);
}

TEST(Trace, ClippingIsOps) {
  std::vector<Tensor> grads = {ones({3}), ones({2, 2})};
  Recorder r = trace([&] { _clip_grad_norm_(grads, 1.0, 2.0); });
  EXPECT_EQ(r.ops, (std::vector<std::string>{"total_norm", "add", "div", "minimum", "scale_all"}));
}

TEST(Trace, RunningStatisticsAreOps) {
  Tensor x = ones({4, 3}), mean = zeros({3}), var = ones({3});
  Recorder r = trace([&] { batch_norm(x, mean, var, {}, {}, true); });
  EXPECT_EQ(r.ops.back(), "batch_norm_update");
}

}  // namespace
}  // namespace fluxion
