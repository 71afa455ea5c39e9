#include "serve/json_tensors.h"

#include <simdjson.h>

#include <limits>

#include "serve/http.h"
#include "serve/json.h"

namespace fluxion::serve {

namespace {

namespace dom = simdjson::dom;

struct DTypeNames {
  DType dtype;
  std::string_view oip, tensorflow;
};
constexpr DTypeNames kNames[] = {
    {DType::bool_, "BOOL", "DT_BOOL"}, {DType::u8, "UINT8", "DT_UINT8"},
    {DType::i8, "INT8", "DT_INT8"},    {DType::i16, "INT16", "DT_INT16"},
    {DType::i32, "INT32", "DT_INT32"}, {DType::i64, "INT64", "DT_INT64"},
    {DType::f16, "FP16", "DT_HALF"},   {DType::bf16, "BF16", "DT_BFLOAT16"},
    {DType::f32, "FP32", "DT_FLOAT"},  {DType::f64, "FP64", "DT_DOUBLE"},
};
static_assert(std::size(kNames) == kDTypes);

// How one element is stored and read, per dtype.
template <class T>
struct Plain {
  using Stored = T;
  static T store(double v) { return static_cast<T>(v); }
  static T load(T v) { return v; }
};
struct Half {
  using Stored = uint16_t;
  static uint16_t store(double v) {
    uint16_t bits;
    store_double(reinterpret_cast<char*>(&bits), DType::f16, v);
    return bits;
  }
  static float load(uint16_t v) { return half_to_float(v); }
};
struct BFloat {
  using Stored = uint16_t;
  static uint16_t store(double v) {
    uint16_t bits;
    store_double(reinterpret_cast<char*>(&bits), DType::bf16, v);
    return bits;
  }
  static float load(uint16_t v) { return bfloat16_to_float(v); }
};

template <class F>
void with_type(DType t, F&& f) {
  switch (t) {
    case DType::bool_: return f(Plain<bool>{});
    case DType::u8: return f(Plain<uint8_t>{});
    case DType::i8: return f(Plain<int8_t>{});
    case DType::i16: return f(Plain<int16_t>{});
    case DType::i32: return f(Plain<int32_t>{});
    case DType::i64: return f(Plain<int64_t>{});
    case DType::f16: return f(Half{});
    case DType::bf16: return f(BFloat{});
    case DType::f32: return f(Plain<float>{});
    case DType::f64: return f(Plain<double>{});
  }
}

/// Where in the data we are, for errors.
struct Cursor {
  std::string_view name;
  int64_t next = 0, end = 0;
};

[[noreturn]] void wrong_scalar(const Cursor& at, const char* as) {
  fail_parse("Unable to parse 'data': attempt to access JSON non-{} (input '{}', element {})", as,
             at.name, at.next);
}

double special_value(const dom::element& e, const Cursor& at) {
  std::string_view text;
  if (e.get(text) == simdjson::SUCCESS) {
    if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
    if (text == "Infinity") return std::numeric_limits<double>::infinity();
    if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
  }
  wrong_scalar(at, "number as double");
}

template <class R>
typename R::Stored read_scalar(const dom::element& e, const Cursor& at) {
  using T = typename R::Stored;
  if constexpr (std::is_same_v<T, bool>) {
    bool v;
    if (e.get(v)) wrong_scalar(at, "boolean as boolean");
    return v;
  } else if constexpr (std::is_integral_v<T> && std::is_same_v<R, Plain<T>>) {
    int64_t v;
    if (e.get(v)) wrong_scalar(at, "signed-integer as int64");
    if (v < std::numeric_limits<T>::min() || v > std::numeric_limits<T>::max())
      fail_parse("Unable to parse 'data': {} is out of range (input '{}', element {})", v, at.name,
                 at.next);
    return static_cast<T>(v);
  } else {
    double v;
    if (e.get(v)) v = special_value(e, at);
    return R::store(v);
  }
}

[[noreturn]] void wrong_count(std::string_view name, int64_t wanted) {
  fail_parse(
      "Failed to parse 'data' field: shape does not match true shape: input '{}' needs {} elements",
      name, wanted);
}

/// Depth is bounded by the parser's.
template <class R>
void fill(const dom::element& e, typename R::Stored* out, Cursor& at) {
  dom::array list;
  if (e.get(list)) {
    if (at.next == at.end) wrong_count(at.name, at.end);
    out[at.next] = read_scalar<R>(e, at);
    ++at.next;
    return;
  }
  for (const dom::element item : list) fill<R>(item, out, at);
}

/// Sets shape[level...] from the first list met at each level and checks every other against it.
void measure(const dom::element& e, size_t level, bool first, std::vector<int64_t>& shape,
             std::string_view name) {
  dom::array list;
  if (e.get(list)) {
    if (level != shape.size())
      fail_parse("input '{}': a list was expected at depth {}, got a value", name, level);
    return;
  }
  if (first && level == shape.size()) shape.push_back(-1);
  if (level >= shape.size())
    fail_parse("input '{}': a value was expected at depth {}, got a list", name, level);
  int64_t count = 0;
  for (const dom::element item : list) {
    measure(item, level + 1, first && count == 0, shape, name);
    ++count;
  }
  if (shape[level] < 0) shape[level] = count;
  if (shape[level] != count)
    fail_parse("input '{}': encountered a list of size {} at depth {}, expected size {}", name,
               count, level, shape[level]);
}

Tensor allocate(DType dtype, const std::vector<int64_t>& shape, std::string_view name) {
  if (shape.size() > static_cast<size_t>(kMaxRank))
    fail_parse("input '{}': rank {} exceeds {}", name, shape.size(), kMaxRank);
  return empty(Ints(shape.data(), shape.size()), dtype);
}

template <class R>
void append_value(std::string& out, typename R::Stored stored) {
  const auto v = R::load(stored);
  if constexpr (std::is_same_v<decltype(v), const bool>) {
    out += v ? "true" : "false";
  } else if constexpr (std::is_integral_v<decltype(v)>) {
    append_integer(out, v);
  } else {
    append_float(out, v);
  }
}

template <class R>
void append_dims(std::string& out, const typename R::Stored*& p, std::span<const int64_t> dims) {
  if (dims.empty()) return append_value<R>(out, *p++);
  out += '[';
  for (int64_t i = 0; i < dims[0]; ++i) {
    if (i) out += ',';
    append_dims<R>(out, p, dims.subspan(1));
  }
  out += ']';
}

}  // namespace

std::string_view oip_name(DType t) { return kNames[static_cast<int>(t)].oip; }
std::string_view tensorflow_name(DType t) { return kNames[static_cast<int>(t)].tensorflow; }

bool is_oip_datatype(std::string_view name) {
  for (const DTypeNames& n : kNames)
    if (n.oip == name) return true;
  return name == "UINT16" || name == "UINT32" || name == "UINT64" || name == "BYTES";
}

std::string shape_json(std::span<const int64_t> shape) {
  std::string out = "[";
  for (const int64_t d : shape) {
    if (out.size() > 1) out += ',';
    append_integer(out, d);
  }
  return out += ']';
}

Tensor read_flat(const dom::element& data, DType dtype, Ints shape, std::string_view name,
                 size_t body_bytes) {
  const int64_t n = element_count(shape);
  // Each element takes two bytes of text: a shape beyond that is a lie, not worth an allocation.
  if (static_cast<uint64_t>(n) > body_bytes) wrong_count(name, n);
  if (!data.is_array()) fail_parse("Unable to parse 'data' of input '{}': not a list", name);
  Tensor t = empty(shape, dtype);
  with_type(dtype, [&]<class R>(R) {
    Cursor at{name, 0, n};
    fill<R>(data, t.data<typename R::Stored>(), at);
    if (at.next != n) wrong_count(name, n);
  });
  return t;
}

namespace {

/// `shape` is that of `parts`, each read in turn.
Tensor read_parts(std::span<const dom::element> parts, DType dtype,
                  const std::vector<int64_t>& shape, std::string_view name) {
  Tensor t = allocate(dtype, shape, name);
  with_type(dtype, [&]<class R>(R) {
    Cursor at{name, 0, t.numel()};
    for (const dom::element& part : parts) fill<R>(part, t.data<typename R::Stored>(), at);
  });
  return t;
}

}  // namespace

Tensor read_nested(const dom::element& value, DType dtype, std::string_view name) {
  std::vector<int64_t> shape;
  measure(value, 0, true, shape, name);
  return read_parts({&value, 1}, dtype, shape, name);
}

Tensor read_rows(std::span<const dom::element> rows, DType dtype, std::string_view name) {
  std::vector<int64_t> shape;
  bool first = true;
  for (const dom::element& row : rows) {
    measure(row, 0, first, shape, name);
    first = false;
  }
  shape.insert(shape.begin(), static_cast<int64_t>(rows.size()));
  return read_parts(rows, dtype, shape, name);
}

void append_flat(std::string& out, const Tensor& t) {
  with_type(t.dtype(), [&]<class R>(R) {
    const auto* p = t.data<const typename R::Stored>();
    const int64_t n = t.numel();
    append_dims<R>(out, p, {&n, 1});
  });
}

void append_nested(std::string& out, const Tensor& t) {
  with_type(t.dtype(), [&]<class R>(R) {
    const auto* p = t.data<const typename R::Stored>();
    append_dims<R>(out, p, t.sizes());
  });
}

void append_row(std::string& out, const Tensor& t, int64_t i) {
  with_type(t.dtype(), [&]<class R>(R) {
    const std::span<const int64_t> dims = std::span<const int64_t>(t.sizes()).subspan(1);
    const auto* p = t.data<const typename R::Stored>() + i * (t.numel() / t.sizes()[0]);
    append_dims<R>(out, p, dims);
  });
}

}  // namespace fluxion::serve
