// Settings of the process: threads, printing, default dtype; and the rules of dtype promotion.
#include "ops/promotion.h"
#include "python/src/convert.h"
#include "python/src/long_work.h"
#include "python/src/module.h"
#include "tensor/threads.h"

namespace fluxion::python {

namespace {

DType dtype_at(Frame& f, size_t i) { return static_cast<DType>(f.arg(i).scalar.i); }
PyObject* dtype_result(DType t) { return Py_NewRef(dtype_object(t)); }

PyObject* set_default(Frame& f) {
  DType t = dtype_at(f, 0);
  if (!is_floating(t))
    fail(ErrorKind::type, "set_default_dtype(): the default must be a floating dtype, not {}",
         name(t));
  set_default_dtype(t);
  return none();
}

/// The dtype an op on the two would give.
PyObject* result_type(Frame& f) {
  Type types[] = {type_of(f.arg(0).tensor), type_of(f.arg(1).tensor)};
  return dtype_result(common_dtype(types));
}

PyObject* set_printoptions(Frame& f) {
  PrintOptions& o = print_options();
  PrintOptions defaults;
  if (!f.arg(4).none) {
    std::string_view profile = f.arg(4).text;
    if (profile == "default") o = defaults;
    else if (profile == "short") o = {.precision = 2, .edgeitems = 2};
    else if (profile == "full") o = {.threshold = INT64_MAX};
    else
      fail(ErrorKind::value,
           "set_printoptions(): profile must be 'default', 'short' or 'full', not '{}'", profile);
  }
  auto number = [&](size_t i, auto& field) {
    if (f.arg(i).none) return;
    double v = f.arg(i).scalar.as_double();
    field = static_cast<std::remove_reference_t<decltype(field)>>(std::min(v, 9e18));
  };
  number(0, o.precision);
  number(1, o.threshold);
  number(2, o.edgeitems);
  number(3, o.linewidth);
  if (f.object(5)) o.scientific = f.arg(5).none ? -1 : static_cast<int>(f.arg(5).scalar.i);
  return none();
}

const NativeFunction kFunctions[] = {
    {"get_num_threads() -> int", "How many threads one op may use.", kFunction,
     [](Frame&) { return PyLong_FromLong(num_threads()); }},
    {"set_num_threads(int threads) -> None",
     "Sets how many threads one op may use; results do not depend on it.", kFunction,
     [](Frame& f) {
       set_num_threads(static_cast<int>(std::clamp<int64_t>(f.arg(0).scalar.i, 0, 1 << 16)));
       return none();
     }},
    {"set_printoptions(int? precision=None, float? threshold=None, int? edgeitems=None, int? linewidth=None, str? profile=None, bool? sci_mode=None) -> None",
     "Sets how tensors print.", kFunction, set_printoptions},
    {"get_default_dtype() -> dtype", "The dtype of new floating tensors.", kFunction,
     [](Frame&) { return dtype_result(default_dtype()); }},
    {"set_default_dtype(dtype d) -> None", "Sets the dtype of new floating tensors.", kFunction,
     set_default},
    {"promote_types(dtype type1, dtype type2) -> dtype", "The least dtype that both convert to.",
     kFunction, [](Frame& f) { return dtype_result(promote(dtype_at(f, 0), dtype_at(f, 1))); }},
    {"result_type(Number tensor1, Number tensor2) -> dtype",
     "The dtype of an op on these operands.", kFunction, result_type},
    {"can_cast(dtype from_, dtype to) -> bool",
     "True if in-place ops may convert so: never to a lower category.", kFunction,
     [](Frame& f) { return boolean(category(dtype_at(f, 0)) <= category(dtype_at(f, 1))); }},
    {"_empty_cache() -> None", "Returns cached memory to the system.", kPrivate,
     [](Frame&) {
       empty_cache();
       return none();
     }},
    {"_snapshot_bytes_copied() -> int", "Bytes that in-place writes had to copy for saved tensors.",
     kPrivate, [](Frame&) { return PyLong_FromUnsignedLongLong(snapshot_bytes_copied()); }},
};

}  // namespace

void add_settings() {
  install_long_work();
  add_natives(kFunctions);
}

}  // namespace fluxion::python
