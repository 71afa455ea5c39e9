// Loop IR: the interpreter is the oracle of emitted code, bit for bit; and both against plain C++.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <thread>

#include "loops/bits.h"
#include "loops/columns.h"
#include "loops/elementwise.h"
#include "loops/half.h"
#include "loops/interpret.h"
#include "loops/math.h"
#include "loops/rows.h"
#include "tests/cpp/compiled_kernels.h"

namespace fluxion::loops {
namespace {

constexpr Elem kAll[] = {Elem::bool_, Elem::u8,  Elem::i8,   Elem::i16, Elem::i32,
                         Elem::i64,   Elem::f16, Elem::bf16, Elem::f32, Elem::f64};
constexpr Elem kCompute[] = {Elem::i32, Elem::i64, Elem::f32, Elem::f64};

double read(Elem e, const char* p) {
  switch (e) {
    case Elem::bool_:
    case Elem::u8: return static_cast<uint8_t>(*p);
    case Elem::i8: return static_cast<int8_t>(*p);
    case Elem::i16: {
      int16_t v;
      std::memcpy(&v, p, 2);
      return v;
    }
    case Elem::i32: {
      int32_t v;
      std::memcpy(&v, p, 4);
      return v;
    }
    case Elem::i64: {
      int64_t v;
      std::memcpy(&v, p, 8);
      return static_cast<double>(v);
    }
    case Elem::f16: {
      uint16_t v;
      std::memcpy(&v, p, 2);
      return f16_to_float(v);
    }
    case Elem::bf16: {
      uint16_t v;
      std::memcpy(&v, p, 2);
      return bf16_to_float(v);
    }
    case Elem::f32: {
      float v;
      std::memcpy(&v, p, 4);
      return v;
    }
    default: {
      double v;
      std::memcpy(&v, p, 8);
      return v;
    }
  }
}

/// Memory of one argument, with a guard of 64 untouchable bytes behind it.
struct Data {
  Elem elem;
  std::vector<char> bytes;
  std::vector<int64_t> strides;

  Data(Elem e, int64_t n) : elem(e), bytes(n * elem_size(e) + 64, 0x55) {}
  int64_t size() const { return static_cast<int64_t>(bytes.size() - 64) / elem_size(elem); }
  double operator[](int64_t i) const { return read(elem, bytes.data() + i * elem_size(elem)); }
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(bytes.data());
  }

  Data& fill(uint64_t seed, bool special = true) {
    std::mt19937_64 random(seed);
    for (int64_t i = 0; i < size(); ++i) {
      const int64_t bits = special && random() % 4 == 0 ? special_bits(random) : plain_bits(random);
      std::memcpy(bytes.data() + i * elem_size(elem), &bits, elem_size(elem));
    }
    return *this;
  }

 private:
  int64_t plain_bits(std::mt19937_64& random) const {
    const double v = static_cast<double>(static_cast<int64_t>(random() % 20001) - 10000) / 1000;
    switch (elem) {
      case Elem::bool_: return random() & 1;
      case Elem::f16: return float_to_f16(static_cast<float>(v));
      case Elem::bf16: return float_to_bf16(static_cast<float>(v));
      case Elem::f32: return to_bits(static_cast<float>(v));
      case Elem::f64: return to_bits(v);
      default: return static_cast<int64_t>(v * 3);
    }
  }
  int64_t special_bits(std::mt19937_64& random) const {
    if (elem == Elem::bool_) return random() & 1;
    if (random() % 2) return static_cast<int64_t>(random());  // any bits at all
    const double values[] = {0.0,     -0.0, 1,    -1,   INFINITY, -INFINITY,    NAN, 1e-40,
                             -1e-310, 3e9,  -3e9, 1e19, -1e19,    2147483648.0, 0.5};
    const double v = values[random() % std::size(values)];
    switch (elem) {
      case Elem::f16: return float_to_f16(static_cast<float>(v));
      case Elem::bf16: return float_to_bf16(static_cast<float>(v));
      case Elem::f32: return to_bits(static_cast<float>(v));
      case Elem::f64: return to_bits(v);
      default: return random() % 2 ? (int64_t{-1} << (8 * elem_size(elem) - 1)) : -(random() % 3);
    }
  }
};

bool same(Elem e, const char* a, const char* b) {
  if (std::memcmp(a, b, elem_size(e)) == 0) return true;
  return is_float(e) && std::isnan(read(e, a)) &&
         std::isnan(read(e, b));  // NaN payloads are not promised
}

/// Runs a kernel on copies of the arguments.
template <class Kernel>
std::vector<Data> run(Kernel kernel, std::vector<Data> data, std::vector<int64_t> sizes,
                      const std::vector<double>& params) {
  std::vector<kernels::Buf> args;
  for (Data& d : data)
    args.push_back({d.bytes.data(), d.strides.empty() ? nullptr : d.strides.data()});
  EXPECT_EQ(kernel(args.data(), sizes.data(), params.data()), kernels::kOk);
  return data;
}

std::vector<Data> interpreted(const Function& f, const std::vector<Data>& data,
                              const std::vector<int64_t>& sizes,
                              const std::vector<double>& params = {}) {
  return run([&](auto... a) { return interpret(f, a...); }, data, sizes, params);
}

/// Runs both ways, expects the same bits everywhere, returns the result.
std::vector<Data> check(const Function& f, kernels::Kernel kernel, const std::vector<Data>& data,
                        const std::vector<int64_t>& sizes, const std::vector<double>& params = {}) {
  const std::vector<Data> expected = interpreted(f, data, sizes, params),
                          got = run(kernel, data, sizes, params);
  for (size_t k = 0; k < data.size(); ++k) {
    const int size = elem_size(data[k].elem);
    for (int64_t i = 0; i < data[k].size(); ++i) {
      const char *a = got[k].bytes.data() + i * size, *b = expected[k].bytes.data() + i * size;
      if (same(data[k].elem, a, b)) continue;
      ADD_FAILURE() << f.name << ": argument " << k << "[" << i << "] = " << got[k][i]
                    << ", interpreter " << expected[k][i];
      return got;
    }
    EXPECT_EQ(std::memcmp(got[k].bytes.data() + data[k].size() * size,
                          data[k].bytes.data() + data[k].size() * size, 64),
              0)
        << f.name << " writes behind argument " << k;
  }
  return got;
}

std::string elem_name(Elem e) { return "e" + std::to_string(static_cast<int>(e)); }

// --- one table of scalar bodies, run through every compute dtype that takes them ---

struct Case {
  const char* name;
  void (*body)(Body&);
  bool ints, floats;
};

#define UNARY(name, expr, ints, floats) \
  {name,                                \
   [](Body& b) {                        \
     const Value x = b.in(0);           \
     b.out(0, expr);                    \
   },                                   \
   ints, floats}
#define BINARY(name, expr, ints, floats)   \
  {name,                                   \
   [](Body& b) {                           \
     const Value x = b.in(0), y = b.in(1); \
     b.out(0, expr);                       \
   },                                      \
   ints, floats}

const Case kCases[] = {
    UNARY("neg", -x, true, true),
    UNARY("abs", abs(x), true, true),
    UNARY("sqrt", sqrt(x), false, true),
    UNARY("floor", floor(x), false, true),
    UNARY("ceil", ceil(x), false, true),
    UNARY("trunc", trunc(x), false, true),
    UNARY("round", round_even(x), false, true),
    UNARY("not", ~x, true, false),
    BINARY("add", x + y, true, true),
    BINARY("sub", x - y, true, true),
    BINARY("mul", x* y, true, true),
    BINARY("div", x / y, true, true),
    BINARY("rem", rem(x, y), true, true),
    BINARY("floor_div", floor_div(x, y), true, true),
    BINARY("floor_rem", floor_rem(x, y), true, true),
    BINARY("min", minimum(x, y), true, true),
    BINARY("max", maximum(x, y), true, true),
    BINARY("fma", fma(x, y, 0.75), false, true),
    BINARY("copysign", copysign(x, y), false, true),
    BINARY("and", x& y, true, false),
    BINARY("or", x | y, true, false),
    BINARY("xor", x ^ y, true, false),
    BINARY("shl", shift_left(x, y), true, false),
    BINARY("shr", shift_right(x, y), true, false),
    BINARY("shr_logical", shift_right_logical(x, y), true, false),
    BINARY("select", select((x < y) & ~(x == 0), x, select((x >= y) ^ (y != 1), y, 3)), true, true),
    BINARY("masks", select(select(x > y, x <= 2, y >= 3) | isnan(y), x, y), true, true),
    BINARY("mask_cast", cast(x < y, x.elem()) + cast(x != y, x.elem()), true, true),
    BINARY("any", cast(any(x > y), x.elem()), true, true),
    {"compare", [](Body& b) { b.out(0, b.in(0) < b.in(1)); }, true, true},
    {"param", [](Body& b) { b.out(0, b.in(0) * b.param(1)); }, true, true},
    {"index", [](Body& b) { b.out(0, cast(b.index(), b.elem()) + b.in(0)); }, true, true},
    UNARY("exp", exp(x), false, true),
    UNARY("exp2", exp2(x), false, true),
    UNARY("expm1", expm1(x), false, true),
    UNARY("log", log(x), false, true),
    UNARY("log2", log2(x), false, true),
    UNARY("log10", log10(x), false, true),
    UNARY("log1p", log1p(x), false, true),
    UNARY("sin", sin(x), false, true),
    UNARY("cos", cos(x), false, true),
    UNARY("tan", tan(x), false, true),
    UNARY("sinh", sinh(x), false, true),
    UNARY("cosh", cosh(x), false, true),
    UNARY("asin", asin(x), false, true),
    UNARY("acos", acos(x), false, true),
    UNARY("atan", atan(x), false, true),
    UNARY("erfc", erfc(x), false, true),
    UNARY("tanh", tanh(x), false, true),
    UNARY("erf", erf(x), false, true),
    UNARY("sigmoid", sigmoid(x), false, true),
    UNARY("rsqrt", rsqrt(x), false, true),
    BINARY("pow", pow(x, y), false, true),
};

TEST(Loops, ElementwiseEmittedEqualsInterpreted) {
  std::vector<Function> functions;
  for (Elem e : kCompute)
    for (const Case& c : kCases) {
      if (is_float(e) ? !c.floats : !c.ints) continue;
      const Elem out = std::string_view(c.name) == "compare" ? Elem::bool_ : e;
      for (auto [suffix, kind] : {std::pair("dense", kernels::kDense),
                                  {"right", kernels::kScalarRight},
                                  {"left", kernels::kScalarLeft}})
        functions.push_back(elementwise(std::string(c.name) + "_" + suffix + elem_name(e),
                                        std::vector{e, e}, {&out, 1}, e, kind, c.body));
    }
  const CompiledKernels compiled(functions);
  for (const Function& f : functions) {
    for (int64_t n = 1; n <= 70; n += n < 34 ? 1 : 9) {
      const std::vector<Data> data{Data(f.args[0], n).fill(n), Data(f.args[1], n).fill(n + 100),
                                   Data(f.args[2], n)};
      check(f, compiled[f.name], data, {n, 1000}, {1, -2.5});
    }
    check(f, compiled[f.name],
          {Data(f.args[0], 3000).fill(1), Data(f.args[1], 3000).fill(2), Data(f.args[2], 3000)},
          {3000, 0}, {1, 3});
  }
}

TEST(Loops, ElementwiseInPlace) {
  const Elem e = Elem::f32;
  const Function f = elementwise("swap", std::vector{e, e}, std::vector{e, e}, e, 0u, [](Body& b) {
    b.out(0, b.in(1) + 1);
    b.out(1, b.in(0));
  });
  const CompiledKernels compiled({&f, 1});
  std::vector<float> x(37), y(37);
  for (int i = 0; i < 37; ++i) x[i] = static_cast<float>(i), y[i] = static_cast<float>(100 + i);
  const kernels::Buf args[] = {
      {x.data(), nullptr}, {y.data(), nullptr}, {x.data(), nullptr}, {y.data(), nullptr}};
  const int64_t n = 37;
  compiled["swap"](args, &n, nullptr);
  for (int i = 0; i < 37; ++i) {
    EXPECT_EQ(x[i], 101 + i);
    EXPECT_EQ(y[i], i);
  }
}

TEST(Loops, Casts) {
  std::vector<Function> functions;
  for (Elem from : kAll)
    for (Elem to : kAll)
      functions.push_back(cast_kernel("cast_" + elem_name(from) + elem_name(to), from, to));
  const CompiledKernels compiled(functions);
  for (const Function& f : functions)
    for (int64_t n : {1, 2, 3, 7, 8, 9, 31, 32, 33, 70, 1000})
      check(f, compiled[f.name], {Data(f.args[0], n).fill(n), Data(f.args[1], n)}, {n});
}

TEST(Loops, CastValues) {
  auto convert = [](Elem from, Elem to, double v) {
    Data x(from, 1), y(to, 1);
    if (from == Elem::f32) *x.as<float>() = static_cast<float>(v);
    else *x.as<double>() = v;
    return interpreted(cast_kernel("c", from, to), {x, y}, {1})[1][0];
  };
  for (Elem from : {Elem::f32, Elem::f64}) {
    EXPECT_EQ(convert(from, Elem::i32, -2.75), -2);
    EXPECT_EQ(convert(from, Elem::i32, NAN), INT32_MIN);
    EXPECT_EQ(convert(from, Elem::i32, 3e9), INT32_MIN);
    EXPECT_EQ(convert(from, Elem::i64, 3e9), 3e9);
    EXPECT_EQ(convert(from, Elem::i64, INFINITY), static_cast<double>(INT64_MIN));
    EXPECT_EQ(convert(from, Elem::u8, -1), 255);
    EXPECT_EQ(convert(from, Elem::bool_, 0.25), 1);
    EXPECT_EQ(convert(from, Elem::bool_, NAN), 1);
    EXPECT_EQ(convert(from, Elem::f16, 65519), 65504);
    EXPECT_EQ(convert(from, Elem::f16, 65520), INFINITY);
    EXPECT_EQ(convert(from, Elem::f16, 0x1p-25), 0);
    EXPECT_EQ(convert(from, Elem::f16, 0x1.8p-25), 0x1p-24);
    EXPECT_EQ(convert(from, Elem::bf16, 1 + 0x1p-8), 1);
    EXPECT_EQ(convert(from, Elem::bf16, 1 + 0x1.8p-7), 1 + 0x1p-6);
  }
}

TEST(Loops, HalfRoundTrips) {
  for (int h = 0; h < 65536; ++h) {
    const auto bits = static_cast<uint16_t>(h);
    const float f16 = f16_to_float(bits), bf16 = bf16_to_float(bits);
    EXPECT_TRUE(std::isnan(f16) || float_to_f16(f16) == bits) << h;
    EXPECT_TRUE(std::isnan(bf16) ? std::isnan(bf16_to_float(float_to_bf16(bf16)))
                                 : float_to_bf16(bf16) == bits)
        << h;
  }
}

TEST(Loops, IntegerDivisionNeverTraps) {
  auto divide = [](int32_t a, int32_t b, Value (*op)(Value, Value)) {
    const Elem e = Elem::i32;
    const Function f = elementwise("d", std::vector{e, e}, std::vector{e}, e, 0u,
                                   [&](Body& body) { body.out(0, op(body.in(0), body.in(1))); });
    Data x(e, 1), y(e, 1);
    *x.as<int32_t>() = a, *y.as<int32_t>() = b;
    return interpreted(f, {x, y, Data(e, 1)}, {1})[2][0];
  };
  auto quotient = [](Value a, Value b) { return a / b; };
  EXPECT_EQ(divide(7, 0, quotient), 0);
  EXPECT_EQ(divide(INT32_MIN, -1, quotient), INT32_MIN);
  EXPECT_EQ(divide(INT32_MIN, -1, rem), 0);
  EXPECT_EQ(divide(-7, 2, quotient), -3);
  EXPECT_EQ(divide(-7, 2, floor_div), -4);
  EXPECT_EQ(divide(-7, 2, floor_rem), 1);
  EXPECT_EQ(divide(7, -2, floor_rem), -1);
  EXPECT_EQ(divide(-7, 2, rem), -1);
}

TEST(Loops, BoolKernels) {
  const Elem e = Elem::bool_;
  std::vector<Function> functions;
  for (auto [suffix, kind] : {std::pair("dense", kernels::kDense),
                              {"right", kernels::kScalarRight},
                              {"left", kernels::kScalarLeft}}) {
    functions.push_back(elementwise(std::string("xor_") + suffix, std::vector{e, e}, {&e, 1}, e,
                                    kind, [](Body& b) { b.out(0, b.mask(0) ^ b.mask(1)); }));
    functions.push_back(elementwise(std::string("lt_") + suffix, std::vector{e, e}, {&e, 1}, e,
                                    kind, [](Body& b) { b.out(0, b.in(0) < b.in(1)); }));
    functions.push_back(elementwise(std::string("nand_") + suffix, std::vector{e, e}, {&e, 1}, e,
                                    kind, [](Body& b) { b.out(0, ~(b.mask(0) & b.mask(1))); }));
  }
  const CompiledKernels compiled(functions);
  for (const Function& f : functions)
    for (int64_t n = 1; n < 100; ++n)
      check(f, compiled[f.name], {Data(e, n).fill(n), Data(e, n).fill(n + 7), Data(e, n)}, {n});
}

TEST(Loops, WhereTakesThreeInputs) {
  std::vector<Function> functions;
  for (Elem e : kCompute)
    for (uint32_t scalars = 0; scalars < 8; ++scalars)
      functions.push_back(elementwise(
          "where" + elem_name(e) + std::to_string(scalars), std::vector{Elem::bool_, e, e}, {&e, 1},
          e, scalars, [](Body& b) { b.out(0, select(b.mask(0), b.in(1), b.in(2))); }));
  const CompiledKernels compiled(functions);
  for (const Function& f : functions)
    for (int64_t n : {1, 5, 8, 13, 40})
      check(f, compiled[f.name],
            {Data(Elem::bool_, n).fill(n), Data(f.args[1], n).fill(n + 1),
             Data(f.args[2], n).fill(n + 2), Data(f.args[3], n)},
            {n});
}

// --- rows ---

Data matrix(Elem e, int64_t rows, int64_t columns, int64_t stride, uint64_t seed,
            bool special = false) {
  Data d(e, rows * stride);
  d.fill(seed, special).strides = {stride, 1};
  (void)columns;
  return d;
}

template <class T>
T reference_sum(const T* x, int64_t n) {
  T total = 0;
  for (int64_t chunk = 0; chunk < n; chunk += 4096) {
    T lanes[32] = {};
    for (int64_t j = chunk; j < std::min(n, chunk + 4096); ++j) lanes[(j - chunk) % 32] += x[j];
    for (int half = 16; half; half /= 2)
      for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    total += lanes[0];
  }
  return total;
}

std::vector<Operand> operands(Elem e, std::initializer_list<Extent> extents) {
  std::vector<Operand> result;
  for (Extent x : extents) result.push_back({e, x});
  return result;
}

constexpr int64_t kWidths[] = {0,  1,  2,  7,   8,    9,    15,   31,   32,
                               33, 63, 70, 200, 4095, 4096, 4097, 4130, 9000};

TEST(Loops, RowSumFollowsTheContract) {
  std::vector<Function> functions;
  for (Elem e : kCompute)
    functions.push_back(
        rows("sum" + elem_name(e), e, operands(e, {Extent::element, Extent::row}), [](Row& r) {
          r.store_row(1, r.reduce_sum([&](const Index& i) { return r.load(0, i); }));
        }));
  const CompiledKernels compiled(functions);
  for (const Function& f : functions)
    for (int64_t n : kWidths) {
      const Elem e = f.args[0];
      auto out = check(f, compiled[f.name], {matrix(e, 3, n, n + 5, n, false), Data(e, 3)}, {3, n});
      for (int row = 0; row < 3; ++row) {
        const int64_t at = row * (n + 5);
        const double expected =
            e == Elem::f32   ? reference_sum(out[0].as<float>() + at, n)
            : e == Elem::f64 ? reference_sum(out[0].as<double>() + at, n)
            : e == Elem::i32 ? reference_sum(out[0].as<int32_t>() + at, n)
                             : static_cast<double>(reference_sum(out[0].as<int64_t>() + at, n));
        EXPECT_EQ(out[1][row], expected) << f.name << " n=" << n;
      }
    }
}

TEST(Loops, RowReductionsEmittedEqualInterpreted) {
  std::vector<Function> functions;
  for (Elem e : kCompute) {
    functions.push_back(
        rows("many" + elem_name(e), e,
             operands(e, {Extent::element, Extent::row, Extent::row, Extent::row}), [](Row& r) {
               const auto values =
                   r.reduce({Binary::max, Binary::min, Binary::mul}, [&](const Index& i) {
                     const Value x = r.load(0, i);
                     return std::vector<Term>{x, x + 1, x * r.param(0)};
                   });
               for (int k = 0; k < 3; ++k) r.store_row(k + 1, values[k]);
             }));
    functions.push_back(rows(
        "argmax" + elem_name(e), e,
        {{e}, {e, Extent::row}, {Elem::i64, Extent::row}, {Elem::i64, Extent::row}}, [](Row& r) {
          const auto most = r.reduce_argmax([&](const Index& i) { return r.load(0, i); });
          r.store_row(1, most.value), r.store_row(2, most.column);
          r.store_row(3, r.reduce_argmin([&](const Index& i) { return r.load(0, i); }).column);
        }));
    functions.push_back(
        rows("scan" + elem_name(e), e,
             operands(e, {Extent::element, Extent::element, Extent::row, Extent::row}), [](Row& r) {
               r.scan({r.constant(0)}, [&](const Index& i, auto sum) {
                 const Value next = sum[0] + r.load(0, i);
                 r.store(1, i, next);
                 return std::vector{next};
               });
             }));
  }
  const CompiledKernels compiled(functions);
  for (const Function& f : functions)
    for (int64_t n : kWidths) {
      if (n == 0) continue;
      for (bool special : {false, true}) {
        std::vector<Data> data{matrix(f.args[0], 3, n, n + 3, n, special)};
        for (int k = 1; k < 4; ++k) data.push_back(matrix(f.args[k], 3, n, n + 3, n + k));
        check(f, compiled[f.name], data, {3, n}, {0.5});
      }
    }
}

TEST(Loops, ArgmaxTakesTheFirstAndNaNWins) {
  const Elem e = Elem::f32;
  const Function f = rows("argmax", e, {{e}, {Elem::i64, Extent::row}}, [](Row& r) {
    r.store_row(1, r.reduce_argmax([&](const Index& i) { return r.load(0, i); }).column);
  });
  const CompiledKernels compiled({&f, 1});
  auto place = [&](std::vector<float> x) {
    Data d(e, static_cast<int64_t>(x.size()));
    std::copy(x.begin(), x.end(), d.as<float>());
    d.strides = {d.size()};
    return check(f, compiled["argmax"], {d, Data(Elem::i64, 1)}, {1, d.size()})[1][0];
  };
  std::vector<float> x(50, -INFINITY);
  EXPECT_EQ(place(x), 0);
  x[17] = x[41] = 3;
  EXPECT_EQ(place(x), 17);
  x[45] = x[30] = NAN;
  EXPECT_EQ(place(x), 30);
}

Function softmax(Elem memory, Elem compute) {
  return rows(
      "softmax" + elem_name(memory), compute, operands(memory, {Extent::element, Extent::element}),
      [](Row& r) {
        const Value most = r.reduce_max([&](const Index& i) { return r.load(0, i); });
        const Value sum =
            r.reduce_sum([&](const Index& i) { return exp_nonpositive(r.load(0, i) - most); });
        r.each([&](const Index& i) { r.store(1, i, exp_nonpositive(r.load(0, i) - most) / sum); });
      });
}

TEST(Loops, RowPrograms) {
  std::vector<Function> functions{softmax(Elem::f32, Elem::f32), softmax(Elem::f64, Elem::f64),
                                  softmax(Elem::f16, Elem::f32), softmax(Elem::bf16, Elem::f32)};
  for (Elem e : {Elem::f32, Elem::f64, Elem::bf16})
    functions.push_back(rows(
        "layer_norm" + elem_name(e), value_elem(e),
        operands(e,
                 {Extent::element, Extent::element, Extent::column, Extent::row, Extent::scalar}),
        [](Row& r) {
          const Value mean = r.reduce_sum([&](const Index& i) { return r.load(0, i); }) / r.count();
          const Value var = r.reduce_sum([&](const Index& i) {
            const Value d = r.load(0, i) - mean;
            return Term(d, d);
          }) / r.count();
          const Value rstd = rsqrt(var + r.param(0)), shift = r.load(4);
          r.each([&](const Index& i) {
            r.store(1, i, fma((r.load(0, i) - mean) * rstd, r.load(2, i), shift));
          });
          r.store_row(3, rstd);
        }));
  functions.push_back(rows(
      "pick", Elem::f32,
      {{Elem::f32}, {Elem::f32, Extent::row}, {Elem::i64, Extent::row}, {Elem::bool_}}, [](Row& r) {
        const Value target = r.load_as_stored(2);
        r.store_row(1, r.load_at(0, target));
        r.each([&](const Index& i) { r.store(3, i, r.column(i) == cast(target, Elem::i32)); });
      }));
  const CompiledKernels compiled(functions);
  for (const Function& f : functions)
    for (int64_t n : {1, 3, 8, 10, 33, 100, 4100}) {
      std::vector<Data> data;
      for (size_t k = 0; k < f.args.size(); ++k)
        data.push_back(matrix(f.args[k], 4, n, n + 1, n + k));
      if (f.name == "pick")
        for (int r = 0; r < 4; ++r) data[2].as<int64_t>()[r] = (r * 7) % n;
      check(f, compiled[f.name], data, {4, n}, {1e-5});
    }
}

TEST(Loops, SoftmaxIsRight) {
  const Function f = softmax(Elem::f32, Elem::f32);
  const Data x = matrix(Elem::f32, 1, 50, 50, 3), y = matrix(Elem::f32, 1, 50, 50, 4);
  const auto out = interpreted(f, {x, y}, {1, 50});
  double most = -INFINITY, sum = 0;
  for (int i = 0; i < 50; ++i) most = std::max(most, x[i]);
  for (int i = 0; i < 50; ++i) sum += std::exp(x[i] - most);
  for (int i = 0; i < 50; ++i) EXPECT_NEAR(out[1][i], std::exp(x[i] - most) / sum, 1e-6);
}

// --- columns ---

TEST(Loops, ColumnPrograms) {
  std::vector<Function> functions;
  for (Elem e : kCompute) {
    functions.push_back(columns(
        "sum" + elem_name(e), e,
        operands(e, {Extent::element, Extent::column, Extent::row, Extent::scalar}), [](Column& c) {
          const Value scale = c.load(3);
          c.store(1,
                  c.reduce_sum([&](Value row) { return c.load(0, row) * c.load(2, row) + scale; }));
        }));
    functions.push_back(columns(
        "argmin" + elem_name(e), e,
        {{e}, {Elem::i64, Extent::column}, {e, Extent::row}, {e, Extent::scalar}}, [](Column& c) {
          c.store(1, c.reduce_argmin([&](Value row) { return c.load(0, row); }).row);
        }));
    functions.push_back(
        columns("cummax" + elem_name(e), e,
                operands(e, {Extent::element, Extent::element, Extent::row, Extent::scalar}),
                [](Column& c) {
                  c.scan({splat(identity(Binary::max, c.constant(0)), c.lanes())},
                         [&](Value row, auto best) {
                           const Value next = maximum(best[0], c.load(0, row));
                           c.store(1, row, next);
                           return std::vector{next};
                         });
                }));
    if (is_float(e))
      functions.push_back(columns(
          "normalize" + elem_name(e), e,
          operands(e, {Extent::element, Extent::element, Extent::column, Extent::scalar}),
          [](Column& c) {
            const Value mean = c.reduce_sum([&](Value row) { return c.load(0, row); }) / c.count();
            const Value var = c.reduce_sum([&](Value row) {
              const Value d = c.load(0, row) - mean;
              return Term(d, d);
            }) / c.count();
            const Value rstd = rsqrt(var + c.param(0)) * c.load(2);
            c.each([&](Value row) { c.store(1, row, (c.load(0, row) - mean) * rstd); });
          }));
  }
  const CompiledKernels compiled(functions);
  for (const Function& f : functions)
    for (int64_t red : {1, 5, 127, 128, 129, 300})
      for (int64_t inner : {1, 3, 8, 31, 64, 65, 100, 150}) {
        const int64_t outer = 2;
        std::vector<Data> data;
        for (size_t k = 0; k < f.args.size(); ++k) {
          data.push_back(
              Data(f.args[k], outer * red * (inner + 2)).fill(red + inner + k, f.name[0] == 'a'));
          data.back().strides = {red * (inner + 2), inner + 2};
        }
        data[2].strides = {red, 1};
        check(f, compiled[f.name], data, {outer, red, inner}, {1e-5});
      }
}

TEST(Loops, MasksInRowsAndColumns) {
  std::vector<Function> functions;
  for (Elem e : kCompute) {
    functions.push_back(rows(
        "row" + elem_name(e), e, {{e}, {Elem::bool_}, {e, Extent::row}, {Elem::bool_}}, [](Row& r) {
          r.store_row(2, r.reduce_sum([&](const Index& i) {
            return select(r.load_mask(1, i), r.load(0, i), 0);
          }));
          r.each([&](const Index& i) { r.store(3, i, r.load_mask(1, i) ^ (r.load(0, i) > 1)); });
        }));
    functions.push_back(columns(
        "column" + elem_name(e), e,
        {{e}, {Elem::bool_}, {e, Extent::column}, {Elem::bool_, Extent::column}}, [](Column& c) {
          c.store(2, c.reduce_sum([&](Value row) {
            return select(c.load_mask(1, row), c.load(0, row), 0);
          }));
          const Value zero = splat(c.constant(0), c.lanes());
          c.store(3, Mask{c.scan({(zero == 0).value}, [&](Value row, auto all) {
                    return std::vector{
                        (Mask{all[0]} & (c.load(0, row) > -9) & ~c.load_mask(1, row)).value};
                  })[0]});
        }));
  }
  const CompiledKernels compiled(functions);
  for (const Function& f : functions)
    for (int64_t n : {1, 4, 7, 33, 64, 71, 130}) {
      std::vector<Data> data;
      for (size_t k = 0; k < f.args.size(); ++k) {
        data.push_back(Data(f.args[k], 3 * n).fill(n + k, false));
        data.back().strides =
            f.name[0] == 'r' ? std::vector<int64_t>{n} : std::vector<int64_t>{0, n};
      }
      check(f, compiled[f.name], data,
            f.name[0] == 'r' ? std::vector<int64_t>{3, n} : std::vector<int64_t>{1, 3, n});
    }
}

TEST(Loops, ColumnSumFollowsTheContract) {
  const Elem e = Elem::f32;
  const Function f = columns(
      "sum", e, operands(e, {Extent::element, Extent::column}),
      [](Column& c) { c.store(1, c.reduce_sum([&](Value row) { return c.load(0, row); })); });
  const int64_t red = 300, inner = 70;
  Data x(e, red * inner), y(e, inner);
  x.fill(1, false).strides = {0, inner};
  y.strides = {0};
  const auto out = interpreted(f, {x, y}, {1, red, inner});
  for (int64_t c = 0; c < inner; ++c) {
    float total = 0;
    for (int64_t chunk = 0; chunk < red; chunk += 128) {
      float sum = 0;
      for (int64_t r = chunk; r < std::min(red, chunk + 128); ++r)
        sum += x.as<float>()[r * inner + c];
      total += sum;
    }
    ASSERT_EQ(out[1][c], total);
  }
}

// --- the builder itself ---

/// A 6 x 16 block of C += A B over packed panels: A [k][6], B [k][16], C with a row stride; sizes =
/// {k}.
Function gemm_micro_kernel() {
  constexpr int kRows = 6, kColumns = 2;
  Builder b("gemm_6x16", {Elem::f32, Elem::f32, Elem::f32});
  const Value zero = splat(b.constant({Elem::f32, 1}, 0), 8);
  auto sums = b.loop(0, b.size(0), 1, std::vector<Value>(kRows * kColumns, zero),
                     [&](Value k, std::span<const Value> c) {
                       std::vector<Value> next;
                       const Value right[] = {b.load(1, k * 16, 8), b.load(1, k * 16 + 8, 8)};
                       for (int i = 0; i < kRows; ++i) {
                         const Value left = b.load(0, k * 6 + i);
                         for (int j = 0; j < kColumns; ++j)
                           next.push_back(fma(left, right[j], c[i * kColumns + j]));
                       }
                       return next;
                     });
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < kColumns; ++j) {
      const Value at = i * b.stride(2, 0) + j * 8;
      b.store(2, at, b.load(2, at, 8) + sums[i * kColumns + j]);
    }
  return b.finish();
}

TEST(Loops, GemmMicroKernel) {
  const Function f = gemm_micro_kernel();
  const CompiledKernels compiled({&f, 1});
  Data c = matrix(Elem::f32, 6, 16, 20, 3);
  check(f, compiled[f.name],
        {Data(Elem::f32, 6 * 50).fill(1, false), Data(Elem::f32, 16 * 50).fill(2, false), c}, {50});
}

TEST(Loops, TextForm) {
  Builder b("triangle", {Elem::i64});
  const Value n = b.size(0), zero = b.integer(0);
  auto sum = b.loop(0, n, 1, {zero}, [](Value i, auto total) { return std::vector{total[0] + i}; });
  b.store(0, 0, sum[0]);
  EXPECT_EQ(print(b.finish()), R"(kernel triangle(i64)
  %0 = size 0 : i64
  %1 = constant 0 : i64
  %2 = constant 0 : i64
  %3 = constant 1 : i64
  %4 = loop %2, %0, %3 : i64
    %5 = carried %1 : i64
    %6 = add %5, %4 : i64
    %7 = yield %5, %6 : i64
  end %4
  %9 = constant 0 : i64
  store arg0 %9, %7
)");
}

TEST(Loops, VerifierRejects) {
  auto problem = [](std::vector<Node> nodes) {
    return verify({"f", {Elem::f32}, std::move(nodes)});
  };
  const Node one{Kind::constant, 0, {Elem::f32, 1}};
  const Node index{Kind::constant, 0, {Elem::i64, 1}};
  EXPECT_EQ(problem({one}), "");
  EXPECT_EQ(problem({one, {Kind::unary, 0, {Elem::f32, 1}, 5}}),
            "%1 = neg: operand is not defined here");
  EXPECT_EQ(problem({one, {Kind::unary, 0, {Elem::f32, 8}, 0}}), "%1 = neg: operand types differ");
  EXPECT_EQ(problem({one, {Kind::load, 0, {Elem::f32, 1}, 0}}),
            "%1 = load: the index is an i64 scalar");
  EXPECT_EQ(problem({{Kind::constant, 0, {Elem::bf16, 1}}}), "%0 = constant: not a value type");
  EXPECT_EQ(problem({index, {Kind::loop, 0, {Elem::i64, 1}, 0, 0, 0}}), "a loop has no end");
  // a value of a loop's body is unknown behind it
  EXPECT_EQ(problem({index,
                     {Kind::loop, 0, {Elem::i64, 1}, 0, 0, 0},
                     one,
                     {Kind::end, 0, {Elem::i64, 1}, 1},
                     {Kind::unary, 0, {Elem::f32, 1}, 2}}),
            "%4 = neg: operand is not defined here");
}

TEST(Loops, BuilderRejectsMixedTypes) {
  Builder b("f", {});
  const Value x = b.constant({Elem::f32, 1}, 1), y = b.constant({Elem::f64, 1}, 1);
  EXPECT_THROW(x + y, std::logic_error);
  EXPECT_THROW(Value(1.0) + Value(2.0), std::logic_error);
  EXPECT_THROW(x + Value(), std::logic_error);
}

TEST(Loops, EmitsFromSeveralThreadsAlike) {
  const std::vector<Function> functions{gemm_micro_kernel(), softmax(Elem::f32, Elem::f32)};
  const std::string expected = emit_object(functions);
  std::string objects[2];
  std::thread other([&] { objects[0] = emit_object(functions); });
  objects[1] = emit_object(functions);
  other.join();
  EXPECT_EQ(objects[0], expected);
  EXPECT_EQ(objects[1], expected);
}

}  // namespace
}  // namespace fluxion::loops
