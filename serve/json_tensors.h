// Tensors from and to JSON, in the forms of both protocols, and the protocols' names of dtypes.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serve/model.h"

namespace simdjson::dom {
class element;
}

namespace fluxion::serve {

std::string_view oip_name(DType t);         // "FP32"
std::string_view tensorflow_name(DType t);  // "DT_FLOAT"
/// Any datatype of the Open Inference Protocol, also those we have no tensors of.
bool is_oip_datatype(std::string_view name);

/// Shapes as the protocols print them: "[-1,4]".
std::string shape_json(std::span<const int64_t> shape);

/// `data`, flat or nested, row-major, into that shape, which the caller has checked. Raises
/// ParseError. `body_bytes` bounds what is allocated for it.
Tensor read_flat(const simdjson::dom::element& data, DType dtype, Ints shape, std::string_view name,
                 size_t body_bytes);
/// A tensor whose shape is the nesting. Raises ParseError.
Tensor read_nested(const simdjson::dom::element& value, DType dtype, std::string_view name);
/// The same of rows that stand apart: the first dim counts them.
Tensor read_rows(std::span<const simdjson::dom::element> rows, DType dtype, std::string_view name);

/// [1.0,2.0,...]; `t` is row-major.
void append_flat(std::string& out, const Tensor& t);
/// Nested by dims.
void append_nested(std::string& out, const Tensor& t);
/// Row `i` of the first dim, nested.
void append_row(std::string& out, const Tensor& t, int64_t i);

}  // namespace fluxion::serve
