// The matrix: every op and dtype of the table on every path, bits compared with eager. Cells come from running the op's
// own samples, so a new op fills its row by itself.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "op_samples.h"

namespace fluxion::testing {

/// Columns, in the order of the page.
inline constexpr const char* kPaths[] = {"eager",   "gradient", "second gradient",  "captured",
                                         "planned", "file",     "captured gradient"};
inline constexpr size_t kPathCount = std::size(kPaths);

/// One cell: empty if bits agree, "—" with a reason where the path has no meaning, else what failed.
struct Cell {
  enum class Kind : uint8_t { unknown, good, not_meant, failed } kind = Kind::unknown;
  std::string text;
};

struct Row {
  std::string op;
  DType dtype;
  Cell cells[kPathCount];
};

/// Runs all samples of one op and dtype on all paths.
std::vector<Row> op_matrix();
/// docs/op-matrix.md.
std::string matrix_page(const std::vector<Row>& rows);

}  // namespace fluxion::testing
