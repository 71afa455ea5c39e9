// Errors of the operating system about a file.
#pragma once

#include <cstring>

#include "base/error.h"

namespace fluxion {

/// A failed call to the system: errno and the file, besides the text.
class IoError : public Error {
 public:
  IoError(int code, std::string path, const std::string& text)
      : Error(ErrorKind::io, text), code_(code), path_(std::move(path)) {}
  int code() const { return code_; }
  const std::string& path() const { return path_; }

 private:
  int code_;
  std::string path_;
};

/// "save: cannot write 'a/b': No space left on device".
[[noreturn]] inline void fail_io(int code, const char* what, const std::string& path) {
  throw IoError(code, path, fmt::format("{} '{}': {}", what, path, std::strerror(code)));
}

}  // namespace fluxion
