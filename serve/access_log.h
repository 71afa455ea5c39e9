// One line per request, collected by each thread and written in blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "serve/statistics.h"

namespace fluxion::serve {

/// TIME CLIENT "METHOD TARGET" STATUS BYTES-IN BYTES-OUT MICROSECONDS
class AccessLog {
 public:
  /// Writes to that file descriptor; -1: to nobody. Not for several threads.
  explicit AccessLog(int file) : file_(file) {}
  ~AccessLog() { flush(); }
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  void add(std::string_view client, std::string_view method, std::string_view target, int status,
           uint64_t in, uint64_t out, Clock::duration took);
  void flush();

 private:
  const int file_;
  std::string lines_;
  int64_t second_ = -1;  // that second_text_ shows
  std::string second_text_;
};

/// Writes all of it, with as few calls as it takes.
void write_all(int file, std::string_view text);

}  // namespace fluxion::serve
