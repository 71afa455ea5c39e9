// Repeating elements, slices and whole tensors; grids.
#include "base/checked.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"

namespace fluxion {

Tensor repeat(const Tensor& x, Ints repeats) {
  size_t rank = repeats.size();
  if (rank < static_cast<size_t>(x.dim()))
    fail(ErrorKind::runtime, "repeat: needs a count for each of the {} dims, got {}", x.dim(),
         shape_text(repeats));
  Shape apart, wide, joined;  // every dim as (copies, size)
  for (size_t d = 0; d < rank; ++d) {
    if (repeats[d] < 0)
      fail(ErrorKind::runtime, "repeat: counts must not be negative, got {}", shape_text(repeats));
    size_t missing = rank - x.dim();
    int64_t size = d < missing ? 1 : x.sizes()[d - missing];
    joined.push_back(checked_mul(repeats[d], size));
    if (repeats[d] != 1) {
      apart.push_back(1);
      wide.push_back(repeats[d]);
    }
    apart.push_back(size);
    wide.push_back(size);
  }
  if (apart.size() > kMaxRank)  // too many at once: first the leading half
    fail(ErrorKind::runtime, "repeat: {} dims, {} of them repeated, are more than {} together",
         rank, apart.size() - rank, kMaxRank);
  Tensor y = reshape(expand(reshape(x, apart), wide), joined);
  return y.storage() == x.storage() ? clone(y) : y;
}

Tensor tile(const Tensor& x, Ints dims) {
  Shape all(std::max<size_t>(static_cast<size_t>(x.dim()), dims.size()), 1);
  std::ranges::copy(dims, all.end() - dims.size());
  return repeat(x, all);
}

namespace {

/// x with `dim` resolved; without one, flattened.
std::pair<Tensor, int64_t> along(const Tensor& x, OptInt dim) {
  if (!dim || x.dim() == 0) return {reshape(x, Shape{-1}), 0};
  return {x, wrap_dim(*dim, x.dim(), "repeat_interleave")};
}

/// i as often as repeats[i] says.
Tensor repeated_positions(const Tensor& repeats, OptInt output_size) {
  if (repeats.dim("repeat_interleave") > 1 ||
      (repeats.dtype() != DType::i64 && repeats.dtype() != DType::i32))
    fail(ErrorKind::runtime,
         "repeat_interleave: repeats must be a 1-dim int64 or int32 tensor, got {}",
         type_text(repeats));
  Tensor counts = dense(to_dtype(repeats.detach(), DType::i64));
  int64_t total = 0, n = counts.numel();
  const int64_t* c = counts.data<int64_t>();
  for (int64_t i = 0; i < n; ++i) {
    if (c[i] < 0)
      fail(ErrorKind::runtime,
           "repeat_interleave: repeats must not be negative, got {} at position {}", c[i], i);
    total = checked_add(total, c[i]);
  }
  if (output_size && *output_size != total)
    fail(ErrorKind::runtime, "repeat_interleave: output_size is {}, but the repeats add up to {}",
         *output_size, total);
  Tensor out = empty(Shape{total}, DType::i64);
  int64_t* to = out.data<int64_t>();
  for (int64_t i = 0; i < n; ++i) to = std::fill_n(to, c[i], i);
  return out;
}

}  // namespace

Tensor repeat_interleave(const Tensor& x, int64_t repeats, OptInt dim, OptInt output_size) {
  if (repeats < 0)
    fail(ErrorKind::runtime, "repeat_interleave: repeats must not be negative, got {}", repeats);
  auto [y, axis] = along(x, dim);
  int64_t total = checked_mul(y.sizes()[axis], repeats);
  if (output_size && *output_size != total)
    fail(ErrorKind::runtime, "repeat_interleave: output_size is {}, but the result has {}",
         *output_size, total);
  Shape wide(y.sizes()), joined(y.sizes());
  wide.insert(static_cast<size_t>(axis) + 1, repeats);
  joined[axis] = total;
  Tensor z = reshape(expand(unsqueeze(y, axis + 1), wide), joined);
  return z.storage() == x.storage() ? clone(z) : z;
}

Tensor repeat_interleave(const Tensor& x, const Tensor& repeats, OptInt dim, OptInt output_size) {
  if (repeats.numel() == 1) return repeat_interleave(x, repeats.item_int(), dim, output_size);
  auto [y, axis] = along(x, dim);
  if (repeats.numel() != y.sizes()[axis])
    fail(ErrorKind::runtime,
         "repeat_interleave: needs one count or one for each of the {} indices of dim {}, got {}",
         y.sizes()[axis], axis, repeats.numel());
  Tensor places = repeated_positions(repeats, output_size);
  return index_at(y, {axis}, {&places, 1});
}

Tensor repeat_interleave(const Tensor& repeats, OptInt output_size) {
  return repeated_positions(repeats, output_size);
}

std::vector<Tensor> meshgrid(Tensors tensors, std::string_view indexing) {
  bool swaps = indexing == "xy";
  if (!swaps && indexing != "ij")
    fail(ErrorKind::runtime, "meshgrid: indexing must be 'ij' or 'xy', got '{}'", indexing);
  if (tensors.empty()) fail(ErrorKind::runtime, "meshgrid: needs at least one tensor");
  Shape shape;
  for (const Tensor& t : tensors) {
    if (t.dim() > 1)
      fail(ErrorKind::runtime, "meshgrid: needs 0-dim or 1-dim tensors, got shape {}",
           shape_text(t.sizes()));
    if (t.dtype() != tensors[0].dtype())
      fail(ErrorKind::runtime, "meshgrid: tensors must have one dtype, got {} and {}",
           name(tensors[0].dtype()), name(t.dtype()));
    shape.push_back(t.numel());
  }
  swaps = swaps && shape.size() > 1;
  if (swaps) std::swap(shape[0], shape[1]);
  std::vector<Tensor> grids;
  for (size_t i = 0; i < tensors.size(); ++i) {
    Shape line(shape.size(), 1);
    line[swaps && i < 2 ? 1 - i : i] = tensors[i].numel();
    grids.push_back(expand(reshape(tensors[i], line), shape));
  }
  return grids;
}

Tensor cartesian_prod(Tensors tensors) {
  if (tensors.size() == 1) return tensors[0];
  std::vector<Tensor> columns;
  for (const Tensor& g : meshgrid(tensors, "ij")) columns.push_back(reshape(g, Shape{-1}));
  return stack(columns, 1);
}

namespace {

constexpr uint16_t kUsual = kFunction | kMethod;

const Function kFunctions[] = {
    {"repeat(Tensor input, int... repeats) -> Tensor",
     "Copies laid side by side along every dim; new leading dims come first.", kMethod,
     thunk<&repeat>},
    {"tile(Tensor input, int... dims) -> Tensor", "repeat with missing leading counts taken as 1.",
     kUsual, thunk<&tile>},
    {"repeat_interleave(Tensor input, int repeats, int? dim=None, *, int? output_size=None) -> Tensor",
     "Every element (or slice of a dim) repeated in place.", kUsual,
     thunk<static_cast<Tensor (*)(const Tensor&, int64_t, OptInt, OptInt)>(&repeat_interleave)>},
    {"repeat_interleave(Tensor input, Tensor repeats, int? dim=None, *, int? output_size=None) -> Tensor",
     "Every element (or slice of a dim) repeated as often as its entry in repeats says.", kUsual,
     thunk<static_cast<Tensor (*)(const Tensor&, const Tensor&, OptInt, OptInt)>(
         &repeat_interleave)>},
    {"repeat_interleave(Tensor repeats, *, int? output_size=None) -> Tensor",
     "i repeated repeats[i] times, for all i.", kFunction,
     thunk<static_cast<Tensor (*)(const Tensor&, OptInt)>(&repeat_interleave)>},
    {"meshgrid(Tensor... tensors, *, str indexing='ij') -> Tensor[]",
     "Views of 1-dim tensors broadcast against each other to a grid.", kFunction, thunk<&meshgrid>},
    {"cartesian_prod(Tensor... tensors) -> Tensor",
     "All combinations of the elements of 1-dim tensors, as rows.", kFunction,
     thunk<&cartesian_prod>},
};

}  // namespace

extern const OpFile repeat_ops;
const OpFile repeat_ops{{}, kFunctions};

}  // namespace fluxion
