#include "serve/access_log.h"

#include <fmt/chrono.h>
#include <fmt/compile.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>

namespace fluxion::serve {

namespace {
constexpr size_t kBlock = 32 << 10;
}

void write_all(int file, std::string_view text) {
  while (file >= 0 && !text.empty()) {
    const ssize_t n = ::write(file, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // nobody reads it any more
    text.remove_prefix(static_cast<size_t>(n));
  }
}

void AccessLog::add(std::string_view client, std::string_view method, std::string_view target,
                    int status, uint64_t in, uint64_t out, Clock::duration took) {
  if (file_ < 0) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  if (ms / 1000 != second_) {
    second_ = ms / 1000;
    second_text_ = fmt::format("{:%FT%T}", fmt::gmtime(static_cast<time_t>(second_)));
  }
  fmt::format_to(std::back_inserter(lines_), FMT_COMPILE("{}.{:03}Z {} \"{} "), second_text_,
                 ms % 1000, client, method);
  for (const char c : target)
    if (c == '"') lines_ += "%22";
    else lines_ += static_cast<unsigned char>(c) > ' ' && c != '\x7f' ? c : '?';
  fmt::format_to(std::back_inserter(lines_), FMT_COMPILE("\" {} {} {} {}\n"), status, in, out,
                 nanoseconds(took) / 1000);
  if (lines_.size() >= kBlock) flush();
}

void AccessLog::flush() {
  write_all(file_, lines_);
  lines_.clear();
}

}  // namespace fluxion::serve
