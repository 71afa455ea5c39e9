#include "graph/dim.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "graph/names.h"

namespace fluxion::graph {

namespace {

constexpr size_t kMaxTerms = 64, kMaxDegree = 16;

/// Higher degrees first, so that the constant comes last.
bool before(const Monomial& a, const Monomial& b) {
  if (a.symbols.size() != b.symbols.size()) return a.symbols.size() > b.symbols.size();
  return a.symbols < b.symbols;
}

[[noreturn]] void fail_overflow() {
  fail(ErrorKind::value, "dim: the size does not fit in 64 bits; the shape is too large");
}

int64_t times(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_mul_overflow(a, b, &r)) fail_overflow();
  return r;
}

int64_t plus(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_add_overflow(a, b, &r)) fail_overflow();
  return r;
}

/// Sorted, equal monomials joined, zeros dropped.
std::vector<Monomial> normal_form(std::vector<Monomial> terms) {
  for (Monomial& m : terms) std::ranges::sort(m.symbols);
  std::ranges::sort(terms, before);
  std::vector<Monomial> out;
  for (Monomial& m : terms) {
    if (m.symbols.size() > kMaxDegree)
      fail(ErrorKind::value, "dim: a product of {} sizes; at most {} are allowed", m.symbols.size(),
           kMaxDegree);
    if (!out.empty() && out.back().symbols == m.symbols)
      out.back().coefficient = plus(out.back().coefficient, m.coefficient);
    else out.push_back(std::move(m));
  }
  std::erase_if(out, [](const Monomial& m) { return m.coefficient == 0; });
  if (out.size() > kMaxTerms)
    fail(ErrorKind::value, "dim: a sum of {} terms; at most {} are allowed", out.size(), kMaxTerms);
  return out;
}

}  // namespace

Dim::Dim(int64_t constant) {
  if (constant) terms_.push_back({constant, {}});
}

Dim Dim::symbol(uint32_t index) {
  Dim d;
  d.terms_.push_back({1, {index}});
  return d;
}

int64_t Dim::evaluate(std::span<const int64_t> sizes) const {
  int64_t sum = 0;
  for (const Monomial& m : terms_) {
    int64_t product = m.coefficient;
    for (uint32_t s : m.symbols) {
      if (s >= sizes.size())
        fail(ErrorKind::value, "dim: symbol {} has no size; {} sizes are known", s, sizes.size());
      product = times(product, sizes[s]);
    }
    sum = plus(sum, product);
  }
  return sum;
}

Dim Dim::operator+(const Dim& o) const {
  Dim d = *this;
  d.terms_.insert(d.terms_.end(), o.terms_.begin(), o.terms_.end());
  d.terms_ = normal_form(std::move(d.terms_));
  return d;
}

Dim Dim::operator*(const Dim& o) const {
  Dim d;
  for (const Monomial& a : terms_)
    for (const Monomial& b : o.terms_) {
      Monomial m{times(a.coefficient, b.coefficient), a.symbols};
      m.symbols.insert(m.symbols.end(), b.symbols.begin(), b.symbols.end());
      d.terms_.push_back(std::move(m));
    }
  d.terms_ = normal_form(std::move(d.terms_));
  return d;
}

std::string Dim::text(std::span<const DimSymbol> dims) const {
  if (terms_.empty()) return "0";
  std::string out;
  for (const Monomial& m : terms_) {
    bool negative = m.coefficient < 0;
    uint64_t size =
        negative ? 0 - static_cast<uint64_t>(m.coefficient) : static_cast<uint64_t>(m.coefficient);
    if (out.empty()) out = negative ? "-" : "";
    else out += negative ? " - " : " + ";
    bool first = size != 1 || m.symbols.empty();
    if (first) out += fmt::format("{}", size);
    for (uint32_t s : m.symbols) {
      if (first) out += "*";
      out += s < dims.size() ? dims[s].name : fmt::format("?{}", s);
      first = true;
    }
  }
  return out;
}

namespace {

class DimParser {
 public:
  DimParser(std::string_view text, std::span<const DimSymbol> dims) : text_(text), dims_(dims) {}

  Dim whole() {
    Dim sum;
    bool negative = take('-');
    while (true) {
      Dim term = product(negative);
      sum = sum + term;
      if (take('+')) negative = false;
      else if (take('-')) negative = true;
      else break;
    }
    if (at_ < text_.size()) stop(fmt::format("unexpected '{}'", text_[at_]));
    return sum;
  }

 private:
  Dim product(bool negative) {
    Dim p = factor(negative);
    while (take('*')) p = p * factor(false);
    return p;
  }

  Dim factor(bool negative) {
    skip();
    size_t start = at_;
    while (at_ < text_.size() && is_name_char(text_[at_])) ++at_;
    std::string word(text_.substr(start, at_ - start));
    if (word.empty()) stop("a number or the name of a dim was expected");
    if (word[0] >= '0' && word[0] <= '9') {
      std::string digits = (negative ? "-" : "") + word;
      int64_t n = 0;
      auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), n);
      if (error != std::errc() || end != digits.data() + digits.size())
        stop(fmt::format("'{}' is not a 64-bit integer", word));
      return n;
    }
    for (uint32_t i = 0; i < dims_.size(); ++i)
      if (dims_[i].name == word) return negative ? Dim(-1) * Dim::symbol(i) : Dim::symbol(i);
    stop(fmt::format("no dim is called '{}'", word));
  }

  bool take(char c) {
    skip();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  [[noreturn]] void stop(const std::string& what) const {
    fail(ErrorKind::value, "dim '{}': {}", text_, what);
  }

  std::string_view text_;
  std::span<const DimSymbol> dims_;
  size_t at_ = 0;
};

}  // namespace

Dim Dim::parse(std::string_view text, std::span<const DimSymbol> dims) {
  return DimParser(text, dims).whole();
}

}  // namespace fluxion::graph
