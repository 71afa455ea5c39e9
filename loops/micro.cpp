#include "loops/micro.h"

#include "loops/builder.h"

namespace fluxion::loops {
namespace {

using kernels::BiasSide;
using kernels::TileForm;

enum Argument { kA, kB, kC, kOffsets, kSteps };

/// Runs `body` if `flag` is 1, not if it is 0.
void when(Builder& b, Value flag, const std::function<void()>& body) {
  b.loop(0, flag, 1, [&](Value) { body(); });
}

Value one_if(Mask m) { return cast(m, Elem::i64); }

class Tile {
 public:
  Tile(Builder& b, Elem compute, TileForm form, int rows, bool wide)
      : b_(b),
        elem_(compute),
        form_(form),
        rows_(rows),
        width_(base_lanes(compute) * (wide ? 2 : 1)) {
    const kernels::TileSize most = kernels::tile_size(compute, wide);
    vectors_ = most.columns / width_;
    const int registers = most.rows * vectors_;
    if (form == TileForm::indirect && rows * vectors_ * 2 < registers)
      vectors_ *= 2;  // few rows: a wider panel
  }

  void build() {
    for (int r = 0; r < rows_; ++r) {
      a_row_.push_back(gathers() ? b_.load(kOffsets, r) : b_.stride(kA, 0) * r);
      c_row_.push_back(b_.stride(kC, 0) * r);
    }
    if (form_ != TileForm::indirect) return panel(b_.integer(0));
    b_.loop(0, b_.size(2), vectors_ * width_, [&](Value column) { panel(column); });
  }

 private:
  /// All chunks of one panel of columns.
  void panel(Value column) {
    const Value k = b_.size(0);
    b_.loop(0, k, kernels::kChunk, [&](Value begin) {
      const Value end = minimum(begin + kernels::kChunk, k);
      form_ == TileForm::masked ? masked_chunk(begin, end) : chunk(column, begin, end);
    });
  }

  void chunk(Value column, Value begin, Value end) {
    std::vector<Value> sums(rows_ * vectors_, zero());
    sums = b_.loop(begin, end, 1, sums,
                   [&](Value k, std::span<const Value> before) { return step(column, k, before); });
    const Value fresh = one_if(begin + b_.size(1) == 0);
    when(b_, fresh, [&] {
      each_vector(column,
                  [&](int i, Value at, Value active) { b_.store(kC, at, sums[i], active); });
    });
    when(b_, 1 - fresh, [&] {
      each_vector(column, [&](int i, Value at, Value active) {
        b_.store(kC, at, b_.load(kC, at, width_, active) + sums[i], active);
      });
    });
  }

  std::vector<Value> step(Value column, Value k, std::span<const Value> before) {
    const std::vector<Value> right = load_b(column, k);
    const Value place = a_step(k);
    std::vector<Value> next;
    for (int r = 0; r < rows_; ++r) {
      const Value at = a_row_[r] + place;
      if (form_ == TileForm::paired) {
        for (int v = 0; v < vectors_; ++v) {
          const Value left = b_.load(kA, (at * vectors_ + v) * width_, width_);
          next.push_back(multiply_add(left, right[v], before[r * vectors_ + v]));
        }
        continue;
      }
      const Value left = splat(b_.load(kA, at), width_);
      for (int v = 0; v < vectors_; ++v)
        next.push_back(multiply_add(left, right[v], before[r * vectors_ + v]));
    }
    return next;
  }

  /// Between `first` and `last` every row has every element; before and behind, a row's sum steps
  /// only over present ones.
  void masked_chunk(Value begin, Value end) {
    const Value first = minimum(end, maximum(begin, b_.size(1))),
                last = maximum(first, minimum(end, b_.size(2)));
    std::vector<Value> state(rows_ * vectors_, zero());
    const Value none = b_.constant({int_elem(elem_), static_cast<uint8_t>(width_)}, 0);
    state.insert(state.end(), rows_, none);
    const auto masked = [&](Value k, std::span<const Value> before) {
      return masked_step(k, before);
    };
    state = b_.loop(begin, first, 1, state, masked);
    const std::vector<Value> seen(state.begin() + rows_ * vectors_, state.end());
    state.resize(rows_ * vectors_);
    state = b_.loop(first, last, 1, state, [&](Value k, std::span<const Value> before) {
      return step(b_.integer(0), k, before);
    });
    const Value some = splat(cast(one_if(first < last), int_elem(elem_)), width_);
    for (const Value& s : seen) state.push_back(s | some);
    state = b_.loop(last, end, 1, state, masked);
    each_vector(b_.integer(0), [&](int i, Value at, Value) {
      const Value total = b_.load(kC, at, width_);
      b_.store(kC, at,
               select(state[rows_ * vectors_ + i / vectors_] == 0, total, total + state[i]));
    });
  }

  /// Behind the sums stand the rows' marks: nonzero once an element was present.
  std::vector<Value> masked_step(Value k, std::span<const Value> before) {
    const std::vector<Value> right = load_b(b_.integer(0), k);
    const Value place = a_step(k);
    std::vector<Value> next, seen;
    for (int r = 0; r < rows_; ++r) {
      const Value left = splat(b_.load(kA, a_row_[r] + place), width_);
      const Value bits = bitcast(left, int_elem(elem_)),
                  difference = bits ^ bits.like(kernels::absent_bits(elem_));
      for (int v = 0; v < vectors_; ++v) {
        const Value sum = before[r * vectors_ + v];
        next.push_back(select(difference == 0, sum, multiply_add(left, right[v], sum)));
      }
      seen.push_back(before[rows_ * vectors_ + r] | difference);
    }
    next.insert(next.end(), seen.begin(), seen.end());
    return next;
  }

  Value zero() { return b_.constant({elem_, static_cast<uint8_t>(width_)}, 0); }
  bool gathers() const { return form_ == TileForm::gathered || form_ == TileForm::paired; }
  /// Where step k stands in the rows of A.
  Value a_step(Value k) { return gathers() ? b_.load(kSteps, k) : k * b_.stride(kA, 1); }

  std::vector<Value> load_b(Value column, Value k) {
    const Value start =
        form_ == TileForm::indirect ? b_.load(kOffsets, k) + column : k * b_.stride(kB, 0);
    std::vector<Value> vectors;
    for (int v = 0; v < vectors_; ++v) vectors.push_back(b_.load(kB, start + v * width_, width_));
    return vectors;
  }

  Value multiply_add(Value a, Value b, Value c) {
    return is_float(elem_) ? fma(a, b, c) : a * b + c;
  }

  /// f(number, place in C, active lanes) for each vector of the tile.
  void each_vector(Value column, const std::function<void(int, Value, Value)>& f) {
    for (int r = 0; r < rows_; ++r)
      for (int v = 0; v < vectors_; ++v)
        f(r * vectors_ + v, c_row_[r] + column + v * width_,
          form_ == TileForm::edge ? b_.size(2) - v * width_ : Value());
  }

  Builder& b_;
  Elem elem_;
  TileForm form_;
  int rows_, width_, vectors_;
  std::vector<Value> a_row_, c_row_;
};

}  // namespace

Function contraction_tile(std::string name, Elem compute, TileForm form, int rows, bool wide) {
  std::vector<Elem> args(3, compute);
  if (form == TileForm::indirect || form == TileForm::gathered || form == TileForm::paired)
    args.insert(args.end(), 2, Elem::i64);
  Builder b(std::move(name), std::move(args));
  Tile(b, compute, form, rows, wide).build();
  Function f = b.finish();
  f.wide = wide;
  return f;
}

Function finish_tile(std::string name, Elem compute, Elem out, BiasSide bias) {
  Builder b(std::move(name), {compute, out, compute});
  const int width = base_lanes(compute);
  b.loop(0, b.size(0), 1, [&](Value row) {
    const Value from = row * b.stride(0, 0), to = row * b.stride(1, 0), n = b.size(1);
    const Value shift =
        bias == BiasSide::rows ? splat(b.load(2, row * b.stride(2, 0)), width) : Value();
    auto finish = [&](Value j, Value active) {
      Value v = b.load(0, from + j, width, active);
      if (bias == BiasSide::rows) v = v + shift;
      if (bias == BiasSide::columns) v = v + b.load(2, j, width, active);
      b.store(1, to + j, to_stored(v, out), active);
    };
    const Value whole = n & -width;
    b.loop(0, whole, width, [&](Value j) { finish(j, {}); });
    b.loop(whole, n, width, [&](Value j) { finish(j, n - j); });
  });
  return b.finish();
}

}  // namespace fluxion::loops
