// What the server needs to know of a model: named signatures and a thread-safe run.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace fluxion::serve {

struct TensorSpec {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;  // -1: any size
};

/// One callable of a model, with its inputs and outputs in order.
struct Signature {
  std::string name;
  std::vector<TensorSpec> inputs, outputs;
};

class Model {
 public:
  virtual ~Model();
  /// At least one, the same for the model's whole life. The Open Inference Protocol, which has no
  /// signatures, calls "infer" or "serving_default" if there is one, else the first.
  virtual std::span<const Signature> signatures() const = 0;
  /// One tensor per output of `signature`, which is one of signatures(). The inputs fit it and are
  /// row-major. Called by many threads at once; raises fluxion::Error.
  virtual std::vector<Tensor> run(const Signature& signature,
                                  std::span<const Tensor> inputs) const = 0;
};

/// Loads what stands in `version_dir` (name/version/); raises fluxion::Error.
using ModelLoader =
    std::function<std::shared_ptr<const Model>(const std::filesystem::path& version_dir)>;

/// The signature meant when a request names none.
const Signature& default_signature(const Model& model);

}  // namespace fluxion::serve
