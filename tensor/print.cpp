// Tensors as text, in PyTorch's format: one number format for all elements, lines of 80 columns,
// ellipses from 1000 elements on.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "tensor/tensor.h"

namespace fluxion {

PrintOptions& print_options() {
  static PrintOptions options;
  return options;
}

std::string shape_text(Ints shape) {
  std::string s = "(";
  for (size_t d = 0; d < shape.size(); ++d) s += fmt::format("{}{}", d ? ", " : "", shape[d]);
  return s + (shape.size() == 1 ? ",)" : ")");
}

std::string type_text(const Tensor& t) {
  return fmt::format("{} {}", name(t.dtype()), shape_text(t.sizes()));
}

namespace {

std::string decimal(double v, std::chars_format format, int precision) {
  if (std::isnan(v)) return "nan";
  char buffer[512];
  const auto r = std::to_chars(buffer, buffer + sizeof buffer, v, format, std::min(precision, 128));
  return {buffer, r.ptr};
}

/// The element format that suits all shown elements.
class Format {
 public:
  explicit Format(DType dtype) : dtype_(dtype) {}

  /// First every shown element, then `finish`, then again every shown element.
  void look_at(const char* element) {
    if (!is_floating(dtype_)) return widen(plain(element).size());
    const double v = load_double(element, dtype_);
    if (v == 0 || !std::isfinite(v)) return;
    smallest_ = std::min(smallest_, std::abs(v));
    largest_ = std::max(largest_, std::abs(v));
    whole_ &= v == std::ceil(v);
  }
  void finish() {
    if (largest_ == 0) return;
    const int wish = print_options().scientific;
    scientific_ = wish < 0 ? largest_ / smallest_ > 1000.0 || largest_ > 1.0e8 || smallest_ < 1.0e-4
                           : wish > 0;
  }
  void measure(const char* element) {
    if (!is_floating(dtype_)) return;
    const double v = load_double(element, dtype_);
    if (v != 0 && std::isfinite(v)) widen(floating(v).size());
  }

  size_t width() const { return width_; }
  std::string operator()(const char* element) const {
    const std::string s =
        is_floating(dtype_) ? floating(load_double(element, dtype_)) : plain(element);
    return std::string(width_ - std::min(width_, s.size()), ' ') + s;
  }

 private:
  void widen(size_t n) { width_ = std::max(width_, n); }
  std::string plain(const char* element) const {
    const int64_t v = load_int(element, dtype_);
    return dtype_ != DType::bool_ ? std::to_string(v) : v ? "True" : "False";
  }
  std::string floating(double v) const {
    const int precision = print_options().precision;
    if (scientific_) return decimal(v, std::chars_format::scientific, precision);
    if (!whole_) return decimal(v, std::chars_format::fixed, precision);
    return decimal(v, std::chars_format::fixed, 0) + (std::isfinite(v) ? "." : "");
  }

  DType dtype_;
  bool whole_ = true, scientific_ = false;
  double smallest_ = std::numeric_limits<double>::infinity(), largest_ = 0;
  size_t width_ = 1;
};

class Printer {
 public:
  explicit Printer(const Tensor& t)
      : t_(*t.impl()), summarize_(t.numel() > print_options().threshold), format_(t.dtype()) {
    each_shown(0, t_.data, [&](const char* p) { format_.look_at(p); });
    format_.finish();
    each_shown(0, t_.data, [&](const char* p) { format_.measure(p); });
  }

  std::string text(int indent) const {
    return t_.rank == 0 ? format_(t_.data) : block(0, t_.data, indent);
  }

 private:
  int64_t edge() const { return print_options().edgeitems; }
  bool cut(int d) const { return summarize_ && t_.sizes()[d] > 2 * edge(); }
  const char* at(const char* p, int d, int64_t i) const {
    return p + i * t_.strides()[d] * size_of(t_.dtype);
  }

  /// Calls item(p) for the shown slices of dim d, and gap() where some are left out.
  template <class Item, class Gap>
  void slices(int d, const char* p, Item item, Gap gap) const {
    const int64_t n = t_.sizes()[d], head = cut(d) ? edge() : n;
    for (int64_t i = 0; i < head; ++i) item(at(p, d, i));
    if (!cut(d)) return;
    gap();
    for (int64_t i = n - edge(); i < n; ++i) item(at(p, d, i));
  }

  template <class F>
  void each_shown(int d, const char* p, const F& f) const {
    if (d == t_.rank) return f(p);
    slices(d, p, [&](const char* q) { each_shown(d + 1, q, f); }, [] {});
  }

  /// Dims from d on, the first line already indented.
  std::string block(int d, const char* p, int indent) const {
    const bool last = d + 1 == t_.rank;
    const std::string line_end = ",\n" + std::string(static_cast<size_t>(indent) + 1, ' ');
    const std::string separator =
        last ? ", "
             : "," + std::string(static_cast<size_t>(t_.rank - d - 1), '\n') +
                   std::string(static_cast<size_t>(indent) + 1, ' ');
    const int64_t room = print_options().linewidth - indent;
    const int64_t per_line =
        last ? std::max<int64_t>(1, room / static_cast<int64_t>(format_.width() + 2))
             : std::numeric_limits<int64_t>::max();
    std::string s = "[";
    int64_t count = 0;
    auto add = [&](const std::string& item) {
      if (count > 0) s += count % per_line == 0 ? line_end : separator;
      s += item;
      ++count;
    };
    slices(
        d, p, [&](const char* q) { add(last ? format_(q) : block(d + 1, q, indent + 1)); },
        [&] { add(last && edge() > 0 ? " ..." : "..."); });
    return s + "]";
  }

  const Impl& t_;
  bool summarize_;
  Format format_;
};

/// Appends ", suffix", on a new line if it would not fit.
class SuffixedText {
 public:
  SuffixedText(std::string text, size_t indent) : text_(std::move(text)), indent_(indent) {
    const size_t newline = text_.rfind('\n');
    line_ = text_.size() + 1 - (newline == std::string::npos ? size_t(-1) : newline);
  }
  void add(const std::string& suffix) {
    const bool fits = static_cast<int64_t>(line_ + suffix.size() + 2) <= print_options().linewidth;
    text_ += (fits ? ", " : ",\n" + std::string(indent_, ' ')) + suffix;
    line_ = fits ? line_ + suffix.size() + 2 : indent_ + suffix.size();
  }
  std::string close() { return text_ + ")"; }

 private:
  std::string text_;
  size_t indent_, line_;
};

bool dtype_is_obvious(const Tensor& t) {
  if (t.dtype() == default_dtype()) return true;
  return t.numel() > 0 && (t.dtype() == DType::i64 || t.dtype() == DType::bool_);
}

}  // namespace

std::string to_text(const Tensor& t) { return to_text(t, ""); }

std::string to_text(const Tensor& t, const std::string& suffix) {
  if (!t.defined()) return "tensor(undefined)";
  const std::string prefix = "tensor(";
  const int indent = static_cast<int>(prefix.size());
  SuffixedText text(prefix + (t.numel() == 0 ? "[]" : Printer(t).text(indent)), prefix.size());
  const bool show_size = t.numel() == 0 ? t.dim() != 1 : print_options().edgeitems == 0;
  if (show_size) text.add("size=" + shape_text(t.sizes()));
  if (!dtype_is_obvious(t)) text.add(fmt::format("dtype=fluxion.{}", name(t.dtype())));
  if (!suffix.empty()) text.add(suffix);
  return text.close();
}

}  // namespace fluxion
