#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "base/io_error.h"

namespace fluxion::io {
namespace {

constexpr const char* kOpen = "load: cannot open";
constexpr const char* kRead = "load: cannot read";

/// An open regular file and its size.
class InputFile {
 public:
  // Without O_NONBLOCK the opening of a pipe would wait for a writer.
  explicit InputFile(const std::string& path)
      : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) fail_io(errno, kOpen, path);
    struct stat info;
    if (fstat(fd_, &info) < 0) fail_with(errno, path);
    if (S_ISDIR(info.st_mode)) fail_with(EISDIR, path);
    if (!S_ISREG(info.st_mode)) fail_with(EINVAL, path);
    size_ = static_cast<size_t>(info.st_size);
  }
  ~InputFile() { close(fd_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  int fd() const { return fd_; }
  size_t size() const { return size_; }

 private:
  [[noreturn]] void fail_with(int code, const std::string& path) {
    close(fd_);
    fail_io(code, kOpen, path);
  }

  int fd_;
  size_t size_ = 0;
};

struct Mapping {
  void* data;
  size_t nbytes;
};

void unmap(void* context) {
  std::unique_ptr<Mapping> m(static_cast<Mapping*>(context));
  munmap(m->data, m->nbytes);
}

void drop_whole(void* context) { release(static_cast<Storage*>(context)); }

}  // namespace

Ref<Storage> map_file(const std::string& path) {
  InputFile file(path);
  if (file.size() == 0) return allocate(0);
  auto mapping = std::make_unique<Mapping>();
  void* p =
      mmap(nullptr, file.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file.fd(), 0);
  if (p == MAP_FAILED) fail_io(errno, "load: cannot map", path);
  *mapping = {p, file.size()};
  return wrap_foreign(p, file.size(), unmap, mapping.release());
}

Ref<Storage> read_file(const std::string& path) {
  InputFile file(path);
  Ref<Storage> bytes = allocate(file.size());
  for (size_t done = 0; done < file.size();) {
    const ssize_t n = read(file.fd(), bytes->data + done, file.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(errno, kRead, path);
    if (n == 0) fail_io(EIO, "load: became shorter while it was read:", path);
    done += static_cast<size_t>(n);
  }
  return bytes;
}

Ref<Storage> slice(const Ref<Storage>& whole, size_t begin, size_t nbytes) {
  invariant(begin <= whole->nbytes && nbytes <= whole->nbytes - begin, "a slice outside a storage");
  Ref<Storage> held = whole;
  Ref<Storage> part = wrap_foreign(whole->data + begin, nbytes, drop_whole, held.get());
  held.detach();
  part->read_only = whole->read_only;
  return part;
}

}  // namespace fluxion::io
