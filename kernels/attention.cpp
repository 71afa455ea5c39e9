#include "kernels/attention.h"

#include "kernels/attention_parts.h"

namespace fluxion::kernels {

namespace {

constexpr int64_t kScoreElements = 1 << 15;  // scores of a block of rows: they stay in L2

struct Plan {
  Plan(const AttentionArgs& args, const AttentionKernels& kernels) : a(args) {
    const TileSize tile = kernels.contraction.tiles.size;
    const int64_t bytes = elem_size(kernels.contraction.tiles.compute);
    score_stride = divide_up(a.keys, tile.columns) * tile.columns + 16;  // not a multiple of a page
    value_stride = divide_up(a.value_depth, tile.columns) * tile.columns;
    rows = least(64, kScoreElements / score_stride) / tile.rows * tile.rows;
    rows = least(most(rows, tile.rows), most(1, a.queries));
    const int64_t heads = a.batch * a.heads;
    pieces = heads >= a.threads
                 ? 1
                 : least(divide_up(a.queries, rows), divide_up(a.threads, most(1, heads)));
    key_bytes =
        align_up(static_cast<size_t>(packed_elements(a.keys, a.depth, tile.columns) * bytes));
    value_bytes =
        align_up(static_cast<size_t>(packed_elements(a.value_depth, a.keys, tile.columns) * bytes));
    score_bytes = align_up(static_cast<size_t>(rows * score_stride * bytes));
    query_bytes = align_up(static_cast<size_t>((rows * a.depth + 8) * bytes));
    sum_bytes = align_up(static_cast<size_t>(rows * value_stride * bytes));
    slots = static_cast<int>(most(1, least(least(a.threads, tasks()), kMaxSlots)));
  }
  int64_t tasks() const { return a.queries == 0 ? 0 : a.batch * a.heads * pieces; }
  size_t slot_bytes() const {
    return key_bytes + value_bytes + score_bytes + query_bytes + sum_bytes;
  }
  size_t workspace() const { return slot_bytes() * static_cast<size_t>(slots); }

  const AttentionArgs& a;
  int64_t rows, pieces, score_stride, value_stride;
  size_t key_bytes, value_bytes, score_bytes, query_bytes, sum_bytes;
  int slots;
};

class Forward : Head {
 public:
  Forward(const Plan& plan, const AttentionKernels& kernels, int64_t batch, int64_t head,
          char* part)
      : Head(plan.a, kernels, batch, head),
        p_(plan),
        keys_(part),
        values_(keys_ + plan.key_bytes),
        scores_(values_ + plan.value_bytes),
        queries_(scores_ + plan.score_bytes),
        sums_(queries_ + plan.query_bytes) {}

  void run(Range queries, const Sequence& out, void* logsumexp) {
    const Range seen{0, key_limit(queries.end - 1)};
    pack_steps(a_.k, seen, a_.depth, keys_);
    pack_depths(a_.v, seen, a_.value_depth, values_);
    for (int64_t i = queries.begin; i < queries.end; i += p_.rows) {
      const Range block{i, least(i + p_.rows, queries.end)};
      char* totals =
          static_cast<char*>(logsumexp) + ((batch_ * a_.heads + head_) * a_.queries + i) * bytes_;
      weigh(block, totals);
      sum(block, seen.size());
      clear_blind_rows(block, totals);
      finish(sums_, p_.value_stride, out, block, a_.value_depth);
    }
  }

 private:
  char* weights(Range block, int64_t query) const {
    return scores_ + (query - block.begin) * p_.score_stride * bytes_;
  }
  char* sums(Range block, int64_t query) const {
    return sums_ + (query - block.begin) * p_.value_stride * bytes_;
  }

  /// Scores, then weights of a block of rows.
  void weigh(Range block, char* totals) const {
    const Left q = rows(a_.q, block, a_.depth, queries_);
    for (int64_t i = block.begin; i < block.end; i += tiles_.size.rows) {
      const int64_t end = least(i + tiles_.size.rows, block.end);
      const Left tile{q.data + (i - block.begin) * q.row_stride * bytes_, q.row_stride, q.k_stride};
      scores(tile, end - i, a_.depth, keys_, key_limit(end - 1), weights(block, i),
             p_.score_stride);
    }
    const int64_t together = a_.causal ? 1 : block.size();
    for (int64_t i = block.begin; i < block.end; i += together) {
      const int64_t sizes[] = {together, key_limit(i)};
      const Buf buffers[] = {{weights(block, i), &p_.score_stride},
                             mask_row(i, 0),
                             {totals + (i - block.begin) * bytes_, nullptr}};
      kernels_.softmax[static_cast<int>(a_.mask_kind)](buffers, sizes, &a_.scale);
    }
  }

  /// Sums start from -0, to which adding changes nothing.
  void sum(Range block, int64_t packed_steps) const {
    fill(sums_, block.size() * p_.value_stride,
         tiles_.compute == Elem::f32 ? int64_t{1} << 31 : INT64_MIN);
    for (int64_t i = block.begin; i < block.end; i += tiles_.size.rows) {
      const int64_t end = least(i + tiles_.size.rows, block.end), limit = key_limit(end - 1);
      for (int64_t r = i; r < end; ++r)
        fill_absent(weights(block, r) + key_limit(r) * bytes_, limit - key_limit(r));
      const Range present{0, a_.mask_kind == MaskKind::none ? key_limit(i) : 0};
      add_weighted({weights(block, i), p_.score_stride, 1}, end - i, limit, present, values_,
                   packed_steps, a_.value_depth, sums(block, i), p_.value_stride);
    }
  }

  /// A row without any key is zero.
  void clear_blind_rows(Range block, const char* totals) const {
    if (a_.mask_kind == MaskKind::none && a_.keys > 0) return;
    const int64_t absent = absent_bits(tiles_.compute);
    for (int64_t i = block.begin; i < block.end; ++i) {
      const void* total = totals + (i - block.begin) * bytes_;
      const double value = tiles_.compute == Elem::f32 ? *static_cast<const float*>(total)
                                                       : *static_cast<const double*>(total);
      if (value != -__builtin_inf()) continue;
      const char* w = weights(block, i);
      int64_t key = 0;
      while (key < key_limit(i) &&
             std::memcmp(w + key * bytes_, &absent, static_cast<size_t>(bytes_)) == 0)
        ++key;
      if (key == key_limit(i)) fill(sums(block, i), p_.value_stride, 0);
    }
  }

  const Plan& p_;
  char *keys_, *values_, *scores_, *queries_, *sums_;
};

}  // namespace

size_t attention_workspace(const AttentionArgs& args, const AttentionKernels& kernels) {
  return Plan(args, kernels).workspace();
}

int attention(Ctx& ctx, const AttentionArgs& args, const AttentionKernels& kernels,
              const Sequence& out, void* logsumexp) {
  const Plan plan(args, kernels);
  if (ctx.workspace_bytes < plan.workspace()) return kWorkspaceTooSmall;
  const double work = static_cast<double>(args.batch * args.heads * args.queries * args.keys) *
                      static_cast<double>(args.depth + args.value_depth);
  Slots slots(ctx.workspace, plan.slot_bytes(), plan.slots);
  run_tasks(ctx, plan.tasks(), work < 2e5, slots, [&](int64_t t, char* part) {
    const int64_t head = t / plan.pieces;
    Forward(plan, kernels, head / args.heads, head % args.heads, part)
        .run(piece(args.queries, plan.rows, plan.pieces, t % plan.pieces), out, logsumexp);
  });
  return kOk;
}

}  // namespace fluxion::kernels
