// What the forward and the gradient of attention share: addresses, packed operands, products of a block.
#pragma once

#include "kernels/attention.h"
#include "kernels/pack.h"
#include "kernels/workspace.h"

namespace fluxion::kernels {

inline char* at(const Sequence& s, Elem e, int64_t batch, int64_t head, int64_t step) {
  return static_cast<char*>(const_cast<void*>(s.data)) + (batch * s.batch + head * s.head + step * s.step) * elem_size(e);
}

/// Rows of a matrix in the workspace, or of a sequence: the left operand of a tile.
struct Left {
  const char* data;
  int64_t row_stride, k_stride;
};

/// Tiles over one (batch, head).
class Head {
 public:
  Head(const AttentionArgs& args, const AttentionKernels& kernels, int64_t batch, int64_t head)
      : a_(args), kernels_(kernels), tiles_(kernels.contraction.tiles), bytes_(elem_size(tiles_.compute)), batch_(batch), head_(head) {}

  int64_t bytes() const { return bytes_; }
  int64_t panel() const { return tiles_.size.columns; }
  int64_t padded(int64_t columns) const { return divide_up(columns, panel()) * panel(); }
  char* row(const Sequence& s, int64_t step) const { return at(s, a_.elem, batch_, head_, step); }
  /// First query block's row that sees key j, and one past the last key that query i sees.
  int64_t first_query(int64_t key) const { return a_.causal ? key : 0; }
  int64_t key_limit(int64_t query) const { return a_.causal ? least(a_.keys, query + 1) : a_.keys; }

  /// Panels whose lanes are steps (k = depth) or depths (k = steps).
  void pack_steps(const Sequence& s, Range steps, int64_t depth, char* out) const {
    pack_panels(a_.elem, {row(s, steps.begin), s.step, s.depth}, steps.size(), depth, static_cast<int>(panel()), out);
  }
  void pack_depths(const Sequence& s, Range steps, int64_t depth, char* out) const {
    pack_panels(a_.elem, {row(s, steps.begin), s.depth, s.step}, depth, steps.size(), static_cast<int>(panel()), out);
  }

  /// Rows [rows) of s as a left operand: where they stand if they are in the compute dtype, else packed into `scratch`.
  Left rows(const Sequence& s, Range rows, int64_t depth, char* scratch) const {
    if (a_.elem == tiles_.compute) return {row(s, rows.begin), s.step, s.depth};
    pack_panels(a_.elem, {row(s, rows.begin), s.depth, s.step}, depth, rows.size(), static_cast<int>(depth), scratch);
    return {scratch, depth, 1};
  }

  /// out[r, j] = left[r, :] . panels[:, j] over k = depth, for `columns` columns.
  void scores(const Left& left, int64_t rows, int64_t depth, const char* panels, int64_t columns, char* out, int64_t out_stride) const {
    const int64_t left_strides[] = {left.row_stride, left.k_stride}, width = panel(), sizes[] = {depth, 0};
    for (int64_t j = 0; j < columns; j += width)
      call(TileForm::full, rows, left.data, left_strides, panels + j * depth * bytes_, out + j * bytes_, &out_stride, sizes);
  }

  /// out[r, :] += sum over k of left[r, k] * panels[k, :], where only k in [first, last) is present in every row.
  void add_weighted(const Left& left, int64_t rows, Range k, int64_t first, int64_t last, const char* panels, int64_t panel_steps,
                    int64_t columns, char* out, int64_t out_stride) const {
    const int64_t left_strides[] = {left.row_stride, left.k_stride}, sizes[] = {k.size(), first - k.begin, last - k.begin};
    const char* from = left.data + k.begin * left.k_stride * bytes_;
    for (int64_t j = 0; j < columns; j += panel())
      call(TileForm::masked, rows, from, left_strides, panels + (j * panel_steps + k.begin * panel()) * bytes_, out + j * bytes_,
           &out_stride, sizes);
  }

  /// Rounds rows of sums into a sequence.
  void finish(const char* sums, int64_t stride, const Sequence& s, Range steps, int64_t depth) const {
    static constexpr int64_t kNone = 0;
    const int64_t sizes[] = {steps.size(), depth};
    const Buf buffers[] = {{const_cast<char*>(sums), &stride}, {row(s, steps.begin), &s.step}, {nullptr, &kNone}};
    kernels_.contraction.finish[static_cast<int>(BiasSide::none)](buffers, sizes, nullptr);
  }

  /// The mask's row for a query, from `key` on.
  Buf mask_row(int64_t query, int64_t key) const {
    if (a_.mask_kind == MaskKind::none) return {nullptr, &a_.mask.step};
    const Elem e = a_.mask_kind == MaskKind::boolean ? Elem::bool_ : tiles_.compute;
    return {at(a_.mask, e, batch_, head_, query) + key * elem_size(e), &a_.mask.step};
  }

  void fill_absent(char* from, int64_t n) const {
    const int64_t bits = absent_bits(tiles_.compute);
    for (int64_t i = 0; i < n; ++i) __builtin_memcpy(from + i * bytes_, &bits, static_cast<size_t>(bytes_));
  }

 private:
  void call(TileForm form, int64_t rows, const char* left, const int64_t* left_strides, const char* panel_data, char* out,
            const int64_t* out_stride, const int64_t* sizes) const {
    const int64_t width = panel();
    const Buf buffers[] = {{const_cast<char*>(left), left_strides}, {const_cast<char*>(panel_data), &width}, {out, out_stride}};
    tiles_(form, rows)(buffers, sizes, nullptr);
  }

 protected:
  const AttentionArgs& a_;
  const AttentionKernels& kernels_;
  const Tiles& tiles_;
  int64_t bytes_, batch_, head_;
};

}  // namespace fluxion::kernels
