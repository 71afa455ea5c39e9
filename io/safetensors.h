// Safetensors files: an 8-byte little-endian header length, the header (io/header.h), the tensors' bytes.
#pragma once

#include <span>

#include "io/header.h"

namespace fluxion::io {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

struct SafeTensors {
  std::vector<NamedTensor> tensors;  // in the header's order
  Metadata metadata;
};

enum class Reading : uint8_t {
  mapped,  // pages are read when they are touched (map_file)
  copied   // the whole file now
};

/// The tensors alias the file's memory, each as a storage of its own; those whose elements the writer did not align
/// are copied. Raises IoError, or ErrorKind::runtime that says what is wrong with the file.
SafeTensors read_safetensors(const std::string& path, Reading how = Reading::mapped);
/// The same of bytes in memory; `name` stands for them in errors.
SafeTensors parse_safetensors(const Ref<Storage>& bytes, std::string_view name);

enum class Padding : uint8_t {
  none,  // the data and all tensors of 64 n bytes are aligned to 64, the others to their elements
  align  // every tensor is aligned to 64 bytes, by tensors named "__fx.pad.N"
};
inline constexpr std::string_view kPadPrefix = "__fx.pad.";

/// A file to be: names and the bytes as of now, whatever is written to the tensors later.
class FileImage {
 public:
  /// The file's bytes follow from the arguments alone. Raises ErrorKind::value for a name given twice.
  FileImage(std::span<const NamedTensor> tensors, const Metadata& metadata,
            Padding padding = Padding::none);

  /// Writes the file and makes it durable; an older one is replaced when the new one is complete. May run in another
  /// thread than the one that writes to the tensors. Raises IoError; an older file then stays as it was.
  void write(const std::string& path) const;

  /// The file in pieces: header with its length, then the data.
  const std::string& head() const { return head_; }
  std::vector<Ref<Storage>> data() const;

 private:
  struct Piece {
    Ref<Snapshot> bytes;  // null: zeros
    size_t offset, nbytes;
  };
  void add(Header& header, const NamedTensor& t);
  void place(Header& header, Padding padding);

  std::vector<Piece> pieces_;  // in the order of the file
  std::string head_;
  uint64_t size_ = 0;  // of the data
};

}  // namespace fluxion::io
