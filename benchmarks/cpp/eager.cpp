// The price of one eager op in C++: 16 floats, so that almost all of it is dispatch.
#include <benchmark/benchmark.h>
#include <fluxion/fluxion.h>

using namespace fluxion;

namespace {

Tensor sixteen() { return full(Shape{16}, 1.5); }

void add(benchmark::State& state) {
  Tensor a = sixteen(), b = sixteen();
  for (auto _ : state) benchmark::DoNotOptimize(a + b);
}

void multiply_by_number(benchmark::State& state) {
  Tensor a = sixteen();
  for (auto _ : state) benchmark::DoNotOptimize(a * 1.01);
}

void first_row(benchmark::State& state) {
  Tensor a = full(Shape{4, 4}, 1.5);
  for (auto _ : state) benchmark::DoNotOptimize(select(a, 0, 0));
}

/// Time per node, forward and backward, of a chain.
void chain(benchmark::State& state) {
  constexpr int kNodes = 100;
  Tensor a = sixteen();
  a.set_requires_grad(true);
  for (auto _ : state) {
    Tensor y = a;
    for (int i = 0; i < kNodes; ++i) y = y * 1.01;
    sum(y).backward();
  }
  state.SetItemsProcessed(state.iterations() * kNodes);
}

BENCHMARK(add);
BENCHMARK(multiply_by_number);
BENCHMARK(first_row);
BENCHMARK(chain);

}  // namespace

BENCHMARK_MAIN();
