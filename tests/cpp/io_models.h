// Models that the tests of io/ write, read and damage.
#pragma once

#include "graph_samples.h"
#include "io/model_file.h"
#include "io_support.h"

namespace fluxion::testing {

/// Dims, slots, a weak and a big constant, attributes whose bits matter, source lines, an absent result.
inline constexpr const char* kInferText =
    R"(graph infer(x: f32[B, 4], mask: bool[B, 3]) slots(weight = "fc.weight": f32[3, 4], bias = "fc.bias": f32[3]) dims(B = 1..64) {
  const %4 "two": weak f64[] = 2
  const %5: f32[3] = [0.5, -0, nan(0xffc00001)]
  %6: f32[B, 3] = linear(x, weight, bias) @ train.py:12 "fc"
  %7: f32[B, 3] = mul(%6, %4) @ train.py:13
  %8: f32[B, 3] = add(%7, %5) @ "odd \"file\".py":1 "act"
  %9: f32[3*B] = reshape(%8) {shape=[3*B]}
  %10: f32[3*B + 2] = pad(%9) {low=[1], high=[1], value=-0}
  return y = %8, flat = %10, mask
}
)";

/// One step of SGD on the same weights.
inline constexpr const char* kStepText =
    R"(graph step(x: f32[B, 4], target: f32[B, 3]) slots(weight = "fc.weight": f32[3, 4], bias = "fc.bias": f32[3], step = "optim.step": i64[]) dims(B = 1..64) {
  const %5: i64[] = 1
  const %6: f32[] = 1
  const %7: f32[] = 0.1
  %8: f32[B, 3] = linear(x, weight, bias)
  %9: f32[] = mse_loss(%8, target) MEAN
  %10: f32[B, 3] = mse_loss_backward(%6, %8, target) MEAN
  %11: f32[3] = reduce_sum(%10) {correction=0, keepdim=false, dims=[0]}
  %12: f32[3] = mul(%11, %7)
  %13: f32[3] = sub(bias, %12)
  %14: i64[] = add(step, %5)
  return loss = %9
  write bias = %13
  write step = %14
}
)";

/// case, while and scan, with regions in regions.
inline constexpr const char* kControlText =
    R"(graph control(pick: bool[], n: i64[], start: f32[2], xs: f32[T, 2]) dims(T = 0..100) {
  const %4: i64[] = 0
  %5: f32[2] = case(pick, start, n, %4) {
    region no(a: f32[2], n: i64[], zero: i64[]) {
      %3: f32[2] = neg(a) @ net.py:3 "no"
      return %3
    }
    region yes(a: f32[2], n: i64[], zero: i64[]) {
      %3: i64[], %4: f32[2] = while(zero, a, n) {carry=2} {
        region condition(i: i64[], y: f32[2], n: i64[]) {
          %3: bool[] = lt(i, n)
          return %3
        }
        region body(i: i64[], y: f32[2], n: i64[]) {
          const %3: i64[] = 1
          %4: i64[] = add(i, %3)
          %5: f32[2] = add(y, y) @ net.py:9
          return %4, %5
        }
      } @ net.py:8
      return %4
    }
  } @ net.py:2
  %6: f32[2], %7: f32[T, 2] = scan(%5, xs) {carry=1, xs=1, length=T, reverse=true} {
    region body(total: f32[2], x: f32[2]) {
      %2: f32[2] = add(total, x)
      return %2, %2
    }
  }
  return last = %6, all = %7
}
)";

inline std::string step_text() {
  std::string text = kStepText;
  for (size_t at; (at = text.find("MEAN")) != std::string::npos;)
    text.replace(at, 4, "{reduction=1}");
  return text;
}

inline void set_slots(graph::Graph& g, const std::map<std::string, Tensor>& state) {
  for (graph::Input& i : g.inputs)
    if (i.kind == graph::InputKind::slot) i.data = state.at(i.name);
}

/// Both graphs on one state, which also has what no graph uses, a tie and odd shapes.
inline io::Model sample_model() {
  io::Model m;
  m.state["fc.weight"] = random_tensor({Shape{3, 4}}, 1);
  m.state["fc.bias"] = random_tensor({Shape{3}}, 2);
  m.state["tied"] = m.state["fc.weight"];
  m.state["rng"] = filled({16}, DType::u8);
  m.state["empty"] = filled({0, 2}, DType::f16);
  m.state["optim.step"] = scalar(int64_t{7}, DType::i64);
  m.signatures.emplace("infer", graph::parse(kInferText));
  m.signatures.emplace("train.step", graph::parse(step_text()));
  for (auto& [name, g] : m.signatures) set_slots(g, m.state);
  m.metadata = {{"doc.infer", "Three numbers \"a\", b and \u00fc."}, {"license", "MIT"}};
  return m;
}

}  // namespace fluxion::testing
