// What the tests of io/ share: a folder of their own, tensors with known bytes.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>

#include "op_samples.h"

namespace fluxion::testing {

/// A temporary folder, removed at the end.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "fluxion-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::string text(const std::string& name) const {
    std::ifstream file(*this / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::string path_;
};

inline std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "(no error)";
}

/// Small values that are exact in every dtype, 0 or 1 for bool.
inline Tensor filled(Ints shape, DType dtype) {
  Tensor t = empty(shape, dtype);
  for (int64_t i = 0; i < t.numel(); ++i)
    store_int(t.data<char>() + i * size_of(dtype), dtype, dtype == DType::bool_ ? i % 2 : i % 100);
  return t;
}

inline std::string contents_of(const Tensor& t) { return bytes_of_tensor(t); }

}  // namespace fluxion::testing
