// Safetensors files: what fluxion.serialization is built on.
#include "base/io_error.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "python/src/module.h"

namespace fluxion::python {

namespace {

constexpr const char* kImage = "fluxion.file_image";

/// Reading and writing files may take seconds.
class ReleaseGil {
 public:
  ReleaseGil() : state_(PyEval_SaveThread()) {}
  ~ReleaseGil() { PyEval_RestoreThread(state_); }
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;

 private:
  PyThreadState* state_;
};

std::string utf8(PyObject* o, const char* what) {
  Py_ssize_t n;
  if (!PyUnicode_Check(o)) fail(ErrorKind::type, "{} must be str, not {}", what, type_name(o));
  const char* s = PyUnicode_AsUTF8AndSize(o, &n);
  if (!s) throw PythonError();
  return {s, static_cast<size_t>(n)};
}

/// A path in the file system's encoding, which may be other bytes than UTF-8.
std::string path_of(PyObject* o) {
  PyObject* bytes;
  if (!PyUnicode_FSConverter(o, &bytes)) throw PythonError();
  Object held = Object::own(bytes);
  return {PyBytes_AS_STRING(bytes), static_cast<size_t>(PyBytes_GET_SIZE(bytes))};
}

io::Metadata metadata_of(PyObject* dict) {
  io::Metadata metadata;
  PyObject *key, *value;
  Py_ssize_t at = 0;
  while (PyDict_Next(dict, &at, &key, &value))
    metadata.emplace(utf8(key, "a key of metadata"), utf8(value, "a value of metadata"));
  return metadata;
}

std::vector<io::NamedTensor> tensors_of(PyObject* dict) {
  std::vector<io::NamedTensor> tensors;
  PyObject *key, *value;
  Py_ssize_t at = 0;
  while (PyDict_Next(dict, &at, &key, &value)) {
    std::string name = utf8(key, "the name of a tensor");
    if (!is_tensor(value))
      fail(ErrorKind::type, "save: '{}' must be a Tensor, not {}", name, type_name(value));
    tensors.push_back({std::move(name), tensor_of(value)});
  }
  return tensors;
}

PyObject* file_image(Frame& f) {
  PyObject *tensors = f.object(0), *metadata = f.object(1);
  if (!PyDict_Check(tensors) || !PyDict_Check(metadata))
    fail(ErrorKind::type, "_file_image(): needs a dict of tensors and a dict of strings");
  auto image = std::make_unique<io::FileImage>(tensors_of(tensors), metadata_of(metadata));
  PyObject* capsule = PyCapsule_New(image.get(), kImage, [](PyObject* c) {
    delete static_cast<io::FileImage*>(PyCapsule_GetPointer(c, kImage));
  });
  if (capsule) image.release();
  return capsule;
}

const io::FileImage& image_of(PyObject* capsule) {
  auto* image = static_cast<io::FileImage*>(PyCapsule_GetPointer(capsule, kImage));
  if (!image) throw PythonError();
  return *image;
}

PyObject* write_image(Frame& f) {
  const io::FileImage& image = image_of(f.object(0));
  const std::string path = path_of(f.object(1));
  {
    ReleaseGil released;
    image.write(path);
  }
  return none();
}

PyObject* image_parts(Frame& f) {
  const io::FileImage& image = image_of(f.object(0));
  Object parts = Object::own(PyList_New(0));
  Object head = Object::own(
      PyBytes_FromStringAndSize(image.head().data(), static_cast<Py_ssize_t>(image.head().size())));
  check(PyList_Append(parts.get(), head.get()));
  for (const Ref<Storage>& s : image.data()) {
    const auto n = static_cast<int64_t>(s->nbytes);
    Object part = Object::own(wrap(from_storage(s, DType::u8, Ints({n}), Ints({1}), 0)));
    check(PyList_Append(parts.get(), part.get()));
  }
  return parts.release();
}

/// (tensors by name, metadata).
PyObject* contents(io::SafeTensors file) {
  Object tensors = Object::own(PyDict_New()), metadata = Object::own(PyDict_New());
  for (io::NamedTensor& t : file.tensors) {
    Object name = Object::own(text(t.name)), tensor = Object::own(wrap(std::move(t.tensor)));
    check(PyDict_SetItem(tensors.get(), name.get(), tensor.get()));
  }
  for (const auto& [key, value] : file.metadata) {
    Object k = Object::own(text(key)), v = Object::own(text(value));
    check(PyDict_SetItem(metadata.get(), k.get(), v.get()));
  }
  return PyTuple_Pack(2, tensors.get(), metadata.get());
}

PyObject* read_file(Frame& f) {
  const std::string path = path_of(f.object(0));
  io::SafeTensors file;
  {
    ReleaseGil released;
    file =
        io::read_safetensors(path, f.arg(1).scalar.i ? io::Reading::mapped : io::Reading::copied);
  }
  return contents(std::move(file));
}

PyObject* parse_bytes(Frame& f) {
  const Tensor& bytes = f.arg(0).tensor;
  if (bytes.dtype() != DType::u8 || !bytes.is_contiguous())
    fail(ErrorKind::type, "_parse_safetensors(): needs contiguous uint8, got {}", type_text(bytes));
  const auto offset = static_cast<size_t>(bytes.storage_offset());
  Ref<Storage> whole = Ref<Storage>::share(bytes.storage());
  return contents(io::parse_safetensors(
      io::slice(whole, offset, static_cast<size_t>(bytes.numel())), utf8(f.object(1), "name")));
}

const NativeFunction kFunctions[] = {
    {"_file_image(object tensors, object metadata) -> object",
     "The safetensors file of a dict of tensors, with their bytes as of now.", kPrivate,
     file_image},
    {"_write_image(object image, object path) -> None",
     "Writes the file and replaces an older one when it is complete.", kPrivate, write_image},
    {"_image_parts(object image) -> object",
     "A list: the file as bytes and uint8 tensors in order.", kPrivate, image_parts},
    {"_read_safetensors(object path, bool mmap) -> tuple", "Tensors by name, and the metadata.",
     kPrivate, read_file},
    {"_parse_safetensors(Tensor data, object name) -> tuple",
     "Tensors by name, and the metadata; the tensors alias `data`.", kPrivate, parse_bytes},
};

}  // namespace

void add_files() { add_natives(kFunctions); }

}  // namespace fluxion::python
