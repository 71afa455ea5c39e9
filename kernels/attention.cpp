#include "kernels/attention.h"

#include <cstring>

#include "kernels/attention_parts.h"

namespace fluxion::kernels {

namespace {

constexpr int64_t kScoreElements = 1 << 15;  // scores of a block of rows: they stay in L2

struct Plan {
  Plan(const AttentionArgs& args, const AttentionKernels& kernels) : a(args) {
    const Tiles& tiles = kernels.contraction.tiles;
    const int64_t bytes = elem_size(tiles.compute), width = tiles.size.columns;
    score_stride = divide_up(a.keys, width) * width + 16;  // not a multiple of a page
    value_stride = divide_up(a.value_depth, width) * width;
    rows = least(64, most(1, kScoreElements / score_stride)) / tiles.size.rows * tiles.size.rows;
    rows = least(most(rows, tiles.size.rows), most(1, a.queries));
    const int64_t heads = a.batch * a.heads;
    pieces = heads >= a.threads ? 1 : least(divide_up(a.queries, rows), divide_up(a.threads, most(1, heads)));
    key_bytes = align_up(static_cast<size_t>(packed_elements(a.keys, a.depth, static_cast<int>(width)) * bytes));
    value_bytes = align_up(static_cast<size_t>(packed_elements(a.value_depth, a.keys, static_cast<int>(width)) * bytes));
    score_bytes = align_up(static_cast<size_t>(rows * score_stride * bytes));
    query_bytes = align_up(static_cast<size_t>((rows * a.depth + 8) * bytes));
    out_bytes = align_up(static_cast<size_t>(rows * value_stride * bytes));
    slots = static_cast<int>(most(1, least(least(a.threads, tasks()), kMaxSlots)));
  }
  int64_t tasks() const { return a.batch * a.heads * pieces; }
  size_t slot_bytes() const { return key_bytes + value_bytes + score_bytes + query_bytes + out_bytes; }
  size_t workspace() const { return slot_bytes() * static_cast<size_t>(slots); }

  const AttentionArgs& a;
  int64_t rows, pieces, score_stride, value_stride;
  size_t key_bytes, value_bytes, score_bytes, query_bytes, out_bytes;
  int slots;
};

class Forward : Head {
 public:
  Forward(const Plan& plan, const AttentionKernels& kernels, int64_t batch, int64_t head, char* part)
      : Head(plan.a, kernels, batch, head), p_(plan), keys_(part), values_(keys_ + plan.key_bytes), scores_(values_ + plan.value_bytes),
        queries_(scores_ + plan.score_bytes), sums_(queries_ + plan.query_bytes) {}

  void run(Range queries, const Sequence& out, char* logsumexp) {
    const Range seen{0, queries.size() > 0 ? key_limit(queries.end - 1) : 0};
    pack_steps(a_.k, seen, a_.depth, keys_);
    pack_depths(a_.v, seen, a_.value_depth, values_);
    for (int64_t i = queries.begin; i < queries.end; i += p_.rows) {
      const Range block{i, least(i + p_.rows, queries.end)};
      char* lse = logsumexp + ((batch_ * a_.heads + head_) * a_.queries + i) * bytes();
      weigh(block, lse);
      sum(block, seen.end);
      finish(sums_, p_.value_stride, out, block, a_.value_depth);
      clear_unseeing(block, out, lse);
    }
  }

 private:
  char* score_row(Range block, int64_t query) const { return scores_ + (query - block.begin) * p_.score_stride * bytes(); }

  /// Scores, then weights of a block.
  void weigh(Range block, char* lse) {
    const Left q = rows(a_.q, block, a_.depth, queries_);
    for (int64_t i = block.begin; i < block.end; i += tiles_.size.rows) {
      const int64_t end = least(i + tiles_.size.rows, block.end);
      const Left tile{q.data + (i - block.begin) * q.row_stride * bytes(), q.row_stride, q.k_stride};
      scores(tile, end - i, a_.depth, keys_, key_limit(end - 1), score_row(block, i), p_.score_stride);
    }
    const int64_t together = a_.causal ? 1 : block.size();
    for (int64_t i = block.begin; i < block.end; i += together) {
      const int64_t sizes[] = {together, key_limit(i)};
      const Buf buffers[] = {{score_row(block, i), &p_.score_stride}, mask_row(i, 0), {lse + (i - block.begin) * bytes(), nullptr}};
      kernels_.softmax[static_cast<int>(a_.mask_kind)](buffers, sizes, &a_.scale);
    }
  }

  void sum(Range block, int64_t) {
    for (int64_t i = 0; i < block.size() * p_.value_stride; ++i) set_minus_zero(i);
    for (int64_t i = block.begin; i < block.end; i += tiles_.size.rows) {
      const int64_t end = least(i + tiles_.size.rows, block.end), limit = key_limit(end - 1);
      for (int64_t r = i; r < end; ++r) fill_absent(score_row(block, r) + key_limit(r) * bytes(), limit - key_limit(r));
      const Left weights{score_row(block, i), p_.score_stride, 1};
      const int64_t plain = a_.mask_kind == MaskKind::none ? key_limit(i) : 0;
      add_weighted(weights, end - i, {0, limit}, 0, plain, values_, packed_keys(), a_.value_depth,
                   sums_ + (i - block.begin) * p_.value_stride * bytes(), p_.value_stride);
    }
  }

  const Plan& p_;
  char *keys_, *values_, *scores_, *queries_, *sums_;
};

}  // namespace

}  // namespace fluxion::kernels
