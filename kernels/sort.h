// Sorting, selecting and searching in dense lines of elements. Every order is stable; NaN is greater than all numbers.
#pragma once

#include "kernels/kernel.h"

namespace fluxion::kernels {

/// Dense lines [lines, length]. Results are dense too: one value and one position per rank asked for.
struct LineOrder {
  Elem elem;
  const char* in;
  char* values;
  int64_t* indices;
  int64_t lines, length;
};

/// Bytes of workspace that one thread needs; kWorkspaceTooSmall without them. More parts let more threads run.
size_t order_workspace(Elem elem, int64_t length);

int sort_lines(const Ctx& ctx, const LineOrder& order, bool descending);
/// The elements ranked [skip, skip + count) of each line, best first: largest or smallest.
int select_lines(const Ctx& ctx, const LineOrder& order, bool largest, int64_t skip, int64_t count);
/// The lower median of each line. A line with NaN gives its first NaN, or is taken without its NaNs.
int median_lines(const Ctx& ctx, const LineOrder& order, bool ignore_nan);

/// Positions where values would keep a sorted line sorted: before equal elements, or after them (`right`).
/// `line_step` is 0 if all lines of values search one sequence.
struct Search {
  Elem elem;
  const char* sequence;
  const char* values;
  int64_t* out;
  int64_t lines, length, line_step, per_line;
  bool right;
};
void search_lines(const Ctx& ctx, const Search& search);

}  // namespace fluxion::kernels
