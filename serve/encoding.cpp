#include "serve/encoding.h"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>

#include "serve/http.h"

namespace fluxion::serve {

namespace {

constexpr int kGzip = 16 + MAX_WBITS, kZlib = MAX_WBITS, kRaw = -MAX_WBITS;
constexpr size_t kStep = 64 << 10;

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return (x >= 'A' && x <= 'Z' ? x + 32 : x) == (y >= 'A' && y <= 'Z' ? y + 32 : y);
  });
}

/// "deflate" is zlib's format; some clients send the bare stream.
bool has_zlib_header(std::string_view data) {
  if (data.size() < 2) return false;
  const unsigned first = static_cast<unsigned char>(data[0]);
  const unsigned second = static_cast<unsigned char>(data[1]);
  return (first & 15) == Z_DEFLATED && (first * 256 + second) % 31 == 0;
}

struct Inflater {
  z_stream z{};
  explicit Inflater(int window) {
    if (inflateInit2(&z, window) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { inflateEnd(&z); }
};

struct Deflater {
  z_stream z{};
  explicit Deflater(int window) {
    if (deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK)
      throw std::bad_alloc();
  }
  ~Deflater() { deflateEnd(&z); }
};

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

/// "q=0", "q=0.000": refused.
bool is_refused(std::string_view parameters) {
  const size_t at = parameters.find("q=");
  if (at == parameters.npos) return false;
  const std::string_view q = trimmed(parameters.substr(at + 2));
  return !q.empty() && q.find_first_not_of("0.") == q.npos;
}

}  // namespace

std::string decompress(std::string_view data, std::string_view encoding, uint64_t limit) {
  const bool gzip = equal_ignoring_case(encoding, "gzip");
  if (!gzip && !equal_ignoring_case(encoding, "deflate"))
    fail_http(501, "content encoding '{}' is not supported: send gzip, deflate or none", encoding);
  if (data.size() > std::numeric_limits<uInt>::max())
    fail_http(413, "a compressed body of {} bytes is too long", data.size());
  Inflater inflater(gzip ? kGzip : has_zlib_header(data) ? kZlib : kRaw);
  z_stream& z = inflater.z;
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  z.avail_in = static_cast<uInt>(data.size());
  std::string out;
  for (int status = Z_OK; status != Z_STREAM_END;) {
    const size_t had = out.size();
    if (had > limit) fail_http(413, "the decompressed body exceeds the limit of {} bytes", limit);
    out.resize(had + std::min<uint64_t>(std::max(kStep, had), limit + 1 - had));
    z.next_out = reinterpret_cast<Bytef*>(out.data() + had);
    z.avail_out = static_cast<uInt>(out.size() - had);
    status = inflate(&z, Z_NO_FLUSH);
    out.resize(out.size() - z.avail_out);
    if (status == Z_MEM_ERROR) throw std::bad_alloc();
    if (status != Z_OK && status != Z_STREAM_END)
      fail_http(400, "the body is not valid {} data: {}", encoding,
                z.msg ? z.msg : "it ends too early");
  }
  if (z.avail_in != 0)
    fail_http(400, "{} bytes follow the {} data of the body", z.avail_in, encoding);
  if (out.size() > limit)
    fail_http(413, "the decompressed body exceeds the limit of {} bytes", limit);
  return out;
}

const char* accepted_encoding(std::string_view accept) {
  const char* best = nullptr;
  while (!accept.empty()) {
    const size_t comma = std::min(accept.find(','), accept.size());
    const std::string_view item = accept.substr(0, comma);
    accept.remove_prefix(std::min(comma + 1, accept.size()));
    const size_t semicolon = std::min(item.find(';'), item.size());
    if (is_refused(item.substr(semicolon))) continue;
    const std::string_view name = trimmed(item.substr(0, semicolon));
    if (equal_ignoring_case(name, "gzip")) return "gzip";
    if (equal_ignoring_case(name, "deflate")) best = "deflate";
  }
  return best;
}

std::string compress(std::string_view data, std::string_view encoding) {
  Deflater deflater(encoding == "gzip" ? kGzip : kZlib);
  z_stream& z = deflater.z;
  std::string out(deflateBound(&z, data.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  z.avail_in = static_cast<uInt>(data.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  return out;
}

}  // namespace fluxion::serve
