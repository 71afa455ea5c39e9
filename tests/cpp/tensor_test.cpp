// The tensor layer by itself: memory, snapshots, dtypes, geometry, text, threads, random bits.
#include "tensor/tensor.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "base/checked.h"
#include "tensor/random.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {
namespace {

using Sizes = std::vector<int64_t>;

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "(no error)";
}

ErrorKind kind_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.kind();
  }
  return ErrorKind::internal;
}

/// Exit status of `f` run in a forked child; -1 if it hung for ten seconds or crashed.
int in_child(const std::function<int()>& f) {
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(10);
    _exit(f());
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Memory, EverySizeIsAlignedAndWritable) {
  for (size_t n : {0, 1, 63, 64, 65, 900, 960, 961, 1024, 1025, 5000, 1 << 16, 1 << 20,
                   (1 << 20) + 1, 5 << 20}) {
    Ref<Storage> s = allocate(n);
    ASSERT_NE(s->data, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(s->data) % 64, 0u) << n;
    EXPECT_EQ(s->nbytes, n);
    std::memset(s->data, 7, (n + 63) / 64 * 64);  // padding is ours too
  }
}

TEST(Memory, BlocksAreReused) {
  if (!kPooling) GTEST_SKIP() << "no caching under AddressSanitizer";
  for (size_t n : {4, 960, 4096, 3 << 20, 64 << 20}) {
    const char* first = allocate(n)->data;
    EXPECT_EQ(static_cast<const char*>(allocate(n)->data), first) << n;
  }
}

TEST(Memory, CountsWhatIsInUseAndCached) {
  const size_t before = memory_use().in_use;
  Ref<Storage> s = allocate(10 << 20);
  EXPECT_GE(memory_use().in_use, before + (10 << 20));
  EXPECT_LE(memory_use().in_use, before + (10 << 20) * 9 / 8 + 64);
  s = {};
  EXPECT_EQ(memory_use().in_use, before);
  if (kPooling) {
    EXPECT_GE(memory_use().cached, size_t{10} << 20);
  }
  empty_cache();
  EXPECT_EQ(memory_use().cached, 0u);
}

TEST(Memory, CacheKeepsItsBooksUnderRandomUse) {
  std::mt19937 random(1);
  std::vector<Ref<Storage>> live(64);
  for (int i = 0; i < 20000; ++i) {
    Ref<Storage>& s = live[random() % live.size()];
    s = allocate(random() % (1u << (random() % 21)));
    if (s->nbytes >= 4) std::memcpy(s->data, &i, 4), std::memcpy(s->data + s->nbytes - 4, &i, 4);
    if (i % 5000 == 0) empty_cache();
  }
  std::set<const char*> distinct;
  for (const auto& s : live)
    if (s) distinct.insert(s->data);
  EXPECT_EQ(distinct.size(), live.size());
  live.clear();
  empty_cache();
  EXPECT_EQ(memory_use().cached, 0u);
}

TEST(Memory, AbsurdSizesRaiseAndNameTheBytes) {
  for (size_t n : {size_t{1} << 40, size_t{1} << 47, size_t{1} << 48, SIZE_MAX - 3, SIZE_MAX}) {
    EXPECT_EQ(kind_of([&] { allocate(n); }), ErrorKind::memory);
    EXPECT_NE(error_of([&] { allocate(n); }).find(std::to_string(n)), std::string::npos);
  }
  EXPECT_EQ(kind_of([] { empty(Sizes{int64_t{1} << 40}, DType::f32); }), ErrorKind::memory);
  EXPECT_EQ(kind_of([] { allocate_shared(size_t{1} << 46); }), ErrorKind::memory);
  Ref<Storage> still_works = allocate(1 << 20);
}

TEST(Memory, ForeignMemoryIsReturnedOnce) {
  int returned = 0;
  alignas(64) char memory[64];
  {
    auto s = wrap_foreign(memory, 64, [](void* c) { ++*static_cast<int*>(c); }, &returned);
    Tensor t = from_storage(s, DType::f32, Sizes{4, 4}, Sizes{4, 1}, 0);
    EXPECT_EQ(t.data(), memory);
    EXPECT_EQ(returned, 0);
  }
  EXPECT_EQ(returned, 1);
}

TEST(Memory, SharedMemoryIsSharedWithAForkedChild) {
  Ref<Storage> s = allocate_shared(4096);
  EXPECT_TRUE(s->shared_memory);
  EXPECT_EQ(in_child([&] { return s->data[5] = 42, 0; }), 0);
  EXPECT_EQ(s->data[5], 42);
}

TEST(Memory, BlocksTravelBetweenThreads) {
  std::vector<Tensor> made;
  for (int round = 0; round < 4; ++round) {
    std::thread([&] {
      for (int i = 0; i < 5000; ++i) made.push_back(scalar(int64_t{i}, DType::i64));
    }).join();
    std::thread([&] {
      for (int i = 0; i < 5000; ++i) ASSERT_EQ(made[static_cast<size_t>(i)].item_int(), i);
      made.clear();  // far more than one thread may keep
    }).join();
  }
  std::thread([] {
    static thread_local Tensor freed_late = scalar(1.0, DType::f32);
    EXPECT_EQ(freed_late.item(), 1.0);
  }).join();
}

TEST(Snapshot, CostsNothingWithoutAWrite) {
  Ref<Storage> s = allocate(100);
  const uint64_t copied = snapshot_bytes_copied();
  Ref<Snapshot> a = take_snapshot(s.get()), b = take_snapshot(s.get());
  EXPECT_EQ(a, b);
  EXPECT_EQ(bytes_of(*a), s.get());
  a = {};
  EXPECT_NE(s->snapshot.load(), nullptr);
  b = {};
  EXPECT_EQ(s->snapshot.load(), nullptr);
  begin_write(s.get());
  EXPECT_EQ(snapshot_bytes_copied(), copied);
}

TEST(Snapshot, KeepsTheOldBytesWhileMemoryStays) {
  Ref<Storage> s = allocate(100);
  const char* const data = s->data;
  std::memset(s->data, 1, 100);
  const uint64_t version = s->version, copied = snapshot_bytes_copied();

  Ref<Snapshot> one = take_snapshot(s.get());
  begin_write(s.get());
  std::memset(s->data, 2, 100);
  Ref<Snapshot> two = take_snapshot(s.get());
  EXPECT_NE(one, two);
  begin_write(s.get());
  std::memset(s->data, 3, 100);
  begin_write(s.get());  // nobody is left who wants the bytes

  EXPECT_EQ(s->data, data);
  EXPECT_EQ(s->version, version + 3);
  EXPECT_EQ(snapshot_bytes_copied(), copied + 200);
  for (int i : {0, 99}) {
    EXPECT_EQ(bytes_of(*one)->data[i], 1);
    EXPECT_EQ(bytes_of(*two)->data[i], 2);
    EXPECT_EQ(s->data[i], 3);
  }
}

TEST(Snapshot, OutlivesTheTensor) {
  Ref<Storage> s = allocate(8);
  s->data[0] = 9;
  Ref<Snapshot> snapshot = take_snapshot(s.get());
  s = {};
  EXPECT_EQ(bytes_of(*snapshot)->data[0], 9);
}

TEST(Snapshot, ReadOnlyMemoryCannotBeWritten) {
  Ref<Storage> s = allocate(8);
  s->read_only = true;
  EXPECT_NE(error_of([&] { begin_write(s.get()); }).find("read-only"), std::string::npos);
}

TEST(Snapshot, ManyThreads) {
  Ref<Storage> s = allocate(4096);
  std::memset(s->data, 0, 4096);
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0};
  auto reader = [&] {
    while (!stop) {
      Ref<Snapshot> a = take_snapshot(s.get()), b = a;
      a = {};
      const Storage* bytes = bytes_of(*b);
      if (bytes != s.get() && bytes->data[0] != bytes->data[4095]) ++torn;
    }
  };
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) readers.emplace_back(reader);
  for (int i = 0; i < 20000; ++i) begin_write(s.get());
  stop = true;
  for (auto& t : readers) t.join();
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(s->snapshot.load(), nullptr);
  EXPECT_EQ(s->refs, 1u);
}

TEST(DType, PromotesLikeTorch) {
  constexpr DType table[kDTypes][kDTypes] = {
#include "promotion_table.inc"
  };
  for (int a = 0; a < kDTypes; ++a)
    for (int b = 0; b < kDTypes; ++b)
      EXPECT_EQ(promote(static_cast<DType>(a), static_cast<DType>(b)), table[a][b])
          << a << " " << b;
}

TEST(DType, NamesRoundTrip) {
  for (int i = 0; i < kDTypes; ++i) {
    const auto t = static_cast<DType>(i);
    DType parsed;
    ASSERT_TRUE(parse_dtype(name(t), &parsed));
    EXPECT_EQ(parsed, t);
    ASSERT_TRUE(parse_dtype(short_name(t), &parsed));
    EXPECT_EQ(parsed, t);
  }
  DType parsed;
  EXPECT_TRUE(parse_dtype("long", &parsed) && parsed == DType::i64);
  EXPECT_FALSE(parse_dtype("float8", &parsed));
  EXPECT_EQ(kind_of([] { set_default_dtype(DType::i32); }), ErrorKind::type);
}

// The compiler's own type is the oracle.
TEST(DType, EveryHalfConverts) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto h = static_cast<uint16_t>(i);
    const auto expected = static_cast<float>(std::bit_cast<_Float16>(h));
    ASSERT_EQ(std::bit_cast<uint32_t>(half_to_float(h)), std::bit_cast<uint32_t>(expected)) << i;
    if (!std::isnan(expected)) {
      ASSERT_EQ(float_to_half(expected), h);
    }
    const float wide = bfloat16_to_float(h);
    if (!std::isnan(wide)) {
      ASSERT_EQ(float_to_bfloat16(wide), h);
    }
  }
}

TEST(DType, FloatsRoundToNearestEvenHalf) {
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32);
       bits += 977) {  // every exponent, all low-bit patterns
    for (uint32_t nudge : {0u, 0xfffu, 0x1000u, 0x1001u}) {
      const uint32_t x = (static_cast<uint32_t>(bits) & ~0x1fffu) | nudge;
      const auto f = std::bit_cast<float>(x);
      const auto expected = std::bit_cast<uint16_t>(static_cast<_Float16>(f));
      if (std::isnan(f)) ASSERT_TRUE(std::isnan(half_to_float(float_to_half(f))));
      else ASSERT_EQ(float_to_half(f), expected) << x;
    }
  }
}

// A bfloat16 is the float halfway rule on 16 bits: compare with the neighbours in double.
TEST(DType, FloatsRoundToNearestEvenBfloat16) {
  std::mt19937 random(7);
  for (int i = 0; i < 1000000; ++i) {
    const auto f = std::bit_cast<float>(static_cast<uint32_t>(random() & (i % 2 ? ~0u : ~0x7fffu)));
    const uint16_t h = float_to_bfloat16(f);
    if (std::isnan(f)) {
      ASSERT_TRUE(std::isnan(bfloat16_to_float(h)));
      continue;
    }
    const double got = bfloat16_to_float(h), error = std::abs(got - f);
    if (std::isinf(got)) continue;
    for (const int step : {-1, 1}) {
      const double other = bfloat16_to_float(static_cast<uint16_t>(h + step));
      if (!std::isfinite(other)) continue;
      ASSERT_TRUE(std::abs(other - f) > error || (std::abs(other - f) == error && h % 2 == 0)) << f;
    }
  }
  EXPECT_EQ(float_to_bfloat16(3.4e38f), 0x7f80);
}

TEST(Element, ConvertsAsTheCastKernelsDo) {
  char p[8];
  auto stored = [&](DType t, double v) {
    store_double(p, t, v);
    return load_int(p, t);
  };
  EXPECT_EQ(stored(DType::i32, -3.9), -3);
  EXPECT_EQ(stored(DType::i32, NAN), INT32_MIN);
  EXPECT_EQ(stored(DType::i32, 1e10), INT32_MIN);
  EXPECT_EQ(stored(DType::i64, INFINITY), INT64_MIN);
  EXPECT_EQ(stored(DType::i64, -0x1p63), INT64_MIN);
  EXPECT_EQ(stored(DType::u8, -1), 255);
  EXPECT_EQ(stored(DType::u8, 1e10), static_cast<uint8_t>(10000000000));
  EXPECT_EQ(stored(DType::i8, 300), 44);
  EXPECT_EQ(stored(DType::bool_, 0.5), 1);
  EXPECT_EQ(stored(DType::bool_, NAN), 1);
  store_int(p, DType::i64, INT64_MAX);
  EXPECT_EQ(load_int(p, DType::i64), INT64_MAX);
  EXPECT_EQ(scalar(2.5, DType::f16).item(), 2.5);
  EXPECT_EQ(scalar(2.5, DType::bf16).item_int(), 2);
}

TEST(Geometry, EmptyIsRowMajor) {
  const Tensor t = empty(Sizes{2, 3, 4}, DType::f64);
  EXPECT_EQ(Shape(t.strides()), (Shape{12, 4, 1}));
  EXPECT_TRUE(t.is_contiguous());
  EXPECT_EQ(t.numel(), 24);
  EXPECT_EQ(t.nbytes(), 192);
  EXPECT_EQ(t.size(-1), 4);
  EXPECT_EQ(empty(Sizes{2, 0, 3}, DType::f32).numel(), 0);
  EXPECT_EQ(Shape(empty(Sizes{2, 0, 3}, DType::f32).strides()), (Shape{3, 3, 1}));
  const Tensor deep = empty(Sizes(16, 1), DType::f32);
  EXPECT_EQ(deep.dim(), 16);
}

TEST(Geometry, ErrorsNameWhatIsWrong) {
  EXPECT_EQ(error_of([] { wrap_dim(5, 3, "sum"); }),
            "sum: dim 5 is out of range for a tensor of rank 3; expected -3 to 2");
  EXPECT_EQ(kind_of([] { wrap_dim(-4, 3, "sum"); }), ErrorKind::index);
  EXPECT_EQ(wrap_dim(-1, 0, "sum"), 0);
  EXPECT_EQ(kind_of([] { scalar(1.0, DType::f32).size(0); }), ErrorKind::index);
  EXPECT_EQ(error_of([] { empty(Sizes{3, -1}, DType::f32); }),
            "a size cannot be negative: shape (3, -1)");
  EXPECT_EQ(error_of([] { empty(Sizes(17, 1), DType::f32); }),
            "a tensor may have at most 16 dims, got 17");
  EXPECT_EQ(
      error_of([] { empty(Sizes{2, 3}, DType::f32).item(); }),
      "item: a tensor of 6 elements, shape (2, 3), is not one number; index or reduce it first");
  auto outside = [](Sizes sizes, Sizes strides, int64_t offset) {
    return kind_of([&] { from_storage(allocate(40), DType::f32, sizes, strides, offset); });
  };
  EXPECT_EQ(outside({11}, {1}, 0), ErrorKind::runtime);
  EXPECT_EQ(outside({5}, {2}, 2), ErrorKind::runtime);
  EXPECT_EQ(outside({2}, {-1}, 0), ErrorKind::runtime);
  EXPECT_EQ(outside({1}, {1}, -1), ErrorKind::runtime);
  EXPECT_EQ(outside({INT64_MAX}, {INT64_MAX}, INT64_MAX), ErrorKind::runtime);
  EXPECT_NO_THROW(from_storage(allocate(40), DType::f32, Sizes{5}, Sizes{2}, 1));
  EXPECT_NO_THROW(from_storage(allocate(40), DType::f32, Sizes{5}, Sizes{-2}, 9));
  EXPECT_NO_THROW(from_storage(allocate(40), DType::f32, Sizes{0, 99}, Sizes{1, 1}, 10));
}

TEST(Geometry, OverflowIsAnError) {
  constexpr int64_t big = int64_t{1} << 32;
  EXPECT_EQ(kind_of([] { empty(Sizes{big, big}, DType::f32); }), ErrorKind::runtime);
  EXPECT_EQ(kind_of([] { empty(Sizes{big, big / 4}, DType::f64); }), ErrorKind::runtime);
  EXPECT_EQ(kind_of([] { element_count(Sizes{big, big, 2}); }), ErrorKind::runtime);
  EXPECT_EQ(element_count(Sizes{big, big, 0}), 0);
  EXPECT_THROW(checked_mul(INT64_MAX, 2), Error);
  EXPECT_THROW(checked_add(INT64_MAX, 1), Error);
}

Tensor strided(Sizes sizes, Sizes strides, int64_t offset = 0) {
  return from_storage(allocate(4096), DType::u8, sizes, strides, offset);
}

TEST(Geometry, DenseLikeKeepsTheOrderOfDims) {
  auto like = [](Sizes sizes, Sizes strides) {
    return Shape(empty_like_dense(strided(sizes, strides)).strides());
  };
  EXPECT_EQ(like({2, 3, 4}, {1, 2, 6}), (Shape{1, 2, 6}));
  EXPECT_EQ(like({2, 3, 4}, {24, 8, 2}), (Shape{12, 4, 1}));
  EXPECT_EQ(like({2, 3, 4}, {1, 4, 12}), (Shape{1, 2, 6}));
  EXPECT_EQ(like({2, 3}, {0, 1}), (Shape{3, 1}));
  EXPECT_EQ(like({2, 3, 4}, {0, 1, 3}), (Shape{12, 1, 3}));
}

bool overlaps_by_listing(const Impl& t) {
  std::set<int64_t> seen;
  Sizes index(t.rank);
  for (int64_t k = 0; k < t.numel; ++k) {
    int64_t rest = k, at = 0;
    for (int d = t.rank; d-- > 0; rest /= t.sizes()[d]) at += rest % t.sizes()[d] * t.strides()[d];
    if (!seen.insert(at).second) return true;
  }
  return false;
}

TEST(Geometry, OverlapAgreesWithListingEveryElement) {
  EXPECT_TRUE(overlaps_itself(*strided({3, 2}, {0, 1}).impl()));
  EXPECT_TRUE(overlaps_itself(*strided({4, 3}, {1, 1}).impl()));
  EXPECT_FALSE(overlaps_itself(*strided({2, 2}, {2, 3}).impl()));
  EXPECT_FALSE(overlaps_itself(*strided({1, 3}, {0, 1}).impl()));
  std::mt19937 random(3);
  int overlapping = 0;
  for (int i = 0; i < 20000; ++i) {
    const size_t rank = 1 + random() % 4;
    Sizes sizes(rank), strides(rank);
    for (size_t d = 0; d < rank; ++d) {
      sizes[d] = random() % 5;
      strides[d] = static_cast<int64_t>(random() % 41) - 20;
    }
    const Tensor t = strided(sizes, strides, 2000);
    overlapping += overlaps_itself(*t.impl());
    ASSERT_EQ(overlaps_itself(*t.impl()), overlaps_by_listing(*t.impl()))
        << shape_text(sizes) << shape_text(strides);
  }
  EXPECT_GT(overlapping, 2000);
  EXPECT_LT(overlapping, 18000);
}

TEST(Geometry, LongChainsOfBasesDoNotRecurse) {
  Tensor t = empty({}, DType::f32);
  for (int i = 0; i < 1000000; ++i) {
    Tensor next = alias(t, {}, {}, 0);
    next.impl()->base = t.ref();
    t = next;
  }
}

struct PrintCase {
  DType dtype;
  Sizes shape;
  std::vector<double> values;
  double step;
  bool requires_grad;
  PrintOptions options;
  const char* text;
};

Tensor tensor_of(const PrintCase& c) {
  Tensor t = empty(c.shape, c.dtype);
  for (int64_t i = 0; i < t.numel(); ++i) {
    const double v =
        c.values[static_cast<size_t>(i) % c.values.size()] + c.step * static_cast<double>(i);
    store_double(t.data<char>() + i * size_of(c.dtype), c.dtype, v);
  }
  return t;
}

TEST(Text, PrintsLikeTorch) {
  const PrintCase cases[] = {
#include "print_cases.inc"
  };
  const PrintOptions saved = print_options();
  for (const PrintCase& c : cases) {
    print_options() = c.options;
    EXPECT_EQ(to_text(tensor_of(c), c.requires_grad ? "requires_grad=True" : ""), c.text);
  }
  print_options() = saved;
}

TEST(Text, FollowsStridesAndTheDefaultDtype) {
  Tensor t = empty(Sizes{2, 3}, DType::f64);
  for (int i = 0; i < 6; ++i) t.data<double>()[i] = i;
  const Tensor transposed = alias(t, Sizes{3, 2}, Sizes{1, 3}, 0);
  EXPECT_EQ(to_text(transposed),
            "tensor([[0., 3.],\n        [1., 4.],\n        [2., 5.]], dtype=fluxion.float64)");
  set_default_dtype(DType::f64);
  EXPECT_EQ(to_text(alias(t, Sizes{2}, Sizes{1}, 1)), "tensor([1., 2.])");
  set_default_dtype(DType::f32);
  EXPECT_EQ(type_text(t), "float64 (2, 3)");
  EXPECT_EQ(shape_text(Sizes{4}), "(4,)");
  EXPECT_EQ(shape_text({}), "()");
}

class Threads : public testing::Test {
 protected:
  void SetUp() override { set_num_threads(4); }
  void TearDown() override { set_num_threads(2); }
};

TEST_F(Threads, EveryItemRunsOnceInChunksOfAtLeastTheGrain) {
  for (int64_t n : {0, 1, 7, 100, 1001}) {
    std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
    std::atomic<int> chunks{0};
    parallel(n, 10, [&](int64_t begin, int64_t end) {
      EXPECT_TRUE(end - begin >= 10 || n < 20);
      ++chunks;
      for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
    });
    EXPECT_LE(chunks, 4);
    for (auto& h : hits) EXPECT_EQ(h, 1);
  }
}

TEST_F(Threads, ExceptionsPropagate) {
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(error_of([] {
                parallel(1000, 1, [](int64_t begin, int64_t) {
                  if (begin > 0) fail(ErrorKind::value, "broken");
                });
              }),
              "broken");
}

TEST_F(Threads, NestedCallsAreSerial) {
  parallel(4, 1, [&](int64_t, int64_t) {
    const auto self = std::this_thread::get_id();
    parallel(1000, 1, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      EXPECT_EQ(begin, 0);
      EXPECT_EQ(end, 1000);
    });
  });
}

TEST_F(Threads, EveryBodyKeepsDenormalsAndTheCallerGetsItsModeBack) {
  const unsigned before = __builtin_ia32_stmxcsr();
  const unsigned flush = before | 0x8040;  // FTZ, DAZ
  __builtin_ia32_ldmxcsr(flush);
  std::atomic<int> flushed{0};
  parallel(100000, 1, [&](int64_t begin, int64_t end) {
    volatile float tiny = 1e-39f;
    for (int64_t i = begin; i < end; ++i) flushed += tiny * 0.5f == 0;
  });
  const unsigned after = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before);
  EXPECT_EQ(flushed, 0);
  EXPECT_EQ(after & 0xe040, flush & 0xe040);
}

TEST_F(Threads, CountIsChecked) {
  EXPECT_EQ(kind_of([] { set_num_threads(0); }), ErrorKind::value);
  set_num_threads(1);
  EXPECT_EQ(num_threads(), 1);
  parallel(1000, 1, [](int64_t begin, int64_t end) { EXPECT_EQ(end - begin, 1000); });
}

TEST_F(Threads, AForkedChildIsSerialAndWorks) {
  std::atomic<bool> stop{false};
  std::thread busy([&] {  // holds our locks at random moments
    while (!stop) {
      Ref<Storage> s = allocate(1 << 16);
      Ref<Snapshot> kept = take_snapshot(s.get());
      begin_write(s.get());
    }
  });
  for (int i = 0; i < 30; ++i)
    EXPECT_EQ(in_child([] {
                int calls = 0;
                parallel(1000, 1, [&](int64_t, int64_t) { ++calls; });
                for (int k = 0; k < 100; ++k) {
                  Ref<Storage> s = allocate(1 << 16);
                  Ref<Snapshot> kept = take_snapshot(s.get());
                  begin_write(s.get());
                }
                return calls == 1 ? 0 : 1;
              }),
              0);
  stop = true;
  busy.join();
}

TEST_F(Threads, KernelsGetTheSamePool) {
  kernels::Ctx ctx = kernel_context();
  std::atomic<int64_t> sum{0};
  ctx.parallel(
      ctx.pool, 1000, 1,
      [](void* arg, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) *static_cast<std::atomic<int64_t>*>(arg) += i;
      },
      &sum);
  EXPECT_EQ(sum, 499500);
}

TEST(LongWork, OnlyLongWorkIsAnnounced) {
  static int begun, ended;
  set_long_work_hooks({[]() -> void* { return ++begun, &begun; }, [](void*) { ++ended; }});
  {
    LongWork work(100);
  }
  EXPECT_EQ(begun, 0);
  {
    LongWork work(1e6);
  }
  EXPECT_EQ(begun, 1);
  EXPECT_EQ(ended, 1);
  set_long_work_hooks({});
}

// Known answers of Random123, kat_vectors, philox4x32-10.
TEST(Random, PhiloxKnownAnswers) {
  struct Known {
    uint64_t key, call, block;
    uint32_t out[4];
  };
  const Known known[] = {
      {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {~0ull, ~0ull, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822,
       0x0370734413198a2e,
       0x85a308d3243f6a88,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Known& k : known) {
    uint32_t out[4];
    philox(k.key, k.call, k.block, out);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(out[i], k.out[i]);
  }
}

TEST(Random, BitsDependOnTheElementOnly) {
  const Generator::Call call{123, 45};
  std::vector<uint32_t> all(1000);
  random_bits(call, 0, all);
  for (size_t begin : {1, 2, 3, 4, 5, 511})
    for (size_t n : {0, 1, 2, 3, 4, 5, 9, 100}) {
      std::vector<uint32_t> part(n);
      random_bits(call, static_cast<int64_t>(begin), part);
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(part[i], all[begin + i]);
    }
}

TEST(Random, GeneratorCountsCalls) {
  Generator g(7);
  EXPECT_EQ(g.next_call().call, 0u);
  EXPECT_EQ(g.next_call().call, 1u);
  g.manual_seed(8);
  EXPECT_EQ(g.seed(), 8u);
  EXPECT_EQ(g.next_call().call, 0u);
  g.set_state(9, 100);
  const auto call = g.next_call();
  EXPECT_EQ(call.key, 9u);
  EXPECT_EQ(call.call, 100u);
}

}  // namespace
}  // namespace fluxion
