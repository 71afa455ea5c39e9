// Every built-in kernel against the interpreter of its own loop IR, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "loops/interpret.h"
#include "ops/kernel_sink.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

namespace fluxion {
namespace {

constexpr int64_t kCapacity = 1 << 14;  // elements of each argument

/// Ordinary values with a few special ones; small integers, so that those used as indices stay inside.
std::vector<char> random_buffer(DType t, uint64_t seed) {
  std::vector<char> bytes(static_cast<size_t>(kCapacity * size_of(t)) + 64);
  constexpr double special[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e-39, 1.0, -1.0};
  for (int64_t i = 0; i < kCapacity; ++i) {
    uint32_t r[4];
    philox(seed, 1, static_cast<uint64_t>(i), r);
    char* at = bytes.data() + i * size_of(t);
    if (is_floating(t))
      store_double(at, t, r[1] % 29 == 0 ? special[r[2] % 8] : (r[0] / 4294967296.0 - 0.4) * 6);
    else store_int(at, t, t == DType::bool_ ? r[0] & 1 : static_cast<int64_t>(r[0] % 5));
  }
  return bytes;
}

struct Uses {
  int sizes = 0;
  bool strides = false;
};

Uses uses_of(const loops::Function& f) {
  Uses u;
  for (const loops::Node& n : f.nodes) {
    if (n.kind == loops::Kind::size) u.sizes = std::max(u.sizes, static_cast<int>(n.imm) + 1);
    if (n.kind == loops::Kind::stride) u.strides = true;
  }
  return u;
}

bool same_element(const char* a, const char* b, DType t) {
  if (std::memcmp(a, b, size_of(t)) == 0) return true;
  return is_floating(t) && std::isnan(load_double(a, t)) && std::isnan(load_double(b, t));
}

class Comparer final : public KernelSink {
 public:
  void add(const OpDef& op, DType dtype, uint8_t variant,
           FunctionRef<loops::Function(std::string)> make) override {
    loops::Function f = make("f");
    std::string what = fmt::format("{} {} variant {}", op.name, short_name(dtype), variant);
    kernels::Kernel k = kernels::find_kernel(op.id, dtype, variant);
    ASSERT_NE(k, nullptr) << what;
    Uses u = uses_of(f);
    if (u.sizes > 3) {  // a micro-kernel with a layout of its own: tested beside its driver
      ++skipped;
      return;
    }
    bool three = u.sizes == 3;
    int64_t sizes[3] = {three ? 2 : u.strides ? 3 : 75, three ? 37 : u.strides ? 75 : 0, 41};
    int64_t strides[2] = {three ? 37 * 41 : 80, 41};
    const double params[16] = {0.5, 1.25, 0.75, 2, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    std::vector<std::vector<char>> mine, theirs;
    std::vector<kernels::Buf> a, b;
    for (size_t i = 0; i < f.args.size(); ++i) {
      mine.push_back(random_buffer(f.args[i], 100 + i));
      theirs.push_back(mine.back());
    }
    for (size_t i = 0; i < f.args.size(); ++i) {
      a.push_back({mine[i].data(), strides});
      b.push_back({theirs[i].data(), strides});
    }
    int x = k(a.data(), sizes, params), y = loops::interpret(f, b.data(), sizes, params);
    EXPECT_EQ(x, y) << what;
    for (size_t i = 0; i < f.args.size(); ++i)
      for (int64_t e = 0; e < kCapacity; ++e) {
        size_t at = static_cast<size_t>(e * size_of(f.args[i]));
        ASSERT_TRUE(same_element(mine[i].data() + at, theirs[i].data() + at, f.args[i]))
            << what << " argument " << i << " element " << e << ": emitted "
            << load_double(mine[i].data() + at, f.args[i]) << ", interpreted "
            << load_double(theirs[i].data() + at, f.args[i]);
      }
    ++compared;
  }

  int compared = 0, skipped = 0;
};

TEST(Kernels, EmittedEqualsInterpreted) {
  Comparer c;
  for (const OpDef* op : op_table())
    if (op->kernels) op->kernels(*op, c);
  std::printf("%d kernels compared, %d micro-kernels left to their own tests\n", c.compared,
              c.skipped);
  EXPECT_GT(c.compared, 500);
}

}  // namespace
}  // namespace fluxion
