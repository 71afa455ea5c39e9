// The samples of the op table as tensors, for tests of properties that hold for every op.
#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "ops/apply.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

namespace fluxion::testing {

struct Sample {
  const OpDef* op;
  std::vector<SampleSink::Input> inputs;
  std::vector<char> attrs;

  const void* attr_data() const { return attrs.empty() ? nullptr : attrs.data(); }
  std::string text() const {
    std::string s = op->name;
    for (const SampleSink::Input& i : inputs)
      s += " " + std::string(short_name(i.dtype)) + shape_text(i.shape);
    return s;
  }
};

class SampleCollector final : public SampleSink {
 public:
  explicit SampleCollector(const OpDef& op, std::vector<Sample>& to) : op_(op), to_(to) {}
  void add(std::span<const Input> inputs, const void* attrs, size_t bytes) override {
    Sample s{&op_, {inputs.begin(), inputs.end()}, {}};
    if (bytes)
      s.attrs.assign(static_cast<const char*>(attrs), static_cast<const char*>(attrs) + bytes);
    to_.push_back(std::move(s));
  }

 private:
  const OpDef& op_;
  std::vector<Sample>& to_;
};

inline std::vector<Sample> all_samples() {
  std::vector<Sample> all;
  for (const OpDef* op : op_table()) {
    if (!op->samples) continue;
    SampleCollector c(*op, all);
    op->samples(*op, c);
  }
  return all;
}

/// Random values in [low, high], the same for the same seed.
inline Tensor random_tensor(const SampleSink::Input& spec, uint64_t seed) {
  Tensor t = empty(Ints(spec.shape), spec.dtype);
  for (int64_t i = 0; i < t.numel(); ++i) {
    uint32_t bits[4];
    philox(seed, 0, static_cast<uint64_t>(i), bits);
    double u = bits[0] / 4294967296.0;
    char* at = t.data<char>() + i * size_of(spec.dtype);
    if (is_floating(spec.dtype))
      store_double(at, spec.dtype, spec.low + u * (spec.high - spec.low));
    else
      store_int(at, spec.dtype,
                static_cast<int64_t>(std::floor(spec.low + u * (spec.high - spec.low + 1 - 1e-9))));
  }
  return t;
}

inline std::vector<Tensor> random_inputs(const Sample& s, uint64_t seed = 1) {
  std::vector<Tensor> in;
  for (const SampleSink::Input& i : s.inputs)
    in.push_back(random_tensor(i, seed + 1000 * in.size()));
  return in;
}

inline std::vector<Tensor> run(const Sample& s, std::span<const Tensor> in) {
  std::vector<Tensor> out(outputs_of(*s.op, in.size(), s.attr_data()));
  apply(*s.op, s.attr_data(), in, out);
  return out;
}

/// The elements in logical order.
inline std::string bytes_of_tensor(const Tensor& t) {
  std::string bytes;
  int64_t size = size_of(t.dtype());
  std::vector<int64_t> at(t.dim(), 0);
  for (int64_t i = 0; i < t.numel(); ++i) {
    int64_t offset = 0;
    for (int d = 0; d < t.dim(); ++d) offset += at[d] * t.strides()[d];
    bytes.append(t.data<char>() + offset * size, size);
    for (int d = t.dim() - 1; d >= 0 && ++at[d] == t.sizes()[d]; --d) at[d] = 0;
  }
  return bytes;
}

}  // namespace fluxion::testing
