#include "kernels/gemm.h"

#include <cstring>

#include "kernels/pack.h"
#include "kernels/workspace.h"

namespace fluxion::kernels {

namespace {

// Blocks of K x N are packed for L3, blocks of M x K for L2; a panel of B stays in L1 or streams
// from L2.
constexpr int64_t kBlockK = 512;
constexpr int64_t kBlockM = 120;
constexpr int64_t kBlockN = 2048;
constexpr int64_t kRoundedBlockN = 256;  // sums of half-precision products wait in the workspace
constexpr int64_t kDirectRows =
    64;  // so few rows read a small B where it stands: packing costs more
constexpr int64_t kSmallB = 1 << 17;
constexpr double kSerialWork = 2e5;  // multiply-adds that are not worth waking a thread for

/// How a product is cut. A task is a block of one matrix of C; it packs what it needs.
class Plan {
 public:
  Plan(const GemmArgs& g, const ContractionKernels& kernels) : g_(g), size_(kernels.tiles.size) {
    compute_bytes = elem_size(kernels.tiles.compute);
    for (int d = 0; d < g.batch_dims; ++d) batch *= g.batch_sizes[d];
    const bool same = g.in == kernels.tiles.compute;
    rounded = g.out != kernels.tiles.compute;
    direct_a = same && g.a.column_stride == 1;
    const int64_t few = g.n * g.k <= kSmallB ? kDirectRows : size_.rows * size_.columns / 5;
    direct_b = same && g.b.column_stride == 1 && g.m <= few;
    serial = g.threads < 2 || static_cast<double>(batch) * g.m * g.n * g.k < kSerialWork;
    split();
    size_workspace(kernels);
  }

  int64_t batch = 1, m_tasks = 1, n_tasks = 1;
  int64_t block_m, block_n, block_k;
  bool direct_a, direct_b, rounded, serial;
  int compute_bytes, slots;
  size_t a_bytes, b_bytes, c_bytes;

  int64_t tasks() const { return batch * m_tasks * n_tasks; }
  size_t slot_bytes() const { return a_bytes + b_bytes + c_bytes; }

 private:
  /// Each matrix is cut into as many tasks as there are threads, so that the least is packed twice.
  void split() {
    if (serial || batch >= 4 * g_.threads) return;
    const int64_t row_units = divide_up(g_.m, size_.rows),
                  column_units = divide_up(g_.n, size_.columns);
    double best = -1;
    for (int64_t across = 1; across <= g_.threads; ++across) {
      if (g_.threads % across) continue;
      const int64_t down = g_.threads / across;
      if (across > column_units || down > row_units) continue;
      const double a_again = static_cast<double>(across - 1) * g_.m * (direct_a ? 0.25 : 1);
      const double b_again = static_cast<double>(down - 1) * g_.n * (direct_b ? 0.25 : 1);
      if (best >= 0 && a_again + b_again >= best) continue;
      best = a_again + b_again;
      n_tasks = across;
      m_tasks = down;
    }
  }

  void size_workspace(const ContractionKernels& kernels) {
    const TileSize tile = kernels.tiles.size;
    const int64_t rows = largest_piece(g_.m, tile.rows, m_tasks),
                  columns = largest_piece(g_.n, tile.columns, n_tasks);
    block_m = least(rows, kBlockM / tile.rows * tile.rows);
    block_n =
        least(divide_up(columns, tile.columns) * tile.columns, rounded ? kRoundedBlockN : kBlockN);
    block_k = least(g_.k, direct_b ? kChunk : kBlockK);
    const size_t bytes = static_cast<size_t>(compute_bytes);
    // A direct B still packs its last panel, if that is not whole.
    a_bytes = direct_a ? 0
                       : align_up(bytes * static_cast<size_t>(packed_elements(block_m + tile.rows,
                                                                              block_k, tile.rows)));
    b_bytes = align_up(bytes * static_cast<size_t>(packed_elements(
                                   direct_b ? tile.columns : block_n, block_k, tile.columns)));
    c_bytes = rounded ? align_up(bytes * static_cast<size_t>(rows * block_n)) : 0;
    slots = serial ? 1 : static_cast<int>(least(least(g_.threads, tasks()), kMaxSlots));
  }

  static int64_t largest_piece(int64_t total, int64_t unit, int64_t n) {
    return least(total, divide_up(divide_up(total, unit), n) * unit);
  }

  const GemmArgs& g_;
  TileSize size_;
};

/// One task: rows x columns of one matrix of C.
class Block {
 public:
  Block(const GemmArgs& g, const ContractionKernels& kernels, const Plan& plan, int64_t task,
        char* part)
      : g_(g),
        kernels_(kernels),
        tiles_(kernels.tiles),
        plan_(plan),
        packed_a_(part),
        packed_b_(part + plan.a_bytes),
        sums_(part + plan.a_bytes + plan.b_bytes) {
    const int64_t pieces = plan.m_tasks * plan.n_tasks;
    rows_ = piece(g.m, tiles_.size.rows, plan.m_tasks, task % pieces / plan.n_tasks);
    columns_ = piece(g.n, tiles_.size.columns, plan.n_tasks, task % plan.n_tasks);
    int64_t rest = task / pieces;
    for (int d = g.batch_dims - 1; d >= 0; --d) {
      const int64_t at = rest % g.batch_sizes[d];
      rest /= g.batch_sizes[d];
      a_ += at * g.a.batch_strides[d];
      b_ += at * g.b.batch_strides[d];
      c_ += at * g.c.batch_strides[d];
    }
  }

  void run() {
    for (int64_t j = columns_.begin; j < columns_.end; j += plan_.block_n) {
      j_ = {j, least(j + plan_.block_n, columns_.end)};
      if (g_.k == 0) clear_sums();
      for (int64_t k = 0; k < g_.k; k += plan_.block_k) {
        k_ = {k, least(k + plan_.block_k, g_.k)};
        pack_b();
        for (int64_t i = rows_.begin; i < rows_.end; i += plan_.block_m) {
          i_ = {i, least(i + plan_.block_m, rows_.end)};
          pack_a();
          multiply();
          if (k_.end == g_.k && !plan_.rounded) finish(i_);
        }
      }
      if (plan_.rounded || g_.k == 0) finish(rows_);
    }
  }

 private:
  const char* at(const void* base, int64_t element, Elem e) const {
    return static_cast<const char*>(base) + element * elem_size(e);
  }
  const char* a_at(int64_t i, int64_t k) const {
    return at(g_.a.data, a_ + i * g_.a.row_stride + k * g_.a.column_stride, g_.in);
  }
  const char* b_at(int64_t k, int64_t j) const {
    return at(g_.b.data, b_ + k * g_.b.row_stride + j * g_.b.column_stride, g_.in);
  }
  char* c_at(int64_t i, int64_t j) const {
    return const_cast<char*>(at(g_.c.data, c_ + i * g_.c.row_stride + j, g_.out));
  }

  /// Where the sums of C stand until they are finished.
  char* sums_at(int64_t i, int64_t j) const {
    return plan_.rounded
               ? sums_ + ((i - rows_.begin) * plan_.block_n + j - j_.begin) * plan_.compute_bytes
               : c_at(i, j);
  }
  int64_t sums_stride() const { return plan_.rounded ? plan_.block_n : g_.c.row_stride; }

  void pack_b() {
    int64_t first = j_.begin;
    if (plan_.direct_b) first = j_.end - j_.size() % tiles_.size.columns;
    if (first < j_.end)
      pack_panels(g_.in, {b_at(k_.begin, first), g_.b.column_stride, g_.b.row_stride},
                  j_.end - first, k_.size(), tiles_.size.columns, packed_b_);
  }

  /// Rows are spread evenly over the tiles of a block.
  void pack_a() {
    tile_rows_ = divide_up(i_.size(), divide_up(i_.size(), tiles_.size.rows));
    if (!plan_.direct_a)
      pack_panels(g_.in, {a_at(i_.begin, k_.begin), g_.a.row_stride, g_.a.column_stride}, i_.size(),
                  k_.size(), static_cast<int>(tile_rows_), packed_a_);
  }

  void multiply() {
    const int64_t width = tiles_.size.columns, bytes = plan_.compute_bytes;
    const int64_t a_strides[] = {plan_.direct_a ? g_.a.row_stride : 1,
                                 plan_.direct_a ? 1 : tile_rows_};
    const int64_t direct_stride = g_.b.row_stride, c_stride = sums_stride();
    for (int64_t j = j_.begin; j < j_.end; j += width) {
      const bool whole = j + width <= j_.end, direct = plan_.direct_b && whole;
      const char* b = direct
                          ? b_at(k_.begin, j)
                          : packed_b_ + (plan_.direct_b ? 0 : (j - j_.begin) * k_.size() * bytes);
      const int64_t sizes[] = {k_.size(), k_.begin > 0, j_.end - j};
      for (int64_t i = i_.begin; i < i_.end; i += tile_rows_) {
        const char* a =
            plan_.direct_a ? a_at(i, k_.begin) : packed_a_ + (i - i_.begin) * k_.size() * bytes;
        const Buf buffers[] = {{const_cast<char*>(a), a_strides},
                               {const_cast<char*>(b), direct ? &direct_stride : &width},
                               {sums_at(i, j), &c_stride}};
        tiles_(whole ? TileForm::full : TileForm::edge, least(tile_rows_, i_.end - i))(
            buffers, sizes, nullptr);
      }
    }
  }

  void clear_sums() {
    for (int64_t i = rows_.begin; i < rows_.end; ++i)
      std::memset(sums_at(i, j_.begin), 0, static_cast<size_t>(j_.size() * plan_.compute_bytes));
  }

  /// Adds the bias and rounds, while the block is in cache.
  void finish(Range rows) {
    if (!plan_.rounded && g_.bias_side == BiasSide::none) return;
    static constexpr int64_t kOne = 1;
    const int64_t from = sums_stride(), to = g_.c.row_stride, sizes[] = {rows.size(), j_.size()};
    const int64_t first = g_.bias_side == BiasSide::rows ? rows.begin : j_.begin;
    const char* bias = static_cast<const char*>(g_.bias) + first * plan_.compute_bytes;
    const Buf buffers[] = {{sums_at(rows.begin, j_.begin), &from},
                           {c_at(rows.begin, j_.begin), &to},
                           {const_cast<char*>(bias), &kOne}};
    kernels_.finish[static_cast<int>(g_.bias_side)](buffers, sizes, nullptr);
  }

  const GemmArgs& g_;
  const ContractionKernels& kernels_;
  const Tiles& tiles_;
  const Plan& plan_;
  char *packed_a_, *packed_b_, *sums_;
  Range rows_, columns_, i_, j_, k_;
  int64_t a_ = 0, b_ = 0, c_ = 0, tile_rows_ = 0;
};

/// A product with one column as one with one row: rows of A become lanes.
GemmArgs oriented(const GemmArgs& g) {
  if (g.n != 1 || g.m == 1 || g.c.row_stride != 1) return g;
  GemmArgs t = g;
  t.m = 1;
  t.n = g.m;
  t.a = g.b;
  t.b = g.a;
  for (Matrix* m : {&t.a, &t.b}) {
    const int64_t rows = m->row_stride;
    m->row_stride = m->column_stride;
    m->column_stride = rows;
  }
  if (g.bias_side != BiasSide::none)
    t.bias_side = g.bias_side == BiasSide::rows ? BiasSide::columns : BiasSide::rows;
  return t;
}

}  // namespace

size_t gemm_workspace(const GemmArgs& args, const ContractionKernels& kernels) {
  const GemmArgs g = oriented(args);
  const Plan plan(g, kernels);
  return plan.slot_bytes() * static_cast<size_t>(plan.slots);
}

int gemm(Ctx& ctx, const GemmArgs& args, const ContractionKernels& kernels) {
  const GemmArgs g = oriented(args);
  const Plan plan(g, kernels);
  if (plan.batch == 0 || g.m == 0 || g.n == 0) return kOk;
  if (ctx.workspace_bytes < plan.slot_bytes() * static_cast<size_t>(plan.slots))
    return kWorkspaceTooSmall;
  Slots slots(ctx.workspace, plan.slot_bytes(), plan.slots);
  run_tasks(ctx, plan.tasks(), plan.serial, slots,
            [&](int64_t task, char* part) { Block(g, kernels, plan, task, part).run(); });
  return kOk;
}

}  // namespace fluxion::kernels
