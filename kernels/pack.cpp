#include "kernels/pack.h"

#include <cstring>
#include <type_traits>

#include "kernels/convert.h"

namespace fluxion::kernels {

namespace {

typedef float F8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef double D4 __attribute__((vector_size(32), aligned(8), may_alias));
#define UNROLL _Pragma("GCC unroll 8")

/// Transposes 8 lanes x 8 steps; `row(i)` gives the address of a lane's steps. Rows of `out` are
/// written in order, so that what spills over a width below 8 is overwritten by the next one.
template <class Row>
inline void transpose_block(const Row& row, float* out, int64_t width) {
  F8 v[8], t[8];
  UNROLL for (int i = 0; i < 8; ++i) v[i] = *reinterpret_cast<const F8*>(row(i));
  UNROLL for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  UNROLL for (int i = 0; i < 8; i += 4) {
    v[i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    v[i + 1] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    v[i + 2] = __builtin_shufflevector(t[i + 1], t[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    v[i + 3] = __builtin_shufflevector(t[i + 1], t[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  UNROLL for (int i = 0; i < 4; ++i) * reinterpret_cast<F8*>(out + i * width) =
      __builtin_shufflevector(v[i], v[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
  UNROLL for (int i = 0; i < 4; ++i) * reinterpret_cast<F8*>(out + (i + 4) * width) =
      __builtin_shufflevector(v[i], v[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
}

template <class Row>
inline void transpose_block(const Row& row, double* out, int64_t width) {
  UNROLL for (int step = 0; step < 8; step += 4) {
    D4 v[8], t[8];
    UNROLL for (int i = 0; i < 8; ++i) v[i] = *reinterpret_cast<const D4*>(row(i) + step);
    UNROLL for (int i = 0; i < 8; i += 2) {
      t[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 4, 2, 6);
      t[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 1, 5, 3, 7);
    }
    UNROLL for (int i = 0; i < 8; i += 4) {
      v[i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 4, 5);
      v[i + 1] = __builtin_shufflevector(t[i + 1], t[i + 3], 0, 1, 4, 5);
      v[i + 2] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 6, 7);
      v[i + 3] = __builtin_shufflevector(t[i + 1], t[i + 3], 2, 3, 6, 7);
    }
    UNROLL for (int i = 0; i < 4; ++i) {
      *reinterpret_cast<D4*>(out + (step + i) * width) = v[i];
      *reinterpret_cast<D4*>(out + (step + i) * width + 4) = v[i + 4];
    }
  }
}

template <class From, class To>
class Packer {
 public:
  Packer(const Lanes& in, int64_t k, int width)
      : in_(static_cast<const From*>(in.data)),
        lane_stride_(in.lane_stride),
        k_stride_(in.k_stride),
        k_(k),
        width_(width) {}

  void run(int64_t lanes, To* out) const {
    const int64_t panels = (lanes + width_ - 1) / width_;
    if (k_stride_ == 1 && sizeof(From) == sizeof(To) && sizeof(To) >= 4) {
      for (int64_t p = 0; p < panels; ++p) transposed(p * width_, lanes, out + p * width_ * k_);
      return;
    }
    constexpr int64_t kSteps = 16;  // rows of the source that are walked together
    for (int64_t k = 0; k < k_; k += kSteps)
      for (int64_t p = 0; p < panels; ++p)
        straight(p * width_, lanes, k, k + kSteps < k_ ? k + kSteps : k_, out + p * width_ * k_);
  }

 private:
  static int present(int64_t lane, int64_t lanes, int width) {
    return lanes - lane < width ? static_cast<int>(lanes - lane) : width;
  }

  void straight(int64_t lane, int64_t lanes, int64_t begin, int64_t end, To* out) const {
    const int n = present(lane, lanes, width_);
    if (lane_stride_ == 1 && n == width_) {
      if (width_ == 32) return whole<32>(lane, begin, end, out);
      if (width_ == 16) return whole<16>(lane, begin, end, out);
      if (width_ == 8) return whole<8>(lane, begin, end, out);
    }
    for (int64_t k = begin; k < end; ++k) {
      const From* from = in_ + lane * lane_stride_ + k * k_stride_;
      To* to = out + k * width_;
      for (int l = 0; l < n; ++l) to[l] = convert<To>(from[l * lane_stride_]);
      for (int l = n; l < width_; ++l) to[l] = To{};
    }
  }

  template <int kWidth>
  void whole(int64_t lane, int64_t begin, int64_t end, To* out) const {
    for (int64_t k = begin; k < end; ++k)
      copy<kWidth>(in_ + lane + k * k_stride_, out + k * kWidth);
  }

  template <int kWidth>
  static void copy(const From* from, To* to) {
    if constexpr (std::is_same_v<From, To>) {
      UNROLL for (int l = 0; l < kWidth; l += 32 / static_cast<int>(sizeof(To)))
          copy_vector(from + l, to + l);
    } else {
      for (int l = 0; l < kWidth; ++l) to[l] = convert<To>(from[l]);
    }
  }

  void transposed(int64_t lane, int64_t lanes, To* out) const {
    using Bits = std::conditional_t<sizeof(To) == 4, float, double>;
    static constexpr Bits kZeros[8] = {};
    const int n = present(lane, lanes, width_);
    const Bits* from = reinterpret_cast<const Bits*>(in_ + lane * lane_stride_);
    Bits* to = reinterpret_cast<Bits*>(out);
    const int64_t whole = k_ & ~int64_t{7}, stride = lane_stride_;
    for (int l = 0; l < width_; l += 8) {
      const Bits* first = from + l * stride;
      if (l + 8 <= n)
        for (int64_t k = 0; k < whole; k += 8)
          transpose_block([=](int i) { return first + i * stride + k; }, to + k * width_ + l,
                          width_);
      else
        for (int64_t k = 0; k < whole; k += 8)
          transpose_block([=](int i) { return l + i < n ? first + i * stride + k : kZeros; },
                          to + k * width_ + l, width_);
    }
    for (int64_t k = whole; k < k_; ++k)
      for (int l = 0; l < width_; ++l)
        out[k * width_ + l] = l < n ? convert<To>(in_[(lane + l) * lane_stride_ + k]) : To{};
  }

  const From* in_;
  int64_t lane_stride_, k_stride_, k_;
  int width_;
};

template <class From, class To>
struct PackPanels {
  static void run(const Lanes& in, int64_t lanes, int64_t k, int width, void* out) {
    Packer<From, To>(in, k, width).run(lanes, static_cast<To*>(out));
  }
};

}  // namespace

void pack_panels(Elem from, const Lanes& in, int64_t lanes, int64_t k, int width, void* out) {
  dispatch<PackPanels, const Lanes&, int64_t, int64_t, int, void*>(from, in, lanes, k, width, out);
}

}  // namespace fluxion::kernels
