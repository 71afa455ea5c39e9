// The life of an Impl, and what follows from sizes and strides alone.
#include <algorithm>
#include <new>
#include <numeric>

#include "base/checked.h"
#include "tensor/tensor.h"
#include "tensor/thread_state.h"

namespace fluxion {
namespace {

constexpr int kInlineRank = sizeof(Impl::inline_geometry) / (2 * sizeof(int64_t));

constexpr size_t geometry_bytes(int rank) {
  return 2 * sizeof(int64_t) * static_cast<size_t>(rank);
}

/// Frees one Impl and hands back the count it held on its base.
Impl* destroy_one(Impl* p) {
  delete p->meta;
  Impl* base = p->base.detach();
  if (p->geometry != p->inline_geometry) pool_free(p->geometry, geometry_bytes(p->rank));
  p->~Impl();
  pool_free(p, sizeof(Impl));
  return base;
}

}  // namespace

// Chains of bases are walked, not recursed into.
void detail::destroy(Impl* p) {
  do p = destroy_one(p);
  while (p && drop_count(p->refs));
}

Impl* new_impl(DType dtype, int rank) {
  if (rank > kMaxRank) [[unlikely]]
    fail(ErrorKind::runtime, "a tensor may have at most {} dims, got {}", kMaxRank, rank);
  auto* p = new (pool_alloc(sizeof(Impl))) Impl;
  p->dtype = dtype;
  p->rank = static_cast<uint8_t>(rank);
  if (thread_state().inference_mode) [[unlikely]]
    p->flags |= kInference;
  p->geometry = p->inline_geometry;
  if (rank > kInlineRank) [[unlikely]]
    p->geometry = static_cast<int64_t*>(pool_alloc(geometry_bytes(rank)));
  return p;
}

void resize_geometry(Impl& t, int rank) {
  if (t.geometry != t.inline_geometry) pool_free(t.geometry, geometry_bytes(t.rank));
  t.rank = static_cast<uint8_t>(rank);
  t.geometry = rank > kInlineRank ? static_cast<int64_t*>(pool_alloc(geometry_bytes(rank)))
                                  : t.inline_geometry;
}

void refresh_geometry(Impl& t) {
  int64_t n = 1;
  bool dense = true, empty = false, overflow = false;
  for (int d = t.rank; d-- > 0;) {
    const int64_t size = t.sizes()[d];
    dense &= size == 1 || t.strides()[d] == n;
    empty |= size == 0;
    overflow |= size < 0 || __builtin_mul_overflow(n, size, &n);
  }
  if (empty || overflow) [[unlikely]] {
    n = element_count({t.sizes(), t.rank});  // raises unless empty
    dense = is_dense_row_major({t.sizes(), t.rank}, {t.strides(), t.rank});
  }
  t.numel = n;
  t.flags = static_cast<uint16_t>(dense ? t.flags | kContiguous : t.flags & ~kContiguous);
}

int64_t element_count(Ints shape) {
  int64_t n = 1;
  bool overflow = false, empty = false;
  for (const int64_t size : shape) {
    if (size < 0) [[unlikely]]
      fail(ErrorKind::runtime, "a size cannot be negative: shape {}", shape_text(shape));
    empty |= size == 0;
    overflow |= __builtin_mul_overflow(n, size, &n);
  }
  if (empty) return 0;
  if (overflow) [[unlikely]]
    fail(ErrorKind::runtime, "shape {} has more elements than fit in 64 bits", shape_text(shape));
  return n;
}

bool is_dense_row_major(Ints sizes, Ints strides) {
  int64_t expected = 1;
  bool dense = true;
  for (size_t d = sizes.size(); d-- > 0;) {
    if (sizes[d] == 0) return true;
    if (sizes[d] == 1) continue;
    dense &= strides[d] == expected;
    if (__builtin_mul_overflow(expected, sizes[d], &expected)) dense = false;
  }
  return dense;
}

Shape row_major_strides(Ints shape) {
  Shape strides(shape.size());
  int64_t n = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    strides[d] = n;
    n = checked_mul(n, std::max<int64_t>(shape[d], 1));
  }
  return strides;
}

namespace {

/// True if dim `a` must come after `b` in memory order; a stride of 0 tells nothing.
bool lies_outside(Ints sizes, Ints strides, int64_t a, int64_t b) {
  if (strides[a] == 0 || strides[b] == 0) return false;
  return strides[a] != strides[b] ? strides[a] > strides[b] : sizes[a] > sizes[b];
}

bool lies_inside(Ints strides, int64_t a, int64_t b) {
  return strides[a] != 0 && strides[b] != 0 && strides[a] < strides[b];
}

/// Dims from the innermost in memory to the outermost. An order that strides do not tell is the
/// logical one, so this is an insertion sort that steps over undecided neighbours, as PyTorch's
/// iterator does.
Shape memory_order(Ints sizes, Ints strides) {
  const size_t rank = sizes.size();
  Shape order(rank);
  std::iota(order.begin(), order.end(), 0);
  std::reverse(order.begin(), order.end());
  for (size_t i = 1; i < rank; ++i) {
    size_t moving = i;
    for (size_t j = i; j-- > 0;) {
      if (lies_outside(sizes, strides, order[j], order[moving])) {
        std::swap(order[j], order[moving]);
        moving = j;
      } else if (lies_inside(strides, order[j], order[moving])) {
        break;
      }
    }
  }
  return order;
}

}  // namespace

Shape dense_strides_like(Ints sizes, Ints strides) {
  Shape dense(sizes.size());
  int64_t n = 1;
  bool same = true;  // dense already: then the strides of dims of size 1 stay as they are, too
  for (const int64_t d : memory_order(sizes, strides)) {
    dense[d] = n;
    same &= sizes[d] <= 1 || strides[d] == n;
    if (sizes[d] > 1) n = checked_mul(n, sizes[d]);
  }
  return same ? Shape(strides) : dense;
}

namespace {

struct Axis {
  int64_t stride, extent;  // extent = size - 1 > 0, stride > 0
};

/// Looks for index differences, not all zero, that cancel: sum d_i * stride_i = target, |d_i| <=
/// extent_i. Axes run from the largest stride to the smallest.
class CollisionSearch {
 public:
  explicit CollisionSearch(std::span<const Axis> axes) : axes_(axes) {}

  bool collides(size_t i, __int128 target, bool nonzero) {
    if (i == axes_.size()) return target == 0 && nonzero;
    if (--budget_ < 0) return true;  // a pathological view: rather refuse a write than corrupt
    const __int128 stride = axes_[i].stride, slack = reach(i + 1);
    __int128 low = floor_div(target - slack + stride - 1, stride),
             high = floor_div(target + slack, stride);
    low = std::max<__int128>(low, -axes_[i].extent);
    high = std::min<__int128>(high, axes_[i].extent);
    if (!nonzero)
      low = std::max<__int128>(low, 0);  // a solution and its negative are the same pair
    for (__int128 d = low; d <= high && budget_ >= 0; ++d)
      if (collides(i + 1, target - d * stride, nonzero || d != 0)) return true;
    return budget_ < 0;
  }

 private:
  static __int128 floor_div(__int128 a, __int128 b) { return a / b - (a % b < 0); }
  __int128 reach(size_t from) const {
    __int128 sum = 0;
    for (const Axis& a : axes_.subspan(from)) sum += static_cast<__int128>(a.stride) * a.extent;
    return sum;
  }

  std::span<const Axis> axes_;
  int budget_ = 20000;
};

}  // namespace

bool overlaps_itself(const Impl& t) {
  if (t.flags & kContiguous || t.numel < 2) return false;
  Axis axes[kMaxRank];
  size_t n = 0;
  for (int d = 0; d < t.rank; ++d) {
    if (t.sizes()[d] == 1) continue;
    if (t.strides()[d] == 0) return true;
    axes[n++] = {std::abs(t.strides()[d]), t.sizes()[d] - 1};
  }
  std::sort(axes, axes + n, [](const Axis& a, const Axis& b) { return a.stride > b.stride; });
  __int128 reach = 0;
  bool nested = true;
  for (size_t i = n; i-- > 0;) {
    nested &= axes[i].stride > reach;
    reach += static_cast<__int128>(axes[i].stride) * axes[i].extent;
  }
  return !nested && CollisionSearch({axes, n}).collides(0, 0, false);
}

int64_t wrap_dim(int64_t dim, int64_t rank, const char* op) {
  const int64_t n = std::max<int64_t>(rank, 1);
  if (dim < -n || dim >= n) [[unlikely]]
    fail(ErrorKind::index, "{}: dim {} is out of range for a tensor of rank {}; expected {} to {}",
         op, dim, rank, -n, n - 1);
  return dim < 0 ? dim + n : dim;
}

}  // namespace fluxion
