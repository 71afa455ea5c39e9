#include "loops/attention.h"

#include <cmath>

#include "loops/math.h"
#include "loops/rows.h"

namespace fluxion::loops {
namespace {

using kernels::MaskKind;

Value absent(const Row& r) {
  return r.builder().constant_bits({r.elem(), 1}, kernels::absent_bits(r.elem()));
}

/// A scaled score with its mask, and whether it counts.
struct Score {
  Value value;
  Mask present;
  bool masked;
};

Score score(const Row& r, int scores, int mask, MaskKind kind, const Index& i, Value scale) {
  const Value t = r.load(scores, i) * scale;
  if (kind == MaskKind::boolean) return {t, r.load_mask(mask, i), true};
  if (kind == MaskKind::none) return {t, {}, false};
  const Value added = r.load(mask, i);
  return {t + added, added != -INFINITY, true};
}

Value or_else(const Score& s, Value present, Value otherwise) {
  return s.masked ? select(s.present, present, otherwise) : present;
}

Operand mask_operand(Elem compute, MaskKind kind) {
  return {kind == MaskKind::boolean ? Elem::bool_ : compute};
}

}  // namespace

Function attention_softmax(std::string name, Elem compute, MaskKind kind) {
  return rows(std::move(name), compute,
              {{compute}, mask_operand(compute, kind), {compute, Extent::row}}, [&](Row& r) {
                const Value scale = r.param(0), nothing = r.constant(-INFINITY);
                const auto masked = [&](const Index& i) { return score(r, 0, 1, kind, i, scale); };
                const Value most = r.reduce_max([&](const Index& i) -> Term {
                  const Score s = masked(i);
                  return or_else(s, s.value, nothing);
                });
                // A row that excludes everything has no maximum; any finite one will do.
                const Value from =
                    kind == MaskKind::none ? most : select(most == -INFINITY, r.constant(0), most);
                const Value sum = r.reduce_sum([&](const Index& i) -> Term {
                  const Score s = masked(i);
                  const Value e = or_else(s, exp_nonpositive(s.value - from), r.constant(0));
                  r.store(0, i, e);
                  return e;
                });
                const Value share = reciprocal(sum);
                r.each([&](const Index& i) {
                  r.store(0, i, or_else(masked(i), r.load(0, i) * share, absent(r)));
                });
                r.store_row(2, log(sum) + most);
              });
}

Function attention_gradient(std::string name, Elem compute, MaskKind kind) {
  const Operand row{compute, Extent::row};
  return rows(std::move(name), compute,
              {{compute}, {compute}, mask_operand(compute, kind), row, row}, [&](Row& r) {
                const Value scale = r.param(0), total = r.load(3), shift = r.load(4);
                r.each([&](const Index& i) {
                  const Score s = score(r, 0, 2, kind, i, scale);
                  const Value weight = exp(s.value - total);
                  const Value gradient = weight * (r.load(1, i) - shift) * scale;
                  r.store(0, i, or_else(s, weight, absent(r)));
                  r.store(1, i, or_else(s, gradient, absent(r)));
                });
              });
}

Function attention_shift(std::string name, Elem compute, Elem memory) {
  return rows(std::move(name), compute, {{memory}, {memory}, {compute, Extent::row}}, [](Row& r) {
    r.store_row(2,
                r.reduce_sum([&](const Index& i) -> Term { return r.load(0, i) * r.load(1, i); }));
  });
}

}  // namespace fluxion::loops
