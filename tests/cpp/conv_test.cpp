// Convolution and its gradients against their definitions, bit for bit: windows, groups, dtypes,
// threads, batches.
#include "kernels/conv.h"

#include <gtest/gtest.h>

#include "contraction_kernels.h"
#include "loops/half.h"

namespace fluxion {
namespace {

using namespace kernels;

struct Window {
  int64_t kernel = 3, stride = 1, pad = 1, dilation = 1;
};

struct Case {
  int64_t n, c, oc, h, w;
  Window v, u;  // down and across
  int64_t groups = 1;
};

ConvShape shape_of(const Case& c, Elem elem, int threads) {
  auto out = [](int64_t size, const Window& w) {
    return (size + 2 * w.pad - w.dilation * (w.kernel - 1) - 1) / w.stride + 1;
  };
  return {c.n,           c.c,        c.h,          c.w,          c.oc,       out(c.h, c.v),
          out(c.w, c.u), c.v.kernel, c.u.kernel,   c.groups,     c.v.stride, c.u.stride,
          c.v.pad,       c.u.pad,    c.v.dilation, c.u.dilation, elem,       threads};
}

const std::vector<Case> kCases = {
    {1, 1, 1, 5, 5, {}, {}},
    {2, 3, 5, 9, 11, {}, {}},
    {2, 8, 12, 7, 7, {1, 1, 0, 1}, {1, 1, 0, 1}},
    {3, 4, 6, 12, 10, {3, 2, 1, 1}, {3, 2, 1, 1}},
    {1, 3, 8, 23, 23, {7, 2, 3, 1}, {7, 2, 3, 1}},
    {2, 4, 8, 14, 13, {3, 1, 2, 2}, {2, 3, 0, 3}},
    {2, 6, 9, 10, 12, {3, 1, 1, 1}, {3, 1, 1, 1}, 3},
    {2, 10, 10, 9, 9, {3, 1, 1, 1}, {3, 2, 1, 1}, 10},
    {1, 40, 70, 13, 31, {}, {}},
    {7, 70, 70, 7, 6, {}, {3, 2, 1, 1}, 70},
    {5, 33, 17, 6, 5, {5, 1, 2, 1}, {3, 1, 1, 1}},
    {1, 2, 3, 4, 400, {1, 1, 0, 1}, {9, 1, 4, 1}},
    {2, 3, 4, 6, 6, {2, 4, 0, 1}, {2, 4, 0, 1}},
    {2, 3, 4, 2, 2, {3, 1, 3, 1}, {3, 1, 3, 1}},
};

template <class T>
struct Tensors {
  std::vector<T> input, weight, output, bias;
  explicit Tensors(const ConvShape& s)
      : input(random_values<T>(s.n * s.c * s.h * s.w, 1)),
        weight(random_values<T>(s.oc * s.c / s.groups * s.kh * s.kw, 2)),
        output(random_values<T>(s.n * s.oc * s.oh * s.ow, 3)),
        bias(random_values<T>(s.oc, 4)) {}
};

/// The element of `t` [.., c, h, w] or zero outside.
template <class T>
T at(const std::vector<T>& t, int64_t image_channel, int64_t h, int64_t w, int64_t y, int64_t x) {
  return y < 0 || y >= h || x < 0 || x >= w ? T(0) : t[(image_channel * h + y) * w + x];
}

template <class T>
std::vector<T> expected_forward(const ConvShape& s, const Tensors<T>& t, bool bias) {
  const int64_t cg = s.c / s.groups, og = s.oc / s.groups;
  std::vector<T> out;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t o = 0; o < s.oc; ++o)
      for (int64_t y = 0; y < s.oh; ++y)
        for (int64_t x = 0; x < s.ow; ++x) {
          auto a = [&](int64_t k) { return t.weight[(o * cg + k % cg) * s.kh * s.kw + k / cg]; };
          auto b = [&](int64_t k) {
            const int64_t tap = k / cg, ky = tap / s.kw, kx = tap % s.kw;
            return at(t.input, n * s.c + o / og * cg + k % cg, s.h, s.w,
                      y * s.stride_h + ky * s.dilation_h - s.pad_top,
                      x * s.stride_w + kx * s.dilation_w - s.pad_left);
          };
          const T sum = contract<T>(s.kh * s.kw * cg, a, b);
          out.push_back(bias ? sum + t.bias[o] : sum);
        }
  return out;
}

template <class T>
std::vector<T> expected_input_gradient(const ConvShape& s, const Tensors<T>& t) {
  const int64_t cg = s.c / s.groups, og = s.oc / s.groups;
  std::vector<T> out;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t c = 0; c < s.c; ++c)
      for (int64_t y = 0; y < s.h; ++y)
        for (int64_t x = 0; x < s.w; ++x) {
          const int64_t first = c / cg * og;
          auto a = [&](int64_t k) {
            return t.weight[((first + k % og) * cg + c % cg) * s.kh * s.kw + k / og];
          };
          auto b = [&](int64_t k) {
            const int64_t tap = k / og, py = y + s.pad_top - tap / s.kw * s.dilation_h,
                          px = x + s.pad_left - tap % s.kw * s.dilation_w;
            if (py < 0 || px < 0 || py % s.stride_h || px % s.stride_w) return T(0);
            return at(t.output, n * s.oc + first + k % og, s.oh, s.ow, py / s.stride_h,
                      px / s.stride_w);
          };
          out.push_back(contract<T>(s.kh * s.kw * og, a, b));
        }
  return out;
}

template <class T>
std::vector<T> expected_weight_gradient(const ConvShape& s, const Tensors<T>& t) {
  const int64_t cg = s.c / s.groups, og = s.oc / s.groups;
  std::vector<T> out;
  for (int64_t o = 0; o < s.oc; ++o)
    for (int64_t c = 0; c < cg; ++c)
      for (int64_t tap = 0; tap < s.kh * s.kw; ++tap) {
        auto a = [&](int64_t k) {
          const int64_t n = k / (s.oh * s.ow), y = k / s.ow % s.oh, x = k % s.ow;
          return at(t.input, n * s.c + o / og * cg + c, s.h, s.w,
                    y * s.stride_h + tap / s.kw * s.dilation_h - s.pad_top,
                    x * s.stride_w + tap % s.kw * s.dilation_w - s.pad_left);
        };
        auto b = [&](int64_t k) {
          return t.output[(k / (s.oh * s.ow) * s.oc + o) * s.oh * s.ow + k % (s.oh * s.ow)];
        };
        out.push_back(contract<T>(s.n * s.oh * s.ow, a, b));
      }
  return out;
}

enum Op { kForward, kInputGradient, kWeightGradient };

template <class Out, class In>
std::vector<Out> run(Op op, const ConvShape& s, bool wide, const Tensors<In>& t, const void* bias) {
  const ContractionKernels k = contraction_of(s.elem, s.elem, wide);
  const size_t sizes[] = {t.output.size(), t.input.size(), t.weight.size()};
  const size_t bytes[] = {conv_workspace(s, k), conv_input_gradient_workspace(s, k),
                          conv_weight_gradient_workspace(s, k)};
  std::vector<Out> out(sizes[op] + 1, Out(77));
  TestContext ctx(bytes[op], s.threads);
  int status = kOk;
  switch (op) {
    case kForward:
      status = conv(*ctx, s, k, t.input.data(), t.weight.data(), bias, out.data());
      break;
    case kInputGradient:
      status = conv_input_gradient(*ctx, s, k, t.output.data(), t.weight.data(), out.data());
      break;
    case kWeightGradient:
      status = conv_weight_gradient(*ctx, s, k, t.output.data(), t.input.data(), out.data());
      break;
  }
  EXPECT_EQ(status, kOk);
  EXPECT_EQ(out.back(), Out(77)) << "wrote past the end";
  out.pop_back();
  return out;
}

template <class T>
void expect_same(const std::vector<T>& got, const std::vector<T>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(std::memcmp(&got[i], &expected[i], sizeof(T)), 0)
        << "element " << i << ": " << got[i] << " is not " << expected[i];
}

template <class T>
void check_all(Elem elem) {
  int number = 0;
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << "case " << number++);
    const ConvShape s = shape_of(c, elem, 1);
    const Tensors<T> t(s);
    const auto plain = expected_forward(s, t, false), biased = expected_forward(s, t, true);
    const auto input = expected_input_gradient(s, t), weight = expected_weight_gradient(s, t);
    for (bool wide : {false, true})
      for (int threads : {1, 2}) {
        if (wide && !has_wide_vectors()) continue;
        SCOPED_TRACE(testing::Message() << "wide " << wide << " threads " << threads);
        const ConvShape on = shape_of(c, elem, threads);
        expect_same(run<T>(kForward, on, wide, t, nullptr), plain);
        expect_same(run<T>(kForward, on, wide, t, t.bias.data()), biased);
        expect_same(run<T>(kInputGradient, on, wide, t, nullptr), input);
        expect_same(run<T>(kWeightGradient, on, wide, t, nullptr), weight);
      }
  }
}

TEST(Conv, Float32EqualsTheDefinition) { check_all<float>(Elem::f32); }
TEST(Conv, Float64EqualsTheDefinition) { check_all<double>(Elem::f64); }

TEST(Conv, HalvesAreWidenedAndRoundedOnce) {
  struct Half {
    Elem elem;
    float (*read)(uint16_t);
    uint16_t (*write)(float);
  };
  for (const Half& half : {Half{Elem::f16, loops::f16_to_float, loops::float_to_f16},
                           Half{Elem::bf16, loops::bf16_to_float, loops::float_to_bf16}})
    for (const Case& c : {kCases[1], kCases[3], kCases[6]}) {
      const ConvShape s = shape_of(c, half.elem, 2);
      Tensors<float> wide(s);
      Tensors<uint16_t> narrow(s);
      auto narrow_down = [&](std::vector<float>& from, std::vector<uint16_t>& to) {
        for (size_t i = 0; i < from.size(); ++i) from[i] = half.read(to[i] = half.write(from[i]));
      };
      narrow_down(wide.input, narrow.input);
      narrow_down(wide.weight, narrow.weight);
      narrow_down(wide.output, narrow.output);
      auto rounded = [&](const std::vector<float>& v) {
        std::vector<uint16_t> r;
        for (float x : v) r.push_back(half.write(x));
        return r;
      };
      expect_same(run<uint16_t>(kForward, s, false, narrow, wide.bias.data()),
                  rounded(expected_forward(s, wide, true)));
      expect_same(run<uint16_t>(kInputGradient, s, false, narrow, nullptr),
                  rounded(expected_input_gradient(s, wide)));
      expect_same(run<uint16_t>(kWeightGradient, s, false, narrow, nullptr),
                  rounded(expected_weight_gradient(s, wide)));
    }
}

TEST(Conv, AnImageAloneHasTheBitsItHasInABatch) {
  const Case many{5, 7, 9, 10, 10, {}, {}}, one{1, 7, 9, 10, 10, {}, {}};
  const ConvShape s = shape_of(many, Elem::f32, 2), single = shape_of(one, Elem::f32, 1);
  const Tensors<float> t(s);
  const auto all = run<float>(kForward, s, false, t, nullptr);
  Tensors<float> last(single);
  last.weight = t.weight;
  std::copy(t.input.end() - static_cast<int64_t>(last.input.size()), t.input.end(),
            last.input.begin());
  const auto alone = run<float>(kForward, single, has_wide_vectors(), last, nullptr);
  EXPECT_EQ(std::memcmp(alone.data(), all.data() + all.size() - alone.size(),
                        alone.size() * sizeof(float)),
            0);
}

TEST(Conv, EmptyBatchGivesZeroWeightGradient) {
  const ConvShape s = shape_of({0, 2, 3, 5, 5, {}, {}}, Elem::f32, 1);
  const Tensors<float> t(s);
  EXPECT_EQ(run<float>(kWeightGradient, s, false, t, nullptr),
            std::vector<float>(t.weight.size(), 0.0f));
  EXPECT_TRUE(run<float>(kForward, s, false, t, nullptr).empty());
}

}  // namespace
}  // namespace fluxion
