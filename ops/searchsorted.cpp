// Binary search in sorted sequences.
#include "kernels/sort.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/promotion.h"
#include "ops/requirements.h"
#include "ops/scatter.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

struct SearchAttrs {
  int64_t right, dtype;
};
constexpr Field kFields[] = {
    {"right", FieldKind::boolean, offsetof(SearchAttrs, right),
     "behind equal elements instead of before them"},
    {"dtype", FieldKind::dtype, offsetof(SearchAttrs, dtype), "int64 or int32"},
};

void infer_search(const TypeRule& t) {
  Ints sequence = t.in[0].shape, values = t.in[1].shape;
  require_rank(t, 0, 1);
  require(t, t.in[0].dtype == t.in[1].dtype, "both inputs must have one dtype");
  size_t outer = sequence.size() - 1;
  require(t,
          outer == 0 || (values.size() == sequence.size() &&
                         std::ranges::equal(values.first(outer), sequence.first(outer))),
          "the values must have the dims of the sequences but the last");
  t.out[0] = {static_cast<DType>(t.attrs<SearchAttrs>().dtype), false, t.in[1].shape};
}

void eval_search(const Eval& e) {
  const auto& a = e.attrs<SearchAttrs>();
  Tensor sequence = dense(e.in[0]), values = dense(e.in[1]),
         out = empty(values.sizes(), DType::i64);
  int64_t length = sequence.sizes().back();
  bool shared = sequence.dim() == 1;
  int64_t lines = shared ? 1 : element_count(sequence.sizes().first(sequence.dim() - 1));
  int64_t per_line = lines ? values.numel() / lines : 0;
  LongWork work(20.0 * static_cast<double>(values.numel()));
  if (per_line)
    kernels::search_lines(kernel_context(), {sequence.dtype(), sequence.data<char>(),
                                             values.data<char>(), out.data<int64_t>(), lines,
                                             length, shared ? 0 : length, per_line, a.right != 0});
  auto dtype = static_cast<DType>(a.dtype);
  if (!e.out[0].defined()) e.out[0] = dtype == DType::i64 ? out : empty(out.sizes(), dtype);
  if (!e.out[0].is_same(out)) copy_elements(out, e.out[0]);
}

void search_samples(const OpDef&, SampleSink& sink) {
  for (int t = 0; t < kDTypes; ++t) {
    SampleSink::Input in[] = {{Shape{1}, static_cast<DType>(t)},
                              {Shape{3, 4}, static_cast<DType>(t)}};
    SearchAttrs a{t % 2, static_cast<int64_t>(DType::i64)};
    sink.add(in, &a, sizeof a);
  }
}

}  // namespace

constinit OpDef kSearch{
    .name = "searchsorted",
    .doc = "Where values would have to stand in a sorted sequence (along its last dim).",
    .inputs = 2,
    .attr_bytes = sizeof(SearchAttrs),
    .fields = kFields,
    .infer = infer_search,
    .eval = eval_search,
    .cost = [](std::span<const Type> in,
               const void*) { return 20.0 * static_cast<double>(element_count(in[1].shape)); },
    .samples = search_samples};

namespace {

Tensor search(const char* op, const Tensor& sequence, const Tensor& values, bool out_int32,
              bool right) {
  if (sequence.dim(op) == 0)
    fail(ErrorKind::runtime, "{}: the sorted sequence must have at least one dim, got a number",
         op);
  bool batched = sequence.dim() > 1;
  if (batched && (values.dim(op) != sequence.dim() ||
                  !std::ranges::equal(values.sizes().first(values.dim() - 1),
                                      sequence.sizes().first(values.dim() - 1))))
    fail(
        ErrorKind::runtime,
        "{}: the sorted sequence of shape {} must be 1-dim, or agree with the values of shape {} in all dims but the last",
        op, shape_text(sequence.sizes()), shape_text(values.sizes()));
  const Tensor both[] = {sequence, values};
  DType common = common_dtype(both);
  SearchAttrs a{right, static_cast<int64_t>(out_int32 ? DType::i32 : DType::i64)};
  return apply(kSearch, a, {to_dtype(sequence, common), to_dtype(values, common)});
}

}  // namespace

Tensor searchsorted(const Tensor& sequence, const Tensor& values, bool out_int32, bool right,
                    std::optional<std::string_view> side, const Tensor& sorter) {
  if (side && *side != "left" && *side != "right")
    fail(ErrorKind::runtime, "searchsorted: side must be 'left' or 'right', got '{}'", *side);
  if (side && *side == "left" && right)
    fail(ErrorKind::runtime,
         "searchsorted: side='left' contradicts right=True. Give only one of them");
  if (!sorter.defined())
    return search("searchsorted", sequence, values, out_int32, right || (side && *side == "right"));
  if (sorter.dtype() != DType::i64 || !std::ranges::equal(sorter.sizes(), sequence.sizes()))
    fail(ErrorKind::runtime,
         "searchsorted: sorter must be int64 with the sequence's shape {}, got {}",
         shape_text(sequence.sizes()), type_text(sorter));
  Tensor ordered = gather_at(sequence, sequence.dim() - 1, sorter);
  return search("searchsorted", ordered, values, out_int32, right || (side && *side == "right"));
}

Tensor bucketize(const Tensor& values, const Tensor& boundaries, bool out_int32, bool right) {
  if (boundaries.dim() != 1)
    fail(ErrorKind::runtime, "bucketize: boundaries must have one dim, got shape {}",
         shape_text(boundaries.sizes()));
  return search("bucketize", boundaries, values, out_int32, right);
}

Tensor isin(const Tensor& elements, const Tensor& test_elements, bool, bool invert) {
  Tensor list = std::get<0>(sort(reshape(test_elements.detach(), Shape{-1})));
  if (list.numel() == 0) return full(elements.sizes(), Scalar(invert), DType::bool_);
  Tensor place =
      clamp_max(searchsorted(list, elements.detach()), Scalar(list.numel() - 1).tensor());
  Tensor there = index_at(list, {0}, {&place, 1});
  return invert ? ne(there, elements) : eq(there, elements);
}

namespace {

OpDef* const kOps[] = {&kSearch};
const Function kFunctions[] = {
    {"isin(Number elements, Number test_elements, *, bool assume_unique=False, bool invert=False) -> Tensor",
     "True where an element is among the test elements.", kFunction, thunk<&isin>},
    {"searchsorted(Tensor sorted_sequence, Number input, *, bool out_int32=False, bool right=False, str? side=None, Tensor? sorter=None) -> Tensor",
     "Where the values would have to stand to keep the last dim of the sequence sorted: before equals, or behind (right).",
     kFunction | kOut, thunk<&searchsorted>},
    {"bucketize(Number input, Tensor boundaries, *, bool out_int32=False, bool right=False) -> Tensor",
     "The bucket of every element: boundaries[i-1] < x <= boundaries[i], or with right=True <= x <.",
     kFunction | kOut, thunk<&bucketize>},
};

}  // namespace

extern const OpFile search_ops;
const OpFile search_ops{kOps, kFunctions};

}  // namespace fluxion
