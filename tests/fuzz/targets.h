// What fuzzers call: bytes that came from anywhere end in an Error or in something that can be written and read again.
#pragma once

#include <cstring>

#include "graph/control.h"
#include "io/mapped_file.h"
#include "io/model_file.h"

namespace fluxion::fuzz {

/// A property that broke: not an Error, so no target swallows it.
inline void expect(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

/// The JSON header of a safetensors file; the first byte is the size of the data in 64-byte lines.
inline int header(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view json(reinterpret_cast<const char*>(data) + 1, size - 1);
  io::Header first;
  try {
    first = io::parse_header(json, uint64_t{data[0]} * 64, "fuzz");
  } catch (const Error&) {
    return 0;
  }
  const std::string text = io::header_text(first);
  const io::Header again = io::parse_header(text, uint64_t{data[0]} * 64, "fuzz");
  expect(io::header_text(again) == text, "a header is not what was written");
  return 0;
}

/// Whether running takes long, whatever the sizes: loops end by their own decision.
inline bool loops(const graph::Graph& g) {
  for (const graph::Node& n : g.nodes) {
    if (n.op == &graph::kWhile || n.op == &graph::kScan) return true;
    for (const auto& r : n.regions)
      if (loops(*r)) return true;
  }
  return false;
}

/// Runs a graph on ones if it is small: what the verifier lets through must not crash.
inline void run(graph::Graph& g) {
  if (loops(g)) return;
  std::vector<int64_t> sizes;
  for (const graph::DimSymbol& d : g.dims) sizes.push_back(std::clamp<int64_t>(3, d.low, d.high));
  int64_t room = 4096;
  for (const graph::ValueType& t : g.values)
    for (int64_t n = 1; const graph::Dim& d : t.shape)
      if (__builtin_mul_overflow(n, d.evaluate(sizes), &n) || n < 0 || (room -= n) < 0) return;
  std::vector<Tensor> arguments;
  for (graph::Input& i : g.inputs) {
    if (i.kind == graph::InputKind::constant || i.data.defined()) continue;
    const graph::ValueType& t = g.values[i.value];
    Shape shape;
    for (const graph::Dim& d : t.shape) shape.push_back(d.evaluate(sizes));
    Tensor x = empty(Ints(shape), t.dtype);
    for (int64_t e = 0; e < x.numel(); ++e)
      store_int(x.data<char>() + e * size_of(t.dtype), t.dtype, 1);
    if (t.weak) x.impl()->flags |= kWeak;
    if (i.kind == graph::InputKind::argument) arguments.push_back(x);
    else i.data = x;
  }
  graph::interpret(g, arguments);
}

/// The FlatBuffer of graphs: its verifier, upgrades, and the graph verifier.
inline int graphs(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  io::Signatures first;
  try {
    first = io::read_graphs(bytes, {}, {});
  } catch (const Error&) {
    return 0;
  }
  std::vector<Tensor> constants;
  const io::GraphBytes written = io::write_graphs(first, constants);
  const io::Signatures again =
      io::read_graphs(std::as_bytes(std::span(written.graphs)),
                      std::as_bytes(std::span(written.locations)), constants);
  for (auto& [name, g] : first) {
    expect(graph::same(g, again.at(name)), "a graph is not what was written");
    try {
      run(g);
    } catch (const Error&) {
    }
  }
  return 0;
}

/// A whole model file.
inline int model(const uint8_t* data, size_t size) {
  Ref<Storage> bytes = allocate(size);
  std::memcpy(bytes->data, data, size);
  try {
    io::Model m = io::parse_model(bytes, "fuzz");
    for (auto& [name, g] : m.signatures) run(g);
  } catch (const Error&) {
  }
  return 0;
}

}  // namespace fluxion::fuzz
