// What attention and its gradient share: addresses, packed operands, products of a block.
#pragma once

#include <cstring>

#include "kernels/attention.h"
#include "kernels/pack.h"
#include "kernels/workspace.h"

namespace fluxion::kernels {

/// Rows of a matrix, in the workspace or where they stand: the left operand of a tile.
struct Left {
  const char* data;
  int64_t row_stride, k_stride;
};

/// One (batch, head): its operands and the products over them.
class Head {
 public:
  Head(const AttentionArgs& args, const AttentionKernels& kernels, int64_t batch, int64_t head)
      : a_(args),
        kernels_(kernels),
        tiles_(kernels.contraction.tiles),
        bytes_(elem_size(tiles_.compute)),
        batch_(batch),
        head_(head) {}

  int64_t panel() const { return tiles_.size.columns; }
  char* row(const Sequence& s, int64_t step) const { return address(s, a_.elem, step); }
  int64_t first_query(int64_t key) const { return a_.causal ? key : 0; }
  int64_t key_limit(int64_t query) const { return a_.causal ? least(a_.keys, query + 1) : a_.keys; }

  /// Panels whose lanes are steps (k = depth) or depths (k = steps).
  void pack_steps(const Sequence& s, Range steps, int64_t depth, char* out) const {
    pack_panels(a_.elem, {row(s, steps.begin), s.step, s.depth}, steps.size(), depth,
                static_cast<int>(panel()), out);
  }
  void pack_depths(const Sequence& s, Range steps, int64_t depth, char* out) const {
    pack_panels(a_.elem, {row(s, steps.begin), s.depth, s.step}, depth, steps.size(),
                static_cast<int>(panel()), out);
  }

  /// Steps of s as rows: where they stand if they are in the compute dtype, else widened in
  /// `scratch`.
  Left rows(const Sequence& s, Range steps, int64_t depth, char* scratch) const {
    if (a_.elem == tiles_.compute) return {row(s, steps.begin), s.step, s.depth};
    pack_panels(a_.elem, {row(s, steps.begin), s.depth, s.step}, depth, steps.size(),
                static_cast<int>(depth), scratch);
    return {scratch, depth, 1};
  }

  /// out[r, j] = left[r, :] . panels[:, j] over the depth, for whole panels until `columns` are
  /// done.
  void scores(const Left& left, int64_t rows, int64_t depth, const char* panels, int64_t columns,
              char* out, int64_t out_stride) const {
    const int64_t strides[] = {left.row_stride, left.k_stride}, sizes[] = {depth, 0};
    if (depth == 0)
      for (int64_t r = 0; r < rows; ++r) fill(out + r * out_stride * bytes_, columns, 0);
    for (int64_t j = 0; j < columns; j += panel())
      call(TileForm::full, rows, left.data, strides, panels + j * depth * bytes_, out + j * bytes_,
           &out_stride, sizes);
  }

  /// out[r, :] += sum over steps of left[r, step] * panels[step, :]; those in `present` count in
  /// every row.
  void add_weighted(const Left& left, int64_t rows, int64_t steps, Range present,
                    const char* panels, int64_t panel_steps, int64_t columns, char* out,
                    int64_t out_stride) const {
    const int64_t strides[] = {left.row_stride, left.k_stride};
    const int64_t sizes[] = {steps, present.begin, present.end};
    for (int64_t j = 0; j < columns; j += panel())
      call(TileForm::masked, rows, left.data, strides, panels + j * panel_steps * bytes_,
           out + j * bytes_, &out_stride, sizes);
  }

  /// Rounds rows of sums into a sequence.
  void finish(const char* sums, int64_t stride, const Sequence& s, Range steps,
              int64_t depth) const {
    static constexpr int64_t kNone = 0;
    const int64_t sizes[] = {steps.size(), depth};
    const Buf buffers[] = {
        {const_cast<char*>(sums), &stride}, {row(s, steps.begin), &s.step}, {nullptr, &kNone}};
    kernels_.contraction.finish[static_cast<int>(BiasSide::none)](buffers, sizes, nullptr);
  }

  /// Sets n elements to one pattern of bits.
  void fill(char* from, int64_t n, int64_t bits) const {
    for (int64_t i = 0; i < n; ++i)
      std::memcpy(from + i * bytes_, &bits, static_cast<size_t>(bytes_));
  }
  void fill_absent(char* from, int64_t n) const { fill(from, n, absent_bits(tiles_.compute)); }

  /// The mask's row for a query, from `key` on.
  Buf mask_row(int64_t query, int64_t key) const {
    if (a_.mask_kind == MaskKind::none) return {nullptr, &a_.mask.step};
    const Elem e = a_.mask_kind == MaskKind::boolean ? Elem::bool_ : tiles_.compute;
    return {address(a_.mask, e, query) + key * elem_size(e), &a_.mask.step};
  }

 private:
  char* address(const Sequence& s, Elem e, int64_t step) const {
    const int64_t element = batch_ * s.batch + head_ * s.head + step * s.step;
    return static_cast<char*>(const_cast<void*>(s.data)) + element * elem_size(e);
  }

  void call(TileForm form, int64_t rows, const char* left, const int64_t* left_strides,
            const char* panels, char* out, const int64_t* out_stride, const int64_t* sizes) const {
    const int64_t width = panel();
    const Buf buffers[] = {{const_cast<char*>(left), left_strides},
                           {const_cast<char*>(panels), &width},
                           {out, out_stride}};
    tiles_(form, rows)(buffers, sizes, nullptr);
  }

 protected:
  const AttentionArgs& a_;
  const AttentionKernels& kernels_;
  const Tiles& tiles_;
  const int64_t bytes_, batch_, head_;
};

}  // namespace fluxion::kernels
