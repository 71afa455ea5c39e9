// Permutations and draws from a distribution given as weights.
#include <cmath>
#include <numeric>
#include <vector>

#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/random.h"
#include "ops/requirements.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

/// 64 random bits number i of a call.
class Draws {
 public:
  explicit Draws(const Tensor& state)
      : call_{static_cast<uint64_t>(state.data<int64_t>()[0]),
              static_cast<uint64_t>(state.data<int64_t>()[1])} {}
  uint64_t bits(int64_t i) const {
    uint32_t words[4];
    philox(call_.key, call_.call, static_cast<uint64_t>(i), words);
    return words[0] | uint64_t{words[1]} << 32;
  }
  /// In [0, 1), 53 bits.
  double uniform(int64_t i) const { return static_cast<double>(bits(i) >> 11) * 0x1p-53; }
  /// In [0, n), by the upper half of bits * n.
  int64_t below(int64_t i, int64_t n) const {
    return static_cast<int64_t>(
        (static_cast<unsigned __int128>(bits(i)) * static_cast<uint64_t>(n)) >> 64);
  }

 private:
  Generator::Call call_;
};

struct PermutationAttrs {
  int64_t n;
};
constexpr Field kPermutationFields[] = {
    {"n", FieldKind::integer, offsetof(PermutationAttrs, n), "length"}};

/// Fisher & Yates, from the front.
void eval_permutation(const Eval& e) {
  int64_t n = e.attrs<PermutationAttrs>().n;
  Tensor out = empty(Ints({n}), DType::i64);
  auto* p = out.data<int64_t>();
  LongWork work(static_cast<double>(n) * 20);
  std::iota(p, p + n, 0);
  Draws draws(dense(e.in[0]));
  for (int64_t i = 0; i + 1 < n; ++i) std::swap(p[i], p[i + draws.below(i, n - i)]);
  if (e.out[0].defined()) copy_elements(out, e.out[0]);
  else e.out[0] = out;
}

struct MultinomialAttrs {
  int64_t samples, replacement;
};
constexpr Field kMultinomialFields[] = {
    {"samples", FieldKind::integer, offsetof(MultinomialAttrs, samples), "draws from each row"},
    {"replacement", FieldKind::boolean, offsetof(MultinomialAttrs, replacement),
     "whether a category may be drawn again"}};

/// Draws from one row of weights, which are used up if not replaced. The row's sums are double, in order.
void draw_row(std::span<double> weights, const MultinomialAttrs& a, const Draws& draws,
              int64_t first_draw, int64_t* out) {
  std::vector<double> ends(weights.size());
  auto accumulate = [&] { std::partial_sum(weights.begin(), weights.end(), ends.begin()); };
  accumulate();
  for (int64_t s = 0; s < a.samples; ++s) {
    double at = draws.uniform(first_draw + s) * ends.back();
    auto found = std::upper_bound(ends.begin(), ends.end(), at) - ends.begin();
    auto last = static_cast<ptrdiff_t>(weights.size()) - 1;
    if (found > last) found = last;
    while (found > 0 && weights[found] == 0) --found;  // rounding at the upper end
    out[s] = found;
    if (a.replacement) continue;
    weights[found] = 0;
    accumulate();
  }
}

void check_row(std::span<const double> weights, const MultinomialAttrs& a, int64_t row) {
  int64_t positive = 0;
  for (double w : weights) {
    if (!(w >= 0) || std::isinf(w))
      fail(ErrorKind::runtime,
           "multinomial: weights must be finite and not negative, got {} in row {}", w, row);
    positive += w > 0;
  }
  if (positive == 0) fail(ErrorKind::runtime, "multinomial: the weights of row {} sum to 0", row);
  if (!a.replacement && positive < a.samples)
    fail(ErrorKind::runtime,
         "multinomial: {} draws without replacement need as many positive weights; row {} has {}",
         a.samples, row, positive);
}

void eval_multinomial(const Eval& e) {
  const auto& a = e.attrs<MultinomialAttrs>();
  Tensor weights = empty(e.in[0].sizes(), DType::f64);
  copy_elements(e.in[0], weights);
  int64_t categories = weights.size(-1), rows = weights.numel() / std::max<int64_t>(categories, 1);
  Shape shape(weights.sizes());
  shape.back() = a.samples;
  Tensor out = empty(shape, DType::i64);
  Draws draws(dense(e.in[1]));
  for (int64_t r = 0; r < rows; ++r) {
    std::span row(weights.data<double>() + r * categories, static_cast<size_t>(categories));
    check_row(row, a, r);
    draw_row(row, a, draws, r * a.samples, out.data<int64_t>() + r * a.samples);
  }
  if (e.out[0].defined()) copy_elements(out, e.out[0]);
  else e.out[0] = out;
}

}  // namespace

constinit OpDef kPermutation{
    .name = "random_permutation",
    .doc = "A random order of 0 .. n - 1.",
    .attr_bytes = sizeof(PermutationAttrs),
    .fields = kPermutationFields,
    .infer =
        [](const TypeRule& t) {
          require_state(t, 0);
          require(t, t.attrs<PermutationAttrs>().n >= 0, "the length must not be negative");
          t.out[0] = {DType::i64, false, Shape{t.attrs<PermutationAttrs>().n}};
        },
    .eval = eval_permutation,
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          PermutationAttrs a{17};
          const SampleSink::Input in[] = {{Shape{2}, DType::i64, 0, 1000}};
          sink.add(in, &a, sizeof a);
        }};

constinit OpDef kMultinomial{
    .name = "multinomial",
    .doc = "Categories drawn in proportion to weights, of (weights, state).",
    .inputs = 2,
    .attr_bytes = sizeof(MultinomialAttrs),
    .fields = kMultinomialFields,
    .infer =
        [](const TypeRule& t) {
          require_rank(t, 0, 1);
          require_floating(t, 0);
          require_state(t, 1);
          require(t, t.attrs<MultinomialAttrs>().samples >= 0, "samples must not be negative");
          require(t, t.in[0].shape.back() > 0, "there must be a category");
          Shape shape = t.in[0].shape;
          shape.back() = t.attrs<MultinomialAttrs>().samples;
          t.out[0] = {DType::i64, false, shape};
        },
    .eval = eval_multinomial,
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (int64_t replacement : {0, 1}) {
            MultinomialAttrs a{3, replacement};
            const SampleSink::Input in[] = {{Shape{4, 5}, DType::f32, 0.5, 1.5},
                                            {Shape{2}, DType::i64, 0, 1000}};
            sink.add(in, &a, sizeof a);
          }
        }};

Tensor randperm(int64_t n, Generator* generator, OptDType dtype, bool requires_grad) {
  if (n < 0) fail(ErrorKind::runtime, "randperm: n must not be negative, got {}", n);
  Tensor t = to_dtype(apply(kPermutation, PermutationAttrs{n}, {next_state(generator)}),
                      dtype.value_or(DType::i64));
  if (requires_grad) t.set_requires_grad(true);
  return t;
}

Tensor multinomial(const Tensor& weights, int64_t num_samples, bool replacement,
                   Generator* generator) {
  if (!is_floating(weights.dtype()))
    fail(ErrorKind::runtime,
         "multinomial: weights must have a floating dtype, got {}. Cast them with .float() first",
         name(weights.dtype()));
  if (weights.dim() < 1 || weights.dim() > 2)
    fail(ErrorKind::runtime, "multinomial: weights must be a row (C) or rows (N, C), got shape {}",
         shape_text(weights.sizes()));
  if (num_samples < 1)
    fail(ErrorKind::runtime, "multinomial: num_samples must be at least 1, got {}", num_samples);
  if (!replacement && num_samples > weights.size(-1))
    fail(ErrorKind::runtime,
         "multinomial: cannot draw {} samples without replacement from {} categories", num_samples,
         weights.size(-1));
  return apply(kMultinomial, MultinomialAttrs{num_samples, replacement},
               {weights, next_state(generator)});
}

namespace {

OpDef* const kOps[] = {&kPermutation, &kMultinomial};

const Function kFunctions[] = {
    {"randperm(int n, *, Generator? generator=None, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "A random permutation of 0 .. n - 1.", kFunction, thunk<&randperm>},
    {"multinomial(Tensor input, int num_samples, bool replacement=False, *, Generator? generator=None) -> Tensor",
     "Indices drawn from each row in proportion to its weights.", kFunction | kMethod,
     thunk<&multinomial>},
};

}  // namespace

extern const OpFile sampling_ops;
const OpFile sampling_ops{kOps, kFunctions};

}  // namespace fluxion
