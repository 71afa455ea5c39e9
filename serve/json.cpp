#include "serve/json.h"

#include <fmt/compile.h>
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "serve/http.h"

namespace fluxion::serve {

static_assert(kJsonPadding >= simdjson::SIMDJSON_PADDING);

namespace {

namespace dom = simdjson::dom;

constexpr size_t kKeptCapacity = 1 << 20;  // a parser that grew beyond this is not kept

/// A parser and the root of what it parsed last.
struct Document {
  std::unique_ptr<dom::parser> parser;
  dom::element root;
  std::string rewritten;

  simdjson::error_code parse(const char* text, size_t n, uint32_t depth) {
    if (!parser || parser->max_depth() != depth || parser->capacity() > kKeptCapacity) {
      parser = std::make_unique<dom::parser>();
      if (const auto error = parser->allocate(4096, depth)) return error;
    }
    return parser->parse(text, n, false).get(root);
  }
};

thread_local Document document;

/// The text with quotes around every NaN, Infinity and -Infinity outside strings.
void quote_special(std::string_view text, std::string& out) {
  out.clear();
  out.reserve(text.size() + text.size() / 4 + kJsonPadding);
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\' && i + 1 < text.size()) out += text[i++];
      in_string = c != '"';
      out += text[i++];
      continue;
    }
    in_string = c == '"';
    std::string_view token;
    for (std::string_view known : {"NaN", "Infinity", "-Infinity"})
      if (text.substr(i, known.size()) == known) token = known;
    if (token.empty()) {
      out += text[i++];
    } else {
      out.append("\"").append(token).append("\"");
      i += token.size();
    }
  }
  out.reserve(out.size() + kJsonPadding);
}

bool mentions_special(std::string_view text) {
  return text.find("NaN") != text.npos || text.find("Infinity") != text.npos;
}

template <class F>
void append_float_text(std::string& out, F value) {
  if (!std::isfinite(value)) [[unlikely]] {
    out += std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
    return;
  }
  char text[40];
  char* end = fmt::format_to(text, FMT_COMPILE("{}"), value);
  const bool integer = std::none_of(text, end, [](char c) { return c == '.' || c == 'e'; });
  out.append(text, end);
  if (integer) out += ".0";
}

}  // namespace

const dom::element& parse_json(std::string_view text, uint32_t depth, const char* what) {
  Document& d = document;
  simdjson::error_code error = d.parse(text.data(), text.size(), depth);
  if (error && error != simdjson::DEPTH_ERROR && mentions_special(text)) {
    quote_special(text, d.rewritten);
    error = d.parse(d.rewritten.data(), d.rewritten.size(), depth);
    if (d.rewritten.capacity() > kKeptCapacity) d.rewritten = {};
  }
  if (error == simdjson::DEPTH_ERROR)
    fail_http(400, "{}: nested deeper than the {} levels this server allows", what, depth);
  if (error == simdjson::MEMALLOC) throw std::bad_alloc();
  if (error) fail_parse("{}: {}", what, simdjson::error_message(error));
  return d.root;
}

void check_unique_keys(const dom::object& object, std::string_view where) {
  std::vector<std::string_view> keys;
  for (const dom::key_value_pair field : object) keys.push_back(field.key);
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice != keys.end()) fail_http(400, "key '{}' stands twice in {}", *twice, where);
}

void append_string(std::string& out, std::string_view text) {
  const bool utf8 = simdjson::validate_utf8(text.data(), text.size());
  out += '"';
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (u < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", u);
    } else {
      out += u < 0x80 || utf8 ? c : '?';
    }
  }
  out += '"';
}

void append_integer(std::string& out, int64_t value) {
  const fmt::format_int text(value);
  out.append(text.data(), text.size());
}

void append_float(std::string& out, float value) { append_float_text(out, value); }
void append_float(std::string& out, double value) { append_float_text(out, value); }

}  // namespace fluxion::serve
