// Hostile graphs: mutated attributes, types, wiring and text end in ErrorKind::value; what the verifier accepts runs
// without touching memory that is not its own.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>

#include "graph/attrs.h"
#include "graph_random.h"

namespace fluxion::testing {
namespace {

using namespace graph;

/// A tensor that ends where no memory is.
Tensor guarded(const SampleSink::Input& spec, uint64_t seed) {
  Tensor plain = random_tensor(spec, seed);
  auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE)),
       bytes = static_cast<size_t>(plain.nbytes());
  size_t body = (bytes + page - 1) / page * page;
  char* base = static_cast<char*>(
      mmap(nullptr, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(base + body, page, PROT_NONE);
  char* data = base + body - bytes;
  std::memcpy(data, plain.data(), bytes);
  struct Mapping {
    char* base;
    size_t bytes;
  };
  Ref<Storage> s = wrap_foreign(
      data, bytes,
      [](void* context) {
        auto* m = static_cast<Mapping*>(context);
        munmap(m->base, m->bytes);
        delete m;
      },
      new Mapping{base, body + page});
  return from_storage(s, spec.dtype, spec.shape, row_major_strides(spec.shape), 0);
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  void change(Sample& s) {
    size_t times = 1 + below(2);
    for (size_t i = 0; i < times; ++i) {
      size_t what = below(4);
      if (what == 0 || s.inputs.empty()) attribute(s);
      else if (what == 1) shape(s.inputs[below(s.inputs.size())].shape);
      else if (what == 2)
        s.inputs[below(s.inputs.size())].dtype = static_cast<DType>(below(kDTypes));
      else inputs(s);
    }
  }
  size_t below(size_t n) { return random_() % n; }

 private:
  int64_t integer(int64_t old) {
    switch (below(6)) {
      case 0: return static_cast<int64_t>(static_cast<uint64_t>(old) + 1);
      case 1: return static_cast<int64_t>(static_cast<uint64_t>(old) - 1);
      case 2: return static_cast<int64_t>(below(8));
      case 3: return static_cast<int64_t>(-static_cast<uint64_t>(old));
      case 4: return static_cast<int64_t>(random_());
      default: {
        constexpr int64_t odd[] = {INT64_MAX,        INT64_MIN, -1, int64_t{1} << 31,
                                   int64_t{1} << 62, 0,         64};
        return odd[below(std::size(odd))];
      }
    }
  }

  void attribute(Sample& s) {
    if (s.op->fields.empty()) return;
    const Field& f = s.op->fields[below(s.op->fields.size())];
    auto* attrs = reinterpret_cast<std::byte*>(s.attrs.data());
    if (f.kind == FieldKind::real) return;
    if (f.kind != FieldKind::dims) return write_integer(attrs, f, integer(read_integer(attrs, f)));
    size_t n = read_dims_count(attrs, f);
    if (below(3) == 0) {
      size_t count = below(4) ? below(5) : below(256);
      for (size_t i = n; i < count && i < kMaxRank; ++i)
        write_dims_item(attrs, f, i, static_cast<int64_t>(below(4)));
      return write_dims_count(attrs, f, count);
    }
    if (n && n <= kMaxRank) {
      size_t i = below(n);
      write_dims_item(attrs, f, i, integer(read_dims_item(attrs, f, i)));
    }
  }

  void shape(Shape& s) {
    size_t what = below(4);
    if (what == 0 && s.size() < kMaxRank) return s.push_back(static_cast<int64_t>(below(4)));
    if (s.empty()) return;
    if (what == 1) return s.pop_back();
    s[below(s.size())] = static_cast<int64_t>(below(9));
  }

  void inputs(Sample& s) {
    if (below(2)) s.inputs.erase(s.inputs.begin() + static_cast<ptrdiff_t>(below(s.inputs.size())));
    else s.inputs.push_back(s.inputs[below(s.inputs.size())]);
  }

  std::mt19937_64 random_;
};

bool is_small(const Graph& g) {
  for (const ValueType& v : g.values) {
    double n = 1;
    for (const Dim& d : v.shape) n *= static_cast<double>(d.constant());
    if (n > 1e5) return false;
  }
  return true;
}

/// Attributes that cost time, not memory.
bool is_quick(const Sample& s) {
  for (const Field& f : s.op->fields)
    if (f.kind == FieldKind::integer &&
        std::abs(static_cast<double>(
            read_integer(reinterpret_cast<const std::byte*>(s.attrs.data()), f))) > 1e5)
      return false;
  return true;
}

/// The op once more, writing where memory ends behind each result.
void into_guarded(const Graph& g, const Sample& s, std::span<const Tensor> in) {
  if (s.op->view) return;
  std::vector<Tensor> out;
  for (ValueId v : g.nodes[0].out) {
    Shape shape;
    if (v != kNoValue)
      for (const Dim& d : g.values[v].shape) shape.push_back(d.constant());
    out.push_back(v == kNoValue ? Tensor{} : guarded({shape, g.values[v].dtype}, 1));
  }
  apply(*s.op, s.attr_data(), in, out);
}

int rounds() {
  const char* set = std::getenv("FLUXION_FUZZ_ROUNDS");
  return set ? std::atoi(set) : 20;
}

TEST(GraphFuzz, AcceptedSamplesRunInTheirMemory) {
  std::vector<Sample> all = all_samples();
  std::map<std::string, int> internal;
  size_t accepted = 0, rejected = 0, ran = 0;
  uint64_t seed = 1;
  if (const char* only = std::getenv("FLUXION_FUZZ_OP"))
    std::erase_if(all, [&](const Sample& s) { return std::string_view(s.op->name) != only; });
  for (const Sample& original : all)
    for (int round = 0; round < rounds(); ++round) {
      Sample s = original;
      Mutator(++seed).change(s);
      if (std::getenv("FLUXION_FUZZ_TRACE"))
        std::fprintf(stderr, "%llu %s\n", static_cast<unsigned long long>(seed), s.text().c_str());
      Graph g;
      try {
        g = graph_of(s);
        verify(g);
      } catch (const Error& e) {
        EXPECT_NE(e.kind(), ErrorKind::internal) << s.text() << ": " << e.what();
        ++rejected;
        continue;
      }
      ++accepted;
      std::string text = to_text(g);
      EXPECT_TRUE(same(g, parse(text))) << text;
      if (!is_small(g) || !is_quick(s)) continue;
      ++ran;
      std::vector<Tensor> in;
      for (const SampleSink::Input& i : s.inputs) in.push_back(guarded(i, seed + in.size()));
      try {
        interpret(g, in);
        into_guarded(g, s, in);
      } catch (const Error& e) {
        if (e.kind() == ErrorKind::internal) ++internal[std::string(s.op->name) + ": " + e.what()];
      }
    }
  for (const auto& [what, times] : internal) ADD_FAILURE() << what << " (" << times << " times)";
  EXPECT_GT(accepted, rejected / 20);
  EXPECT_GT(ran, all.size());
}

/// Wiring, numbers and types of whole graphs.
void disturb(Graph& g, Mutator& m) {
  auto id = [&] {
    return m.below(8) ? static_cast<ValueId>(m.below(g.values.size()))
                      : static_cast<ValueId>(m.below(3) ? g.values.size() + m.below(3) : kNoValue);
  };
  if (g.nodes.empty()) return;
  Node& n = g.nodes[m.below(g.nodes.size())];
  switch (m.below(12)) {
    case 0:
      if (!n.in.empty()) n.in[m.below(n.in.size())] = id();
      break;
    case 1:
      if (!n.out.empty()) n.out[m.below(n.out.size())] = id();
      break;
    case 2: n.in.push_back(id()); break;
    case 3:
      if (!n.in.empty()) n.in.pop_back();
      break;
    case 4: std::swap(n, g.nodes[m.below(g.nodes.size())]); break;
    case 5: n.op = op_table()[m.below(op_table().size())]; break;
    case 6: n.attrs.resize(m.below(200)); break;
    case 7:
      n.symbolic.push_back({static_cast<uint16_t>(m.below(4)), static_cast<uint16_t>(m.below(4)),
                            Dim::symbol(static_cast<uint32_t>(m.below(3)))});
      break;
    case 8:
      g.values[m.below(g.values.size())].shape.assign(
          m.below(20), Dim(static_cast<int64_t>(m.below(3)) << m.below(63)));
      break;
    case 9: g.values[m.below(g.values.size())].dtype = static_cast<DType>(m.below(20)); break;
    case 10: g.results.push_back({"r", id()}); break;
    default: g.writes.push_back({static_cast<uint32_t>(m.below(9)), id()});
  }
}

TEST(GraphFuzz, DisturbedGraphsEndInValueErrors) {
  size_t accepted = 0;
  for (uint64_t seed = 1; seed <= 100 * static_cast<uint64_t>(rounds()); ++seed) {
    Graph g = RandomGraph(seed % 50).make(20);
    Mutator m(seed);
    disturb(g, m);
    try {
      verify(g);
      ++accepted;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::value) << e.what();
    }
    if (seed % 8 == 0) to_text(g);  // prints whatever it is given
  }
  EXPECT_GT(accepted, 10u);
}

TEST(GraphFuzz, DisturbedTextEndsInValueErrors) {
  std::vector<std::string> texts;
  for (uint64_t seed = 1; seed <= 10; ++seed) texts.push_back(to_text(RandomGraph(seed).make(8)));
  texts.push_back(R"(graph f(b: bool[], x: f32[B, 3]) slots(w = "m.w": f32[3]) dims(B = 1..8) {
  const %3 "two": weak f64[] = 2
  %4: f32[B, 3] = case(b, x) { region no(x: f32[B, 3]) { %1: f32[B, 3] = neg(x) return %1 }
  region yes(x: f32[B, 3]) { return x } } @ "a b":3 "m"
  %5: f32[3*B] = reshape(%4) {shape=[3*B]}
  return y = %5
  write w = w
})");
  size_t parsed = 0;
  for (uint64_t seed = 1; seed <= 500 * static_cast<uint64_t>(rounds()); ++seed) {
    Mutator m(seed);
    std::string text = texts[m.below(texts.size())];
    size_t edits = 1 + m.below(3);
    for (size_t i = 0; i < edits; ++i) {
      size_t at = m.below(text.size()), length = 1 + m.below(6);
      constexpr std::string_view odd = "%{}[]()=,:\"@ -+*.0129_aBxnw\n\\";
      if (m.below(3) == 0) text.erase(at, length);
      else if (m.below(2)) text[at] = odd[m.below(odd.size())];
      else text.insert(at, text.substr(m.below(text.size()), length));
      if (text.empty()) text = " ";
    }
    try {
      Graph g = parse(text);
      ++parsed;
      verify(g);
      EXPECT_TRUE(same(g, parse(to_text(g, true)))) << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::value) << e.what() << "\n" << text;
    }
  }
  EXPECT_GT(parsed, 2 * static_cast<size_t>(rounds()));
}

}  // namespace
}  // namespace fluxion::testing
