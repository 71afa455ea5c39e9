// What index ops require of their arguments, and how they say it.
#include <cmath>

#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"

namespace fluxion {

void check_index_dtype(const char* op, const Tensor& index) {
  if (index.dtype(op) == DType::i64 || index.dtype() == DType::i32) return;
  fail(ErrorKind::runtime, "{}: the index must be int64 or int32, got {}. Convert it with .long()",
       op, name(index.dtype()));
}

Tensor matching(const char* op, const char* what, const Tensor& value, const Tensor& self) {
  if (value.has(kWeak)) return to_dtype(value, self.dtype(op));
  if (value.dtype(op) != self.dtype())
    fail(ErrorKind::runtime,
         "{}: {} must have the tensor's dtype {}, got {}. Convert it with .to()", op, what,
         name(self.dtype()), name(value.dtype()));
  return value;
}

namespace {

/// Raises if an integer dtype cannot hold the value.
void refuse_unfit(const char* op, const Tensor& value, DType dtype) {
  double v = value.item(), bits = static_cast<double>(8 * size_of(dtype) - (dtype != DType::u8));
  double end = std::ldexp(1.0, static_cast<int>(bits)), begin = dtype == DType::u8 ? 0 : -end;
  bool exact = value.dtype() == DType::i64 && dtype == DType::i64;
  if (!exact && !(v > begin - 1 && v < end))
    fail(ErrorKind::runtime, "{}: the value {} does not fit {}", op, v, name(dtype));
}

constexpr Field kFitFields[] = {
    {"dtype", FieldKind::dtype, offsetof(CastAttrs, dtype), "integer dtype of the result"}};

}  // namespace

/// A primitive, because a cast has no value that it refuses.
constinit OpDef kFit{
    .name = "fit",
    .doc = "A 0-dim tensor converted to an integer dtype; raises if that cannot hold it.",
    .space = Space::elementwise,
    .attr_bytes = sizeof(CastAttrs),
    .fields = kFitFields,
    .infer =
        [](const TypeRule& t) {
          auto dtype = static_cast<DType>(t.attrs<CastAttrs>().dtype);
          require(t, is_integral(dtype), "the dtype must be an integer one");
          require_elements(t, 0, 1);
          t.out[0] = {dtype, false, t.in[0].shape};
        },
    .eval =
        [](const Eval& e) {
          NoGrad plain;
          auto dtype = static_cast<DType>(e.attrs<CastAttrs>().dtype);
          refuse_unfit("fill", e.in[0], dtype);
          deliver(e.out[0], to_dtype(e.in[0], dtype), dtype);
        },
    .vjp = [](const Vjp& v) { v.result[0] = zeros(v.in[0].sizes(), v.in[0].dtype()); },
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (DType t : {DType::i64, DType::u8}) {
            CastAttrs a{static_cast<int64_t>(t)};
            const SampleSink::Input in[] = {{Shape{}, DType::f64, 0.25, 100}};
            sink.add(in, &a, sizeof a);
          }
        }};

Tensor fill_value(const char* op, const Tensor& value, DType dtype) {
  if (value.dim(op) != 0)
    fail(ErrorKind::runtime, "{}: the value must be a number or a 0-dim tensor, got shape {}", op,
         shape_text(value.sizes()));
  if (!is_integral(dtype)) return to_dtype(value, dtype);
  if (!value.has(kNumber)) return apply(kFit, CastAttrs{static_cast<int64_t>(dtype)}, {value});
  refuse_unfit(op, value, dtype);
  return to_dtype(value, dtype);
}

std::string position_text(Ints space, int64_t position) {
  if (space.empty()) return "";
  Shape at(space.size());
  for (size_t d = space.size(); d-- > 0;) {
    at[d] = position % space[d];
    position /= space[d];
  }
  return fmt::format(" (at position {} of the index)",
                     space.size() == 1 ? std::to_string(at[0]) : shape_text(at));
}

void fail_index(int64_t value, int64_t dim, int64_t extent, Ints space, int64_t position) {
  fail(ErrorKind::index, "index {} is out of range for dim {} of size {}{}", value, dim, extent,
       position_text(space, position));
}

namespace {
OpDef* const kOps[] = {&kFit};
}

extern const OpFile fit_ops;
const OpFile fit_ops{kOps, {}};

}  // namespace fluxion
