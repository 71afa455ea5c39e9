// Philox4x32-10 as loop IR (Salmon et al. 2011), and the driver of the ops that consume its words.
// A primitive: its words are defined by tensor/random.h.
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/kernel_sink.h"
#include "ops/random.h"
#include "ops/requirements.h"
#include "tensor/thread_generator.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

using loops::Builder;
using loops::Elem;
using loops::Value;

namespace {

constexpr int kLanes = 8;                // blocks at a time
constexpr int64_t kTileElements = 1024;  // words drawn before they are used
constexpr int kMaxStreams = 4;
constexpr int kStreamShift = 60;  // the stream stands in the upper bits of the block number

/// 32-bit arithmetic in i64 lanes whose upper halves stay zero.
struct Words {
  Value c[4];
};

Value low(Value v) { return v & int64_t{0xffffffff}; }
Value high(Value v) { return loops::shift_right_logical(v, 32); }

Words philox_block(Value block, Value call, Value key) {
  Words w{{low(block), high(block), low(call), high(call)}};
  Value k0 = low(key), k1 = high(key);
  for (int round = 0; round < 10; ++round) {
    Value a = w.c[0] * int64_t{0xD2511F53}, b = w.c[2] * int64_t{0xCD9E8D57};
    w = {{high(b) ^ w.c[1] ^ k0, low(b), high(a) ^ w.c[3] ^ k1, low(a)}};
    k0 = low(k0 + int64_t{0x9E3779B9});
    k1 = low(k1 + int64_t{0xBB67AE85});
  }
  return w;
}

/// sizes = {blocks (a multiple of 8), first block, key, call}; out: two i64 per block.
loops::Function words_kernel(std::string name) {
  Builder b(std::move(name), {Elem::i64});
  Value first = b.size(1), key = loops::splat(b.size(2), kLanes),
        call = loops::splat(b.size(3), kLanes);
  b.loop(0, b.size(0), kLanes, [&](Value i) {
    Words w = philox_block(b.iota({Elem::i64, kLanes}) + (first + i), call, key);
    Value pairs[] = {w.c[0] | loops::shift_left(w.c[1], 32),
                     w.c[2] | loops::shift_left(w.c[3], 32)};
    for (int lane = 0; lane < kLanes; ++lane)
      for (int p = 0; p < 2; ++p) b.store(0, (i + lane) * 2 + p, loops::extract(pairs[p], lane));
  });
  return b.finish();
}

/// Words of elements begin .. begin + n of a stream, rounded up to whole vectors; begin is a multiple of 4.
void fill_words(kernels::Kernel f, const int64_t* state, int stream, int64_t begin, int64_t n,
                int32_t* out) {
  constexpr int64_t per_step = 4 * kLanes;
  int64_t blocks = (n + per_step - 1) / per_step * kLanes;
  int64_t sizes[] = {blocks, begin / 4 + static_cast<int64_t>(uint64_t(stream) << kStreamShift),
                     state[0], state[1]};
  kernels::Buf args[] = {{out, nullptr}};
  f(args, sizes, nullptr);
}

struct BitsAttrs {
  Dims shape;
};
constexpr Field kFields[] = {
    {"shape", FieldKind::dims, offsetof(BitsAttrs, shape), "shape of the result"}};

void eval(const Eval& e) {
  Tensor out = empty(e.attrs<BitsAttrs>().shape, DType::i32);
  kernels::Kernel f = require_kernel(kRngBits, DType::i32);
  Tensor key = dense(e.in[0]);
  const auto* state = key.data<int64_t>();
  alignas(64) int32_t words[kTileElements];
  for (int64_t begin = 0; begin < out.numel(); begin += kTileElements) {
    int64_t n = std::min(kTileElements, out.numel() - begin);
    fill_words(f, state, 0, begin, n, words);
    std::copy_n(words, n, out.data<int32_t>() + begin);
  }
  if (e.out[0].defined()) copy_elements(out, e.out[0]);
  else e.out[0] = out;
}

}  // namespace

constinit OpDef kRngBits{.name = "rng_bits",
                         .doc = "32 random bits per element, of the call that (key, call) names.",
                         .space = Space::opaque,
                         .attr_bytes = sizeof(BitsAttrs),
                         .fields = kFields,
                         .infer =
                             [](const TypeRule& t) {
                               require_state(t, 0);
                               for (int64_t s : Ints(t.attrs<BitsAttrs>().shape))
                                 require(t, s >= 0, "sizes must not be negative");
                               t.out[0] = {DType::i32, false, Shape(t.attrs<BitsAttrs>().shape)};
                             },
                         .eval = eval,
                         .kernels =
                             [](const OpDef& op, KernelSink& sink) {
                               sink.add(op, DType::i32, 0, [](std::string symbol) {
                                 return words_kernel(std::move(symbol));
                               });
                             },
                         .cost = cheap_cost,
                         .samples =
                             [](const OpDef&, SampleSink& sink) {
                               BitsAttrs a{{3, 35}};
                               const SampleSink::Input state[] = {{Shape{2}, DType::i64, 0, 1000}};
                               sink.add(state, &a, sizeof a);
                             }};

Tensor next_state(Generator* generator) {
  Generator::Call c = (generator ? *generator : current_generator()).next_call();
  Tensor state = empty(Ints({2}), DType::i64);
  state.data<int64_t>()[0] = static_cast<int64_t>(c.key);
  state.data<int64_t>()[1] = static_cast<int64_t>(c.call);
  if (Tracer* tracer = thread_state().tracer) [[unlikely]]
    tracer->draw(generator ? *generator : current_generator(), state);
  return state;
}

void emit_random(const OpDef& op, KernelSink& sink, int inputs, int (*streams)(DType),
                 void (*body)(loops::Body&)) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    sink.add(op, t, 0, [&](std::string symbol) {
      std::vector<Elem> in(static_cast<size_t>(streams(t)), Elem::i32);
      in.insert(in.end(), static_cast<size_t>(inputs), t);
      return loops::elementwise(std::move(symbol), in, {&t, 1}, compute_dtype(t), 0u, body);
    });
}

void run_random(const RandomRun& r) {
  kernels::Kernel words = require_kernel(kRngBits, DType::i32), f = require_kernel(r.op, r.dtype);
  Tensor key = dense(r.state);
  const auto* state = key.data<int64_t>();
  int64_t n = (*(r.operands.end() - 1))->numel(), tiles = (n + kTileElements - 1) / kTileElements;
  LongWork work(static_cast<double>(n) * r.streams);
  parallel(tiles, 4, [&](int64_t first, int64_t last) {
    alignas(64) int32_t drawn[kMaxStreams][kTileElements];
    for (int64_t tile = first; tile < last; ++tile) {
      int64_t begin = tile * kTileElements, count = std::min(kTileElements, n - begin);
      kernels::Buf args[kMaxStreams + 4];
      size_t k = 0;
      for (int s = 0; s < r.streams; ++s) {
        fill_words(words, state, s, begin, count, drawn[s]);
        args[k++] = {drawn[s], nullptr};
      }
      for (const Tensor* t : r.operands)
        args[k++] = {t->data<char>() + begin * size_of(t->dtype()), nullptr};
      int64_t sizes[] = {count, begin, r.extra[0], r.extra[1]};
      f(args, sizes, r.params);
    }
  });
}

Value uniform_of(loops::Body& b, int k) {
  Value w = b.in_as_stored(k);
  if (b.elem() == Elem::f32)
    return loops::cast(loops::shift_right_logical(w, 8), Elem::f32) * 0x1p-24;
  Value upper = loops::cast(loops::shift_right_logical(w, 5), Elem::f64);
  Value lower = loops::cast(loops::shift_right_logical(b.in_as_stored(k + 1), 6), Elem::f64);
  return loops::fma(upper, 0x1p-27, lower * 0x1p-53);
}

namespace {
OpDef* const kOps[] = {&kRngBits};
}

extern const OpFile rng_ops;
const OpFile rng_ops{kOps, {}};

}  // namespace fluxion
