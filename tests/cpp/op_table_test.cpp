// Properties that hold for every op of the table, on the op's own samples.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "autograd/autograd.h"
#include "loops/interpret.h"
#include "op_samples.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "tensor/split_loops.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion::testing {
namespace {

const std::vector<Sample>& samples() {
  static const std::vector<Sample> all = all_samples();
  return all;
}

bool random_op(const OpDef& op) { return std::string(op.name).find("rng") == 0; }

TEST(OpTable, EveryOpStatesEverything) {
  std::set<std::string> names;
  for (const OpDef* op : op_table()) {
    EXPECT_TRUE(names.insert(op->name).second) << op->name << " stands twice";
    EXPECT_TRUE(op->doc && *op->doc) << op->name;
    EXPECT_TRUE(op->infer) << op->name;
    EXPECT_TRUE(op->eval) << op->name;
    EXPECT_TRUE(op->cost) << op->name;
    EXPECT_TRUE(op->samples) << op->name << " has no sample inputs";
    EXPECT_TRUE(!op->attr_bytes || !op->fields.empty())
        << op->name << " does not describe its attributes";
  }
}

TEST(OpTable, InferredTypesAreTheComputedTypes) {
  for (const Sample& s : samples()) {
    std::vector<Tensor> in = random_inputs(s), out = run(s, in);
    std::vector<Type> types, inferred(out.size());
    for (const Tensor& t : in) types.push_back(type_of(t));
    s.op->infer({*s.op, s.attr_data(), types, inferred});
    for (size_t i = 0; i < out.size(); ++i) {
      if (!out[i].defined()) continue;
      EXPECT_EQ(inferred[i].dtype, out[i].dtype()) << s.text();
      EXPECT_EQ(shape_text(inferred[i].shape), shape_text(out[i].sizes())) << s.text();
    }
  }
}

/// The same values with other strides: every second element of a larger tensor, dims reversed in memory.
Tensor strided_copy(const Tensor& t) {
  Shape big;
  for (int d = t.dim() - 1; d >= 0; --d) big.push_back(t.sizes()[d] * 2);
  Tensor room = empty(Ints(big), t.dtype());
  Shape strides;
  for (int d = 0; d < t.dim(); ++d) strides.push_back(room.strides()[t.dim() - 1 - d] * 2);
  Tensor view = alias(room, t.sizes(), strides, 0);
  assign(view, t);
  return view;
}

TEST(OpTable, StridedEqualsContiguous) {
  for (const Sample& s : samples()) {
    if (random_op(*s.op)) continue;
    std::vector<Tensor> in = random_inputs(s), other;
    if (s.op->view && s.op->name == std::string("reshape"))
      continue;  // views only what can be viewed
    for (const Tensor& t : in) other.push_back(t.numel() ? strided_copy(t) : t);
    std::vector<Tensor> a = run(s, in), b = run(s, other);
    for (size_t i = 0; i < a.size(); ++i)
      if (a[i].defined()) {
        EXPECT_EQ(bytes_of_tensor(a[i]), bytes_of_tensor(b[i])) << s.text();
      }
  }
}

/// Loops split down to single items, so that every sample's work is shared by two threads.
TEST(OpTable, OneThreadEqualsTwoThreads) {
  int before = num_threads();
  SplitLoops loops;
  std::set<const OpDef*> split;
  for (const Sample& s : samples()) {
    if (random_op(*s.op)) continue;
    std::vector<Tensor> in = random_inputs(s);
    set_num_threads(1);
    std::vector<Tensor> a = run(s, in);
    set_num_threads(2);
    int64_t so_far = loops.split;
    std::vector<Tensor> b = run(s, in);
    if (loops.split > so_far) split.insert(s.op);
    for (size_t i = 0; i < a.size(); ++i)
      if (a[i].defined()) {
        EXPECT_EQ(bytes_of_tensor(a[i]), bytes_of_tensor(b[i])) << s.text();
      }
  }
  set_num_threads(before);
  for (const OpDef* op : op_table())
    if (op->scalar) {
      EXPECT_TRUE(split.contains(op)) << op->name << " ran on one thread";
    }
  std::printf("%zu of %zu ops ran on two threads, %ld chunks on the second\n", split.size(),
              op_table().size(), static_cast<long>(loops.foreign));
  EXPECT_GT(split.size(), op_table().size() / 2);
  EXPECT_GE(loops.foreign, loops.split);
}

/// A fused composite computes what its body says, bit for bit in every dtype.
TEST(OpTable, FusedEqualsComposite) {
  for (const Sample& s : samples()) {
    if (!s.op->composite || s.op->round != Round::fused) continue;
    std::vector<Tensor> in = random_inputs(s);
    std::vector<Tensor> fused = run(s, in), body(fused.size());
    s.op->composite({*s.op, s.attr_data(), in, body});
    for (size_t i = 0; i < fused.size(); ++i)
      if (fused[i].defined() && body[i].defined()) {
        EXPECT_EQ(bytes_of_tensor(fused[i]), bytes_of_tensor(body[i])) << s.text();
      }
  }
}

double weighted_sum(const Sample& s, std::span<const Tensor> in) {
  NoGrad off;
  double total = 0;
  std::vector<Tensor> out = run(s, in);
  for (size_t i = 0; i < out.size(); ++i) {
    if (!out[i].defined() || !is_floating(out[i].dtype())) continue;
    Tensor w = random_tensor({Shape(out[i].sizes()), DType::f64, 0.5, 1.5}, 77 + i);
    total += sum(mul(out[i], w)).item();
  }
  return total;
}

/// d(weighted sum of outputs)/d(input), by the op's rule.
std::vector<Tensor> analytic(const Sample& s, std::vector<Tensor>& in, bool create_graph) {
  std::vector<Tensor> out = run(s, in), ys, seeds;
  for (size_t i = 0; i < out.size(); ++i) {
    if (!out[i].defined() || !is_floating(out[i].dtype()) || !tracks_gradient(out[i])) continue;
    ys.push_back(out[i]);
    seeds.push_back(random_tensor({Shape(out[i].sizes()), DType::f64, 0.5, 1.5}, 77 + i));
  }
  std::vector<Tensor> wanted;
  for (Tensor& t : in)
    if (is_floating(t.dtype())) wanted.push_back(t);
  if (ys.empty()) return {};
  return grad(ys, wanted, seeds, create_graph, create_graph, true);
}

Sample in_double(const Sample& s) {
  Sample d = s;
  for (SampleSink::Input& i : d.inputs)
    if (is_floating(i.dtype)) i.dtype = DType::f64;
  return d;
}

/// Casts to fewer bits have no slope that differences could find.
bool rounds(const Sample& s, std::span<const Tensor> in) {
  for (const Tensor& t : run(s, in))
    if (t.defined() && is_floating(t.dtype()) && t.dtype() != DType::f64) return true;
  return false;
}

/// Compares with central differences at every element of every floating input.
void check_gradient(const Sample& sample) {
  std::vector<Tensor> in = random_inputs(sample);
  for (Tensor& t : in)
    if (is_floating(t.dtype())) t.set_requires_grad(true);
  if (rounds(sample, in)) return;
  std::vector<Tensor> gs = analytic(sample, in, false);
  if (gs.empty()) return;
  size_t k = 0;
  for (size_t j = 0; j < in.size(); ++j) {
    if (!is_floating(in[j].dtype())) continue;
    Tensor g = gs[k++];
    for (int64_t i = 0; i < in[j].numel(); ++i) {
      double* at = in[j].data<double>() + i;
      double x = *at, h = 1e-6 * std::max(1.0, std::abs(x));
      *at = x + h;
      double up = weighted_sum(sample, in);
      *at = x - h;
      double down = weighted_sum(sample, in);
      *at = x;
      double numeric = (up - down) / (2 * h);
      double exact = g.defined() ? contiguous(g).data<double>()[i] : 0;
      ASSERT_NEAR(exact, numeric, 1e-5 * std::max(1.0, std::abs(numeric)))
          << sample.text() << " input " << j << " element " << i;
    }
  }
}

TEST(OpTable, GradientsEqualFiniteDifferences) {
  for (const Sample& s : samples()) {
    if (!s.op->vjp && !s.op->composite) continue;
    if (s.inputs.empty() || !is_floating(s.inputs[0].dtype) || s.inputs[0].dtype != DType::f32)
      continue;
    EXPECT_NO_THROW(check_gradient(in_double(s))) << s.text();
  }
}

/// The gradient of an input does not depend on which other inputs want one: rules read only what was saved for them.
TEST(OpTable, GradientsOfOneInputAtATime) {
  for (const Sample& sample : samples()) {
    if (!sample.op->vjp && !sample.op->composite) continue;
    if (sample.inputs.empty() || sample.inputs[0].dtype != DType::f32) continue;
    std::vector<Tensor> in = random_inputs(sample);
    auto gradients = [&](size_t only) {
      std::vector<Tensor> fresh;
      for (size_t j = 0; j < in.size(); ++j) {
        fresh.push_back(in[j].detach());
        if (is_floating(in[j].dtype()) && (only == in.size() || only == j))
          fresh[j].set_requires_grad(true);
      }
      std::vector<Tensor> out = run(sample, fresh), ys, seeds;
      for (size_t i = 0; i < out.size(); ++i)
        if (out[i].defined() && is_floating(out[i].dtype()) && tracks_gradient(out[i])) {
          ys.push_back(out[i]);
          seeds.push_back(ones(out[i].sizes(), out[i].dtype()));
        }
      if (!ys.empty()) backward(ys, seeds);
      for (Tensor& t : fresh) t = t.grad();
      return fresh;
    };
    std::vector<Tensor> all = gradients(in.size());
    for (size_t j = 0; j < in.size(); ++j) {
      if (!is_floating(in[j].dtype())) continue;
      Tensor alone = gradients(j)[j];
      ASSERT_EQ(alone.defined(), all[j].defined()) << sample.text() << " input " << j;
      if (alone.defined()) {
        EXPECT_EQ(bytes_of_tensor(alone), bytes_of_tensor(all[j]))
            << sample.text() << " input " << j;
      }
    }
  }
}

/// Sum of squares of first gradients, differentiated twice by rule and once numerically.
void check_second_gradient(const Sample& sample) {
  std::vector<Tensor> in = random_inputs(sample);
  std::vector<Tensor> wanted;
  for (Tensor& t : in)
    if (is_floating(t.dtype())) wanted.push_back(t.set_requires_grad(true));
  auto energy = [&](bool record) {
    Tensor total = scalar(0.0, DType::f64);
    for (const Tensor& g : analytic(sample, in, record))
      if (g.defined()) total = add(total, sum(mul(g, g)));
    return total;
  };
  Tensor e = energy(true);
  if (!tracks_gradient(e)) return;
  std::vector<Tensor> second = grad({&e, 1}, wanted, {}, false, false, true);
  for (size_t j = 0; j < wanted.size(); ++j)
    for (int64_t i = 0; i < std::min<int64_t>(wanted[j].numel(), 8); ++i) {
      double* at = wanted[j].data<double>() + i;
      double x = *at, h = 1e-5 * std::max(1.0, std::abs(x));
      *at = x + h;
      double up = energy(false).item();
      *at = x - h;
      double down = energy(false).item();
      *at = x;
      double numeric = (up - down) / (2 * h);
      double exact = second[j].defined() ? contiguous(second[j]).data<double>()[i] : 0;
      ASSERT_NEAR(exact, numeric, 1e-4 * std::max(1.0, std::abs(numeric)))
          << sample.text() << " input " << j << " element " << i;
    }
}

TEST(OpTable, SecondGradientsEqualFiniteDifferences) {
  for (const Sample& s : samples()) {
    if (!s.op->vjp && !s.op->composite) continue;
    if (s.inputs.empty() || s.inputs[0].dtype != DType::f32) continue;
    EXPECT_NO_THROW(check_second_gradient(in_double(s))) << s.text();
  }
}

}  // namespace
}  // namespace fluxion::testing
