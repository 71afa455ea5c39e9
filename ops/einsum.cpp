// Einstein summation as diagonals, sums and matrix products of pairs, left to right.
#include <algorithm>
#include <array>

#include "base/checked.h"
#include "ops/functions.h"
#include "ops/op.h"

namespace fluxion {

namespace {

/// A dim's name: a letter, or an ellipsis dim counted from the right (1 is the last).
using Label = int;
using Labels = std::vector<Label>;
constexpr Label kEllipsis = 256;

/// A tensor whose dims have names, each once.
struct Named {
  Tensor t;
  Labels labels;

  int64_t at(Label l) const { return std::ranges::find(labels, l) - labels.begin(); }
  bool has(Label l) const { return std::ranges::find(labels, l) != labels.end(); }
  int64_t size(Label l) const { return t.size(at(l)); }
};

bool contains(const Labels& labels, Label l) {
  return std::ranges::find(labels, l) != labels.end();
}

std::string text(Label l) { return l >= kEllipsis ? "..." : std::string(1, static_cast<char>(l)); }

struct Equation {
  std::vector<std::string> inputs;
  std::string output;
  bool has_output = false;
};

[[noreturn]] void malformed(std::string_view equation, const char* why) {
  fail(ErrorKind::runtime, "einsum: {} in the equation '{}'", why, equation);
}

Equation parse(std::string_view given) {
  std::string s;
  for (char c : given)
    if (c != ' ') s += c;
  Equation e;
  if (size_t arrow = s.find("->"); arrow != std::string::npos) {
    e.output = s.substr(arrow + 2);
    e.has_output = true;
    s.resize(arrow);
  }
  for (size_t begin = 0; begin <= s.size();) {
    size_t end = std::min(s.find(',', begin), s.size());
    e.inputs.push_back(s.substr(begin, end - begin));
    begin = end + 1;
  }
  return e;
}

/// The labels of one subscript; `ellipsis` is how many dims "..." stands for.
Labels read_labels(std::string_view equation, const std::string& s, int64_t ellipsis) {
  Labels labels;
  bool seen = false;
  for (size_t i = 0; i < s.size(); ++i) {
    if (std::isalpha(static_cast<unsigned char>(s[i]))) {
      labels.push_back(s[i]);
    } else if (s.compare(i, 3, "...") == 0 && !seen) {
      for (int64_t k = ellipsis; k > 0; --k) labels.push_back(static_cast<Label>(kEllipsis + k));
      seen = true;
      i += 2;
    } else {
      malformed(equation, "only letters and one '...' may stand");
    }
  }
  return labels;
}

int64_t letters(const std::string& s) {
  return std::ranges::count_if(
      s, [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; });
}

/// Dims that share a label become their diagonal.
Named name_dims(std::string_view equation, const std::string& subscript, const Tensor& t,
                size_t number) {
  int64_t ellipsis = t.dim() - letters(subscript);
  bool open = subscript.find("...") != std::string::npos;
  if (ellipsis < 0 || (ellipsis > 0 && !open))
    fail(ErrorKind::runtime,
         "einsum: operand {} has shape {}, but its subscript '{}' names {} dims", number,
         shape_text(t.sizes()), subscript, letters(subscript));
  Named n{t, read_labels(equation, subscript, open ? ellipsis : 0)};
  for (size_t i = 0; i < n.labels.size(); ++i)
    for (size_t j = i + 1; j < n.labels.size();) {
      if (n.labels[j] != n.labels[i]) {
        ++j;
        continue;
      }
      if (n.t.size(static_cast<int64_t>(i)) != n.t.size(static_cast<int64_t>(j)))
        fail(ErrorKind::runtime, "einsum: '{}' names dims of sizes {} and {} in operand {}",
             text(n.labels[i]), n.t.size(static_cast<int64_t>(i)),
             n.t.size(static_cast<int64_t>(j)), number);
      n.t =
          diagonal(n.t, 0, static_cast<int64_t>(i), static_cast<int64_t>(j));  // its dim comes last
      Label l = n.labels[i];
      n.labels.erase(n.labels.begin() + static_cast<int64_t>(j));
      n.labels.erase(n.labels.begin() + static_cast<int64_t>(i));
      n.labels.push_back(l);
      j = i + 1;
    }
  return n;
}

/// Without an arrow: ellipsis dims, then the letters that stand once, in order of the alphabet.
Labels implied_output(const std::vector<Named>& operands, const Equation& e) {
  Labels out;
  int64_t widest = 0;
  for (const Named& n : operands)
    for (Label l : n.labels) widest = std::max<int64_t>(widest, l - kEllipsis);
  for (int64_t k = widest; k > 0; --k) out.push_back(static_cast<Label>(kEllipsis + k));
  std::array<int, 128> count{};
  for (const std::string& s : e.inputs)
    for (char c : s)
      if (std::isalpha(static_cast<unsigned char>(c))) ++count[static_cast<size_t>(c)];
  for (Label l = 0; l < 128; ++l)
    if (count[static_cast<size_t>(l)] == 1) out.push_back(l);
  return out;
}

Labels explicit_output(std::string_view equation, const std::string& s,
                       const std::vector<Named>& operands) {
  int64_t widest = 0;
  for (const Named& n : operands)
    for (Label l : n.labels) widest = std::max<int64_t>(widest, l - kEllipsis);
  Labels out = read_labels(equation, s, widest);
  for (size_t i = 0; i < out.size(); ++i) {
    if (std::find(out.begin(), out.begin() + static_cast<int64_t>(i), out[i]) !=
        out.begin() + static_cast<int64_t>(i))
      malformed(equation, "a label stands twice in the output");
    if (std::ranges::none_of(operands, [&](const Named& n) { return n.has(out[i]); }))
      malformed(equation, "the output names a dim that no operand has");
  }
  return out;
}

void sum_out(Named& n, const Labels& gone) {
  if (gone.empty()) return;
  Shape dims;
  Labels left;
  for (Label l : gone) dims.push_back(n.at(l));
  for (Label l : n.labels)
    if (!contains(gone, l)) left.push_back(l);
  n.t = sum(n.t, Ints(dims), false, n.t.dtype());
  n.labels = left;
}

/// Dims in that order; those that n lacks have size 1.
Tensor arranged(const Named& n, const Labels& order) {
  Shape dims;
  for (Label l : order)
    if (n.has(l)) dims.push_back(n.at(l));
  Tensor t = permute(n.t, dims);
  for (size_t i = 0; i < order.size(); ++i)
    if (!n.has(order[i])) t = unsqueeze(t, static_cast<int64_t>(i));
  return t;
}

/// A product of one group of labels that are joined to one dim, and its size.
struct Group {
  Labels labels;
  Shape sizes;
  int64_t total = 1;
  void add(Label l, int64_t size) {
    labels.push_back(l);
    sizes.push_back(size);
    total = checked_mul(total, size);
  }
};

Tensor as_matrices(const Named& n, const Group& a, const Group& b, const Group& c) {
  Labels order = a.labels;
  order.insert(order.end(), b.labels.begin(), b.labels.end());
  order.insert(order.end(), c.labels.begin(), c.labels.end());
  Shape full(a.sizes);
  for (const Group* g : {&b, &c})
    for (int64_t s : Ints(g->sizes)) full.push_back(s);
  return reshape(expand(arranged(n, order), full), Shape{a.total, b.total, c.total});
}

int64_t common_size(const Named& a, const Named& b, Label l) {
  int64_t x = a.size(l), y = b.size(l);
  if (x != y && x != 1 && y != 1)
    fail(ErrorKind::runtime, "einsum: '{}' names dims of sizes {} and {}; sizes must agree or be 1",
         text(l), x, y);
  return x == 1 ? y : x;
}

/// Contracts a pair; labels outside of `kept` vanish.
Named contract(Named a, Named b, const Labels& kept) {
  Labels gone;
  for (Label l : a.labels)
    if (!contains(kept, l) && !b.has(l)) gone.push_back(l);
  sum_out(a, gone);
  gone.clear();
  for (Label l : b.labels)
    if (!contains(kept, l) && !a.has(l)) gone.push_back(l);
  sum_out(b, gone);
  Group batch, left, right, inner;
  for (Label l : a.labels) {
    if (!b.has(l)) left.add(l, a.size(l));
    else (contains(kept, l) ? batch : inner).add(l, common_size(a, b, l));
  }
  for (Label l : b.labels)
    if (!a.has(l)) right.add(l, b.size(l));
  Labels order = batch.labels;
  order.insert(order.end(), left.labels.begin(), left.labels.end());
  order.insert(order.end(), right.labels.begin(), right.labels.end());
  if (inner.labels.empty()) return {mul(arranged(a, order), arranged(b, order)), order};
  Tensor product = bmm(as_matrices(a, batch, left, inner), as_matrices(b, batch, inner, right));
  Shape shape(batch.sizes);
  for (const Group* g : {&left, &right})
    for (int64_t s : Ints(g->sizes)) shape.push_back(s);
  return {reshape(product, shape), order};
}

}  // namespace

Tensor einsum(std::string_view equation, Tensors operands) {
  Equation e = parse(equation);
  if (operands.empty()) fail(ErrorKind::value, "einsum: needs at least one operand");
  if (e.inputs.size() != operands.size())
    fail(ErrorKind::runtime, "einsum: '{}' has {} subscripts for {} operands", equation,
         e.inputs.size(), operands.size());
  std::vector<Named> named;
  for (size_t i = 0; i < operands.size(); ++i)
    named.push_back(name_dims(equation, e.inputs[i], operands[i], i));
  Labels output =
      e.has_output ? explicit_output(equation, e.output, named) : implied_output(named, e);
  Named total = named[0];
  for (size_t i = 1; i < named.size(); ++i) {
    Labels kept = output;
    for (size_t k = i + 1; k < named.size(); ++k)
      kept.insert(kept.end(), named[k].labels.begin(), named[k].labels.end());
    total = contract(total, named[i], kept);
  }
  Labels gone;
  for (Label l : total.labels)
    if (!contains(output, l)) gone.push_back(l);
  sum_out(total, gone);
  return arranged(total, output);
}

namespace {

const Function kFunctions[] = {
    {"einsum(str equation, Tensor... operands) -> Tensor",
     "Sums products of elements as the equation names their dims: einsum('bij,bjk->bik', a, b).",
     kFunction, thunk<&einsum>},
};

}  // namespace

extern const OpFile einsum_ops;
const OpFile einsum_ops{{}, kFunctions};

}  // namespace fluxion
