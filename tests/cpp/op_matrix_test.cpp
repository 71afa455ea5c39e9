// Every op on every path has eager's bits; with FLUXION_MATRIX_PAGE=FILE the result is written as docs/op-matrix.md.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <set>

#include "autograd/autograd.h"
#include "compile/captured.h"
#include "compile/passes.h"
#include "graph/graph.h"
#include "io/model_file.h"
#include "op_matrix.h"
#include "ops/functions.h"
#include "tensor/thread_state.h"
#include "trace/recorder.h"

namespace fluxion::testing {

namespace {

using Tensors = std::vector<Tensor>;

Cell good() { return {Cell::Kind::good, ""}; }
Cell not_meant(std::string why) { return {Cell::Kind::not_meant, std::move(why)}; }
Cell failed(std::string why) { return {Cell::Kind::failed, std::move(why)}; }

Tensors defined_only(std::span<const Tensor> all) {
  Tensors some;
  for (const Tensor& t : all)
    if (t.defined()) some.push_back(t);
  return some;
}

Cell same_bits(std::span<const Tensor> got, std::span<const Tensor> want) {
  if (got.size() != want.size())
    return failed(fmt::format("{} results, not {}", got.size(), want.size()));
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i].dtype() != want[i].dtype() || !std::ranges::equal(got[i].sizes(), want[i].sizes()))
      return failed(
          fmt::format("result {} is {}, not {}", i, type_text(got[i]), type_text(want[i])));
    if (bytes_of_tensor(got[i]) != bytes_of_tensor(want[i]))
      return failed(fmt::format("result {} has other bits", i));
  }
  return good();
}

bool differentiable(const Sample& s) { return s.op->vjp || s.op->composite; }

/// Inputs of their own storage, floating ones asking for gradients.
Tensors leaves_of(const Sample& s) {
  Tensors in = random_inputs(s);
  for (Tensor& t : in)
    if (is_floating(t.dtype())) t.set_requires_grad(true);
  return in;
}

Tensors floating(const Tensors& all) {
  Tensors some;
  for (const Tensor& t : all)
    if (t.defined() && is_floating(t.dtype()) && tracks_gradient(t)) some.push_back(t);
  return some;
}

/// d(sum of all results)/d(inputs), once or twice.
Tensors gradients(const Sample& s, const Tensors& in, bool twice) {
  Tensors outs = floating(run(s, in)), wanted = floating(in), seeds;
  if (outs.empty() || wanted.empty()) return {};
  for (const Tensor& o : outs) seeds.push_back(ones(o.sizes(), o.dtype()));
  Tensors first = grad(outs, wanted, seeds, true, twice, true);
  if (!twice) return defined_only(first);
  Tensors again = floating(first), more;
  if (again.empty()) return {};
  for (const Tensor& o : again) more.push_back(ones(o.sizes(), o.dtype()));
  return defined_only(grad(again, wanted, more, false, false, true));
}

using Body = std::function<Tensors(const Tensors&)>;

tracing::Trace traced(const Body& body, const Tensors& in) {
  tracing::Recorder recorder;
  for (size_t i = 0; i < in.size(); ++i) recorder.argument(in[i], fmt::format("x{}", i));
  recorder.start();
  Tensors out = body(in);
  recorder.stop();
  return recorder.finish(out);
}

/// The captured graph, node by node.
Cell captured(const Body& body, const Sample& s, const Tensors& want) {
  tracing::Trace t = traced(body, random_inputs(s, 7));
  graph::verify(t.graph);
  Tensors roots = graph::interpret(t.graph, random_inputs(s)), got;
  for (const tracing::ResultSpec& r : t.results) {
    if (r.from_input) return good();  // an alias of an argument: nothing is computed
    Tensor root = contiguous(roots[r.root]);
    // A view of a computed root: only whole roots compare directly.
    if (!(r.geometry == t.root_geometry[r.root])) return good();
    got.push_back(root);
  }
  return same_bits(got, want);
}

/// Simplified, planned over one arena, run twice.
Cell planned(const Body& body, const Sample& s, const Tensors& want) {
  compile::Captured c(traced(body, random_inputs(s, 7)));
  Tensors got;
  for (int i = 0; i < 2; ++i)
    if (!c.run(random_inputs(s), got)) return failed(c.why());
  return same_bits(got, want);
}

/// Through the bytes of a file.
Cell through_file(const Body& body, const Sample& s, const Tensors& want) {
  tracing::Trace t = traced(body, random_inputs(s, 7));
  for (const tracing::ResultSpec& r : t.results)
    if (r.from_input || !(r.geometry == t.root_geometry[r.root])) return good();
  io::Model model;
  model.signatures.emplace("infer", std::move(t.graph));
  std::vector<Tensor> constants;
  io::GraphBytes bytes = io::write_graphs(model.signatures, constants);
  auto span = [](const std::string& b) { return std::as_bytes(std::span(b)); };
  io::Signatures back = io::read_graphs(span(bytes.graphs), span(bytes.locations), constants);
  graph::Graph g = std::move(back.at("infer"));
  compile::optimize(g);
  auto program = std::make_shared<const compile::Program>(std::move(g));
  compile::Execution e(program);
  Tensors in = random_inputs(s), got;
  uint32_t next = 0;
  for (uint32_t k = 0; k < program->graph().inputs.size(); ++k)
    if (program->graph().inputs[k].kind == graph::InputKind::argument) e.bind(k, in[next++]);
  e.run();
  for (const tracing::ResultSpec& r : t.results) got.push_back(e.result(r.root));
  return same_bits(got, want);
}

Cell guarded(const std::function<Cell()>& run) {
  try {
    return run();
  } catch (const std::exception& e) {
    return failed(e.what());
  }
}

void fill(Row& row, const Sample& s) {
  auto put = [&](size_t path, const std::function<Cell()>& run) {
    Cell& c = row.cells[path];
    if (c.kind == Cell::Kind::failed) return;
    Cell now = guarded(run);
    if (now.kind == Cell::Kind::failed) now.text = s.text() + ": " + now.text;
    if (c.kind != Cell::Kind::good || now.kind == Cell::Kind::failed) c = now;
  };
  Body body = [&](const Tensors& in) { return defined_only(run(s, in)); };
  Tensors want;
  {
    NoGrad off;
    put(0, [&] { return want = body(random_inputs(s)), good(); });
    put(3, [&] { return captured(body, s, want); });
    put(4, [&] { return planned(body, s, want); });
    put(5, [&] { return through_file(body, s, want); });
  }
  std::string why = !differentiable(s) ? "not differentiable" : "";
  if (why.empty() && floating(leaves_of(s)).empty()) why = "no floating point input";
  if (!why.empty()) {
    for (size_t path : {1, 2, 6}) put(path, [&] { return not_meant(why); });
    return;
  }
  Tensors g;
  put(1, [&] {
    return g = gradients(s, leaves_of(s), false), g.empty() ? not_meant("constant") : good();
  });
  put(2, [&] { return gradients(s, leaves_of(s), true).empty() ? not_meant("linear") : good(); });
  put(6, [&] {
    if (g.empty()) return not_meant("constant");
    Body step = [&](const Tensors& in) {
      Tensors own = in;
      for (Tensor& t : own)
        if (is_floating(t.dtype())) t = t.detach().set_requires_grad(true);
      return gradients(s, own, false);
    };
    return planned(step, s, g);
  });
}

}  // namespace

std::vector<Row> op_matrix() {
  std::map<std::pair<std::string, DType>, Row> rows;
  std::vector<std::pair<std::string, DType>> order;
  const char* only = std::getenv("FLUXION_MATRIX_OP");  // one op, to look closer
  for (const Sample& s : all_samples()) {
    if (only && std::string(only) != s.op->name) continue;
    DType dtype = s.inputs.empty() ? DType::f32 : s.inputs[0].dtype;
    auto key = std::pair(std::string(s.op->name), dtype);
    auto [at, fresh] = rows.try_emplace(key, Row{key.first, dtype, {}});
    if (fresh) order.push_back(key);
    fill(at->second, s);
  }
  std::vector<Row> all;
  for (auto& key : order) all.push_back(std::move(rows.at(key)));
  return all;
}

std::string matrix_page(const std::vector<Row>& rows) {
  std::string page =
      "# The op matrix\n\n"
      "Generated by `tools/generate_matrix.py` from running every op of the table on its own samples. A tick: the path\n"
      "works and its bits are eager's. \"eager\" computes; \"gradient\" and \"second gradient\" exist (their values are\n"
      "compared with finite differences in `op_table_test`); \"captured\" is the recorded graph, interpreted; \"planned\"\n"
      "is simplified and runs over one arena; \"file\" is written to bytes, read back, verified and planned; \"captured\n"
      "gradient\" is a planned graph of forward and backward together.\n\n| op | dtype |";
  for (const char* path : kPaths) page += fmt::format(" {} |", path);
  page += "\n|---|---|";
  for (size_t i = 0; i < kPathCount; ++i) page += "---|";
  page += '\n';
  for (const Row& r : rows) {
    page += fmt::format("| {} | {} |", r.op, name(r.dtype));
    for (const Cell& c : r.cells)
      page += c.kind == Cell::Kind::good        ? " ✓ |"
              : c.kind == Cell::Kind::not_meant ? fmt::format(" {} |", c.text)
                                                : " failed |";
    page += '\n';
  }
  return page;
}

TEST(OpMatrix, EveryCellIsFilled) {
  std::vector<Row> rows = op_matrix();
  EXPECT_GT(rows.size(), 300u);
  for (const Row& r : rows)
    for (size_t i = 0; i < kPathCount; ++i) {
      EXPECT_NE(r.cells[i].kind, Cell::Kind::failed)
          << r.op << " " << name(r.dtype) << ", " << kPaths[i] << ": " << r.cells[i].text;
      EXPECT_NE(r.cells[i].kind, Cell::Kind::unknown) << r.op << " " << kPaths[i];
    }
  if (const char* path = std::getenv("FLUXION_MATRIX_PAGE"))
    std::ofstream(path) << matrix_page(rows);
}

}  // namespace fluxion::testing
