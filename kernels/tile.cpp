#include "kernels/tile.h"

#include <cstring>

namespace fluxion::kernels {

namespace {

/// The merged iteration space of one call.
struct Space {
  const TileCall& call;
  int operands;
  int rank;
  int64_t sizes[kMaxLoops];
  int64_t strides[kMaxOperands][kMaxLoops];
  char* data[kMaxOperands];
  Elem elem[kMaxOperands];
  int64_t total;
};

template <class T>
void gather(char* out, const char* in, int64_t stride, int64_t n) {
  T* o = reinterpret_cast<T*>(out);
  const T* p = reinterpret_cast<const T*>(in);
  for (int64_t i = 0; i < n; ++i) o[i] = p[i * stride];
}
template <class T>
void scatter(char* out, int64_t stride, const char* in, int64_t n) {
  T* o = reinterpret_cast<T*>(out);
  const T* p = reinterpret_cast<const T*>(in);
  for (int64_t i = 0; i < n; ++i) o[i * stride] = p[i];
}

void gather_run(char* out, const char* in, int size, int64_t stride, int64_t n) {
  if (stride == 1) {
    std::memcpy(out, in, static_cast<size_t>(n * size));
    return;
  }
  switch (size) {
    case 1: return gather<uint8_t>(out, in, stride, n);
    case 2: return gather<uint16_t>(out, in, stride, n);
    case 4: return gather<uint32_t>(out, in, stride, n);
    default: return gather<uint64_t>(out, in, stride, n);
  }
}
void scatter_run(char* out, const char* in, int size, int64_t stride, int64_t n) {
  if (stride == 1) {
    std::memcpy(out, in, static_cast<size_t>(n * size));
    return;
  }
  switch (size) {
    case 1: return scatter<uint8_t>(out, stride, in, n);
    case 2: return scatter<uint16_t>(out, stride, in, n);
    case 4: return scatter<uint32_t>(out, stride, in, n);
    default: return scatter<uint64_t>(out, stride, in, n);
  }
}

/// Position of a linear index in the merged space.
struct Cursor {
  int64_t at[kMaxLoops];
  void seek(const Space& s, int64_t linear) {
    for (int d = s.rank - 1; d >= 0; --d) {
      at[d] = linear % s.sizes[d];
      linear /= s.sizes[d];
    }
  }
  char* address(const Space& s, int k) const {
    int64_t offset = 0;
    for (int d = 0; d < s.rank; ++d) offset += at[d] * s.strides[k][d];
    return s.data[k] + offset * elem_size(s.elem[k]);
  }
  /// Moves on by `n` elements that lie within the innermost dim.
  void advance(const Space& s, int64_t n) {
    int d = s.rank - 1;
    at[d] += n;
    while (d > 0 && at[d] == s.sizes[d]) {
      at[d] = 0;
      ++at[--d];
    }
  }
};

/// Calls fn(address, offset in the tile, run length) for each run of operand k in [begin, begin + n).
template <class Fn>
void for_runs(const Space& s, int k, int64_t begin, int64_t n, Fn fn) {
  Cursor c;
  c.seek(s, begin);
  int64_t inner = s.sizes[s.rank - 1];
  for (int64_t done = 0; done < n;) {
    int64_t run = inner - c.at[s.rank - 1];
    if (run > n - done) run = n - done;
    fn(c.address(s, k), done, run);
    c.advance(s, run);
    done += run;
  }
}

bool fully_dense(const Space& s, int k) { return s.rank == 1 && s.strides[k][0] == 1; }
bool one_element(const Space& s, int k) {
  for (int d = 0; d < s.rank; ++d)
    if (s.strides[k][d] != 0) return false;
  return true;
}

int convert_run(const TileCall& call, Elem from, Elem to, const char* in, char* out, int64_t n) {
  Kernel f = call.convert(from, to);
  if (!f) return kNoKernel;
  Buf args[2] = {{const_cast<char*>(in), nullptr}, {out, nullptr}};
  return f(args, &n, nullptr);
}

/// Which kernel serves operands of which only `scalar_mask` are single elements; null if none.
Kernel kernel_for(const TileCall& call, unsigned scalar_mask) {
  if (scalar_mask == 0) return call.kernel[kDense];
  if (call.inputs == 2 && scalar_mask == 2) return call.kernel[kScalarRight];
  if (call.inputs == 2 && scalar_mask == 1) return call.kernel[kScalarLeft];
  return nullptr;
}

int invoke(const Space& s, Kernel f, char* const* at, int64_t n, int64_t linear) {
  Buf args[kMaxOperands];
  for (int k = 0; k < s.operands; ++k) args[k] = {at[k], nullptr};
  int64_t sizes[2] = {n, linear};
  return f(args, sizes, s.call.params);
}

/// Whether rows of the innermost dim can go to the kernel as they lie: right dtype, stride 1 or (inputs) 0.
bool rows_are_ready(const Space& s, unsigned* scalar_mask) {
  *scalar_mask = 0;
  for (int k = 0; k < s.operands; ++k) {
    if (s.elem[k] != s.call.reads[k]) return false;
    int64_t stride = s.strides[k][s.rank - 1];
    if (stride == 0 && k < s.call.inputs) *scalar_mask |= 1u << k;
    else if (stride != 1) return false;
  }
  return kernel_for(s.call, *scalar_mask) != nullptr;
}

int run_rows(const Space& s, Kernel f, int64_t begin, int64_t end) {
  Cursor c;
  c.seek(s, begin);
  int64_t inner = s.sizes[s.rank - 1];
  for (int64_t done = begin; done < end;) {
    int64_t run = inner - c.at[s.rank - 1];
    if (run > end - done) run = end - done;
    char* at[kMaxOperands];
    for (int k = 0; k < s.operands; ++k) at[k] = c.address(s, k);
    if (int status = invoke(s, f, at, run, done)) return status;
    c.advance(s, run);
    done += run;
  }
  return kOk;
}

/// Per-thread scratch of one tile: gathered and converted copies of every operand.
struct Scratch {
  alignas(64) char gathered[kTile * 8];
  alignas(64) char operand[kMaxOperands][kTile * 8];
};

int fill_tile(const Space& s, int k, int64_t begin, int64_t n, Scratch& scratch, char** at) {
  int size = elem_size(s.elem[k]);
  bool converts = s.elem[k] != s.call.reads[k];
  if (fully_dense(s, k) && !converts) {
    *at = s.data[k] + begin * size;
    return kOk;
  }
  char* raw = converts ? scratch.gathered : scratch.operand[k];
  *at = scratch.operand[k];
  if (fully_dense(s, k)) {
    raw = s.data[k] + begin * size;
  } else {
    int64_t stride = s.strides[k][s.rank - 1];
    for_runs(s, k, begin, n, [&](char* in, int64_t offset, int64_t run) {
      gather_run(raw + offset * size, in, size, stride, run);
    });
  }
  return converts ? convert_run(s.call, s.elem[k], s.call.reads[k], raw, *at, n) : kOk;
}

int drain_tile(const Space& s, int k, int64_t begin, int64_t n, Scratch& scratch, const char* at) {
  int size = elem_size(s.elem[k]);
  bool converts = s.elem[k] != s.call.reads[k];
  if (fully_dense(s, k) && !converts) return kOk;  // written in place
  if (fully_dense(s, k))
    return convert_run(s.call, s.call.reads[k], s.elem[k], at, s.data[k] + begin * size, n);
  const char* raw = at;
  if (converts) {
    if (int status = convert_run(s.call, s.call.reads[k], s.elem[k], at, scratch.gathered, n))
      return status;
    raw = scratch.gathered;
  }
  int64_t stride = s.strides[k][s.rank - 1];
  for_runs(s, k, begin, n, [&](char* out, int64_t offset, int64_t run) {
    scatter_run(out, raw + offset * size, size, stride, run);
  });
  return kOk;
}

int run_gathered(const Space& s, int64_t begin, int64_t end) {
  Scratch scratch;
  Kernel dense = s.call.kernel[kDense];
  for (int64_t i = begin; i < end; i += kTile) {
    int64_t n = end - i < kTile ? end - i : kTile;
    char* at[kMaxOperands];
    for (int k = 0; k < s.call.inputs; ++k)
      if (int status = fill_tile(s, k, i, n, scratch, &at[k])) return status;
    for (int k = s.call.inputs; k < s.operands; ++k)
      at[k] = fully_dense(s, k) && s.elem[k] == s.call.reads[k]
                  ? s.data[k] + i * elem_size(s.elem[k])
                  : scratch.operand[k];
    if (int status = invoke(s, dense, at, n, i)) return status;
    for (int k = s.call.inputs; k < s.operands; ++k)
      if (int status = drain_tile(s, k, i, n, scratch, at[k])) return status;
  }
  return kOk;
}

struct Chunk {
  const Space* space;
  Kernel rows;  // null: tiles
  int status;
};

void run_chunk(void* arg, int64_t begin, int64_t end) {
  auto* c = static_cast<Chunk*>(arg);
  int status =
      c->rows ? run_rows(*c->space, c->rows, begin, end) : run_gathered(*c->space, begin, end);
  if (status) c->status = status;
}

}  // namespace

int merge_dims(int operands, int rank, int64_t* sizes, int64_t (*strides)[kMaxLoops]) {
  int out = 0;
  for (int d = 0; d < rank; ++d) {
    if (sizes[d] == 1) continue;
    bool joins = out > 0;
    for (int k = 0; joins && k < operands; ++k)
      joins = strides[k][out - 1] == strides[k][d] * sizes[d];
    if (joins) {
      sizes[out - 1] *= sizes[d];
      for (int k = 0; k < operands; ++k) strides[k][out - 1] = strides[k][d];
    } else {
      sizes[out] = sizes[d];
      for (int k = 0; k < operands; ++k) strides[k][out] = strides[k][d];
      ++out;
    }
  }
  if (out == 0) {
    sizes[0] = 1;
    for (int k = 0; k < operands; ++k) strides[k][0] = 1;
    out = 1;
  }
  return out;
}

int run_tiles(const Ctx& ctx, const TileCall& call, const TileOperand* operands, int rank,
              const int64_t* sizes) {
  Space s{call, call.inputs + call.outputs, 0, {}, {}, {}, {}, 1};
  for (int d = 0; d < rank; ++d) {
    s.sizes[d] = sizes[d];
    s.total *= sizes[d];
  }
  if (s.total == 0) return kOk;
  alignas(8) char converted[kMaxOperands][8];
  for (int k = 0; k < s.operands; ++k) {
    s.data[k] = operands[k].data;
    s.elem[k] = operands[k].elem;
    for (int d = 0; d < rank; ++d) s.strides[k][d] = operands[k].strides[d];
  }
  s.rank = merge_dims(s.operands, rank, s.sizes, s.strides);
  for (int k = 0; k < call.inputs; ++k) {  // a converted scalar operand is converted once
    if (s.elem[k] == call.reads[k] || !one_element(s, k)) continue;
    if (int status = convert_run(call, s.elem[k], call.reads[k], s.data[k], converted[k], 1))
      return status;
    s.data[k] = converted[k];
    s.elem[k] = call.reads[k];
  }
  unsigned scalar_mask;
  bool ready = rows_are_ready(s, &scalar_mask) && (s.rank == 1 || s.sizes[s.rank - 1] >= 32);
  Chunk chunk{&s, ready ? kernel_for(call, scalar_mask) : nullptr, kOk};
  if (s.total < 2 * call.grain || !ctx.parallel) run_chunk(&chunk, 0, s.total);
  else ctx.parallel(ctx.pool, s.total, call.grain, run_chunk, &chunk);
  return chunk.status;
}

}  // namespace fluxion::kernels
