// Symbolic sizes: polynomials with integer coefficients over named dims.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fluxion::graph {

/// A declared dim of a graph's signature and the sizes it may take.
struct DimSymbol {
  std::string name;
  int64_t low = 0, high = INT64_MAX;
};

/// coefficient * product of symbols; the symbols are indices into Graph::dims, ascending, repeated
/// for powers.
struct Monomial {
  int64_t coefficient = 0;
  std::vector<uint32_t> symbols;
  bool operator==(const Monomial&) const = default;
};

/// A size or an integer attribute: a constant, or a sum of monomials in normal form (sorted by
/// symbols, none zero).
class Dim {
 public:
  Dim(int64_t constant = 0);
  static Dim symbol(uint32_t index);

  bool is_constant() const {
    return terms_.empty() || (terms_.size() == 1 && terms_[0].symbols.empty());
  }
  /// Of a constant.
  int64_t constant() const { return terms_.empty() ? 0 : terms_[0].coefficient; }
  std::span<const Monomial> terms() const { return terms_; }
  /// The size for given sizes of the symbols. Raises on overflow.
  int64_t evaluate(std::span<const int64_t> sizes) const;

  Dim operator+(const Dim&) const;  // raise on overflow
  Dim operator*(const Dim&) const;
  bool operator==(const Dim&) const = default;

  /// "2*B*T + 1".
  std::string text(std::span<const DimSymbol> dims) const;
  /// The inverse of text(). Raises ErrorKind::value naming what is wrong.
  static Dim parse(std::string_view text, std::span<const DimSymbol> dims);

 private:
  std::vector<Monomial> terms_;
};

}  // namespace fluxion::graph
