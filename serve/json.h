// JSON in by simdjson, out by fmt. simdjson itself stays in the .cpp files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace simdjson::dom {
class element;
class object;
}  // namespace simdjson::dom

namespace fluxion::serve {

/// Bytes that must be readable behind a text to parse.
inline constexpr size_t kJsonPadding = 64;

/// The root of the text, which has kJsonPadding readable bytes behind it; valid until this thread's
/// next call. The tokens NaN, Infinity and -Infinity are accepted and read as strings of that name.
/// Raises ParseError("WHAT: ...") and HttpError 400 beyond `depth` levels.
const simdjson::dom::element& parse_json(std::string_view text, uint32_t depth, const char* what);

/// Raises HttpError 400 if a key stands twice.
void check_unique_keys(const simdjson::dom::object& object, std::string_view where);

/// With quotes and escapes; bytes that are not UTF-8 become '?'.
void append_string(std::string& out, std::string_view text);
void append_integer(std::string& out, int64_t value);
/// Shortest text that reads back as the same value, always with a point or an exponent; NaN,
/// Infinity, -Infinity.
void append_float(std::string& out, float value);
void append_float(std::string& out, double value);

}  // namespace fluxion::serve
