#include "serve/model.h"

namespace fluxion::serve {

Model::~Model() = default;

const Signature& default_signature(const Model& model) {
  const std::span<const Signature> all = model.signatures();
  for (const Signature& s : all)
    if (s.name == "infer" || s.name == "serving_default") return s;
  return all.front();
}

}  // namespace fluxion::serve
