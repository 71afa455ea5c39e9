// Safetensors files: what comes back, what the bytes are, what a bad file says, and what stays when saving fails.
#include "io/safetensors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/io_error.h"
#include "io/mapped_file.h"
#include "io_support.h"

namespace fluxion::io {
namespace {

namespace fs = std::filesystem;
using testing::contents_of;
using testing::error_of;
using testing::filled;
using testing::Folder;

Tensor find(const SafeTensors& file, std::string_view name) {
  for (const NamedTensor& t : file.tensors)
    if (t.name == name) return t.tensor;
  return {};
}

void save(const std::string& path, std::vector<NamedTensor> tensors, Metadata metadata = {},
          Padding padding = Padding::none) {
  FileImage(tensors, metadata, padding).write(path);
}

TEST(SafeTensors, EveryDTypeAndShapeComesBack) {
  Folder folder;
  std::vector<NamedTensor> tensors;
  for (int t = 0; t < kDTypes; ++t)
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{3, 0, 2}, Shape{7}, Shape{2, 3, 4}})
      tensors.push_back(
          {fmt::format("{}{}", t, shape_text(shape)), filled(Ints(shape), static_cast<DType>(t))});
  for (const Padding padding : {Padding::none, Padding::align})
    for (const Reading how : {Reading::mapped, Reading::copied}) {
      save(folder / "f", tensors, {{"key", "v\"\n\\"}}, padding);
      const SafeTensors file = read_safetensors(folder / "f", how);
      EXPECT_EQ(file.metadata.at("key"), "v\"\n\\");
      for (const NamedTensor& t : tensors) {
        const Tensor got = find(file, t.name);
        ASSERT_TRUE(got.defined()) << t.name;
        EXPECT_EQ(got.dtype(), t.tensor.dtype());
        EXPECT_EQ(shape_text(got.sizes()), shape_text(t.tensor.sizes()));
        EXPECT_EQ(contents_of(got), contents_of(t.tensor)) << t.name;
        if (padding == Padding::align && how == Reading::mapped) {
          EXPECT_EQ(reinterpret_cast<uintptr_t>(got.data()) % 64, 0u) << t.name;
        }
      }
    }
}

TEST(SafeTensors, WritesToALoadedTensorLeaveTheFileAndTheOtherTensors) {
  Folder folder;
  save(folder / "f", {{"a", filled({1000}, DType::f32)}, {"b", filled({1000}, DType::f32)}});
  const std::string before = folder.text("f");
  const SafeTensors file = read_safetensors(folder / "f");
  const Tensor a = find(file, "a"), b = find(file, "b");
  EXPECT_NE(a.storage(), b.storage());
  Ref<Snapshot> old = take_snapshot(a.storage());
  const char* address = a.data<char>();
  begin_write(a.storage());
  std::memset(a.data<char>(), 0, 4000);
  EXPECT_EQ(a.data<char>(), address);
  EXPECT_EQ(std::memcmp(bytes_of(*old)->data, b.data(), 4000), 0);
  EXPECT_EQ(folder.text("f"), before);
  fs::remove(folder / "f");
  EXPECT_EQ(contents_of(b), contents_of(filled({1000}, DType::f32)));
}

TEST(SafeTensors, TheBytesFollowFromTheArguments) {
  Folder folder;
  std::vector<NamedTensor> tensors = {{"odd", filled({3}, DType::f32)},
                                      {"even", filled({16}, DType::f32)},
                                      {"wide", filled({5}, DType::f64)}};
  for (const char* name : {"1", "2"}) save(folder / name, tensors, {{"k", "v"}, {"a", "b"}});
  EXPECT_EQ(folder.text("1"), folder.text("2"));
  EXPECT_EQ(folder.text("1").substr(8, 60),
            R"({"__metadata__":{"a":"b","k":"v"},"odd":{"dtype":"F32","shap)");
}

TEST(SafeTensors, AnImageHasTheBytesAsOfItsMaking) {
  Folder folder;
  const Tensor x = filled({4096}, DType::i32);
  const std::string before = contents_of(x);
  std::vector<NamedTensor> tensors = {{"x", x}, {"tail", alias(x, {96}, {1}, 4000)}};
  const FileImage image(tensors, {});
  begin_write(x.storage());
  std::memset(x.data<char>(), 7, static_cast<size_t>(x.nbytes()));
  image.write(folder / "f");
  const SafeTensors file = read_safetensors(folder / "f");
  EXPECT_EQ(contents_of(find(file, "x")), before);
  EXPECT_EQ(contents_of(find(file, "tail")), before.substr(4000 * 4));
}

// The writer reads memory that another thread writes to after copying it; the file must not mix the two.
TEST(SafeTensors, WritingGoesOnBesideAnImage) {
  Folder folder;
  constexpr int64_t kBytes = int64_t{24} << 20;
  const Tensor x = empty({kBytes}, DType::u8);
  std::memset(x.data<char>(), 0, kBytes);
  for (int round = 1; round <= 12; ++round) {
    std::vector<NamedTensor> tensors = {{"x", x}};
    const FileImage image(tensors, {});
    std::atomic<bool> done{false};
    std::thread writer([&] {
      image.write(folder / "f");
      done = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(round));
    begin_write(x.storage());
    std::memset(x.data<char>(), round, kBytes);
    writer.join();
    const Tensor got = find(read_safetensors(folder / "f"), "x");
    EXPECT_EQ(std::count(got.data<char>(), got.data<char>() + kBytes, round - 1), kBytes);
  }
}

TEST(SafeTensors, NamesAreCheckedBeforeAnythingIsWritten) {
  Folder folder;
  const Tensor x = filled({2}, DType::f32);
  EXPECT_EQ(error_of([&] { save(folder / "f", {{"a", x}, {"a", x}}); }),
            "save: the name 'a' is given twice");
  EXPECT_EQ(error_of([&] { save(folder / "f", {{"__metadata__", x}}); }),
            "save: the name '__metadata__' is reserved by the format");
  EXPECT_EQ(error_of([&] { save(folder / "f", {{"\xff", x}}); }),
            "save: a name or text is not valid UTF-8");
  EXPECT_FALSE(fs::exists(folder / "f"));
}

// What stays when saving fails

TEST(AtomicFile, AFullDiskLeavesTheOldFile) {
  Folder folder;
  if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=256k") != 0)
    GTEST_SKIP() << "needs the right to mount a tmpfs";
  save(folder / "f", {{"x", filled({100}, DType::f32)}});
  const std::string before = folder.text("f");
  const std::string error =
      error_of([&] { save(folder / "f", {{"x", filled({1 << 17}, DType::f32)}}); });
  EXPECT_EQ(error, fmt::format("save: cannot write '{}': No space left on device", folder / "f"));
  EXPECT_EQ(folder.text("f"), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
  umount(folder.path().c_str());
}

TEST(AtomicFile, ALimitOfSizeLeavesTheOldFile) {
  Folder folder;
  save(folder / "f", {{"x", filled({100}, DType::f32)}});
  const std::string before = folder.text("f");
  rlimit old;
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit low{4096, old.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &low);
  int code = 0;
  try {
    save(folder / "f", {{"x", filled({1 << 17}, DType::f32)}});
  } catch (const IoError& e) {
    code = e.code();
  }
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_EQ(code, EFBIG);
  EXPECT_EQ(folder.text("f"), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

TEST(AtomicFile, KilledInTheMiddleOfSaving) {
  Folder folder;
  save(folder / "f", {{"x", filled({100}, DType::f32)}});
  const std::string before = folder.text("f");
  const Tensor big = filled({16 << 20}, DType::u8);
  const Tensor small = filled({100}, DType::f32);
  int killed = 0;
  for (int delay = 0; delay < 12; ++delay) {
    const pid_t pid = fork();
    if (pid == 0) {
      for (;;) save(folder / "f", {{"x", small}, {"big", big}});
    }
    usleep(static_cast<useconds_t>(300 + 1700 * delay));
    kill(pid, SIGKILL);
    int status = 0;
    waitpid(pid, &status, 0);
    killed += WIFSIGNALED(status);
    const SafeTensors file = read_safetensors(folder / "f");  // the old one or a whole new one
    EXPECT_EQ(contents_of(find(file, "x")), contents_of(small));
    if (file.tensors.size() == 1) {
      EXPECT_EQ(folder.text("f"), before);
    }
  }
  EXPECT_EQ(killed, 12);
}

TEST(AtomicFile, LinksAreFollowedAndOtherKindsOfFilesRefused) {
  Folder folder;
  fs::create_symlink("target", folder / "link");
  save(folder / "link", {{"x", filled({1}, DType::f32)}});
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_TRUE(fs::is_regular_file(folder / "target"));
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_NE(error_of([&] { save(folder / "pipe", {}); }).find("not a regular file"),
            std::string::npos);
  EXPECT_NE(error_of([&] { read_safetensors(folder / "pipe"); }).find("cannot open"),
            std::string::npos);
  EXPECT_EQ(error_of([&] { save(folder / "none/f", {}); }),
            fmt::format("save: cannot write '{}': No such file or directory", folder / "none/f"));
  EXPECT_EQ(error_of([&] { read_safetensors(folder / "none"); }),
            fmt::format("load: cannot open '{}': No such file or directory", folder / "none"));
}

// Bad headers; the long list of texts is in tests/python/test_serialization.py.

TEST(Header, RoundTrip) {
  Header header{{{"k", "\u00fc\"\x01"}},
                {{"a\\b", DType::bf16, Shape{2, 3}, 0, 12}, {"", DType::i8, Shape{}, 12, 13}}};
  const Header got = parse_header(header_text(header), 13, "f");
  EXPECT_EQ(got.metadata, header.metadata);
  ASSERT_EQ(got.tensors.size(), 2u);
  EXPECT_EQ(got.tensors[0].name, "a\\b");
  EXPECT_EQ(got.tensors[1].begin, 12u);
  EXPECT_EQ(header_text(got), header_text(header));
}

TEST(Header, SizesDoNotOverflow) {
  auto entry = [](const char* shape, const char* offsets) {
    return fmt::format(R"({{"a":{{"dtype":"F32","shape":{},"data_offsets":{}}}}})", shape, offsets);
  };
  auto error = [](const std::string& json, uint64_t bytes) {
    return error_of([&] { parse_header(json, bytes, "f"); });
  };
  EXPECT_EQ(error(entry("[0]", "[0,0]"), 0), "(no error)");
  EXPECT_EQ(error(entry("[9223372036854775807,0,9223372036854775807]", "[0,0]"), 0), "(no error)");
  EXPECT_EQ(
      error(entry("[4611686018427387904]", "[0,0]"), 0),
      "load: f: tensor 'a': F32 of shape [4611686018427387904] needs more bytes than fit in 64 bits");
  EXPECT_EQ(error(entry("[1]", "[18446744073709551612,0]"), 0),
            "load: f: tensor 'a': data_offsets must be two sizes, got 18446744073709551612");
  EXPECT_EQ(error(entry("[1]", "[9223372036854775804,9223372036854775807]"), 3),
            "load: f: tensor 'a': F32 of shape [1] needs 4 bytes, offsets give 3");
  EXPECT_EQ(
      error(entry("[1]", "[9223372036854775800,9223372036854775804]"), 4),
      "load: f: tensor 'a' leaves a gap before it: begins at 9223372036854775800, expected 0");
  EXPECT_EQ(error(entry("[1]", "[4,0]"), 4),
            "load: f: tensor 'a': F32 of shape [1] needs 4 bytes, offsets give -4");
}

TEST(Header, DeepNestingEndsAtOnce) {
  const std::string deep(10'000'000, '[');
  EXPECT_EQ(error_of([&] { parse_header(deep, 0, "f"); }),
            "load: f: the header must be a JSON object, got an array");
}

}  // namespace
}  // namespace fluxion::io
