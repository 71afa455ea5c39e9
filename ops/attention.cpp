// Scaled dot product attention (Vaswani et al. 2017) and its gradient: one kernel each, the weights
// never stored.
#include "kernels/attention.h"

#include <cmath>

#include "loops/attention.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/dot.h"
#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/promotion.h"
#include "ops/requirements.h"
#include "ops/rowwise.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

using kernels::MaskKind;

namespace {

struct Attrs {
  double scale;
  int64_t causal, has_mask, has_total_gradient;
};
constexpr Field kFields[] = {
    {"scale", FieldKind::real, offsetof(Attrs, scale), "what the scores are multiplied by"},
    {"causal", FieldKind::boolean, offsetof(Attrs, causal), "query i sees keys 0 .. i"},
    {"has_mask", FieldKind::boolean, offsetof(Attrs, has_mask), "a mask follows v (or logsumexp)"},
    {"has_total_gradient", FieldKind::boolean, offsetof(Attrs, has_total_gradient),
     "of a gradient: that of logsumexp comes last"},
};

enum Variant : uint8_t {
  kSoftmax = 0,
  kGradient = 8,
  kShift = 16
};  // the first two plus the mask's kind

void kernels_of(const OpDef& op, KernelSink& sink) {
  for (DType t : {DType::f32, DType::f64})
    for (int kind = 0; kind < kernels::kMaskKinds; ++kind) {
      auto mask = static_cast<MaskKind>(kind);
      sink.add(op, t, static_cast<uint8_t>(kSoftmax + kind), [&](std::string symbol) {
        return loops::attention_softmax(std::move(symbol), t, mask);
      });
      sink.add(op, t, static_cast<uint8_t>(kGradient + kind), [&](std::string symbol) {
        return loops::attention_gradient(std::move(symbol), t, mask);
      });
    }
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    sink.add(op, t, kShift, [&](std::string symbol) {
      return loops::attention_shift(std::move(symbol), row_compute(t), t);
    });
}

}  // namespace

extern OpDef kAttention;

namespace {

kernels::AttentionKernels kernels_for(DType t) {
  DType compute = row_compute(t);
  kernels::AttentionKernels k{
      contraction_kernels(t, t), {}, {}, require_kernel(kAttention, t, kShift)};
  for (int kind = 0; kind < kernels::kMaskKinds; ++kind) {
    k.softmax[kind] = require_kernel(kAttention, compute, static_cast<uint8_t>(kSoftmax + kind));
    k.gradient[kind] = require_kernel(kAttention, compute, static_cast<uint8_t>(kGradient + kind));
  }
  return k;
}

kernels::Sequence sequence(const Tensor& t) {
  Ints s = t.strides();
  return {t.data(), s[0], s[1], s[2], s[3]};
}
/// With contiguous depths.
Tensor by_rows(const Tensor& t) { return t.strides()[3] == 1 || t.sizes()[3] < 2 ? t : dense(t); }

/// The mask as the kernels read it: bool or compute dtype, keys contiguous.
Tensor readable_mask(const Tensor& mask, DType t) {
  return by_rows(mask.dtype() == DType::bool_ ? mask : to_dtype(mask, row_compute(t)));
}

kernels::AttentionArgs arguments(const Attrs& a, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& mask) {
  kernels::AttentionArgs args{q.size(0),     q.size(1), q.size(2),      k.size(2),   q.size(3),
                              v.size(3),     q.dtype(), sequence(q),    sequence(k), sequence(v),
                              a.causal != 0, a.scale,   MaskKind::none, {},          num_threads()};
  if (!mask.defined()) return args;
  args.mask_kind = mask.dtype() == DType::bool_ ? MaskKind::boolean : MaskKind::additive;
  args.mask = sequence(mask);
  return args;
}

double work_of(const kernels::AttentionArgs& a) {
  double pairs = static_cast<double>(a.batch * a.heads) * static_cast<double>(a.queries) *
                 static_cast<double>(a.keys);
  return pairs * (static_cast<double>(a.depth + a.value_depth) / 25 + 1);
}

/// Runs a driver with the workspace it asks for.
template <class Query, class Call>
void drive(const kernels::AttentionArgs& args, double effort, Query query, Call call) {
  kernels::AttentionKernels k = kernels_for(args.elem);
  size_t bytes = query(args, k);
  Ref<Storage> workspace = allocate(bytes);
  LongWork busy(effort * work_of(args));
  kernels::Ctx ctx = kernel_context(workspace->data, bytes);
  invariant(call(ctx, k) == kernels::kOk, "attention");
}

/// The layout of q, as PyTorch's, so that heads can be joined without a copy.
Tensor allocate_like(const Tensor& q, int64_t depth) {
  if (depth == q.size(3)) {
    Tensor out = empty_like_dense(q);
    if (out.strides()[3] == 1) return out;
  }
  return empty(Shape{q.size(0), q.size(1), q.size(2), depth}, q.dtype());
}

void eval(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<Attrs>();
  const Tensor &q = e.in[0], &k = e.in[1], &v = e.in[2];
  Tensor mask = a.has_mask ? readable_mask(e.in[3], q.dtype()) : Tensor();
  Tensor out = allocate_like(q, v.size(3));
  Tensor total = empty(Shape{q.size(0), q.size(1), q.size(2)}, row_compute(q.dtype()));
  kernels::AttentionArgs args = arguments(a, q, k, v, mask);
  drive(args, 1, kernels::attention_workspace, [&](kernels::Ctx& ctx, const auto& kernels) {
    return kernels::attention(ctx, args, kernels, sequence(out), total.data());
  });
  deliver(e.out[0], out, out.dtype());
  deliver(e.out[1], total, total.dtype());
}

/// Inputs of the gradient: grad, q, k, v, out, logsumexp, [mask], [gradient of logsumexp].
struct GradientInputs {
  const Tensor &g, &q, &k, &v, &out, &total;
  Tensor mask, total_gradient;
  GradientInputs(std::span<const Tensor> in, const Attrs& a)
      : g(in[0]), q(in[1]), k(in[2]), v(in[3]), out(in[4]), total(in[5]) {
    if (a.has_mask) mask = in[6];
    if (a.has_total_gradient) total_gradient = in.back();
  }
};

void eval_gradient(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<Attrs>();
  GradientInputs in(e.in, a);
  Tensor mask = a.has_mask ? readable_mask(in.mask, in.q.dtype()) : Tensor();
  Tensor g = by_rows(in.g), out = by_rows(in.out), total = dense(in.total);
  Tensor total_gradient = a.has_total_gradient ? dense(in.total_gradient) : Tensor();
  Tensor gq = allocate_like(in.q, in.q.size(3)), gk = allocate_like(in.k, in.k.size(3)),
         gv = allocate_like(in.v, in.v.size(3));
  kernels::AttentionArgs args = arguments(a, in.q, in.k, in.v, mask);
  kernels::AttentionGradient gradient{
      sequence(out), sequence(g),
      total.data(),  a.has_total_gradient ? total_gradient.data() : nullptr,
      sequence(gq),  sequence(gk),
      sequence(gv)};
  drive(args, 2.5, kernels::attention_gradient_workspace,
        [&](kernels::Ctx& ctx, const auto& kernels) {
          return kernels::attention_gradient(ctx, args, kernels, gradient);
        });
  deliver(e.out[0], gq, gq.dtype());
  deliver(e.out[1], gk, gk.dtype());
  deliver(e.out[2], gv, gv.dtype());
}

// The meanings in other ops.

Tensor turned(const Tensor& x) { return transpose(x, -2, -1); }

/// Scores with the mask added, -inf where excluded.
Tensor masked_scores(const Tensor& q, const Tensor& k, const Attrs& a, const Tensor& mask) {
  Tensor scores = mul(matmul(q, turned(k)), number(a.scale));
  if (mask.defined())
    scores = mask.dtype() == DType::bool_ ? where(mask, scores, number(-INFINITY))
                                          : add(scores, widen(mask));
  if (a.causal)
    scores =
        where(tril(ones(Shape{q.size(-2), k.size(-2)}, DType::bool_)), scores, number(-INFINITY));
  return scores;
}

void compose(const Eval& e) {
  const auto& a = e.attrs<Attrs>();
  Tensor scores = masked_scores(widen(e.in[0]), widen(e.in[1]), a, a.has_mask ? e.in[3] : Tensor());
  Tensor weights = softmax(scores, -1);
  const int64_t last[] = {-1};
  Tensor total = logsumexp(scores, last);
  if (a.has_mask)
    weights = where(eq(unsqueeze(total, -1), number(-INFINITY)), number(0.0), weights);
  e.out[0] = rounded(matmul(weights, widen(e.in[2])), e.in[0].dtype());
  e.out[1] = total;
}

void compose_gradient(const Eval& e) {
  const auto& a = e.attrs<Attrs>();
  GradientInputs in(e.in, a);
  Tensor g = widen(in.g), q = widen(in.q), k = widen(in.k), v = widen(in.v);
  Tensor scores = masked_scores(q, k, a, in.mask);
  Tensor weights = exp(sub(scores, unsqueeze(in.total, -1)));
  if (a.has_mask) weights = where(eq(scores, number(-INFINITY)), number(0.0), weights);
  const int64_t last[] = {-1};
  Tensor shift = sum(mul(g, widen(in.out)), last);
  if (a.has_total_gradient) shift = sub(shift, in.total_gradient);
  Tensor slopes =
      mul(mul(weights, sub(matmul(g, turned(v)), unsqueeze(shift, -1))), number(a.scale));
  e.out[0] = rounded(matmul(slopes, k), in.q.dtype());
  e.out[1] = rounded(matmul(turned(slopes), q), in.k.dtype());
  e.out[2] = rounded(matmul(turned(weights), g), in.v.dtype());
}

void samples(const OpDef& op, SampleSink& sink) {
  using Input = SampleSink::Input;
  bool gradient = op.outputs == 3;
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (int64_t variant : {0, 1, 2, 3}) {  // plain, causal, bool mask, additive mask
      Attrs a{0.5, variant == 1, variant > 1, gradient};
      DType c = row_compute(t);
      Input q{Shape{2, 2, 5, 3}, t}, k{Shape{2, 2, 7, 3}, t}, v{Shape{2, 2, 7, 4}, t},
          g{Shape{2, 2, 5, 4}, t};
      Input total{Shape{2, 2, 5}, c, 1, 2},
          mask{Shape{2, 2, 5, 7}, variant == 2 ? DType::bool_ : t, 0, 1};
      std::vector<Input> in{q, k, v};
      if (gradient) in = {g, q, k, v, g, total};
      if (a.has_mask) in.push_back(mask);
      if (gradient) in.push_back(total);
      if (!a.has_mask || variant == 2) sink.add(in, &a, sizeof a);
    }
}

double attention_cost(std::span<const Type> in, const void* attrs) {
  return 200 * cheap_cost(in, attrs);
}

/// q, k and v from input `first` on; a mask over all pairs.
void require_attention(const TypeRule& t, size_t first, size_t mask) {
  for (size_t i = first; i < first + 3; ++i) {
    require_rank(t, i, 4, 4);
    require_floating(t, i);
    require(t, t.in[i].dtype == t.in[first].dtype, "q, k and v must have one dtype");
  }
  Ints q = t.in[first].shape, k = t.in[first + 1].shape, v = t.in[first + 2].shape;
  require_shape(t, first + 1, Shape{q[0], q[1], k[2], q[3]});
  require_shape(t, first + 2, Shape{q[0], q[1], k[2], v[3]});
  if (t.attrs<Attrs>().has_mask) require_shape(t, mask, Shape{q[0], q[1], q[2], k[2]});
}

constexpr SaveRule kSaves[] = {{15, 3}};
void vjp(const Vjp& v);

}  // namespace

constinit OpDef kAttentionBackward{
    .name = "attention_backward",
    .doc =
        "Gradients of attention: (g, q, k, v, out, logsumexp, [mask], [g of logsumexp]) -> (dq, dk, dv).",
    .inputs = 255,
    .outputs = 3,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(Attrs),
    .fields = kFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<Attrs>();
          require_count(t, 6 + a.has_mask + a.has_total_gradient);
          require_attention(t, 1, 6);
          Ints q = t.in[1].shape, v = t.in[3].shape;
          Shape result{q[0], q[1], q[2], v[3]}, entries{q[0], q[1], q[2]};
          for (size_t i : {0, 4}) {
            require_shape(t, i, result);
            require(t, t.in[i].dtype == t.in[1].dtype,
                    "gradient and result must have the dtype of q");
          }
          for (size_t i : {size_t{5}, t.in.size() - 1})
            if (i == 5 || a.has_total_gradient) {
              require_shape(t, i, entries);
              require(t, t.in[i].dtype == row_compute(t.in[1].dtype),
                      "logsumexp must have the dtype it is computed in");
            }
          for (int i : {0, 1, 2}) t.out[i] = {t.in[0].dtype, false, t.in[1 + i].shape};
        },
    .eval = eval_gradient,
    .composite = compose_gradient,
    .cost = attention_cost,
    .samples = samples,
    .max_ulp = 64};

constinit OpDef kAttention{
    .name = "attention",
    .doc =
        "softmax(q k^T * scale + mask) v over [b, h, length, depth]; excluded keys are absent. Also logsumexp of the scores.",
    .inputs = 255,
    .outputs = 2,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(Attrs),
    .fields = kFields,
    .infer =
        [](const TypeRule& t) {
          require_count(t, 3 + t.attrs<Attrs>().has_mask);
          require(t, !t.attrs<Attrs>().has_total_gradient, "a forward op has no gradient");
          require_attention(t, 0, 3);
          Shape shape = t.in[0].shape;
          shape.pop_back();
          t.out[1] = {row_compute(t.in[0].dtype), false, shape};
          shape.push_back(t.in[2].shape.back());
          t.out[0] = {t.in[0].dtype, false, shape};
        },
    .eval = eval,
    .vjp = vjp,
    .saves = kSaves,
    .composite = compose,
    .kernels = kernels_of,
    .cost = attention_cost,
    .samples = samples,
    .max_ulp = 64};

namespace {

void vjp(const Vjp& v) {
  Attrs a = v.attrs<Attrs>();
  a.has_total_gradient = v.grad[1].defined();
  Tensor g = v.grad[0].defined() ? v.grad[0] : zeros(v.out[0].sizes(), v.out[0].dtype());
  std::vector<Tensor> in{g, v.in[0], v.in[1], v.in[2], v.out[0], v.out[1]};
  if (a.has_mask) in.push_back(v.in[3]);
  if (a.has_total_gradient) in.push_back(v.grad[1]);
  Tensor out[3];
  apply(kAttentionBackward, &a, in, out);
  for (size_t i = 0; i < 3; ++i)
    if (v.needs(i)) v.result[i] = out[i];
}

void check(const Tensor& q, const Tensor& k, const Tensor& v) {
  constexpr const char* op = "scaled_dot_product_attention";
  if (q.dim(op) < 2 || k.dim(op) < 2 || v.dim(op) < 2)
    fail(ErrorKind::runtime, "{}: query, key and value need at least 2 dims, got {}, {} and {}", op,
         shape_text(q.sizes()), shape_text(k.sizes()), shape_text(v.sizes()));
  if (q.dtype() != k.dtype() || q.dtype() != v.dtype() || !is_floating(q.dtype()))
    fail(ErrorKind::runtime,
         "{}: query, key and value must have one floating dtype, got {}, {} and {}", op,
         name(q.dtype()), name(k.dtype()), name(v.dtype()));
  if (q.size(-1) != k.size(-1))
    fail(ErrorKind::runtime, "{}: last dim of query {} must equal that of key {}", op,
         shape_text(q.sizes()), shape_text(k.sizes()));
  if (k.size(-2) != v.size(-2))
    fail(ErrorKind::runtime, "{}: key {} and value {} must have one length, the next to last dim",
         op, shape_text(k.sizes()), shape_text(v.sizes()));
}

/// [b, h, rows, columns] over the common batch dims.
Tensor as_heads(const Tensor& x, Ints batch) {
  Shape shape(batch);
  shape.push_back(x.size(-2));
  shape.push_back(x.size(-1));
  Tensor t = std::ranges::equal(x.sizes(), Ints(shape)) ? x : expand(x, shape);
  if (batch.size() == 2) return t;
  int64_t outer = batch.empty() ? 1 : element_count(batch.first(batch.size() - 1)),
          heads = batch.empty() ? 1 : batch.back();
  return reshape(t, Shape{outer, heads, x.size(-2), x.size(-1)});
}

Tensor fused(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, bool causal,
             double scale) {
  constexpr const char* op = "scaled_dot_product_attention";
  auto batch_of = [](const Tensor& t) { return t.sizes().first(static_cast<size_t>(t.dim() - 2)); };
  Shape batch = broadcast_shapes(op, broadcast_shapes(op, batch_of(q), batch_of(k)), batch_of(v));
  Attrs a{scale, causal, mask.defined(), 0};
  std::vector<Tensor> in{as_heads(q, batch), as_heads(k, batch), as_heads(v, batch)};
  if (mask.defined()) {
    Shape full(batch);
    full.push_back(q.size(-2));
    full.push_back(k.size(-2));
    in.push_back(as_heads(expand(mask, full), batch));
  }
  Tensor out[2];
  apply(kAttention, &a, in, out);
  if (batch.size() == 2) return out[0];
  Shape shape(batch);
  shape.push_back(q.size(-2));
  shape.push_back(v.size(-1));
  return reshape(out[0], shape);
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const Tensor& attn_mask, double dropout_p, bool is_causal,
                                    OptDouble scale, bool enable_gqa) {
  check(query, key, value);
  Tensor k = key, v = value;
  if (enable_gqa && query.dim() >= 3 && key.dim() >= 3 && query.size(-3) != key.size(-3)) {
    int64_t heads = query.size(-3);
    if (key.size(-3) == 0 || heads % key.size(-3) || value.size(-3) == 0 || heads % value.size(-3))
      fail(
          ErrorKind::runtime,
          "scaled_dot_product_attention: {} query heads must be a multiple of {} key and {} value heads",
          heads, key.size(-3), value.size(-3));
    k = repeat_interleave(key, heads / key.size(-3), -3);
    v = repeat_interleave(value, heads / value.size(-3), -3);
  }
  double factor = scale.value_or(1 / std::sqrt(static_cast<double>(query.size(-1))));
  bool learns_mask =
      attn_mask.defined() && tracks_gradient(attn_mask) && thread_state().grad_enabled;
  if (dropout_p == 0 && !learns_mask) return fused(query, k, v, attn_mask, is_causal, factor);
  const Attrs attrs{factor, is_causal, attn_mask.defined(), 0};
  Tensor weights = softmax(masked_scores(widen(query), widen(k), attrs, attn_mask), -1);
  if (dropout_p > 0) weights = dropout(weights, dropout_p, true);
  return rounded(matmul(weights, widen(v)), query.dtype());
}

namespace {

OpDef* const kOps[] = {&kAttention, &kAttentionBackward};

const Function kFunctions[] = {
    {"scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor",
     "softmax(query key^T * scale + mask) value over [..., length, depth]; a bool mask keeps where true.",
     kFunction | kNN, thunk<&scaled_dot_product_attention>},
};

}  // namespace

extern const OpFile attention_ops;
const OpFile attention_ops{kOps, kFunctions};

}  // namespace fluxion
