// The header of a safetensors file: JSON that says which bytes of the data are which tensor.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace fluxion::io {

inline constexpr uint64_t kMaxHeader = 100'000'000;  // bytes, as in the reference implementation

/// Where a tensor stands: bytes begin to end of the data.
struct TensorEntry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  uint64_t begin = 0, end = 0;
};

using Metadata = std::map<std::string, std::string>;

struct Header {
  Metadata metadata;
  std::vector<TensorEntry> tensors;  // in the header's order
};

/// Checks everything: the tensors have known dtypes, sizes that fit, and fill `data_bytes` without gap or overlap.
/// Raises ErrorKind::runtime, "load: FILE: tensor 'a' ...".
Header parse_header(std::string_view json, uint64_t data_bytes, std::string_view file);

/// The JSON, without padding. Raises ErrorKind::value for names that are not UTF-8.
std::string header_text(const Header& header);

/// "F32", "BF16": the format's names.
std::string_view safetensors_name(DType t);

/// A JSON string with its quotes. Raises ErrorKind::value if the text is not UTF-8.
std::string json_quoted(std::string_view text);

}  // namespace fluxion::io
