#include "io/header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

namespace fluxion::io {
namespace {

struct DTypeName {
  DType dtype;
  std::string_view name;
};
constexpr DTypeName kDTypeNames[] = {
    {DType::bool_, "BOOL"}, {DType::u8, "U8"},   {DType::i8, "I8"},   {DType::i16, "I16"},
    {DType::i32, "I32"},    {DType::i64, "I64"}, {DType::f16, "F16"}, {DType::bf16, "BF16"},
    {DType::f32, "F32"},    {DType::f64, "F64"},
};
static_assert(std::size(kDTypeNames) == kDTypes);

std::string all_dtype_names() {
  std::string text;
  for (const DTypeName& d : kDTypeNames) text += (text.empty() ? "" : ", ") + std::string(d.name);
  return text;
}

/// "[2, 3]".
std::string json_list(Ints shape, const char* separator = ", ") {
  std::string text = "[";
  for (const int64_t size : shape)
    text += (text.size() > 1 ? separator : "") + std::to_string(size);
  return text + ']';
}

// A walk over the events of the JSON parser: nothing is built that is not wanted, so a hostile header takes no more
// memory than its own size, and no recursion.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(std::string_view file) : file_(file) {}

  Header take() { return std::move(header_); }
  [[noreturn]] void fail_with(std::string_view problem) const {
    fail(ErrorKind::runtime, "load: {}: {}", file_, problem);
  }
  [[noreturn]] void fail_at(const std::string& name, std::string_view problem) const {
    fail(ErrorKind::runtime, "load: {}: tensor '{}': {}", file_, name, problem);
  }

  bool null() override { return scalar("null"); }
  bool boolean(bool v) override { return scalar(v ? "true" : "false"); }
  bool number_integer(int64_t v) override { return scalar(std::to_string(v)); }
  bool number_float(double, const std::string& text) override { return scalar(text); }
  bool number_unsigned(uint64_t v) override {
    if (v > INT64_MAX) return scalar(std::to_string(v));
    if (place_ == Place::shape) {
      if (entry_.shape.size() == kMaxRank)
        fail_at(entry_.name, fmt::format("more than {} dims", kMaxRank));
      entry_.shape.push_back(static_cast<int64_t>(v));
      return true;
    }
    if (place_ != Place::offsets) return scalar(std::to_string(v));
    if (offsets_ == 2) bad_offsets("more");
    (offsets_++ ? entry_.end : entry_.begin) = v;
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::metadata) {
      header_.metadata.emplace(key_, std::move(text));
      return true;
    }
    if (place_ != Place::entry || key_ != "dtype") return scalar(json_quoted(text));
    const auto* found = std::ranges::find(kDTypeNames, text, &DTypeName::name);
    if (found == std::end(kDTypeNames))
      fail_at(entry_.name, fmt::format("dtype '{}' is not one of {}", text, all_dtype_names()));
    entry_.dtype = found->dtype;
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::outside) place_ = Place::top;
    else if (place_ != Place::top) return scalar("an object");
    else if (key_ == "__metadata__") place_ = Place::metadata;
    else begin_entry();
    return true;
  }
  bool key(std::string& text) override {
    key_ = std::move(text);
    if (place_ == Place::top && !names_.insert(key_).second)
      fail_with(fmt::format("the key '{}' stands there twice", key_));
    if (place_ == Place::metadata && header_.metadata.contains(key_))
      fail_with(fmt::format("the key '{}' of __metadata__ stands there twice", key_));
    if (place_ == Place::entry) begin_field();
    return true;
  }
  bool end_object() override {
    if (place_ == Place::entry) end_entry();
    place_ = place_ == Place::top ? Place::outside : Place::top;
    return true;
  }
  bool start_array(size_t) override {
    if (place_ == Place::entry && key_ == "shape") place_ = Place::shape;
    else if (place_ == Place::entry && key_ == "data_offsets") place_ = Place::offsets;
    else return scalar("an array");
    return true;
  }
  bool end_array() override {
    if (place_ == Place::offsets && offsets_ != 2) bad_offsets(std::to_string(offsets_));
    place_ = Place::entry;
    return true;
  }

  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& e) override {
    std::string_view text = e.what();
    text.remove_prefix(std::min(text.size(), text.find("] ") + 2));  // "[json.exception...] "
    fail_with(fmt::format("the header is not valid JSON: {}", text));
  }

 private:
  enum class Place : uint8_t { outside, top, metadata, entry, shape, offsets };
  enum : uint8_t { kDType = 1, kShape = 2, kOffsets = 4, kAll = 7 };

  /// A value that does not belong where it stands.
  bool scalar(std::string_view got) {
    switch (place_) {
      case Place::outside: fail_with(fmt::format("the header must be a JSON object, got {}", got));
      case Place::metadata: fail_with("__metadata__ must map strings to strings");
      case Place::shape:
        fail_at(entry_.name, fmt::format("shape must be a list of sizes, got {}", got));
      case Place::offsets: bad_offsets(got);
      case Place::entry: fail_at(entry_.name, fmt::format("{} cannot be {}", key_, got));
      case Place::top: break;
    }
    if (key_ == "__metadata__") fail_with("__metadata__ must map strings to strings");
    needs_exactly(key_);
  }
  [[noreturn]] void bad_offsets(std::string_view got) const {
    fail_at(entry_.name, fmt::format("data_offsets must be two sizes, got {}", got));
  }
  [[noreturn]] void needs_exactly(const std::string& name) const {
    fail_at(name, "needs exactly dtype, shape and data_offsets");
  }

  void begin_entry() {
    place_ = Place::entry;
    entry_ = {};
    entry_.name = key_;
    fields_ = 0;
    offsets_ = 0;
  }
  void begin_field() {
    const uint8_t field = key_ == "dtype"          ? kDType
                          : key_ == "shape"        ? kShape
                          : key_ == "data_offsets" ? kOffsets
                                                   : 0;
    if (field == 0 || (fields_ & field)) needs_exactly(entry_.name);
    fields_ |= field;
  }
  void end_entry() {
    if (fields_ != kAll) needs_exactly(entry_.name);
    const Ints shape(entry_.shape);
    const std::string_view dtype = safetensors_name(entry_.dtype);
    int64_t bytes = size_of(entry_.dtype);
    bool overflow = false;
    for (const int64_t size : shape) overflow |= __builtin_mul_overflow(bytes, size, &bytes);
    if (overflow && !std::ranges::count(shape, 0))
      fail_at(entry_.name, fmt::format("{} of shape {} needs more bytes than fit in 64 bits", dtype,
                                       json_list(shape)));
    if (std::ranges::count(shape, 0)) bytes = 0;
    if (entry_.end < entry_.begin || entry_.end - entry_.begin != static_cast<uint64_t>(bytes))
      fail_at(entry_.name,
              fmt::format("{} of shape {} needs {} bytes, offsets give {}", dtype, json_list(shape),
                          bytes, static_cast<int64_t>(entry_.end - entry_.begin)));
    header_.tensors.push_back(std::move(entry_));
  }

  std::string_view file_;
  Header header_;
  Place place_ = Place::outside;
  std::string key_;
  std::set<std::string> names_;
  TensorEntry entry_;
  uint8_t fields_ = 0, offsets_ = 0;
};

/// The tensors' ranges must follow each other and fill the data exactly.
void check_coverage(const Header& header, uint64_t data_bytes, const HeaderReader& errors) {
  std::vector<const TensorEntry*> order;
  for (const TensorEntry& e : header.tensors) order.push_back(&e);
  std::ranges::sort(order, {}, [](const TensorEntry* e) { return std::pair(e->begin, e->end); });
  uint64_t position = 0;
  for (const TensorEntry* e : order) {
    if (e->begin != position)
      errors.fail_with(
          fmt::format("tensor '{}' {}: begins at {}, expected {}", e->name,
                      e->begin < position ? "overlaps the one before" : "leaves a gap before it",
                      e->begin, position));
    if (e->end > data_bytes)
      errors.fail_with(fmt::format("truncated: tensor '{}' ends at {} of {} bytes of data", e->name,
                                   e->end, data_bytes));
    position = e->end;
  }
  if (position != data_bytes)
    errors.fail_with(fmt::format("{} bytes after the last tensor", data_bytes - position));
}

}  // namespace

std::string_view safetensors_name(DType t) {
  return std::ranges::find(kDTypeNames, t, &DTypeName::dtype)->name;
}

Header parse_header(std::string_view json, uint64_t data_bytes, std::string_view file) {
  HeaderReader reader(file);
  nlohmann::json::sax_parse(json, &reader);
  Header header = reader.take();
  check_coverage(header, data_bytes, reader);
  return header;
}

std::string json_quoted(std::string_view text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail(ErrorKind::value, "save: a name or text is not valid UTF-8");
  }
}

std::string header_text(const Header& header) {
  std::string text = "{";
  auto separator = [&] {
    if (text.back() != '{') text += ',';
  };
  if (!header.metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : header.metadata) {
      separator();
      text += json_quoted(key) + ':' + json_quoted(value);
    }
    text += '}';
  }
  for (const TensorEntry& e : header.tensors) {
    separator();
    text +=
        fmt::format(R"({}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", json_quoted(e.name),
                    safetensors_name(e.dtype), json_list(Ints(e.shape), ","), e.begin, e.end);
  }
  return text + '}';
}

}  // namespace fluxion::io
