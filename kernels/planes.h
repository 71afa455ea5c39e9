// Image planes laid out so that the patches of a convolution are plain offsets: padded with zeros,
// spread, and sorted by phase, so that neighbouring results read neighbouring elements whatever the
// step.
#pragma once

#include "kernels/kernel.h"

namespace fluxion::kernels {

/// One spatial axis: result o, tap t reads the logical place o * step + t * tap_step + origin of
/// the source, whose element i stands at the logical place i * spread; every other place is zero.
/// spread > 1 only with step = 1.
struct Axis {
  int64_t in, out, taps;
  int64_t tap_step, step, origin, spread;

  int64_t lowest() const { return tap_step < 0 ? (taps - 1) * tap_step : 0; }
  /// Distance of tap t from the lowest one.
  int64_t distance(int64_t t) const { return t * tap_step - lowest(); }
  int64_t reach() const { return (taps - 1) * (tap_step < 0 ? -tap_step : tap_step); }
  /// Length of one phase that serves `outs` neighbouring results.
  int64_t length(int64_t outs) const { return outs + reach() / step; }
};

/// Planes of rows that serve `rows` results of `y` and all of `x`: [channel][phase y][phase
/// x][row][column].
struct Planes {
  Axis y, x;
  int64_t rows;

  int64_t height() const { return y.length(rows); }
  int64_t width() const { return x.length(x.out); }
  int64_t phase_elements() const { return height() * width(); }
  int64_t channel_elements() const { return y.step * x.step * phase_elements(); }
  /// Where the patch element (channel, tap) of result 0 stands; results are `width()` apart along y
  /// and 1 along x.
  int64_t offset(int64_t channel, int64_t ty, int64_t tx) const {
    const int64_t dy = y.distance(ty), dx = x.distance(tx);
    return channel * channel_elements() + (dy % y.step * x.step + dx % x.step) * phase_elements() +
           dy / y.step * width() + dx / x.step;
  }
};

/// Fills the planes of one channel for the results from `first` on, converting to the compute
/// dtype.
void fill_planes(Elem from, const void* source, const Planes& planes, int64_t first, void* out);

}  // namespace fluxion::kernels
