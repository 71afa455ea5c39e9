// Attribute PODs as bytes, read and written through OpDef::fields.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include "graph/graph.h"

namespace fluxion::graph {

inline constexpr size_t kDimsHead = offsetof(Dims, v);

/// How many bytes a field takes.
size_t field_bytes(FieldKind kind);

/// An integer, boolean or dtype field.
inline int64_t read_integer(const std::byte* attrs, const Field& f) {
  int64_t v;
  std::memcpy(&v, attrs + f.offset, sizeof v);
  return v;
}
inline void write_integer(std::byte* attrs, const Field& f, int64_t v) {
  std::memcpy(attrs + f.offset, &v, sizeof v);
}
inline double read_real(const std::byte* attrs, const Field& f) {
  double v;
  std::memcpy(&v, attrs + f.offset, sizeof v);
  return v;
}
inline void write_real(std::byte* attrs, const Field& f, double v) {
  std::memcpy(attrs + f.offset, &v, sizeof v);
}
inline size_t read_dims_count(const std::byte* attrs, const Field& f) {
  return static_cast<size_t>(attrs[f.offset]);
}
inline void write_dims_count(std::byte* attrs, const Field& f, size_t n) {
  attrs[f.offset] = static_cast<std::byte>(n);
}
inline int64_t read_dims_item(const std::byte* attrs, const Field& f, size_t i) {
  int64_t v;
  std::memcpy(&v, attrs + f.offset + kDimsHead + i * sizeof v, sizeof v);
  return v;
}
inline void write_dims_item(std::byte* attrs, const Field& f, size_t i, int64_t v) {
  std::memcpy(attrs + f.offset + kDimsHead + i * sizeof v, &v, sizeof v);
}

/// Raises ErrorKind::value unless the bytes are a possible POD of the op: size, dtype names, booleans 0 or 1, ranks.
void check_attrs(const OpDef& op, const std::vector<std::byte>& attrs);

/// The value that a symbolic integer stands for in the bytes.
void write_symbolic(const OpDef& op, std::byte* attrs, const SymbolicAttr& s, int64_t value);

}  // namespace fluxion::graph
