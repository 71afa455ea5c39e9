#include "serve/router.h"

#include <algorithm>
#include <array>

namespace fluxion::serve {

namespace {

constexpr size_t kMaxSegments = 8;

/// The parts of a path between slashes; of /v1/ paths a last "name:verb" is two parts.
struct Segments {
  std::array<std::string_view, kMaxSegments> parts;
  size_t count = 0;
  bool overflow = false;

  void push(std::string_view part) {
    if (count == kMaxSegments) overflow = true;
    else parts[count++] = part;
  }
};

Segments split(std::string_view path, bool verbs) {
  Segments s;
  if (path.empty() || path[0] != '/') {
    s.overflow = true;
    return s;
  }
  path.remove_prefix(1);
  for (;;) {
    const size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    const size_t colon = slash == path.size() && verbs ? part.rfind(':') : part.npos;
    s.push(part.substr(0, colon));
    if (colon != part.npos) s.push(part.substr(colon));
    if (slash == path.size()) return s;
    path.remove_prefix(slash + 1);
  }
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// Undoes %41; false for a damaged escape.
bool decode(std::string_view text, std::string* out) {
  out->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      *out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) return false;
    *out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return true;
}

bool all_digits(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool fits(const Segments& pattern, const Segments& path) {
  if (pattern.count != path.count) return false;
  for (size_t i = 0; i < path.count; ++i) {
    const std::string_view want = pattern.parts[i], got = path.parts[i];
    if (want == "*" ? got.empty() : want == "#" ? !all_digits(got) : want != got) return false;
  }
  return true;
}

const char* allow_line(Method m) {
  return m == Method::post ? "Allow: POST\r\n" : "Allow: GET, HEAD\r\n";
}

}  // namespace

Call match(std::span<const Route> routes, Method method, std::string_view target) {
  Call call;
  call.status = 404;
  const std::string_view path =
      target.substr(0, std::min(target.find_first_of("?#"), target.size()));
  const bool verbs = path.starts_with("/v1/");
  const Segments got = split(path, verbs);
  if (got.overflow) return call;
  if (method == Method::head) method = Method::get;
  for (const Route& route : routes) {
    const Segments want = split(route.pattern, verbs);
    if (!fits(want, got)) continue;
    if (route.method != method) {
      call.status = 405;
      call.allow = allow_line(route.method);
      continue;
    }
    for (size_t i = 0; i < want.count; ++i) {
      if (want.parts[i] == "*" && !decode(got.parts[i], &call.model)) return call;
      if (want.parts[i] == "#") call.version = got.parts[i];
    }
    call.route = &route;
    call.status = 200;
    return call;
  }
  return call;
}

}  // namespace fluxion::serve
