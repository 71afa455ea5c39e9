// The multi-tensor driver of optimizer steps.
#include "ops/optimizers.h"

#include <cmath>

#include "ops/apply.h"
#include "ops/elementwise.h"
#include "ops/inplace.h"
#include "ops/requirements.h"
#include "ops/rowwise.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

constexpr int64_t kGrain = 16384;  // least elements per thread

/// Which list output k of a body overwrites: all but the gradients.
constexpr size_t written(size_t k) { return k == 0 ? 0 : k + 1; }
constexpr size_t outputs_of_body(size_t lists) { return lists == 1 ? 1 : lists - 1; }

const StepBody& body_of(const StepRule& rule, const StepAttrs& a) {
  for (const StepBody& b : rule.bodies)
    if (b.variant == a.variant) return b;
  fail(ErrorKind::value, "optimizer step: there is no variant {}", a.variant);
}

/// How the inputs and outputs of a step lie.
struct StepLayout {
  size_t lists, written_lists, count;
  bool counts;

  StepLayout(const StepRule& rule, const StepAttrs& a, size_t inputs)
      : lists(body_of(rule, a).lists),
        written_lists(outputs_of_body(lists)),
        count((inputs - 1) / (lists + rule.counts)),
        counts(rule.counts) {
    if (inputs == 0 || inputs != (lists + counts) * count + 1)
      fail(ErrorKind::value,
           "optimizer step: {} inputs; expected {} for each parameter and the rate", inputs,
           lists + counts);
  }
  size_t input(size_t list, size_t i) const { return list * count + i; }
  size_t counter(size_t i) const { return lists * count + i; }
  size_t new_counter(size_t i) const { return written_lists * count + i; }
  size_t outputs() const { return (written_lists + counts) * count; }
};

double value_of(const Tensor& t) { return load_double(t.data<char>(), t.dtype()); }

/// One parameter's step on dense memory: inputs, then outputs.
struct Task {
  char* data[2 * kMaxStepLists];
  size_t operands;
  int64_t n;
  DType dtype;
  kernels::Kernel kernel;
  StepParams<double> params;

  void run(int64_t begin, int64_t end) const {
    kernels::Buf args[2 * kMaxStepLists];
    for (size_t k = 0; k < operands; ++k) args[k] = {data[k] + begin * size_of(dtype), nullptr};
    int64_t size = end - begin;
    kernel(args, &size, params.data());
  }
};

void run_tasks(std::span<const Task> tasks) {
  int64_t total = 0;
  for (const Task& t : tasks) total += t.n;
  LongWork work(static_cast<double>(total) * 0.5);
  parallel(total, kGrain, [&](int64_t begin, int64_t end) {
    int64_t at = 0;
    for (const Task& t : tasks) {
      int64_t from = std::max(begin - at, int64_t{0}), to = std::min(end - at, t.n);
      if (from < to) t.run(from, to);
      at += t.n;
    }
  });
}

/// Points the task at the operands of parameter i, allocating results; false if one is not dense in its dtype.
bool bind(const Eval& e, const StepLayout& l, size_t i, Task& task) {
  bool direct = true;
  auto add = [&](size_t k, const Tensor& t) {
    direct &= t.dtype() == task.dtype && t.is_contiguous();
    task.data[k] = t.data<char>();
  };
  for (size_t k = 0; k < l.lists; ++k) add(k, e.in[l.input(k, i)]);
  for (size_t k = 0; k < l.written_lists; ++k) {
    Tensor& to = e.out[l.input(k, i)];
    if (!to.defined()) {
      const Tensor& like = e.in[l.input(written(k), i)];
      to = empty(like.sizes(), like.dtype());
    }
    add(l.lists + k, to);
  }
  return direct;
}

/// The step of parameter i on copies in the kernel's dtype.
void step_copies(const Eval& e, const StepLayout& l, size_t i, Task& task) {
  Tensor copies[2 * kMaxStepLists];
  for (size_t k = 0; k < task.operands; ++k) {
    copies[k] = empty(e.in[i].sizes(), task.dtype);
    if (k < l.lists) copy_elements(e.in[l.input(k, i)], copies[k]);
    task.data[k] = copies[k].data<char>();
  }
  run_tasks({&task, 1});
  for (size_t k = 0; k < l.written_lists; ++k)
    copy_elements(copies[l.lists + k], e.out[l.input(k, i)]);
}

/// Writes the new count and returns it.
double count_up(const Tensor& counter, Tensor& to) {
  double old = value_of(counter);
  ensure(to, counter.sizes(), counter.dtype());
  store_double(to.data<char>(), to.dtype(), old + 1);
  return value_of(to);
}

}  // namespace

std::array<double, 2> powers(double a, double b, double exponent) {
  static const kernels::Kernel kernel = require_kernel(kPow, DType::f64);
  double bases[] = {a, b}, exponents[] = {exponent, exponent};
  std::array<double, 2> result;
  kernels::Buf args[] = {{bases, nullptr}, {exponents, nullptr}, {result.data(), nullptr}};
  int64_t n = 2;
  kernel(args, &n, nullptr);
  return result;
}
std::array<Expr, 2> powers(double a, double b, const Expr& exponent) {
  return {apply(kPow, {number(a), exponent.t}), apply(kPow, {number(b), exponent.t})};
}

size_t step_outputs(size_t inputs, const void* attrs, const StepRule& rule) {
  return StepLayout(rule, *static_cast<const StepAttrs*>(attrs), inputs).outputs();
}

void infer_step(const TypeRule& t, const StepRule& rule) {
  StepLayout l(rule, t.attrs<StepAttrs>(), t.in.size());
  for (size_t i = 0; i < l.count; ++i) {
    for (size_t k = 0; k < l.lists; ++k) {
      require_floating(t, l.input(k, i));
      require_shape(t, l.input(k, i), t.in[i].shape);
    }
    for (size_t k = 0; k < l.written_lists; ++k)
      t.out[l.input(k, i)] = t.in[l.input(written(k), i)];
    if (!l.counts) continue;
    require_elements(t, l.counter(i), 1);
    t.out[l.new_counter(i)] = t.in[l.counter(i)];
  }
  require_elements(t, t.in.size() - 1, 1);
}

void emit_steps(const OpDef& op, KernelSink& sink, const StepRule& rule) {
  for (const StepBody& body : rule.bodies)
    for (DType t : {DType::f32, DType::f64})
      sink.add(op, t, body.variant, [&](std::string symbol) {
        std::vector<loops::Elem> in(body.lists, t), out(outputs_of_body(body.lists), t);
        return loops::elementwise(std::move(symbol), in, out, t, 0u, body.scalar);
      });
}

void eval_step(const Eval& e, const StepRule& rule) {
  const auto& a = e.attrs<StepAttrs>();
  StepLayout l(rule, a, e.in.size());
  double rate = value_of(e.in.back()), counted = std::nan("");  // the step of `params`
  StepParams<double> params;
  if (!l.counts) params = rule.numbers(a, rate, 0);
  auto variant = static_cast<uint8_t>(a.variant);
  DType kernel_dtype = DType::f32;
  kernels::Kernel kernel = require_kernel(e.op, kernel_dtype, variant);
  Small<Task, 8> tasks;
  for (size_t i = 0; i < l.count; ++i) {
    if (l.counts) {
      double step = count_up(e.in[l.counter(i)], e.out[l.new_counter(i)]);
      if (step != counted) params = rule.numbers(a, rate, counted = step);
    }
    const Tensor& parameter = e.in[i];
    DType compute = row_compute(parameter.dtype());
    Task task{{}, l.lists + l.written_lists, parameter.numel(), compute, nullptr, params};
    if (compute != kernel_dtype) kernel = require_kernel(e.op, kernel_dtype = compute, variant);
    task.kernel = kernel;
    if (bind(e, l, i, task)) tasks.push_back(task);
    else step_copies(e, l, i, task);
  }
  run_tasks(std::span(tasks.data(), tasks.size()));
}

void compose_step(const Eval& e, const StepRule& rule) {
  const auto& a = e.attrs<StepAttrs>();
  const StepBody& body = body_of(rule, a);
  StepLayout l(rule, a, e.in.size());
  Expr rate = to_dtype(e.in.back(), DType::f64);
  for (size_t i = 0; i < l.count; ++i) {
    Expr step = 0;
    if (l.counts) {
      e.out[l.new_counter(i)] = add(e.in[l.counter(i)], number(1));
      step = to_dtype(e.out[l.new_counter(i)], DType::f64);
    }
    DType compute = row_compute(e.in[i].dtype());
    StepParams<Expr> params = rule.tensors(a, rate, step);
    for (Expr& p : params)
      if (!p.t.has(kWeak)) p.t = to_dtype(p.t, compute);
    Tensor in[kMaxStepLists], out[kMaxStepLists];
    for (size_t k = 0; k < l.lists; ++k) in[k] = e.in[l.input(k, i)];
    body.tensors({std::span(in, l.lists), params, out});
    for (size_t k = 0; k < l.written_lists; ++k) e.out[l.input(k, i)] = out[k];
  }
}

void step_samples(SampleSink& sink, const StepRule& rule,
                  FunctionRef<StepAttrs(const StepBody&)> attrs) {
  for (DType t : {DType::f32, DType::f64, DType::bf16})
    for (const StepBody& b : rule.bodies) {
      StepAttrs a = attrs(b);
      std::vector<SampleSink::Input> in;
      for (size_t k = 0; k < b.lists; ++k)
        for (Shape shape : {Shape{5, 7}, Shape{3}})  // states after the first are squares
          in.push_back({shape, t, k < 3 ? -2.0 : 0.0, k < 3 ? 2.0 : 1.0});
      for (int i = 0; rule.counts && i < 2; ++i) in.push_back({Shape{}, DType::f32, 2, 2});
      in.push_back({Shape{}, DType::f64, 0.0625, 0.0625});
      sink.add(in, &a, sizeof a);
    }
}

void step_in_place(const OpDef& op, const StepAttrs& a, std::span<const Tensors> lists,
                   Tensors counters, const Tensor& rate) {
  NoGrad plain;
  if (rate.numel() != 1)
    fail(ErrorKind::value, "{}: lr must be a number or a tensor of one element, got {}", op.name,
         type_text(rate));
  Tensor flat = rate.dim() ? reshape(rate, Ints{}) : rate;
  size_t total = lists[0].size();
  for (size_t begin = 0; begin < total; begin += kMaxStepTensors) {
    size_t count = std::min(total - begin, kMaxStepTensors);
    Small<Borrowed, 48> in, targets;
    for (size_t k = 0; k < lists.size(); ++k)
      for (const Tensor& t : lists[k].subspan(begin, count)) {
        in.push_back(t);
        if (k != 1) targets.push_back(t);
      }
    if (!counters.empty())
      for (const Tensor& t : counters.subspan(begin, count)) {
        in.push_back(t);
        targets.push_back(t);
      }
    in.push_back(flat);
    apply_onto(as_tensors(targets), op, &a, as_tensors(in));
  }
}

void check_lists(const char* op, std::span<const Tensors> lists,
                 std::span<const char* const> names) {
  for (size_t k = 1; k < lists.size(); ++k) {
    if (lists[k].size() != lists[0].size())
      fail(ErrorKind::value, "{}: {} must have as many tensors as {}, {}, got {}", op, names[k],
           names[0], lists[0].size(), lists[k].size());
    for (size_t i = 0; i < lists[k].size(); ++i)
      if (!std::ranges::equal(lists[k][i].sizes(), lists[0][i].sizes()))
        fail(ErrorKind::value, "{}: {}[{}] must have the shape of {}[{}], {}, got {}", op, names[k],
             i, names[0], i, shape_text(lists[0][i].sizes()), shape_text(lists[k][i].sizes()));
  }
}

}  // namespace fluxion
