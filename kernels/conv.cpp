// Forward and input gradient: both slide a window of taps over planes of channels.
#include "kernels/conv.h"

#include "kernels/convert.h"
#include "kernels/pack.h"
#include "kernels/planes.h"
#include "kernels/workspace.h"

namespace fluxion::kernels {

namespace {

constexpr int64_t kPlaneElements = 1 << 17;  // padded planes of a task: they stay in L2
constexpr int64_t kSumElements = 1
                                 << 15;  // sums of a step: they stay in L2 until they are finished

/// results[n, group, result, y, x] = sum over (tap, source) of weights * sources[n, group, source]
/// around (y, x).
struct Window {
  int64_t n, groups, sources, results;
  Planes planes;
  Elem elem;
  const void *source, *weight, *bias;
  void* out;
  int64_t weight_group, weight_result,
      weight_source;  // strides of the weights; taps are contiguous
  int threads;

  int64_t taps() const { return planes.y.taps * planes.x.taps; }
  int64_t k() const { return taps() * sources; }
};

/// Copies weights to [group, result, tap, source].
template <class From, class To>
struct SortWeights {
  static void run(const Window& w, int64_t row, void* out) {
    const From* from = static_cast<const From*>(w.weight) + row / w.results * w.weight_group +
                       row % w.results * w.weight_result;
    To* to = static_cast<To*>(out) + row * w.k();
    for (int64_t s = 0; s < w.sources; ++s)
      for (int64_t tap = 0; tap < w.taps(); ++tap)
        to[tap * w.sources + s] = convert<To>(from[s * w.weight_source + tap]);
  }
};

class Sliding {
 public:
  Sliding(const Window& w, const ContractionKernels& kernels)
      : w_(w), kernels_(kernels), tiles_(kernels.tiles) {
    bytes_ = elem_size(tiles_.compute);
    cut();
    const int64_t margin = 4 * tiles_.size.columns;  // whole panels are read and written
    weights_bytes_ = align_up(static_cast<size_t>(w.groups * w.results * w.k() * bytes_));
    offsets_bytes_ = align_up(static_cast<size_t>(w.k()) * sizeof(int64_t));
    planes_bytes_ =
        align_up(static_cast<size_t>((w.sources * w_.planes.channel_elements() + margin) * bytes_));
    sums_stride_ = step_rows_ * w_.planes.width() + margin;
    sums_bytes_ = align_up(static_cast<size_t>(result_block_ * sums_stride_ * bytes_));
    slots_ = static_cast<int>(most(1, least(least(w.threads, tasks()), kMaxSlots)));
  }

  size_t workspace() const { return shared_bytes() + static_cast<size_t>(slots_) * slot_bytes(); }

  int run(Ctx& ctx) {
    if (tasks() == 0 || w_.planes.y.out == 0 || w_.planes.x.out == 0) return kOk;
    if (ctx.workspace_bytes < workspace()) return kWorkspaceTooSmall;
    weights_ = static_cast<char*>(ctx.workspace);
    offsets_ = reinterpret_cast<int64_t*>(weights_ + weights_bytes_);
    list_offsets();
    const int64_t rows = w_.groups * w_.results;
    const double work = static_cast<double>(w_.n * rows * w_.k()) *
                        static_cast<double>(w_.planes.y.out * w_.planes.x.out);
    Slots slots(weights_ + shared_bytes(), slot_bytes(), slots_);
    run_each(ctx, rows, rows * w_.k() < (1 << 16), [&](int64_t row) {
      dispatch<SortWeights, const Window&, int64_t, void*>(w_.elem, w_, row, weights_);
    });
    run_tasks(ctx, tasks(), work < 2e5, slots, [&](int64_t t, char* part) { task(t, part); });
    return kOk;
  }

 private:
  size_t shared_bytes() const { return weights_bytes_ + offsets_bytes_; }
  size_t slot_bytes() const { return planes_bytes_ + sums_bytes_; }
  int64_t tasks() const { return w_.n * w_.groups * row_blocks_ * result_blocks_; }

  /// A task is one image, one group, a block of rows and of results; it steps over a few rows at a
  /// time.
  void cut() {
    Planes& p = w_.planes;
    const int64_t height = most(1, p.y.out), width = p.x.length(p.x.out);
    const int64_t row_elements = w_.sources * p.y.step * p.x.step * width;
    int64_t rows =
        most(1, least(height, kPlaneElements / most(1, row_elements) - p.y.reach() / p.y.step));
    rows = most(rows,
                least(height, p.y.reach() / p.y.step + 1));  // the halo is filled for every block
    const int64_t independent = w_.n * w_.groups;
    row_blocks_ = divide_up(height, rows);
    if (independent % w_.threads && independent < 8 * w_.threads)
      row_blocks_ = least(height, divide_up(row_blocks_, w_.threads) * w_.threads);
    p.rows = divide_up(height, row_blocks_);
    row_blocks_ = divide_up(height, p.rows);
    const int64_t short_of = independent * row_blocks_ < w_.threads ? w_.threads : 1;
    result_blocks_ = least(short_of, divide_up(w_.results, tiles_.size.rows));
    result_block_ =
        divide_up(divide_up(w_.results, tiles_.size.rows), result_blocks_) * tiles_.size.rows;
    result_block_ = least(result_block_, w_.results);
    step_rows_ = best_step(width);
  }

  /// The number of rows that leaves the fewest lanes of panels unused.
  int64_t best_step(int64_t width) const {
    const int64_t rows = w_.planes.rows,
                  limit = most(1, least(rows, kSumElements / most(1, result_block_ * width)));
    auto panels = [&](int64_t step) {
      return rows / step * divide_up(step * width, tiles_.size.columns) +
             divide_up(rows % step * width, tiles_.size.columns);
    };
    int64_t best = 1;
    for (int64_t step = 2; step <= limit; ++step)
      if (panels(step) < panels(best)) best = step;
    return best;
  }

  void list_offsets() {
    int64_t* next = offsets_;
    for (int64_t ty = 0; ty < w_.planes.y.taps; ++ty)
      for (int64_t tx = 0; tx < w_.planes.x.taps; ++tx)
        for (int64_t s = 0; s < w_.sources; ++s) *next++ = w_.planes.offset(s, ty, tx);
  }

  void task(int64_t t, char* part) {
    const Planes& p = w_.planes;
    const Range results = piece(w_.results, tiles_.size.rows, result_blocks_, t % result_blocks_);
    const int64_t block = t / result_blocks_ % row_blocks_,
                  image_group = t / result_blocks_ / row_blocks_;
    const Range rows{block * p.rows, least(p.y.out, (block + 1) * p.rows)};
    const char* source = static_cast<const char*>(w_.source) +
                         image_group * w_.sources * p.y.in * p.x.in * elem_size(w_.elem);
    for (int64_t s = 0; s < w_.sources; ++s)
      fill_planes(w_.elem, source + s * p.y.in * p.x.in * elem_size(w_.elem), p, rows.begin,
                  part + s * p.channel_elements() * bytes_);
    char* sums = part + planes_bytes_;
    for (int64_t y = rows.begin; y < rows.end; y += step_rows_) {
      const int64_t count = least(step_rows_, rows.end - y);
      multiply(image_group % w_.groups, results, part + (y - rows.begin) * p.width() * bytes_,
               count, sums);
      finish(image_group, results, y, count, sums);
    }
  }

  void multiply(int64_t group, Range results, char* planes, int64_t rows, char* sums) {
    const int64_t k = w_.k(), strides[] = {k, 1}, sizes[] = {k, 0, rows * w_.planes.width()};
    const int64_t tile = divide_up(results.size(), divide_up(results.size(), tiles_.size.rows));
    for (int64_t r = results.begin; r < results.end; r += tile) {
      const Buf buffers[] = {{weights_ + (group * w_.results + r) * k * bytes_, strides},
                             {planes, nullptr},
                             {sums + (r - results.begin) * sums_stride_ * bytes_, &sums_stride_},
                             {offsets_, nullptr}};
      tiles_(TileForm::indirect, least(tile, results.end - r))(buffers, sizes, nullptr);
    }
  }

  /// Cuts the rows of results out of the sums, which are as wide as the planes.
  void finish(int64_t image_group, Range results, int64_t y, int64_t rows, char* sums) {
    const Planes& p = w_.planes;
    static constexpr int64_t kSame = 0;
    const int64_t from = p.width(), to = p.x.out, sizes[] = {rows, p.x.out};
    const Kernel kernel =
        kernels_.finish[static_cast<int>(w_.bias ? BiasSide::rows : BiasSide::none)];
    for (int64_t r = results.begin; r < results.end; ++r) {
      char* out = static_cast<char*>(w_.out) +
                  (((image_group * w_.results + r) * p.y.out + y) * p.x.out) * elem_size(w_.elem);
      const char* bias = static_cast<const char*>(w_.bias);
      if (bias) bias += (image_group % w_.groups * w_.results + r) * bytes_;
      const Buf buffers[] = {{sums + (r - results.begin) * sums_stride_ * bytes_, &from},
                             {out, &to},
                             {const_cast<char*>(bias), &kSame}};
      kernel(buffers, sizes, nullptr);
    }
  }

  Window w_;
  const ContractionKernels& kernels_;
  const Tiles& tiles_;
  int64_t bytes_, row_blocks_, result_blocks_, result_block_, step_rows_, sums_stride_;
  size_t weights_bytes_, offsets_bytes_, planes_bytes_, sums_bytes_;
  int slots_;
  char* weights_ = nullptr;
  int64_t* offsets_ = nullptr;
};

Window forward(const ConvShape& s) {
  Window w{};
  w.n = s.n;
  w.groups = s.groups;
  w.sources = s.c / s.groups;
  w.results = s.oc / s.groups;
  w.planes = {{s.h, s.oh, s.kh, s.dilation_h, s.stride_h, -s.pad_top, 1},
              {s.w, s.ow, s.kw, s.dilation_w, s.stride_w, -s.pad_left, 1},
              0};
  w.elem = s.elem;
  w.weight_source = s.kh * s.kw;
  w.weight_result = w.sources * w.weight_source;
  w.weight_group = w.results * w.weight_result;
  w.threads = s.threads;
  return w;
}

/// The output's gradient, spread by the stride, seen through the window from the other side.
Window backward(const ConvShape& s) {
  Window w{};
  w.n = s.n;
  w.groups = s.groups;
  w.sources = s.oc / s.groups;
  w.results = s.c / s.groups;
  w.planes = {{s.oh, s.h, s.kh, -s.dilation_h, 1, s.pad_top, s.stride_h},
              {s.ow, s.w, s.kw, -s.dilation_w, 1, s.pad_left, s.stride_w},
              0};
  w.elem = s.elem;
  w.weight_result = s.kh * s.kw;
  w.weight_source = w.results * w.weight_result;
  w.weight_group = w.sources * w.weight_source;
  w.threads = s.threads;
  return w;
}

}  // namespace

size_t conv_workspace(const ConvShape& s, const ContractionKernels& kernels) {
  return Sliding(forward(s), kernels).workspace();
}

int conv(Ctx& ctx, const ConvShape& s, const ContractionKernels& kernels, const void* input,
         const void* weight, const void* bias, void* output) {
  Window w = forward(s);
  w.source = input;
  w.weight = weight;
  w.bias = bias;
  w.out = output;
  return Sliding(w, kernels).run(ctx);
}

size_t conv_input_gradient_workspace(const ConvShape& s, const ContractionKernels& kernels) {
  return Sliding(backward(s), kernels).workspace();
}

int conv_input_gradient(Ctx& ctx, const ConvShape& s, const ContractionKernels& kernels,
                        const void* grad_output, const void* weight, void* grad_input) {
  Window w = backward(s);
  w.source = grad_output;
  w.weight = weight;
  w.out = grad_input;
  return Sliding(w, kernels).run(ctx);
}

}  // namespace fluxion::kernels
