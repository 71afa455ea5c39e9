#include "ops/undefined.h"

#include <algorithm>
#include <string>
#include <vector>

#include "ops/function.h"

namespace fluxion {

namespace {

/// The names of a function's tensor arguments: all, or only those that must have a value.
std::vector<std::string> tensor_arguments(std::string_view function, bool required) {
  std::vector<std::string> names;
  for (const Function* f : function_table()) {
    std::string_view schema = f->schema;
    size_t open = schema.find('('), close = schema.rfind(") ->");
    if (schema.substr(0, open) != function || close == schema.npos) continue;
    for (std::string_view rest = schema.substr(open + 1, close - open - 1); !rest.empty();) {
      std::string_view one = rest.substr(0, rest.find(", "));
      rest.remove_prefix(std::min(rest.size(), one.size() + 2));
      bool tensor = one.starts_with("Tensor") || one.starts_with("Number");
      std::string_view kind = one.substr(0, one.find(' '));
      if (!tensor || (required && kind.ends_with('?'))) continue;
      one.remove_prefix(kind.size() + 1);
      std::string name(one.substr(0, one.find('=')));
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

constexpr const char* kAdvice =
    "has no value (a default-constructed Tensor, or one that was moved from)";

}  // namespace

void fail_undefined(const char* in) {
  std::vector<std::string> names = tensor_arguments(in, true);
  if (names.empty())
    throw UndefinedTensor(ErrorKind::runtime, fmt::format("{}: a tensor {}", in, kAdvice));
  std::string which = names.size() == 1 ? "argument " : "one of the arguments ";
  for (size_t i = 0; i < names.size(); ++i)
    which += (i == 0 ? "`" : i + 1 == names.size() ? " and `" : ", `") + names[i] + "`";
  throw UndefinedTensor(ErrorKind::runtime, fmt::format("{}: {} {}", in, which, kAdvice));
}

void name_undefined(const char* function, std::span<const Tensor> in) {
  auto undefined = std::ranges::find_if(in, [](const Tensor& t) { return !t.defined(); });
  if (undefined == in.end()) throw;
  auto place = static_cast<size_t>(undefined - in.begin());
  std::vector<std::string> names = tensor_arguments(function, false);
  std::string which = place < names.size() ? fmt::format("argument `{}`", names[place])
                                           : fmt::format("tensor {}", place);
  throw UndefinedTensor(ErrorKind::runtime, fmt::format("{}: {} {}", function, which, kAdvice));
}

}  // namespace fluxion
