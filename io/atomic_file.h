// Files that are there completely or not at all.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace fluxion::io {

/// A new file that takes its name, and the place of an older one, when it is complete and durable. Until then it has
/// no name, or (where the file system knows no files without) a temporary one beside it. Raises IoError.
class AtomicFile {
 public:
  /// `path` may be a link: its target is replaced. Claims `size` bytes of disk where the file system can.
  AtomicFile(const std::string& path, uint64_t size);
  ~AtomicFile();  // without commit(): nothing happened
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(uint64_t offset, std::span<const char> bytes);
  void commit();

 private:
  void open_temporary();
  void give_name();
  void discard();
  std::string temporary_name() const;

  std::string path_, folder_, temporary_;  // `temporary_` is empty while the file has no name
  int fd_ = -1;
};

}  // namespace fluxion::io
