#include <cstring>

#include "kernels/attention.h"
#include "kernels/attention_parts.h"

namespace fluxion::kernels {

namespace {

/// The plane of queries and keys is walked in blocks of kChunk x kChunk, so that every sum goes by
/// whole chunks.
struct Plan {
  Plan(const AttentionArgs& args, const AttentionKernels& kernels)
      : a(args), bytes(elem_size(kernels.contraction.tiles.compute)) {
    const int64_t width = kernels.contraction.tiles.size.columns;
    depth_stride = divide_up(a.depth, width) * width;
    value_stride = divide_up(a.value_depth, width) * width;
    key_lanes = packed(a.keys, a.depth, width);
    value_lanes = packed(a.keys, a.value_depth, width);
    key_depths = packed(a.depth, a.keys, width);
    query_depths = packed(a.depth, kChunk, width);
    out_depths = packed(a.value_depth, kChunk, width);
    query_rows = size(kChunk * a.depth + 8);
    out_rows = size(kChunk * a.value_depth + 8);
    scores = size(kChunk * kScoreStride);
    query_sums = size(kChunk * depth_stride);
    key_sums = size(a.keys * depth_stride);
    value_sums = size(a.keys * value_stride);
    shifts = size(kChunk);
    slots = static_cast<int>(most(1, least(least(a.threads, tasks()), kMaxSlots)));
  }

  int64_t tasks() const { return a.batch * a.heads; }
  size_t slot_bytes() const {
    return key_lanes + value_lanes + key_depths + query_depths + out_depths + query_rows +
           out_rows + 2 * scores + query_sums + key_sums + value_sums + shifts;
  }
  size_t workspace() const { return slot_bytes() * static_cast<size_t>(slots); }

  static constexpr int64_t kScoreStride = kChunk + 16;  // not a multiple of a page

  const AttentionArgs& a;
  int64_t bytes, depth_stride, value_stride;
  size_t key_lanes, value_lanes, key_depths, query_depths, out_depths, query_rows, out_rows, scores,
      query_sums, key_sums, value_sums, shifts;
  int slots;

 private:
  size_t size(int64_t elements) const { return align_up(static_cast<size_t>(elements * bytes)); }
  size_t packed(int64_t lanes, int64_t k, int64_t width) const {
    return size(packed_elements(lanes, k, static_cast<int>(width)));
  }
};

class Backward : Head {
 public:
  Backward(const Plan& plan, const AttentionKernels& kernels, const AttentionGradient& gradient,
           int64_t batch, int64_t head, char* part)
      : Head(plan.a, kernels, batch, head), p_(plan), g_(gradient) {
    auto take = [&](size_t bytes) {
      char* mine = part;
      part += bytes;
      return mine;
    };
    key_lanes_ = take(p_.key_lanes), value_lanes_ = take(p_.value_lanes),
    key_depths_ = take(p_.key_depths);
    query_depths_ = take(p_.query_depths), out_depths_ = take(p_.out_depths);
    query_rows_ = take(p_.query_rows), out_rows_ = take(p_.out_rows);
    weights_ = take(p_.scores), slopes_ = take(p_.scores);
    query_sums_ = take(p_.query_sums), key_sums_ = take(p_.key_sums),
    value_sums_ = take(p_.value_sums);
    shifts_ = take(p_.shifts);
  }

  void run() {
    const Range keys{0, a_.keys};
    pack_steps(a_.k, keys, a_.depth, key_lanes_);
    pack_steps(a_.v, keys, a_.value_depth, value_lanes_);
    pack_depths(a_.k, keys, a_.depth, key_depths_);
    std::memset(key_sums_, 0, p_.key_sums);
    std::memset(value_sums_, 0, p_.value_sums);
    for (int64_t i = 0; i < a_.queries; i += kChunk) {
      queries_ = {i, least(i + kChunk, a_.queries)};
      run_queries();
    }
    finish(key_sums_, p_.depth_stride, g_.grad_k, keys, a_.depth);
    finish(value_sums_, p_.value_stride, g_.grad_v, keys, a_.value_depth);
  }

 private:
  void run_queries() {
    pack_depths(a_.q, queries_, a_.depth, query_depths_);
    pack_depths(g_.grad_out, queries_, a_.value_depth, out_depths_);
    const Left q = rows(a_.q, queries_, a_.depth, query_rows_),
               out = rows(g_.grad_out, queries_, a_.value_depth, out_rows_);
    const int64_t sizes[] = {queries_.size(), a_.value_depth};
    const Buf buffers[] = {{row(g_.grad_out, queries_.begin), &g_.grad_out.step},
                           {row(g_.out, queries_.begin), &g_.out.step},
                           {shifts_, nullptr}};
    kernels_.shift(buffers, sizes, nullptr);
    if (g_.grad_logsumexp)
      tiles_.compute == Elem::f32 ? move_shifts<float>() : move_shifts<double>();
    std::memset(query_sums_, 0, p_.query_sums);
    const int64_t limit = key_limit(queries_.end - 1);
    for (int64_t j = 0; j < limit; j += kChunk) {
      keys_ = {j, least(j + kChunk, a_.keys)};
      weigh(q, out);
      add_to_queries();
      add_to_keys(weights_, out_depths_, a_.value_depth, value_sums_, p_.value_stride);
      add_to_keys(slopes_, query_depths_, a_.depth, key_sums_, p_.depth_stride);
    }
    finish(query_sums_, p_.depth_stride, g_.grad_q, queries_, a_.depth);
  }

  template <class T>
  void move_shifts() const {
    const T* by = static_cast<const T*>(g_.grad_logsumexp) +
                  (batch_ * a_.heads + head_) * a_.queries + queries_.begin;
    for (int64_t i = 0; i < queries_.size(); ++i) reinterpret_cast<T*>(shifts_)[i] -= by[i];
  }

  /// One past the last key of the block that a query sees.
  int64_t limit_in_block(int64_t query) const {
    return most(keys_.begin, least(keys_.end, key_limit(query)));
  }
  char* score(char* base, int64_t query, int64_t key) const {
    return base + ((query - queries_.begin) * Plan::kScoreStride + key - keys_.begin) * bytes_;
  }
  Left rows_from(const Left& left, int64_t query) const {
    return {left.data + (query - queries_.begin) * left.row_stride * bytes_, left.row_stride,
            left.k_stride};
  }

  /// Weights and the gradients of the scores of the block.
  void weigh(const Left& q, const Left& out) const {
    for (int64_t i = queries_.begin; i < queries_.end; i += tiles_.size.rows) {
      const int64_t end = least(i + tiles_.size.rows, queries_.end),
                    columns = limit_in_block(end - 1) - keys_.begin;
      scores(rows_from(q, i), end - i, a_.depth, key_lanes_ + keys_.begin * a_.depth * bytes_,
             columns, score(weights_, i, keys_.begin), Plan::kScoreStride);
      scores(rows_from(out, i), end - i, a_.value_depth,
             value_lanes_ + keys_.begin * a_.value_depth * bytes_, columns,
             score(slopes_, i, keys_.begin), Plan::kScoreStride);
    }
    const char* totals =
        static_cast<const char*>(g_.logsumexp) + (batch_ * a_.heads + head_) * a_.queries * bytes_;
    const int64_t together = a_.causal ? 1 : queries_.size(), stride = Plan::kScoreStride;
    for (int64_t i = queries_.begin; i < queries_.end; i += together) {
      const int64_t limit = limit_in_block(i), sizes[] = {together, limit - keys_.begin};
      const Buf buffers[] = {{score(weights_, i, keys_.begin), &stride},
                             {score(slopes_, i, keys_.begin), &stride},
                             mask_row(i, keys_.begin),
                             {const_cast<char*>(totals) + i * bytes_, nullptr},
                             {shifts_ + (i - queries_.begin) * bytes_, nullptr}};
      kernels_.gradient[static_cast<int>(a_.mask_kind)](buffers, sizes, &a_.scale);
      for (char* base : {weights_, slopes_})
        fill_absent(score(base, i, limit), least(tiles_.size.rows, keys_.end - limit));
    }
  }

  void add_to_queries() const {
    for (int64_t i = queries_.begin; i < queries_.end; i += tiles_.size.rows) {
      const int64_t end = least(i + tiles_.size.rows, queries_.end),
                    steps = limit_in_block(end - 1) - keys_.begin;
      const Range present{0, a_.mask_kind == MaskKind::none ? limit_in_block(i) - keys_.begin : 0};
      if (steps > 0)
        add_weighted({score(slopes_, i, keys_.begin), Plan::kScoreStride, 1}, end - i, steps,
                     present, key_depths_ + keys_.begin * panel() * bytes_, a_.keys, a_.depth,
                     query_sums_ + (i - queries_.begin) * p_.depth_stride * bytes_,
                     p_.depth_stride);
    }
  }

  /// sums[key, :] += sum over queries of coefficients[query, key] * panels[query, :].
  void add_to_keys(char* coefficients, const char* panels, int64_t columns, char* sums,
                   int64_t stride) const {
    for (int64_t j = keys_.begin; j < keys_.end; j += tiles_.size.rows) {
      const int64_t end = least(j + tiles_.size.rows, keys_.end),
                    first = most(queries_.begin, first_query(j));
      const int64_t steps = queries_.end - first,
                    all_see = most(first, first_query(end - 1)) - first;
      if (steps <= 0) return;
      const Range present = a_.mask_kind == MaskKind::none ? Range{all_see, steps} : Range{0, 0};
      add_weighted({score(coefficients, first, j), 1, Plan::kScoreStride}, end - j, steps, present,
                   panels + (first - queries_.begin) * panel() * bytes_, queries_.size(), columns,
                   sums + j * stride * bytes_, stride);
    }
  }

  const Plan& p_;
  const AttentionGradient& g_;
  Range queries_{}, keys_{};
  char *key_lanes_, *value_lanes_, *key_depths_, *query_depths_, *out_depths_, *query_rows_,
      *out_rows_, *weights_, *slopes_, *query_sums_, *key_sums_, *value_sums_, *shifts_;
};

}  // namespace

size_t attention_gradient_workspace(const AttentionArgs& args, const AttentionKernels& kernels) {
  return Plan(args, kernels).workspace();
}

int attention_gradient(Ctx& ctx, const AttentionArgs& args, const AttentionKernels& kernels,
                       const AttentionGradient& gradient) {
  const Plan plan(args, kernels);
  if (ctx.workspace_bytes < plan.workspace()) return kWorkspaceTooSmall;
  const double work = static_cast<double>(args.batch * args.heads * args.queries * args.keys) *
                      static_cast<double>(args.depth + args.value_depth);
  Slots slots(ctx.workspace, plan.slot_bytes(), plan.slots);
  run_tasks(ctx, plan.tasks(), work < 1e5, slots, [&](int64_t t, char* part) {
    Backward(plan, kernels, gradient, t / args.heads, t % args.heads, part).run();
  });
  return kOk;
}

}  // namespace fluxion::kernels
