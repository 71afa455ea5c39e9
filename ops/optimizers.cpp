// The multi-tensor driver of optimizer steps.
#include "ops/optimizers.h"

#include "ops/copy.h"
#include "ops/requirements.h"
#include "ops/rowwise.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

constexpr int64_t kGrain = 16384;  // elements per thread

/// Which tensor output k of a kernel overwrites: all but the gradient.
constexpr size_t written(size_t k) { return k == 0 ? 0 : k + 1; }

/// One tensor's step on dense memory.
struct Task {
  char* data[kMaxStepTensors];
  size_t count;
  int64_t n;
  DType dtype;
  kernels::Kernel kernel;
  StepAttrs attrs;

  void run(int64_t begin, int64_t end) const {
    kernels::Buf args[2 * kMaxStepTensors];
    for (size_t k = 0; k < count; ++k) args[k] = {data[k] + begin * size_of(dtype), nullptr};
    for (size_t k = 0; k + 1 < count; ++k) args[count + k] = args[written(k)];
    int64_t size = end - begin;
    kernel(args, &size, attrs.params);
  }
};

bool direct(const Tensor& t, DType dtype) { return t.dtype() == dtype && t.is_contiguous(); }

/// Tensors that are not dense in the compute dtype step as copies.
void step_copies(const OpDef& op, std::span<const Tensor> tensors, DType compute,
                 const StepAttrs& attrs) {
  Tensor copies[kMaxStepTensors];
  Task task{{},
            tensors.size(),
            tensors[0].numel(),
            compute,
            require_kernel(op, compute, static_cast<uint8_t>(attrs.variant)),
            attrs};
  for (size_t k = 0; k < tensors.size(); ++k) {
    copies[k] = empty(tensors[k].sizes(), compute);
    copy_elements(tensors[k], copies[k]);
    task.data[k] = copies[k].data<char>();
  }
  task.run(0, task.n);
  for (size_t k = 0; k < tensors.size(); ++k)
    if (k != 1) copy_elements(copies[k], tensors[k]);
}

void run_tasks(std::span<const Task> tasks) {
  int64_t total = 0;
  for (const Task& t : tasks) total += t.n;
  LongWork work(static_cast<double>(total) * 0.5);
  if (total < 2 * kGrain) {
    for (const Task& t : tasks) t.run(0, t.n);
    return;
  }
  parallel(total, kGrain, [&](int64_t begin, int64_t end) {
    int64_t at = 0;
    for (const Task& t : tasks) {
      int64_t from = std::max(begin - at, int64_t{0}), to = std::min(end - at, t.n);
      if (from < to) t.run(from, to);
      at += t.n;
    }
  });
}

}  // namespace

void emit_step(const OpDef& op, KernelSink& sink, const StepBody& body) {
  for (DType t : {DType::f32, DType::f64})
    sink.add(op, t, body.variant, [&](std::string symbol) {
      std::vector<loops::Elem> in(body.tensors, t), out(body.tensors - 1, t);
      return loops::elementwise(std::move(symbol), in, out, t, 0u, body.scalar);
    });
}

void require_step(const TypeRule& t, std::span<const StepBody> bodies) {
  const StepBody* body = nullptr;
  for (const StepBody& b : bodies)
    if (b.variant == t.attrs<StepAttrs>().variant) body = &b;
  if (!body) fail_rule(t, "there is no such variant");
  require_count(t, body->tensors);
  for (size_t i = 0; i < t.in.size(); ++i) {
    require_floating(t, i);
    require_shape(t, i, t.in[0].shape);
  }
}

void eval_step(const Eval& e) {
  NoGrad plain;
  Tensor tensors[kMaxStepTensors];
  size_t n = e.in.size();
  for (size_t k = 0; k < n; ++k) {
    tensors[k] = e.in[k];
    if (k == 1) continue;
    tensors[k] = empty(e.in[k].sizes(), e.in[k].dtype());
    copy_elements(e.in[k], tensors[k]);
  }
  step_copies(e.op, std::span(tensors, n), row_compute(e.in[0].dtype()), e.attrs<StepAttrs>());
  for (size_t k = 0; k + 1 < n; ++k) {
    if (e.out[k].defined()) copy_elements(tensors[written(k)], e.out[k]);
    else e.out[k] = tensors[written(k)];
  }
}

void compose_step(const Eval& e, std::span<const StepBody> bodies) {
  for (const StepBody& b : bodies)
    if (b.variant == e.attrs<StepAttrs>().variant) return b.composite(e);
}

void sweep(const OpDef& op, std::span<const Tensors> lists, FunctionRef<StepAttrs(size_t)> attrs) {
  NoGrad plain;
  FloatEnvironment environment;
  Small<Task, 8> tasks;
  size_t count = lists.size();
  for (size_t i = 0; i < lists[0].size(); ++i) {
    const Tensor& parameter = lists[0][i];
    DType compute = row_compute(parameter.dtype());
    Task task{{}, count, parameter.numel(), compute, nullptr, attrs(i)};
    bool as_they_are = true;
    for (size_t k = 0; k < count; ++k) {
      const Tensor& t = lists[k][i];
      as_they_are &= direct(t, compute);
      task.data[k] = t.data<char>();
      if (k != 1) begin_write(t.storage());
    }
    if (as_they_are) {
      task.kernel = require_kernel(op, compute, static_cast<uint8_t>(task.attrs.variant));
      tasks.push_back(task);
      continue;
    }
    Tensor tensors[kMaxStepTensors];
    for (size_t k = 0; k < count; ++k) tensors[k] = lists[k][i];
    step_copies(op, std::span(tensors, count), compute, task.attrs);
  }
  run_tasks(std::span(tasks.data(), tasks.size()));
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
