#include "serve/execution.h"

#include "ops/functions.h"
#include "serve/http.h"
#include "serve/json_tensors.h"

namespace fluxion::serve {

bool fits(Ints shape, const TensorSpec& spec) {
  if (shape.size() != spec.shape.size()) return false;
  for (size_t i = 0; i < shape.size(); ++i)
    if (spec.shape[i] >= 0 && spec.shape[i] != shape[i]) return false;
  return true;
}

std::vector<Tensor> Execution::run(const Signature& signature, std::span<const Tensor> inputs) {
  for (const Tensor& t : inputs) input_bytes_ += static_cast<uint64_t>(t.nbytes());
  ready_ = Clock::now();
  running_ = true;
  std::vector<Tensor> outputs = version_.loaded->run(signature, inputs);
  if (outputs.size() != signature.outputs.size())
    fail_http(500, "model '{}' returned {} tensors, its signature '{}' promises {}", version_.model,
              outputs.size(), signature.name, signature.outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    const TensorSpec& spec = signature.outputs[i];
    if (!outputs[i].defined() || outputs[i].dtype() != spec.dtype ||
        !fits(outputs[i].sizes(), spec))
      fail_http(500, "model '{}' returned {} as output '{}', its signature promises {} {}",
                version_.model, outputs[i].defined() ? type_text(outputs[i]) : "nothing", spec.name,
                name(spec.dtype), shape_json(spec.shape));
    if (!outputs[i].is_contiguous()) outputs[i] = contiguous(outputs[i]);
  }
  ran_ = Clock::now();
  running_ = false;
  version_.statistics.note_run(nanoseconds(ran_ - ready_));
  return outputs;
}

void Execution::done() {
  done_ = true;
  const Clock::time_point end = Clock::now();
  Statistics& s = version_.statistics;
  s.counts.add(kSuccess);
  s.counts.add(kSuccessNs, nanoseconds(end - start_) + queued_ns_);
  s.counts.add(kQueueNs, queued_ns_);
  s.counts.add(kInputNs, nanoseconds(ready_ - start_));
  s.counts.add(kInferNs, nanoseconds(ran_ - ready_));
  s.counts.add(kOutputNs, nanoseconds(end - ran_));
  s.counts.add(kInputBytes, input_bytes_);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  s.last_inference_ms.store(std::chrono::duration_cast<std::chrono::milliseconds>(now).count(),
                            std::memory_order_relaxed);
}

Execution::~Execution() {
  if (done_) return;
  Statistics& s = version_.statistics;
  s.counts.add(running_ ? kFailedModel : kFailedRequest);
  s.counts.add(kFailNs, nanoseconds(Clock::now() - start_) + queued_ns_);
}

}  // namespace fluxion::serve
