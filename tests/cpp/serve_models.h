// Models for the server's tests, made by what their model.fluxion says, and folders to put them in.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "autograd/autograd.h"
#include "ops/functions.h"
#include "ops/operators.h"
#include "serve/model.h"

namespace fluxion::serve_test {

using serve::Model;
using serve::Signature;
using serve::TensorSpec;

/// Signatures and one function for each.
class FunctionModel : public Model {
 public:
  using Run = std::function<std::vector<Tensor>(std::span<const Tensor>)>;

  void add(Signature s, Run run) {
    signatures_.push_back(std::move(s));
    runs_.push_back(std::move(run));
  }
  std::span<const Signature> signatures() const override { return signatures_; }
  std::vector<Tensor> run(const Signature& s, std::span<const Tensor> in) const override {
    const NoGrad no_grad;
    return runs_[static_cast<size_t>(&s - signatures_.data())](in);
  }

 private:
  std::vector<Signature> signatures_;
  std::vector<Run> runs_;
};

/// "INPUT0:f32:-1,4"
inline TensorSpec parse_spec(const std::string& text) {
  std::istringstream in(text);
  TensorSpec spec;
  std::string dtype, dims, dim;
  std::getline(in, spec.name, ':');
  std::getline(in, dtype, ':');
  std::getline(in, dims);
  if (!parse_dtype(dtype, &spec.dtype)) fail(ErrorKind::value, "no dtype '{}'", dtype);
  std::istringstream list(dims);
  while (std::getline(list, dim, ',')) spec.shape.push_back(std::stoll(dim));
  return spec;
}

/// A fixed matrix: element i of it is sin(i + seed).
inline Tensor weight(int64_t rows, int64_t columns, double seed) {
  Tensor t = empty({rows, columns}, DType::f32);
  for (int64_t i = 0; i < rows * columns; ++i)
    t.data<float>()[i] = static_cast<float>(std::sin(static_cast<double>(i) + seed));
  return t;
}

/// model.fluxion holds a kind and its arguments:
///   identity SPEC...     outputs its inputs INPUTn as OUTPUTn
///   sleep MS SPEC        the same, slowly
///   scale FACTOR         x [-1,4] times FACTOR
///   add_sub              INPUT0, INPUT1 [-1,4] to their sum and difference
///   linear SEED          "infer": x [-1,8] @ weight(8, 3, SEED); "gram": x [-1,4] to x @ x.T
///   raises TEXT          when it runs
///   wrong                promises [2], returns [3]
///   broken TEXT          cannot be loaded
inline std::shared_ptr<const Model> load_model(const std::filesystem::path& dir) {
  std::ifstream file(dir / "model.fluxion");
  if (!file) fail(ErrorKind::io, "cannot open {}", (dir / "model.fluxion").native());
  std::string kind, word;
  file >> kind;
  auto model = std::make_shared<FunctionModel>();
  const TensorSpec rows{"x", DType::f32, {-1, 4}};
  if (kind == "identity" || kind == "sleep") {
    int ms = 0;
    if (kind == "sleep") file >> ms;
    Signature s{"infer", {}, {}};
    while (file >> word) {
      s.inputs.push_back(parse_spec(word));
      s.outputs.push_back(s.inputs.back());
      s.outputs.back().name = "OUTPUT" + std::to_string(s.outputs.size() - 1);
    }
    model->add(s, [ms](std::span<const Tensor> in) {
      if (ms) std::this_thread::sleep_for(std::chrono::milliseconds(ms));
      return std::vector<Tensor>(in.begin(), in.end());
    });
  } else if (kind == "scale") {
    double factor = 1;
    file >> factor;
    model->add({"infer", {rows}, {{"y", DType::f32, {-1, 4}}}},
               [factor](std::span<const Tensor> in) {
                 return std::vector<Tensor>{mul(in[0], scalar(factor, DType::f32))};
               });
  } else if (kind == "add_sub") {
    TensorSpec a = rows, b = rows, sum = rows, difference = rows;
    a.name = "INPUT0", b.name = "INPUT1", sum.name = "OUTPUT0", difference.name = "OUTPUT1";
    model->add({"infer", {a, b}, {sum, difference}}, [](std::span<const Tensor> in) {
      return std::vector<Tensor>{add(in[0], in[1]), sub(in[0], in[1])};
    });
  } else if (kind == "linear") {
    double seed = 0;
    file >> seed;
    const Tensor w = weight(8, 3, seed);
    model->add({"infer", {{"x", DType::f32, {-1, 8}}}, {{"y", DType::f32, {-1, 3}}}},
               [w](std::span<const Tensor> in) { return std::vector<Tensor>{matmul(in[0], w)}; });
    model->add({"gram", {rows}, {{"g", DType::f32, {-1, -1}}}}, [](std::span<const Tensor> in) {
      return std::vector<Tensor>{transpose(matmul(in[0], transpose(in[0], 0, 1)), 0, 1)};
    });
  } else if (kind == "raises") {
    std::getline(file, word);
    model->add({"infer", {rows}, {rows}}, [word](std::span<const Tensor>) -> std::vector<Tensor> {
      fail(ErrorKind::internal, "raised:{}", word);
    });
  } else if (kind == "wrong") {
    model->add({"infer", {rows}, {{"y", DType::f32, {2}}}},
               [](std::span<const Tensor>) { return std::vector<Tensor>{empty({3}, DType::f32)}; });
  } else {
    std::getline(file, word);
    fail(ErrorKind::value, "{}: no model of kind '{}':{}", dir.native(), kind, word);
  }
  return model;
}

/// A folder of models that goes with the object.
class ModelFolder {
 public:
  ModelFolder() {
    static std::atomic<int> count{0};
    path_ = std::filesystem::temp_directory_path() /
            fmt::format("fluxion_serve_{}_{}", ::getpid(), count++);
    std::filesystem::create_directories(path_);
  }
  ~ModelFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Replaces the file as a deployment would: whole, by rename, with a new time.
  void write(const std::string& model, int version, const std::string& text) const {
    const auto dir = path_ / model / std::to_string(version);
    std::filesystem::create_directories(dir);
    std::ofstream(dir / "new") << text;
    std::filesystem::rename(dir / "new", dir / "model.fluxion");
  }

 private:
  std::filesystem::path path_;
};

/// The models of the recorded exchanges that we can have: there are no BYTES tensors.
inline void write_recorded_models(const ModelFolder& folder) {
  folder.write("identity", 1, "identity INPUT0:f32:-1,-1");
  folder.write("id_nobatch", 1, "identity INPUT0:f32:-1");
  folder.write("id_two", 1, "identity INPUT0:i32:-1,2 INPUT1:f16:-1,2");
  folder.write("id_int64", 1, "identity INPUT0:i64:-1,-1");
  folder.write("id_queue", 1, "sleep 1 INPUT0:f32:-1,-1");
  folder.write("labels", 1, "identity INPUT0:f32:-1,4");
}

}  // namespace fluxion::serve_test
