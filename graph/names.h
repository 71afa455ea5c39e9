// Identifiers and quoted strings of the text form.
#pragma once

#include <string>
#include <string_view>

namespace fluxion::graph {

constexpr bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/// A letter or underscore, then letters, digits and underscores; not the lone "_" of absent values.
constexpr bool is_identifier(std::string_view s) {
  if (s.empty() || s == "_" || (s[0] >= '0' && s[0] <= '9')) return false;
  for (char c : s)
    if (!is_name_char(c)) return false;
  return true;
}

/// "..." with \" \\ \n \t and \xNN for other control characters.
std::string quoted(std::string_view s);
/// The name itself, quoted unless it is an identifier.
inline std::string name_text(std::string_view s) {
  return is_identifier(s) ? std::string(s) : quoted(s);
}

}  // namespace fluxion::graph
