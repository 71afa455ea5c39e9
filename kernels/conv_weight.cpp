// Gradient of the weights: output channels are lanes, the steps of the contraction run over all
// pixels of all images. Depthwise, every lane has planes of its own: they are stored lane by lane.
#include <cstring>

#include "kernels/conv.h"
#include "kernels/pack.h"
#include "kernels/planes.h"
#include "kernels/workspace.h"

namespace fluxion::kernels {

namespace {

constexpr int64_t kPlaneElements = 1 << 17;  // padded planes of a task: they stay in L2

/// Grad_weight of a group is a matrix: a row per (channel, tap), a column per output channel.
struct Plan {
  Plan(const ConvShape& shape, const ContractionKernels& kernels)
      : s(shape), tile(kernels.tiles.size) {
    compute = kernels.tiles.compute;
    bytes = elem_size(compute);
    depthwise = s.groups > 1 && s.groups == s.c && s.groups == s.oc;
    groups = depthwise ? 1 : s.groups;
    channels = depthwise ? 1 : s.c / groups;
    columns = s.oc / groups;
    taps = s.kh * s.kw;
    pixels = s.oh * s.ow;
    planes = {{s.h, s.oh, s.kh, s.dilation_h, s.stride_h, -s.pad_top, 1},
              {s.w, s.ow, s.kw, s.dilation_w, s.stride_w, -s.pad_left, 1},
              s.oh};
    images = pixels ? (kChunk + pixels - 2) / pixels + 1 : 1;
    split();
    max_rows = divide_up(rows(), row_pieces);
    max_channels = least(channels, (max_rows + taps - 2) / most(1, taps) + 1);
    max_columns = divide_up(divide_up(columns, tile.columns), column_pieces) * tile.columns;
    planes_bytes = align_up(static_cast<size_t>(images * image_elements() * bytes));
    packed_bytes =
        align_up(static_cast<size_t>(packed_elements(max_columns, kChunk, tile.columns) * bytes));
    sums_bytes = align_up(static_cast<size_t>(max_rows * max_columns * bytes));
    line_stride = divide_up(max_rows, 8) * 8;
    line_bytes = align_up(static_cast<size_t>((tile.columns * line_stride + 8) * bytes));
    spread_bytes =
        depthwise ? align_up(static_cast<size_t>(tile.columns * planes.channel_elements() * bytes))
                  : 0;
    offsets_bytes = align_up(static_cast<size_t>(max_rows + kChunk) * sizeof(int64_t));
    slots = static_cast<int>(most(1, least(least(s.threads, tasks()), kMaxSlots)));
  }

  int64_t rows() const { return channels * taps; }
  int64_t k() const { return s.n * pixels; }
  int64_t image_elements() const {
    return (depthwise ? max_columns : max_channels) * planes.channel_elements();
  }
  int64_t tasks() const { return groups * row_pieces * column_pieces; }
  size_t slot_bytes() const {
    return planes_bytes + packed_bytes + sums_bytes + line_bytes + spread_bytes + offsets_bytes;
  }
  size_t workspace() const { return slot_bytes() * static_cast<size_t>(slots); }

  const ConvShape& s;
  TileSize tile;
  Elem compute;
  bool depthwise;
  int64_t bytes, groups, channels, columns, taps, pixels;
  Planes planes;
  int64_t images;  // that one chunk may touch
  int64_t row_pieces, column_pieces = 1;
  int64_t max_rows, max_channels, max_columns, line_stride;
  size_t planes_bytes, packed_bytes, sums_bytes, line_bytes, spread_bytes, offsets_bytes;
  int slots;

 private:
  /// Rows are cut so that a task's planes stay in cache; both sides so that all threads have work.
  void split() {
    const int64_t panels = most(1, divide_up(columns, tile.columns));
    if (depthwise) {
      row_pieces = 1;
      column_pieces = panels;
      return;
    }
    row_pieces =
        least(most(1, channels),
              most(1, divide_up(images * channels * planes.channel_elements(), kPlaneElements)));
    if (groups * row_pieces % s.threads == 0 || groups * row_pieces >= 4 * s.threads) return;
    if (rows() < 4 * tile.rows && panels % s.threads == 0) column_pieces = s.threads;
    else row_pieces = least(most(1, rows()), divide_up(row_pieces, s.threads) * s.threads);
  }
};

class Task {
 public:
  Task(const Plan& plan, const ContractionKernels& kernels, const void* grad_output,
       const void* input, int64_t task, char* part)
      : p_(plan),
        kernels_(kernels),
        grad_(static_cast<const char*>(grad_output)),
        input_(static_cast<const char*>(input)) {
    group_ = task / (p_.row_pieces * p_.column_pieces);
    rows_ = piece(p_.rows(), 1, p_.row_pieces, task / p_.column_pieces % p_.row_pieces);
    columns_ = piece(p_.columns, p_.tile.columns, p_.column_pieces, task % p_.column_pieces);
    first_channel_ = rows_.begin / p_.taps;
    planes_ = part;
    packed_ = planes_ + p_.planes_bytes;
    sums_ = packed_ + p_.packed_bytes;
    line_ = sums_ + p_.sums_bytes;
    spread_ = line_ + p_.line_bytes;
    places_ = reinterpret_cast<int64_t*>(spread_ + p_.spread_bytes);
    steps_ = places_ + p_.max_rows;
  }

  void run(void* grad_weight) {
    for (int64_t j = rows_.begin; j < rows_.end; ++j)
      places_[j - rows_.begin] =
          p_.planes.offset(j / p_.taps - first_channel_, j % p_.taps / p_.s.kw, j % p_.s.kw);
    if (p_.k() == 0) std::memset(sums_, 0, p_.sums_bytes);
    for (int64_t k = 0; k < p_.k(); k += kChunk) {
      const Range chunk{k, least(k + kChunk, p_.k())};
      prepare(chunk);
      multiply(chunk);
    }
    store(static_cast<char*>(grad_weight));
  }

 private:
  /// Fills the planes of images that begin to matter, lists the steps, packs the output's gradient.
  void prepare(Range chunk) {
    for (int64_t k = chunk.begin; k < chunk.end;) {
      const int64_t image = k / p_.pixels, end = least(chunk.end, (image + 1) * p_.pixels);
      for (; filled_ <= image; ++filled_) fill(filled_);
      const int64_t base =
          image % p_.images * (p_.depthwise ? p_.planes.channel_elements() : p_.image_elements());
      int64_t y = k % p_.pixels / p_.s.ow, x = k % p_.s.ow;
      for (int64_t i = k; i < end; ++i) {
        steps_[i - chunk.begin] = base + y * p_.planes.width() + x;
        if (++x == p_.s.ow) x = 0, ++y;
      }
      pack(image, {k % p_.pixels, k % p_.pixels + end - k}, k - chunk.begin, chunk.size());
      k = end;
    }
  }

  void fill(int64_t image) {
    const int64_t elements = p_.planes.channel_elements(), slot = image % p_.images;
    if (p_.depthwise) return fill_lanes(image, elements, slot);
    char* to = planes_ + slot * p_.image_elements() * p_.bytes;
    for (int64_t c = first_channel_; c * p_.taps < rows_.end; ++c, to += elements * p_.bytes)
      fill_channel(image, group_ * p_.channels + c, to);
  }

  /// [panel][image][element][lane]
  void fill_lanes(int64_t image, int64_t elements, int64_t slot) {
    const int64_t width = p_.tile.columns;
    for (int64_t o = columns_.begin; o < columns_.end; o += width) {
      const int64_t lanes = least(width, columns_.end - o), panel = (o - columns_.begin) / width;
      for (int64_t l = 0; l < lanes; ++l)
        fill_channel(image, o + l, spread_ + l * elements * p_.bytes);
      pack_panels(p_.compute, {spread_, elements, 1}, lanes, elements, static_cast<int>(width),
                  planes_ + (panel * p_.images + slot) * elements * width * p_.bytes);
    }
  }

  void fill_channel(int64_t image, int64_t channel, char* to) {
    const int64_t plane = p_.s.h * p_.s.w * elem_size(p_.s.elem);
    fill_planes(p_.s.elem, input_ + (image * p_.s.c + channel) * plane, p_.planes, 0, to);
  }

  void pack(int64_t image, Range pixels, int64_t step, int64_t steps) {
    const int64_t width = p_.tile.columns;
    for (int64_t o = columns_.begin; o < columns_.end; o += width) {
      const int64_t at = (image * p_.s.oc + group_ * p_.columns + o) * p_.pixels + pixels.begin;
      pack_panels(p_.s.elem, {grad_ + at * elem_size(p_.s.elem), p_.pixels, 1},
                  least(width, columns_.end - o), pixels.size(), static_cast<int>(width),
                  packed_ + ((o - columns_.begin) * steps + step * width) * p_.bytes);
    }
  }

  void multiply(Range chunk) {
    const int64_t width = p_.tile.columns, sizes[] = {chunk.size(), chunk.begin > 0};
    const int64_t height = divide_up(rows_.size(), divide_up(rows_.size(), p_.tile.rows));
    const TileForm form = p_.depthwise ? TileForm::paired : TileForm::gathered;
    for (int64_t o = 0; o < columns_.size(); o += width) {
      char* planes =
          planes_ + (p_.depthwise ? o * p_.images * p_.planes.channel_elements() * p_.bytes : 0);
      for (int64_t j = 0; j < rows_.size(); j += height) {
        const Buf buffers[] = {{planes, nullptr},
                               {packed_ + o * chunk.size() * p_.bytes, &width},
                               {sums_ + (j * p_.max_columns + o) * p_.bytes, &p_.max_columns},
                               {places_ + j, nullptr},
                               {steps_, nullptr}};
        kernels_.tiles(form, least(height, rows_.size() - j))(buffers, sizes, nullptr);
      }
    }
  }

  /// Columns of the sums are lines of the weights.
  void store(char* grad_weight) {
    const int64_t width = p_.tile.columns, to = p_.rows();
    static constexpr int64_t kAny = 0;
    for (int64_t o = columns_.begin; o < columns_.end; o += width) {
      const int64_t lines = least(width, columns_.end - o), sizes[] = {lines, rows_.size()};
      pack_panels(p_.compute, {sums_ + (o - columns_.begin) * p_.bytes, p_.max_columns, 1},
                  rows_.size(), lines, static_cast<int>(p_.line_stride), line_);
      char* out =
          grad_weight + ((group_ * p_.columns + o) * to + rows_.begin) * elem_size(p_.s.elem);
      const Buf buffers[] = {{line_, &p_.line_stride}, {out, &to}, {nullptr, &kAny}};
      kernels_.finish[static_cast<int>(BiasSide::none)](buffers, sizes, nullptr);
    }
  }

  const Plan& p_;
  const ContractionKernels& kernels_;
  const char *grad_, *input_;
  int64_t group_, first_channel_, filled_ = 0;
  Range rows_, columns_;
  char *planes_, *packed_, *sums_, *line_, *spread_;
  int64_t *places_, *steps_;
};

}  // namespace

size_t conv_weight_gradient_workspace(const ConvShape& s, const ContractionKernels& kernels) {
  return Plan(s, kernels).workspace();
}

int conv_weight_gradient(Ctx& ctx, const ConvShape& s, const ContractionKernels& kernels,
                         const void* grad_output, const void* input, void* grad_weight) {
  const Plan plan(s, kernels);
  if (plan.rows() == 0 || plan.columns == 0) return kOk;
  if (ctx.workspace_bytes < plan.workspace()) return kWorkspaceTooSmall;
  const double work =
      static_cast<double>(plan.k()) * static_cast<double>(plan.groups * plan.rows() * plan.columns);
  Slots slots(ctx.workspace, plan.slot_bytes(), plan.slots);
  run_tasks(ctx, plan.tasks(), work < 2e5, slots, [&](int64_t t, char* part) {
    Task(plan, kernels, grad_output, input, t, part).run(grad_weight);
  });
  return kOk;
}

}  // namespace fluxion::kernels
