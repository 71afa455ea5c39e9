// Tensor: a handle to shape, strides, dtype and Storage, with autograd state attached lazily.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"
#include "base/ref.h"
#include "base/small.h"
#include "tensor/dtype.h"
#include "tensor/storage.h"

namespace fluxion {

inline constexpr int kMaxRank = 16;
using Shape = Small<int64_t, 6>;
/// A borrowed list of integers; braces work where one is a parameter: reshape(x, {2, -1}).
struct Ints : std::span<const int64_t> {
  using span::span;
  constexpr Ints(std::span<const int64_t> s) : span(s) {}
  constexpr Ints(std::initializer_list<int64_t> list) : span(list.begin(), list.size()) {}
};
using OptInts = std::optional<Ints>;
using OptDType = std::optional<DType>;

/// Autograd state of one variable; defined in autograd/. Owned by the Impl.
struct AutogradMeta {
  virtual ~AutogradMeta() = default;
};

enum ImplFlags : uint16_t {
  kContiguous = 1,    // row-major dense
  kRequiresGrad = 2,  // a leaf that asks for a gradient, or has history
  kWeak = 4,          // a Python number: never promotes within its category
  kNoGradView = 8,    // a view made under no_grad, or of such a view
  kInference = 16,    // its memory was made in inference mode: never saved, written only there
  kTraced = 32,       // stands for a value of a graph under construction
  kNumber = 64,       // a Python number or literal: nobody can write it
};

/// What a Tensor points to.
struct Impl {
  RefCount refs{1};
  DType dtype = DType::f32;
  uint8_t rank = 0;
  uint16_t flags = kContiguous;
  int64_t numel = 1;
  char* data = nullptr;  // storage->data + offset; valid as long as the storage is held
  Ref<Storage> storage;
  AutogradMeta* meta = nullptr;
  void* py_object = nullptr;  // borrowed back pointer of the binding
  Ref<Impl> base;             // of a view: the tensor it was (transitively) taken from
  int64_t* geometry;          // sizes[rank], strides[rank]
  int64_t inline_geometry[10];

  int64_t* sizes() { return geometry; }
  int64_t* strides() { return geometry + rank; }
  const int64_t* sizes() const { return geometry; }
  const int64_t* strides() const { return geometry + rank; }
};

namespace detail {
void destroy(Impl* p);
}
inline void retain(Impl* p) { p->refs.fetch_add(1, std::memory_order_relaxed); }
inline void release(Impl* p) {
  if (drop_count(p->refs)) detail::destroy(p);
}

/// Raises for an undefined tensor given to the C++ function `in`; defined in ops/, which knows the names of its arguments.
[[noreturn]] void fail_undefined(const char* in);

/// A fresh Impl of that rank with unset geometry.
Impl* new_impl(DType dtype, int rank);
/// Recomputes numel and kContiguous from sizes and strides. Raises if numel overflows.
void refresh_geometry(Impl& t);
/// Gives an existing Impl room for another rank (geometry unset).
void resize_geometry(Impl& t, int rank);

class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Ref<Impl> p) : p_(std::move(p)) {}

  bool defined() const { return static_cast<bool>(p_); }
  Impl* impl() const { return p_.get(); }
  const Ref<Impl>& ref() const { return p_; }

  // `in` is the caller's name, for the error that an undefined tensor gives.
  DType dtype(const char* in = __builtin_FUNCTION()) const { return at(in).dtype; }
  int dim(const char* in = __builtin_FUNCTION()) const { return at(in).rank; }
  int64_t numel(const char* in = __builtin_FUNCTION()) const { return at(in).numel; }
  int64_t nbytes(const char* in = __builtin_FUNCTION()) const {
    const Impl& p = at(in);
    return p.numel * size_of(p.dtype);
  }
  Ints sizes(const char* in = __builtin_FUNCTION()) const { return {at(in).sizes(), p_->rank}; }
  Ints strides(const char* in = __builtin_FUNCTION()) const { return {at(in).strides(), p_->rank}; }
  /// Size of a dim; negative counts from the end. Raises ErrorKind::index.
  int64_t size(int64_t d) const;
  int64_t stride(int64_t d) const;
  bool is_contiguous(const char* in = __builtin_FUNCTION()) const {
    return at(in).flags & kContiguous;
  }
  bool has(ImplFlags f, const char* in = __builtin_FUNCTION()) const { return at(in).flags & f; }
  Storage* storage(const char* in = __builtin_FUNCTION()) const { return at(in).storage.get(); }
  int64_t storage_offset(const char* in = __builtin_FUNCTION()) const {
    const Impl& p = at(in);
    return (p.data - p.storage->data) / size_of(p.dtype);
  }
  bool is_same(const Tensor& o) const { return p_ == o.p_; }

  template <class T = void>
  T* data(const char* in = __builtin_FUNCTION()) const {
    return reinterpret_cast<T*>(at(in).data);
  }

  /// The value of a one-element tensor. Raises otherwise.
  double item() const;
  int64_t item_int() const;

  // Autograd; defined in autograd/.
  bool requires_grad() const;
  Tensor& set_requires_grad(bool on);  // raises for non-leaf off and for integer dtypes
  bool is_leaf() const;
  Tensor grad() const;
  void set_grad(const Tensor& g);
  void backward(const Tensor& gradient = {}, bool retain_graph = false,
                bool create_graph = false) const;
  /// Same memory, new autograd identity without history.
  Tensor detach() const;

 private:
  Impl& at(const char* in) const {
    if (!p_) [[unlikely]]
      fail_undefined(in);
    return *p_;
  }
  Ref<Impl> p_;
};

/// Announces that the host reads values of `t`, for capture.
void observe_read(const Tensor& t);

/// Normalises a dim in [-rank, rank); raises "OP: dim 5 is out of range for a tensor of rank 3
/// ...".
int64_t wrap_dim(int64_t dim, int64_t rank, const char* op);
int64_t element_count(Ints shape);  // checked
bool is_dense_row_major(Ints sizes, Ints strides);
Shape row_major_strides(Ints shape);
/// Dense strides with the dims in memory order of the given ones (PyTorch's preserve_format).
Shape dense_strides_like(Ints sizes, Ints strides);
/// Raises "OP: ..." unless every element lies within the storage.
void check_bounds(const Storage& storage, DType dtype, Ints sizes, Ints strides,
                  int64_t storage_offset, const char* op);
/// True if two elements of the view share memory (stride 0 or interleaved): not a legal write
/// target.
bool overlaps_itself(const Impl& t);

/// Uninitialised, row-major.
Tensor empty(Ints shape, DType dtype);
/// Same dtype; dense in the order of t's strides (PyTorch's preserve_format).
Tensor empty_like_dense(const Tensor& t);
/// A 0-dim tensor; `weak` for Python numbers.
Tensor scalar(double value, DType dtype, bool weak = false);
Tensor scalar(int64_t value, DType dtype, bool weak = false);
/// An alias of the same storage with other geometry (offset in elements from the storage start).
/// Not linked as a view.
Tensor alias(const Tensor& t, Ints sizes, Ints strides, int64_t storage_offset);
/// An alias of `storage`, for foreign memory.
Tensor from_storage(Ref<Storage> storage, DType dtype, Ints sizes, Ints strides,
                    int64_t storage_offset);

/// "(2, 3)".
std::string shape_text(Ints shape);
/// "float32 (2, 3)".
std::string type_text(const Tensor& t);
/// PyTorch's printed form: values with line breaks and ellipses, "tensor([...], dtype=...)".
std::string to_text(const Tensor& t);
/// With one more suffix, placed as PyTorch places it: "requires_grad=True",
/// "grad_fn=<MulBackward>".
std::string to_text(const Tensor& t, const std::string& suffix);
struct PrintOptions {
  int precision = 4;
  int64_t threshold = 1000;
  int64_t edgeitems = 3;
  int64_t linewidth = 80;
  int scientific = -1;  // -1 automatic, 0 never, 1 always
};
PrintOptions& print_options();

/// The element at `p` as double / int64 (exact for i64). Conversions are the cast kernels': floats
/// truncate toward zero, NaN and out of range give the smallest i32 or i64 (u8 goes through i64),
/// narrower integers wrap.
double load_double(const char* p, DType t);
int64_t load_int(const char* p, DType t);
void store_double(char* p, DType t, double v);
void store_int(char* p, DType t, int64_t v);

}  // namespace fluxion

template <>
inline constexpr bool std::ranges::enable_borrowed_range<fluxion::Ints> = true;
