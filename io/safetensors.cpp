#include "io/safetensors.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <set>

#include "io/atomic_file.h"
#include "io/mapped_file.h"
#include "ops/copy.h"
#include "tensor/thread_state.h"

namespace fluxion::io {
namespace {

constexpr uint64_t kAlign = 64;
constexpr char kZeros[kAlign] = {};

constexpr uint64_t rounded_up(uint64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

/// The length of the header, checked against the file's size.
uint64_t header_length(const Storage& bytes, std::string_view name) {
  const size_t size = bytes.nbytes;
  if (size < 8)
    fail(ErrorKind::runtime,
         "load: {}: too short for a safetensors file: {} bytes, the header length alone has 8",
         name, size);
  if (std::memcmp(bytes.data, "PK", 2) == 0 || bytes.data[0] == '\x80')
    fail(ErrorKind::runtime,
         "load: {}: a PyTorch file (zip or pickle), which can hold code; convert it to safetensors",
         name);
  uint64_t length;
  std::memcpy(&length, bytes.data, 8);
  if (length > kMaxHeader)
    fail(ErrorKind::runtime, "load: {}: header length {} is above {}; not a safetensors file?",
         name, length, kMaxHeader);
  if (length > size - 8)
    fail(ErrorKind::runtime,
         "load: {}: truncated: the header has {} bytes, the file only {} after its length", name,
         length, size - 8);
  return length;
}

void check_bools(const char* data, size_t n, const TensorEntry& e, std::string_view file) {
  for (size_t i = 0; i < n; ++i)
    if (data[i] & ~1) [[unlikely]]
      fail(ErrorKind::runtime, "load: {}: tensor '{}': element {} is {}, a BOOL is 0 or 1", file,
           e.name, i, static_cast<unsigned char>(data[i]));
}

Tensor tensor_at(const Ref<Storage>& bytes, uint64_t start, const TensorEntry& e,
                 std::string_view file) {
  const size_t begin = start + e.begin, n = e.end - e.begin;
  if (n == 0) return empty(Ints(e.shape), e.dtype);
  if (e.dtype == DType::bool_) check_bools(bytes->data + begin, n, e, file);
  // Other writers need not align; kernels need aligned elements.
  const auto address = reinterpret_cast<uintptr_t>(bytes->data + begin);
  if (address % static_cast<size_t>(size_of(e.dtype)) == 0)
    return from_storage(slice(bytes, begin, n), e.dtype, Ints(e.shape), row_major_strides(e.shape),
                        0);
  Tensor t = empty(Ints(e.shape), e.dtype);
  std::memcpy(t.data<char>(), bytes->data + begin, n);
  return t;
}

}  // namespace

SafeTensors parse_safetensors(const Ref<Storage>& bytes, std::string_view name) {
  const uint64_t length = header_length(*bytes, name), start = 8 + length;
  Header header = parse_header({bytes->data + 8, length}, bytes->nbytes - start, name);
  SafeTensors file;
  file.metadata = std::move(header.metadata);
  file.tensors.reserve(header.tensors.size());
  for (TensorEntry& e : header.tensors) {
    Tensor t = tensor_at(bytes, start, e, name);
    file.tensors.push_back({std::move(e.name), std::move(t)});
  }
  return file;
}

SafeTensors read_safetensors(const std::string& path, Reading how) {
  return parse_safetensors(how == Reading::mapped ? map_file(path) : read_file(path), path);
}

// Writing

FileImage::FileImage(std::span<const NamedTensor> tensors, const Metadata& metadata,
                     Padding padding) {
  NoGrad off;
  Header header{metadata, {}};
  std::set<std::string_view> names{"__metadata__"};
  for (const NamedTensor& t : tensors) {
    if (!names.insert(t.name).second)
      fail(ErrorKind::value, "save: the name '{}' is {}", t.name,
           t.name == "__metadata__" ? "reserved by the format" : "given twice");
    add(header, t);
  }
  place(header, padding);
  head_ = header_text(header);
  head_.resize(rounded_up(head_.size() + 8) - 8, ' ');
  if (head_.size() > kMaxHeader)
    fail(ErrorKind::value, "save: the header has {} bytes, more than {}", head_.size(), kMaxHeader);
  const uint64_t length = head_.size();
  head_.insert(0, reinterpret_cast<const char*>(&length), 8);
}

void FileImage::add(Header& header, const NamedTensor& t) {
  const Tensor plain = dense(t.tensor);
  const auto n = static_cast<size_t>(plain.nbytes());
  header.tensors.push_back({t.name, plain.dtype(), Shape(plain.sizes()), 0, n});
  const size_t offset =
      n ? static_cast<size_t>(plain.data<char>() - plain.storage()->data) : size_t{0};
  pieces_.push_back({take_snapshot(plain.storage()), offset, n});
}

// The format allows no gaps: tensors of 64 n bytes come first, then by element size.
void FileImage::place(Header& header, Padding padding) {
  std::vector<TensorEntry>& entries = header.tensors;
  std::vector<size_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](size_t i) {
    return std::pair(entries[i].end % kAlign != 0, -size_of(entries[i].dtype));
  });
  std::vector<Piece> sorted;
  size_t pads = 0;
  for (const size_t i : order) {
    TensorEntry& e = entries[i];
    const uint64_t n = e.end, gap = rounded_up(n) - n;
    e.begin = size_;
    e.end = size_ += n;
    sorted.push_back(std::move(pieces_[i]));
    if (padding == Padding::none || gap == 0) continue;
    Shape shape{static_cast<int64_t>(gap)};
    entries.push_back(
        {fmt::format("{}{}", kPadPrefix, pads++), DType::u8, shape, size_, size_ + gap});
    sorted.push_back({nullptr, 0, gap});
    size_ += gap;
  }
  pieces_ = std::move(sorted);
}

void FileImage::write(const std::string& path) const {
  constexpr size_t kChunk = size_t{16} << 20;
  AtomicFile file(path, head_.size() + size_);
  file.write(0, head_);
  uint64_t at = head_.size();
  for (const Piece& p : pieces_) {
    if (!p.bytes) file.write(at, {kZeros, p.nbytes});
    for (size_t done = 0; p.bytes && done < p.nbytes; done += kChunk) {
      const size_t n = std::min(kChunk, p.nbytes - done);
      const Storage* from = bytes_of(*p.bytes);
      file.write(at + done, {from->data + p.offset + done, n});
      // Another thread may have written to the source meanwhile; it has copied the old bytes first.
      std::atomic_thread_fence(std::memory_order_acquire);
      const Storage* now = bytes_of(*p.bytes);
      if (now != from) file.write(at + done, {now->data + p.offset + done, n});
    }
    at += p.nbytes;
  }
  file.commit();
}

std::vector<Ref<Storage>> FileImage::data() const {
  std::vector<Ref<Storage>> parts;
  for (const Piece& p : pieces_) {
    if (p.nbytes == 0) continue;
    if (p.bytes) {
      const Ref<Storage> from = Ref<Storage>::share(bytes_of(*p.bytes));
      parts.push_back(slice(from, p.offset, p.nbytes));
      continue;
    }
    parts.push_back(allocate(p.nbytes));
    std::memset(parts.back()->data, 0, p.nbytes);
  }
  return parts;
}

}  // namespace fluxion::io
