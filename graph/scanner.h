// Reads the words of the text form; every error names line and column.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <string>
#include <string_view>

#include "base/error.h"
#include "graph/names.h"

namespace fluxion::graph {

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  size_t position() const { return at_; }
  void go_to(size_t position) { at_ = position; }

  /// The next character after blanks and // comments; 0 at the end.
  char peek() {
    skip();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) stop(fmt::format("'{}' was expected, got {}", c, next_text()));
  }
  /// Takes the word if it comes next.
  bool take_word(std::string_view word) {
    skip();
    if (text_.substr(at_, word.size()) != word) return false;
    if (at_ + word.size() < text_.size() && is_name_char(text_[at_ + word.size()])) return false;
    at_ += word.size();
    return true;
  }
  void expect_word(std::string_view word) {
    if (!take_word(word)) stop(fmt::format("'{}' was expected, got {}", word, next_text()));
  }

  /// Letters, digits and underscores; may be empty.
  std::string word() {
    skip();
    size_t start = at_;
    while (at_ < text_.size() && is_name_char(text_[at_])) ++at_;
    return std::string(text_.substr(start, at_ - start));
  }
  /// An identifier or a quoted string.
  std::string name(const char* what) {
    if (peek() == '"') return string();
    size_t start = at_;
    std::string w = word();
    if (!is_identifier(w)) {
      at_ = start;
      stop(fmt::format("{} was expected, got {}", what, next_text()));
    }
    return w;
  }
  std::string string();

  int64_t integer(const char* what) {
    size_t start = (skip(), at_);
    int64_t v = 0;
    auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), v);
    if (error != std::errc())
      stop(fmt::format("{}, a 64-bit integer, was expected, got {}", what, next_text()));
    at_ = static_cast<size_t>(end - text_.data());
    if (at_ < text_.size() && is_name_char(text_[at_])) {
      at_ = start;
      stop(fmt::format("{}, a 64-bit integer, was expected, got {}", what, next_text()));
    }
    return v;
  }

  /// Everything up to one of `ends`, without blanks at either side.
  std::string_view until(std::string_view ends) {
    skip();
    size_t start = at_;
    while (at_ < text_.size() && ends.find(text_[at_]) == std::string_view::npos) ++at_;
    std::string_view s = text_.substr(start, at_ - start);
    while (!s.empty() && is_blank(s.back())) s.remove_suffix(1);
    return s;
  }

  [[noreturn]] void stop(const std::string& what) const { stop_at(at_, what); }
  [[noreturn]] void stop_at(size_t position, const std::string& what) const {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < position && i < text_.size(); ++i) {
      ++column;
      if (text_[i] == '\n') ++line, column = 1;
    }
    fail(ErrorKind::value, "graph text, line {}, column {}: {}", line, column, what);
  }
  std::string next_text() {
    skip();
    if (at_ == text_.size()) return "the end";
    size_t n = 1;
    if (is_name_char(text_[at_]))
      while (n < 32 && at_ + n < text_.size() && is_name_char(text_[at_ + n])) ++n;
    return quoted(text_.substr(at_, n));
  }

 private:
  static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
  void skip() {
    while (at_ < text_.size()) {
      if (is_blank(text_[at_])) ++at_;
      else if (text_.substr(at_, 2) == "//")
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      else break;
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace fluxion::graph
