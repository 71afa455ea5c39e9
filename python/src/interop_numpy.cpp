// NumPy and the buffer protocol, zero copy both ways. NumPy itself is imported only by Tensor.numpy().
#include <algorithm>

#include "python/src/construct.h"
#include "python/src/convert.h"
#include "python/src/module.h"

namespace fluxion::python {

namespace {

// --- foreign buffers as tensors

[[noreturn]] void unsupported_format(const char* what, PyObject* o, std::string_view format) {
  fail(
      ErrorKind::type,
      "{}(): can't convert {} with element format '{}'. Supported are bool, uint8, int8 to int64, float16 to float64; "
      "convert the array with .astype() first",
      what, type_name(o), format);
}

DType dtype_of_format(const char* what, PyObject* o, const Py_buffer& b) {
  std::string_view format = b.format ? b.format : "B";
  std::string_view code = format;
  if (code.starts_with('>') || code.starts_with('!'))
    fail(
        ErrorKind::value,
        "{}(): the array's byte order is not the machine's. Convert it with array.astype(array.dtype.newbyteorder('='))",
        what);
  if (!code.empty() && std::string_view("@=<").find(code[0]) != std::string_view::npos)
    code.remove_prefix(1);
  if (code.size() == 1) {
    char c = code[0];
    if (c == '?') return DType::bool_;
    if (c == 'B') return DType::u8;
    if (c == 'e') return DType::f16;
    if (c == 'f') return DType::f32;
    if (c == 'd') return DType::f64;
    if (std::string_view("bhilqn").find(c) != std::string_view::npos) {
      constexpr DType kBySize[] = {DType::bool_, DType::i8,    DType::i16,
                                   DType::bool_, DType::i32,   DType::bool_,
                                   DType::bool_, DType::bool_, DType::i64};
      return kBySize[b.itemsize];
    }
  }
  unsupported_format(what, o, format);
}

void release_buffer(void* context) {
  auto* buffer = static_cast<Py_buffer*>(context);
  if (Py_IsInitialized()) {
    HoldGil gil;
    PyBuffer_Release(buffer);
  }
  delete buffer;
}

/// The buffer, writable if the object lets it.
std::unique_ptr<Py_buffer> get_buffer(const char* what, PyObject* o) {
  auto buffer = std::make_unique<Py_buffer>();
  if (PyObject_GetBuffer(o, buffer.get(), PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE) == 0)
    return buffer;
  PyErr_Clear();
  if (PyObject_GetBuffer(o, buffer.get(), PyBUF_STRIDES | PyBUF_FORMAT) == 0) return buffer;
  PyErr_Clear();
  Object dtype =
      Object::own(PyObject_HasAttrString(o, "dtype") ? PyObject_GetAttrString(o, "dtype") : none());
  Object text = Object::own(PyObject_Str(dtype.get()));
  unsupported_format(what, o, PyUnicode_AsUTF8(text.get()));
}

// --- tensors as foreign buffers

const char* format_of(DType t) {
  switch (t) {
    case DType::bool_: return "?";
    case DType::u8: return "B";
    case DType::i8: return "b";
    case DType::i16: return "h";
    case DType::i32: return "i";
    case DType::i64: return sizeof(long) == 8 ? "l" : "q";
    case DType::f16: return "e";
    case DType::f32: return "f";
    case DType::f64: return "d";
    case DType::bf16: break;
  }
  return nullptr;
}

/// What an exported buffer holds, whatever becomes of the tensor's handle.
struct Export {
  Ref<Storage> storage;
  Shape sizes, strides;  // strides in bytes
};

Shape byte_strides(const Tensor& t) {
  Shape strides(t.strides());
  for (int64_t& s : strides)
    s *= t.numel() ? size_of(t.dtype()) : 0;  // NumPy checks those of empty arrays, too
  return strides;
}

int export_tensor(PyObject* self, Py_buffer* view, int flags) {
  const Tensor& t = tensor_of(self);
  view->obj = nullptr;
  auto refuse = [](const char* why) {
    PyErr_SetString(PyExc_BufferError, why);
    return -1;
  };
  if (t.requires_grad())
    return refuse("a Tensor that requires grad exports no buffer; use detach()");
  if (!format_of(t.dtype())) return refuse("a bfloat16 Tensor exports no buffer; use .float()");
  if ((flags & PyBUF_WRITABLE) && t.storage()->read_only)
    return refuse("the Tensor's memory is read-only");
  bool strided = (flags & PyBUF_STRIDES) == PyBUF_STRIDES;
  bool order = (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS ||
               (flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS ||
               (flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS;
  bool fortran = (flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && t.dim() > 1;
  if (((!strided || order) && !t.is_contiguous()) || fortran)
    return refuse("the Tensor is not contiguous in that order");
  auto* e = new Export{Ref<Storage>::share(t.storage()), Shape(t.sizes()), byte_strides(t)};
  view->obj = Py_NewRef(self);
  view->buf = t.data();
  view->len = t.nbytes();
  view->readonly = t.storage()->read_only;
  view->itemsize = size_of(t.dtype());
  view->ndim = t.dim();
  view->format = flags & PyBUF_FORMAT ? const_cast<char*>(format_of(t.dtype())) : nullptr;
  view->shape = flags & PyBUF_ND ? reinterpret_cast<Py_ssize_t*>(e->sizes.data()) : nullptr;
  view->strides = strided ? reinterpret_cast<Py_ssize_t*>(e->strides.data()) : nullptr;
  view->suboffsets = nullptr;
  view->internal = e;
  return 0;
}

void release_export(PyObject*, Py_buffer* view) { delete static_cast<Export*>(view->internal); }

// --- numpy()

/// The bytes of a storage as a Python object; NumPy arrays have it as their base.
struct StorageBytes {
  PyObject_HEAD Ref<Storage> storage;
};
PyTypeObject* bytes_type;

void destroy_bytes(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  reinterpret_cast<StorageBytes*>(self)->storage.~Ref();
  type->tp_free(self);
  Py_DECREF(type);
}
int export_bytes(PyObject* self, Py_buffer* view, int flags) {
  Storage& s = *reinterpret_cast<StorageBytes*>(self)->storage;
  static char nothing;
  return PyBuffer_FillInfo(view, self, s.data ? s.data : &nothing,
                           static_cast<Py_ssize_t>(s.nbytes), s.read_only, flags);
}

PyType_Slot bytes_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(destroy_bytes)},
                             {Py_bf_getbuffer, reinterpret_cast<void*>(export_bytes)},
                             {Py_tp_doc, const_cast<char*>("The memory of a tensor.")},
                             {}};
PyType_Spec bytes_spec{"fluxion._C._StorageBytes", sizeof(StorageBytes), 0,
                       Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, bytes_slots};

Object bytes_object(Storage* s) {
  Object o = Object::own(bytes_type->tp_alloc(bytes_type, 0));
  new (&reinterpret_cast<StorageBytes*>(o.get())->storage) Ref<Storage>(Ref<Storage>::share(s));
  return o;
}

PyObject* to_numpy(const Tensor& t) {
  if (t.requires_grad())
    fail(ErrorKind::runtime,
         "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.");
  if (!format_of(t.dtype()))
    fail(ErrorKind::type, "numpy(): NumPy has no bfloat16; use tensor.float().numpy()");
  observe_read(t);
  Object ndarray = import("numpy", "ndarray");
  Object shape = Object::own(make_tuple(t.sizes())),
         strides = Object::own(make_tuple(byte_strides(t)));
  Object bytes = bytes_object(t.storage());
  int64_t offset = t.numel() ? t.storage_offset() * size_of(t.dtype()) : 0;
  return PyObject_CallFunction(ndarray.get(), "OsOnO", shape.get(), format_of(t.dtype()),
                               bytes.get(), static_cast<Py_ssize_t>(offset), strides.get());
}

PyObject* native_numpy(Frame& f) {
  const Tensor& t = f.arg(0).tensor;
  return to_numpy(f.arg(1).scalar.i ? t.detach() : t);
}

PyObject* native_array(Frame& f) {
  Object array = Object::own(to_numpy(f.arg(0).tensor));
  if (f.object(1) && f.object(1) != Py_None)
    array = Object::own(PyObject_CallMethod(array.get(), "astype", "O", f.object(1)));
  if (f.object(2) && is_true(f.object(2)))
    array = Object::own(PyObject_CallMethod(array.get(), "copy", nullptr));
  return array.release();
}

/// What a NumPy function computed from a tensor: a tensor of it, or the array where its dtype has none.
PyObject* native_array_wrap(Frame& f) {
  try {
    if (is_numpy_array(f.object(1))) return wrap(from_array(f.object(1), "__array_wrap__"));
  } catch (const Error&) {
  }
  return Py_NewRef(f.object(1));
}

PyObject* list_of(const Tensor& t, int dim, const char* p) {
  if (dim == t.dim()) {
    if (is_floating(t.dtype())) return PyFloat_FromDouble(load_double(p, t.dtype()));
    int64_t v = load_int(p, t.dtype());
    return t.dtype() == DType::bool_ ? boolean(v != 0) : PyLong_FromLongLong(v);
  }
  int64_t n = t.sizes()[static_cast<size_t>(dim)];
  int64_t step = t.strides()[static_cast<size_t>(dim)] * size_of(t.dtype());
  Object list = Object::own(PyList_New(n));
  for (int64_t i = 0; i < n; ++i)
    PyList_SET_ITEM(list.get(), i, Object::own(list_of(t, dim + 1, p + i * step)).release());
  return list.release();
}

const NativeFunction kFunctions[] = {
    {"numpy(Tensor input, *, bool force=False) -> numpy.ndarray",
     "A NumPy array that shares the tensor's memory; force=True detaches first.", kMethod,
     native_numpy},
    {"__array__(Tensor input, object dtype=None, *, object copy=None) -> numpy.ndarray",
     "NumPy's conversion protocol.", kMethod, native_array},
    {"__array_wrap__(Tensor input, object array, object context=None, object return_scalar=False) -> object",
     "NumPy's functions of tensors return tensors.", kMethod, native_array_wrap},
    {"tolist(Tensor input) -> object", "The elements as nested lists, or one Python number.",
     kMethod,
     [](Frame& f) {
       observe_read(f.arg(0).tensor);
       return list_of(f.arg(0).tensor, 0, f.arg(0).tensor.data<const char>());
     }},
};

}  // namespace

bool is_array(PyObject* o) {
  return PyObject_CheckBuffer(o) && !is_tensor(o) && !PyBytes_Check(o) && !is_numpy_scalar(o);
}

Tensor from_array(PyObject* array, const char* what) {
  std::unique_ptr<Py_buffer> buffer = get_buffer(what, array);
  // Released here on failure, by the storage afterwards.
  struct Guard {
    std::unique_ptr<Py_buffer>& b;
    ~Guard() {
      if (b) PyBuffer_Release(b.get());
    }
  } guard{buffer};
  DType dtype = dtype_of_format(what, array, *buffer);
  Shape sizes, strides;
  int64_t lowest = 0, highest = 0;  // bytes from the first element
  bool is_empty = false;
  for (int d = 0; d < buffer->ndim; ++d) {
    int64_t n = buffer->shape[d], stride = buffer->strides[d];
    if (stride % buffer->itemsize)
      fail(ErrorKind::value,
           "{}(): a stride of {} bytes is no multiple of the element size {}. Copy the array first",
           what, stride, buffer->itemsize);
    is_empty |= n == 0;
    (stride < 0 ? lowest : highest) += (n - 1) * stride;
    sizes.push_back(n);
    strides.push_back(stride / buffer->itemsize);
  }
  if (is_empty) lowest = 0, highest = -buffer->itemsize;
  bool read_only = buffer->readonly;
  int64_t itemsize = buffer->itemsize;
  char* first = static_cast<char*>(buffer->buf);
  Ref<Storage> storage =
      wrap_foreign(first + lowest, static_cast<size_t>(highest - lowest + itemsize), release_buffer,
                   buffer.get());
  buffer.release();
  storage->read_only = read_only;
  return from_storage(std::move(storage), dtype, sizes, strides, -lowest / itemsize);
}

void fill_buffer_slots(std::vector<PyType_Slot>& slots) {
  slots.push_back({Py_bf_getbuffer, reinterpret_cast<void*>(export_tensor)});
  slots.push_back({Py_bf_releasebuffer, reinterpret_cast<void*>(release_export)});
}

void add_numpy(PyObject* module) {
  bytes_type = add_type(module, &bytes_spec);
  check(PyObject_SetAttrString(reinterpret_cast<PyObject*>(tensor_type), "__array_priority__",
                               Object::own(PyLong_FromLong(1000)).get()));
  add_natives(kFunctions);
}

}  // namespace fluxion::python
