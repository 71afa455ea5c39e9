// Seeded mutations of real headers, graphs and files: each ends in an Error or is harmless. FLUXION_FUZZ_ROUNDS
// multiplies their number (100,000 in all); tests/fuzz/ has the same targets for libFuzzer.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "io_models.h"
#include "tests/fuzz/targets.h"

namespace fluxion {
namespace {

using Bytes = std::vector<uint8_t>;
using Target = int (*)(const uint8_t*, size_t);

Bytes bytes_of(std::string_view s) { return {s.begin(), s.end()}; }

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  Bytes operator()(const std::vector<Bytes>& seeds) {
    Bytes b = seeds[below(seeds.size())];
    for (size_t n = 1 + below(4); n > 0; --n) mutate(b, seeds);
    return b;
  }

 private:
  size_t below(size_t n) { return n ? random_() % n : 0; }

  void mutate(Bytes& b, const std::vector<Bytes>& seeds) {
    if (b.empty()) b.push_back(0);
    const size_t at = below(b.size()), n = std::min(b.size() - at, 1 + below(16));
    const auto begin = b.begin() + static_cast<ptrdiff_t>(at),
               end = begin + static_cast<ptrdiff_t>(n);
    switch (below(8)) {
      case 0: b[at] ^= static_cast<uint8_t>(1 << below(8)); break;
      case 1: b[at] = static_cast<uint8_t>(random_()); break;
      case 2: number(b, at, 4); break;
      case 3: number(b, at, 8); break;
      case 4: b.erase(begin, end); break;
      case 5: {
        const Bytes piece(begin, end);
        const size_t to = below(b.size());
        b.insert(b.begin() + static_cast<ptrdiff_t>(to), piece.begin(), piece.end());
        break;
      }
      case 6: {
        const Bytes& other = seeds[below(seeds.size())];
        const size_t from = below(other.size());
        for (size_t i = 0; i < n && from + i < other.size(); ++i) b[at + i] = other[from + i];
        break;
      }
      case 7: b.resize(below(2) ? at : b.size() - std::min(b.size(), below(4))); break;
    }
  }
  void number(Bytes& b, size_t at, size_t width) {
    constexpr int64_t kOdd[] = {0,   1,     -1,        2,         16,        17,        64,     255,
                                256, 65535, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 1 << 20};
    const int64_t v = kOdd[below(std::size(kOdd))];
    std::memcpy(b.data() + at, &v, std::min(width, b.size() - at));
  }

  std::mt19937 random_;
};

size_t rounds() {
  const char* text = std::getenv("FLUXION_FUZZ_ROUNDS");
  return text ? std::strtoul(text, nullptr, 10) : 1;
}

/// With FLUXION_RECORD set, seeds that tests/fuzz/corpus/ lacks go there, for libFuzzer.
void record(const std::string& target, const std::vector<Bytes>& seeds) {
  if (!std::getenv("FLUXION_RECORD")) return;
  const std::filesystem::path folder = std::filesystem::path(FLUXION_SEEDS) / target;
  std::filesystem::create_directories(folder);
  for (size_t i = 0; i < seeds.size(); i += 1 + seeds.size() / 24) {
    const std::filesystem::path file = folder / std::to_string(i);
    if (std::filesystem::exists(file)) continue;
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(seeds[i].data()),
               static_cast<std::streamsize>(seeds[i].size()));
  }
}

/// All seeds as they are, then mutations: the target swallows Errors, nothing else may escape.
void attack(Target target, const std::vector<Bytes>& seeds, size_t count) {
  for (const Bytes& b : seeds) target(b.data(), b.size());
  for (size_t i = 0; i < count * rounds(); ++i) {
    const Bytes b = Mutator(static_cast<uint32_t>(i))(seeds);
    try {
      target(b.data(), b.size());
    } catch (const std::exception& e) {
      FAIL() << "mutation " << i << ": " << e.what();
    }
  }
}

std::string graph_bytes(graph::Graph g) {
  io::Signatures s;
  s.emplace("g", std::move(g));
  std::vector<Tensor> constants;
  return io::write_graphs(s, constants).graphs;
}

std::string file_bytes(const io::Model& m) {
  const io::FileImage image = io::model_image(m);
  std::string bytes = image.head();
  for (const Ref<Storage>& part : image.data()) bytes.append(part->data, part->nbytes);
  return bytes;
}

TEST(Mutations, Headers) {
  std::vector<Bytes> seeds;
  const std::string file = file_bytes(testing::sample_model());
  uint64_t length;
  std::memcpy(&length, file.data(), 8);
  const auto lines = static_cast<char>((file.size() - 8 - length) / 64);
  seeds.push_back(bytes_of(lines + file.substr(8, length)));
  seeds.push_back(bytes_of(
      "\x01{\"__metadata__\":{\"a\":\"b\"},\"x\":{\"dtype\":\"F32\",\"shape\":[2,8],\"data_offsets\":[0,64]}}"));
  record("header", seeds);
  attack(fuzz::header, seeds, 40'000);
}

TEST(Mutations, Graphs) {
  std::vector<Bytes> seeds = {bytes_of(graph_bytes(graph::parse(testing::kInferText))),
                              bytes_of(graph_bytes(graph::parse(testing::step_text()))),
                              bytes_of(graph_bytes(graph::parse(testing::kControlText)))};
  for (const testing::Sample& s : testing::all_samples())
    if (testing::has_static_shape(*s.op))
      seeds.push_back(bytes_of(graph_bytes(testing::graph_of(s))));
  record("graphs", seeds);
  attack(fuzz::graphs, seeds, 50'000);
}

TEST(Mutations, Files) {
  const std::vector<Bytes> seeds = {bytes_of(file_bytes(testing::sample_model()))};
  record("model", seeds);
  attack(fuzz::model, seeds, 10'000);
}

}  // namespace
}  // namespace fluxion
