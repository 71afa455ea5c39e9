// Running a version for one request, and what is counted of it.
#pragma once

#include <span>
#include <vector>

#include "serve/repository.h"

namespace fluxion::serve {

/// Counts one request to a version: as a failure unless done() is reached.
class Execution {
 public:
  Execution(const Version& version, int64_t queued_ns)
      : version_(version), queued_ns_(queued_ns), start_(Clock::now()) {}
  ~Execution();
  Execution(const Execution&) = delete;
  Execution& operator=(const Execution&) = delete;

  /// The model's outputs, row-major, checked against the signature. The inputs' dtypes and shapes
  /// must have been checked. Raises HttpError and fluxion::Error.
  std::vector<Tensor> run(const Signature& signature, std::span<const Tensor> inputs);
  void done();

 private:
  const Version& version_;
  const int64_t queued_ns_;
  const Clock::time_point start_;
  Clock::time_point ready_, ran_;
  uint64_t input_bytes_ = 0;
  bool running_ = false, done_ = false;
};

/// Whether a shape is one that the spec allows.
bool fits(Ints shape, const TensorSpec& spec);

}  // namespace fluxion::serve
