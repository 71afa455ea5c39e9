#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/io_error.h"

namespace fluxion::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWrite = "save: cannot write";
// The disk begins with these bytes while later ones are still copied to the page cache.
constexpr size_t kWriteback = size_t{16} << 20;

constinit std::atomic<uint32_t> counter{0};

/// The file a path means: links followed, also to a target that is not there yet.
std::string resolved(const std::string& path) {
  std::error_code error;
  fs::path p(path);
  for (int links = 0; links < 40 && fs::is_symlink(p, error); ++links) {
    const fs::path target = fs::read_symlink(p, error);
    if (error) break;
    p = target.is_absolute() ? target : p.parent_path() / target;
  }
  return p.string();
}

void require_replaceable(const std::string& path) {
  struct stat info;
  if (path.empty() || path.back() == '/' || path.find('\0') != std::string::npos)
    fail_io(path.empty() ? ENOENT : EINVAL, kWrite, path);
  if (stat(path.c_str(), &info) < 0) return;
  if (S_ISDIR(info.st_mode)) fail_io(EISDIR, kWrite, path);
  if (!S_ISREG(info.st_mode))
    throw IoError(EINVAL, path,
                  fmt::format("{} '{}': it is not a regular file; write to a file object instead",
                              kWrite, path));
}

std::string folder_of(const std::string& path) {
  const std::string folder = fs::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path, uint64_t size)
    : path_(resolved(path)), folder_(folder_of(path_)) {
  require_replaceable(path_);
  open_temporary();
  // A disk that is full says so before anything is written.
  if (size && fallocate(fd_, 0, 0, static_cast<off_t>(size)) < 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS && errno != EINVAL) {
    const int code = errno;
    discard();
    fail_io(code, kWrite, path_);
  }
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

std::string AtomicFile::temporary_name() const {
  return fmt::format("{}/.fluxion.{}.{}.tmp", folder_, getpid(), counter.fetch_add(1));
}

void AtomicFile::open_temporary() {
  if (access("/proc/self/fd", X_OK) == 0)
    fd_ = open(folder_.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
  if (fd_ >= 0) return;
  temporary_ = temporary_name();
  fd_ = open(temporary_.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
  if (fd_ >= 0) return;
  temporary_.clear();
  fail_io(errno, kWrite, path_);
}

void AtomicFile::write(uint64_t offset, std::span<const char> bytes) {
  while (!bytes.empty()) {
    const size_t want = std::min(bytes.size(), kWriteback);
    const ssize_t n = pwrite(fd_, bytes.data(), want, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(errno, kWrite, path_);
    if (static_cast<size_t>(n) == kWriteback)
      sync_file_range(fd_, static_cast<off_t>(offset), n, SYNC_FILE_RANGE_WRITE);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}

void AtomicFile::give_name() {
  if (!temporary_.empty()) return;
  std::string name = temporary_name();
  const std::string self = fmt::format("/proc/self/fd/{}", fd_);
  if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) < 0)
    fail_io(errno, kWrite, path_);
  temporary_ = std::move(name);
}

void AtomicFile::commit() {
  if (fsync(fd_) < 0) fail_io(errno, kWrite, path_);
  give_name();
  if (rename(temporary_.c_str(), path_.c_str()) < 0) fail_io(errno, kWrite, path_);
  temporary_.clear();
  const int folder = open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;  // a folder that cannot be read cannot be made durable either
  const int code = fsync(folder) < 0 ? errno : 0;
  close(folder);
  if (code != 0 && code != EINVAL) fail_io(code, "save: cannot make durable", folder_);
}

}  // namespace fluxion::io
