// Fills: uniform_, normal_ and others write random numbers into a tensor.
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/inplace.h"
#include "ops/random.h"

namespace fluxion {

namespace {

Tensor fill(const OpDef& op, const char* called, const Tensor& self, double a, double b,
            Generator* g) {
  DrawAttrs attrs{a, b, static_cast<int64_t>(check_floating(called, self.dtype())), self.sizes()};
  const Tensor state[] = {next_state(g)};
  return apply_into(self, op, &attrs, state);
}

}  // namespace

Tensor uniform_(const Tensor& self, double from, double to, Generator* generator) {
  if (!(from <= to)) fail(ErrorKind::runtime, "uniform_: from {} must not exceed to {}", from, to);
  return fill(kUniform, "uniform_", self, from, to - from, generator);
}
Tensor normal_(const Tensor& self, double mean, double std, Generator* generator) {
  check_std("normal_", std);
  return fill(kNormal, "normal_", self, mean, std, generator);
}
Tensor bernoulli_(const Tensor& self, const Tensor& p, Generator* generator) {
  Tensor probability =
      to_dtype(expand(p, self.sizes()), is_floating(self.dtype()) ? self.dtype() : default_dtype());
  assign(self, bernoulli(probability, {}, generator));
  return self;
}
Tensor exponential_(const Tensor& self, double lambd, Generator* generator) {
  if (!(lambd > 0)) fail(ErrorKind::runtime, "exponential_: lambd must be positive, got {}", lambd);
  check_floating("exponential_", self.dtype());
  Tensor u = rand(self.sizes(), generator, self.dtype());
  assign(self, mul(log1p(neg(u)), number(-1 / lambd)));
  return self;
}
Tensor random_(const Tensor& self, OptInt from, OptInt to, Generator* generator) {
  // random_(to), random_(from, to), or the whole range of integers that the dtype holds exactly
  constexpr int digits[kDTypes] = {1, 8, 7, 15, 31, 62, 11, 8, 24, 53};
  int64_t low = from && to ? *from : 0;
  int64_t high = to ? *to : from ? *from : int64_t{1} << digits[static_cast<int>(self.dtype())];
  assign(self, randint(low, high, self.sizes(), generator, self.dtype(), false));
  return self;
}

namespace {

const Function kFunctions[] = {
    {"uniform_(Tensor input, float from=0, float to=1, *, Generator? generator=None) -> Tensor",
     "Fills with uniform numbers in [from, to).", kMethod, thunk<&uniform_>},
    {"normal_(Tensor input, float mean=0, float std=1, *, Generator? generator=None) -> Tensor",
     "Fills with normal numbers.", kMethod, thunk<&normal_>},
    {"bernoulli_(Tensor input, Number p=0.5, *, Generator? generator=None) -> Tensor",
     "Fills with 1 with probability p, else 0.", kMethod, thunk<&bernoulli_>},
    {"exponential_(Tensor input, float lambd=1, *, Generator? generator=None) -> Tensor",
     "Fills with exponentially distributed numbers of rate lambd.", kMethod, thunk<&exponential_>},
    {"random_(Tensor input, int? from=None, int? to=None, *, Generator? generator=None) -> Tensor",
     "Fills with uniform integers in [from, to), by default all that the dtype holds.", kMethod,
     thunk<&random_>},
};

}  // namespace

extern const OpFile fill_ops;
const OpFile fill_ops{{}, kFunctions};

}  // namespace fluxion
