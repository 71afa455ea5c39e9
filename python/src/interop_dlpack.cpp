// DLPack (dmlc/dlpack, ABI 1.0), zero copy both ways: versioned and unversioned capsules.
#include <optional>

#include "ops/functions.h"
#include "python/src/convert.h"
#include "python/src/module.h"

namespace fluxion::python {

namespace {

// --- the standard's structures

struct DLDevice {
  int32_t device_type;
  int32_t device_id;
};
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; may be null for row-major
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* manager;
  void (*deleter)(DLManagedTensor*);
};
struct DLManagedTensorVersioned {
  uint32_t major, minor;
  void* manager;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor tensor;
};

constexpr int32_t kCpu = 1;
constexpr uint64_t kReadOnly = 1, kIsCopied = 2;
enum : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

template <class M>
constexpr const char* kCapsule = "dltensor";
template <>
constexpr const char* kCapsule<DLManagedTensorVersioned> = "dltensor_versioned";
template <class M>
constexpr const char* kUsedCapsule = "used_dltensor";
template <>
constexpr const char* kUsedCapsule<DLManagedTensorVersioned> = "used_dltensor_versioned";

DLDataType type_code(DType t) {
  uint8_t code = t == DType::bool_  ? kBool
                 : t == DType::u8   ? kUInt
                 : t == DType::bf16 ? kBfloat
                 : is_floating(t)   ? kFloat
                                    : kInt;
  return {code, static_cast<uint8_t>(8 * size_of(t)), 1};
}

DType dtype_of(DLDataType d) {
  for (int i = 0; i < kDTypes; ++i) {
    DLDataType c = type_code(static_cast<DType>(i));
    if (c.code == d.code && c.bits == d.bits && d.lanes == 1) return static_cast<DType>(i);
  }
  fail(ErrorKind::type,
       "from_dlpack(): elements of DLPack type (code {}, {} bits, {} lanes) are not supported",
       d.code, d.bits, d.lanes);
}

// --- export

/// The managed tensor with what its pointers refer to.
template <class M>
struct Exported {
  M managed{};
  Ref<Storage> storage;
  Shape sizes, strides;
};

template <class M>
void destroy_exported(M* m) {
  delete static_cast<Exported<M>*>(m->manager);
}

/// A capsule that nobody took owns the managed tensor.
template <class M>
void destroy_capsule(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, kCapsule<M>)) return;
  auto* m = static_cast<M*>(PyCapsule_GetPointer(capsule, kCapsule<M>));
  if (m->deleter) m->deleter(m);
}

template <class M>
PyObject* export_capsule(const Tensor& t, bool copied) {
  observe_read(t);
  auto e = std::make_unique<Exported<M>>();
  e->storage = Ref<Storage>::share(t.storage());
  e->sizes = Shape(t.sizes());
  e->strides = Shape(t.strides());
  M& m = e->managed;
  m.manager = e.get();
  m.deleter = destroy_exported<M>;
  m.tensor = {t.data(),        {kCpu, 0},         t.dim(), type_code(t.dtype()),
              e->sizes.data(), e->strides.data(), 0};
  if constexpr (std::is_same_v<M, DLManagedTensorVersioned>) {
    m.major = 1;
    m.minor = 0;
    m.flags = (t.storage()->read_only ? kReadOnly : 0) | (copied ? kIsCopied : 0);
  }
  PyObject* capsule = PyCapsule_New(&m, kCapsule<M>, destroy_capsule<M>);
  if (!capsule) throw PythonError();
  e.release();
  return capsule;
}

/// The first of the two ints that an argument of __dlpack__ is, or nothing for None.
std::optional<int> first_of_pair(const char* argument, PyObject* o) {
  if (!o || o == Py_None) return {};
  int first = 0, second = 0;
  if (!PyTuple_Check(o))
    fail(ErrorKind::type, "__dlpack__(): argument '{}' must be a tuple of two ints or None, not {}",
         argument, type_name(o));
  if (!PyArg_ParseTuple(o, "ii", &first, &second)) throw PythonError();
  return first;
}

bool is_cpu(PyObject* device) { return first_of_pair("dl_device", device).value_or(kCpu) == kCpu; }
bool wants_versioned(PyObject* max_version) {
  return first_of_pair("max_version", max_version).value_or(0) >= 1;
}

PyObject* dlpack(Frame& f) {
  Tensor t = f.arg(0).tensor;
  if (t.requires_grad())
    fail(ErrorKind::runtime,
         "__dlpack__(): a Tensor that requires grad cannot be exported. Use tensor.detach()");
  if (!is_cpu(f.object(3))) {
    PyErr_SetString(PyExc_BufferError, "__dlpack__(): the tensor can be exported to the CPU only");
    throw PythonError();
  }
  PyObject* copy = f.object(4);
  bool copied = copy && is_true(copy);
  if (copied) t = clone(t);
  for (int64_t s : t.strides())
    if (s < 0) {
      PyErr_SetString(PyExc_BufferError,
                      "__dlpack__(): negative strides cannot be exported. Use tensor.contiguous()");
      throw PythonError();
    }
  if (wants_versioned(f.object(2))) return export_capsule<DLManagedTensorVersioned>(t, copied);
  if (t.storage()->read_only) {
    PyErr_SetString(PyExc_BufferError,
                    "__dlpack__(): read-only memory needs a consumer of DLPack 1.0");
    throw PythonError();
  }
  return export_capsule<DLManagedTensor>(t, copied);
}

// --- import

template <class M>
void release_managed(void* context) {
  auto* m = static_cast<M*>(context);
  if (!m->deleter || !Py_IsInitialized()) return;
  HoldGil gil;  // the producer may be Python
  m->deleter(m);
}

template <class M>
Tensor import_capsule(PyObject* capsule) {
  auto* m = static_cast<M*>(PyCapsule_GetPointer(capsule, kCapsule<M>));
  if (!m) throw PythonError();
  bool read_only = false;
  if constexpr (std::is_same_v<M, DLManagedTensorVersioned>) {
    if (m->major > 1)
      fail(ErrorKind::runtime, "from_dlpack(): DLPack version {}.{} is too new", m->major,
           m->minor);
    read_only = m->flags & kReadOnly;
  }
  const DLTensor& d = m->tensor;
  if (d.device.device_type != kCpu)
    fail(ErrorKind::runtime,
         "from_dlpack(): the data is on DLPack device type {}, only the CPU (1) is available",
         d.device.device_type);
  DType dtype = dtype_of(d.dtype);
  Ints sizes(d.shape, static_cast<size_t>(d.ndim));
  Shape strides = d.strides ? Shape(Ints(d.strides, sizes.size())) : row_major_strides(sizes);
  int64_t last = element_count(sizes) ? 1 : 0;
  for (size_t i = 0; last && i < sizes.size(); ++i) {
    if (strides[i] < 0)
      fail(ErrorKind::value,
           "from_dlpack(): negative strides are not allowed by DLPack; copy the array first");
    last += (sizes[i] - 1) * strides[i];
  }
  char* data = static_cast<char*>(d.data) + d.byte_offset;
  Ref<Storage> storage =
      wrap_foreign(data, static_cast<size_t>(last * size_of(dtype)), release_managed<M>, m);
  check(PyCapsule_SetName(capsule, kUsedCapsule<M>));
  storage->read_only = read_only;
  return from_storage(std::move(storage), dtype, sizes, strides, 0);
}

/// The producer's capsule, versioned if it can.
Object ask(PyObject* producer) {
  Object method = Object::own(PyObject_GetAttrString(producer, "__dlpack__"));
  Object none_args = Object::own(PyTuple_New(0));
  Object kwargs = Object::own(Py_BuildValue("{s:(ii)}", "max_version", 1, 0));
  PyObject* capsule = PyObject_Call(method.get(), none_args.get(), kwargs.get());
  if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {  // a producer from before max_version
    PyErr_Clear();
    capsule = PyObject_CallNoArgs(method.get());
  }
  return Object::own(capsule);
}

PyObject* from_dlpack(Frame& f) {
  PyObject* given = f.object(0);
  if (!PyCapsule_CheckExact(given) && !PyObject_HasAttrString(given, "__dlpack__"))
    fail(ErrorKind::type,
         "from_dlpack(): argument 'ext_tensor' must be a DLPack capsule or have __dlpack__, not {}",
         type_name(given));
  Object capsule = PyCapsule_CheckExact(given) ? Object::share(given) : ask(given);
  if (PyCapsule_IsValid(capsule.get(), kCapsule<DLManagedTensorVersioned>))
    return wrap(import_capsule<DLManagedTensorVersioned>(capsule.get()));
  if (!PyCapsule_IsValid(capsule.get(), kCapsule<DLManagedTensor>))
    fail(ErrorKind::runtime,
         "from_dlpack(): the capsule was used already, or is no DLPack capsule");
  return wrap(import_capsule<DLManagedTensor>(capsule.get()));
}

const NativeFunction kFunctions[] = {
    {"__dlpack__(Tensor input, *, object stream=None, object max_version=None, object dl_device=None, object copy=None) -> object",
     "A DLPack capsule that shares the tensor's memory.", kMethod, dlpack},
    {"__dlpack_device__(Tensor input) -> tuple[int, int]", "(1, 0): the CPU.", kMethod,
     [](Frame&) { return Py_BuildValue("ii", kCpu, 0); }},
    {"from_dlpack(object ext_tensor) -> Tensor",
     "A tensor that shares the memory of an object with __dlpack__, or of a capsule.", kFunction,
     from_dlpack},
};

}  // namespace

void add_dlpack() { add_natives(kFunctions); }

}  // namespace fluxion::python
