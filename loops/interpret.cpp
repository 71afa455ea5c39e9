#include "loops/interpret.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "loops/bits.h"
#include "loops/half.h"

namespace fluxion::loops {
namespace {

/// Calls f with a value of the C++ type that holds a lane of `e`.
template <class F>
auto with_type(Elem e, F f) {
  switch (e) {
    case Elem::bool_: return f(bool{});
    case Elem::u8: return f(uint8_t{});
    case Elem::i8: return f(int8_t{});
    case Elem::i16: return f(int16_t{});
    case Elem::i32: return f(int32_t{});
    case Elem::i64: return f(int64_t{});
    case Elem::f32: return f(float{});
    default: return f(double{});
  }
}

template <class T>
T unary(Unary op, T x) {
  if constexpr (std::is_same_v<T, bool>) {
    return !x;
  } else if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    if (op == Unary::bit_not) return static_cast<T>(~x);
    return op == Unary::neg || x < 0 ? static_cast<T>(U{0} - static_cast<U>(x)) : x;
  } else {
    switch (op) {
      case Unary::neg: return -x;
      case Unary::abs: return std::fabs(x);
      case Unary::sqrt: return std::sqrt(x);
      case Unary::floor: return std::floor(x);
      case Unary::ceil: return std::ceil(x);
      case Unary::trunc: return std::trunc(x);
      default: return std::nearbyint(x);
    }
  }
}

template <class T>
T float_binary(Binary op, T x, T y) {
  switch (op) {
    case Binary::add: return x + y;
    case Binary::sub: return x - y;
    case Binary::mul: return x * y;
    case Binary::div: return x / y;
    case Binary::rem: return std::fmod(x, y);
    case Binary::min: return x != x ? x : x < y ? x : y;
    default: return x != x ? x : x > y ? x : y;
  }
}

template <class T>
T divide(T x, T y) {
  if (y == 0) return 0;
  if (y == -1)
    return static_cast<T>(std::make_unsigned_t<T>{0} - static_cast<std::make_unsigned_t<T>>(x));
  return x / y;
}

template <class T>
T int_binary(Binary op, T x, T y) {
  using U = std::make_unsigned_t<T>;
  const U u = static_cast<U>(x), v = static_cast<U>(y);
  const int count = static_cast<int>(v & (8 * sizeof(T) - 1));
  switch (op) {
    case Binary::add: return static_cast<T>(u + v);
    case Binary::sub: return static_cast<T>(u - v);
    case Binary::mul: return static_cast<T>(u * v);
    case Binary::div: return divide(x, y);
    case Binary::rem: return static_cast<T>(u - static_cast<U>(divide(x, y)) * v);
    case Binary::min: return std::min(x, y);
    case Binary::max: return std::max(x, y);
    case Binary::bit_and: return x & y;
    case Binary::bit_or: return x | y;
    case Binary::bit_xor: return x ^ y;
    case Binary::shl: return static_cast<T>(u << count);
    case Binary::shr: return static_cast<T>(x >> count);
    default: return static_cast<T>(u >> count);
  }
}

template <class T>
T binary(Binary op, T x, T y) {
  if constexpr (std::is_same_v<T, bool>)
    return op == Binary::bit_and ? x && y : op == Binary::bit_or ? x || y : x != y;
  else if constexpr (std::is_integral_v<T>) return int_binary(op, x, y);
  else return float_binary(op, x, y);
}

template <class T>
bool compare(Compare op, T x, T y) {
  switch (op) {
    case Compare::eq: return x == y;
    case Compare::ne: return x != y;
    case Compare::lt: return x < y;
    case Compare::le: return x <= y;
    case Compare::gt: return x > y;
    default: return x >= y;
  }
}

template <class To, class From>
To convert(From v) {
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    constexpr From limit = sizeof(To) == 4 ? From(0x1p31) : From(0x1p63);
    return v >= -limit && v < limit ? static_cast<To>(v) : std::numeric_limits<To>::min();
  } else {
    return static_cast<To>(v);
  }
}

class Interpreter {
 public:
  Interpreter(const Function& f, const kernels::Buf* args, const int64_t* sizes,
              const double* params)
      : f_(f),
        args_(args),
        sizes_(sizes),
        params_(params),
        first_(f.nodes.size()),
        end_(f.nodes.size()) {
    size_t lanes = 0;
    std::vector<int32_t> open;
    for (int32_t i = 0; i < count(); ++i) {
      first_[i] = lanes;
      lanes += f.nodes[i].type.lanes;
      if (f.nodes[i].kind == Kind::loop) open.push_back(i);
      if (f.nodes[i].kind == Kind::end) end_[open.back()] = i, open.pop_back();
    }
    lanes_.resize(lanes);
  }

  void run() {
    for (int32_t i = 0; i < count();) i = step(i);
  }

 private:
  int32_t count() const { return static_cast<int32_t>(f_.nodes.size()); }
  const Node& node(int32_t i) const { return f_.nodes[i]; }
  int64_t* lanes(int32_t i) { return &lanes_[first_[i]]; }
  void copy(int32_t to, int32_t from) { std::copy_n(lanes(from), node(to).type.lanes, lanes(to)); }

  /// Executes node i; returns the next one.
  int32_t step(int32_t i) {
    const Node& n = node(i);
    switch (n.kind) {
      case Kind::loop: return enter(i);
      case Kind::carried: return i + 1;  // written by `enter` and `repeat`
      case Kind::yield: copy(i, n.b); return i + 1;
      case Kind::end: return repeat(i);
      case Kind::store: store(n); return i + 1;
      case Kind::reduce: reduce(i, n); return i + 1;
      case Kind::load: load(i, n); return i + 1;
      default:
        for (int l = 0; l < n.type.lanes; ++l) lanes(i)[l] = lane(n, l);
        return i + 1;
    }
  }

  int32_t first_yield(int32_t end) const {
    while (node(end - 1).kind == Kind::yield) --end;
    return end;
  }

  int32_t enter(int32_t loop) {
    const Node& n = node(loop);
    const int32_t end = end_[loop];
    const bool runs = *lanes(n.a) < *lanes(n.b);
    *lanes(loop) = *lanes(n.a);
    for (int32_t i = loop + 1; node(i).kind == Kind::carried; ++i) copy(i, node(i).a);
    if (!runs)
      for (int32_t i = first_yield(end); i < end; ++i) copy(i, node(node(i).a).a);
    return runs ? loop + 1 : end + 1;
  }

  int32_t repeat(int32_t end) {
    const int32_t loop = node(end).a;
    for (int32_t i = first_yield(end); i < end; ++i) copy(node(i).a, i);
    *lanes(loop) += *lanes(node(loop).c);
    return *lanes(loop) < *lanes(node(loop).b) ? loop + 1 : end + 1;
  }

  int64_t lane(const Node& n, int l) {
    const auto a = [&] { return lanes(n.a)[l]; };
    const auto b = [&] { return lanes(n.b)[l]; };
    const auto c = [&] { return lanes(n.c)[l]; };
    switch (n.kind) {
      case Kind::constant: return n.imm;
      case Kind::iota: return l;
      case Kind::size: return sizes_[n.imm];
      case Kind::param: return to_bits(params_[n.imm]);
      case Kind::stride: return args_[n.sub].strides[n.imm];
      case Kind::select: return a() ? b() : c();
      case Kind::bitcast:
        return is_float(n.type.elem) || n.type.elem == Elem::i64 ? a() : static_cast<int32_t>(a());
      case Kind::splat: return *lanes(n.a);
      case Kind::extract: return lanes(n.a)[n.imm];
      case Kind::unary:
        return with_type(n.type.elem, [&]<class T>(T) {
          return to_bits(unary(static_cast<Unary>(n.sub), from_bits<T>(a())));
        });
      case Kind::binary: return combine(static_cast<Binary>(n.sub), n.type.elem, a(), b());
      case Kind::fma:
        if (n.type.elem == Elem::f32)
          return to_bits(
              std::fma(from_bits<float>(a()), from_bits<float>(b()), from_bits<float>(c())));
        return to_bits(
            std::fma(from_bits<double>(a()), from_bits<double>(b()), from_bits<double>(c())));
      case Kind::compare:
        return with_type(node(n.a).type.elem, [&]<class T>(T) {
          return int64_t{
              compare(static_cast<Compare>(n.sub), from_bits<T>(a()), from_bits<T>(b()))};
        });
      case Kind::cast:
        return with_type(node(n.a).type.elem, [&]<class From>(From) {
          return with_type(n.type.elem, [&]<class To>(To) {
            return to_bits(convert<To>(from_bits<From>(a())));
          });
        });
      default: return 0;
    }
  }

  static int64_t combine(Binary op, Elem e, int64_t x, int64_t y) {
    return with_type(
        e, [&]<class T>(T) { return to_bits(binary(op, from_bits<T>(x), from_bits<T>(y))); });
  }

  void reduce(int32_t i, const Node& n) {
    const int count = node(n.a).type.lanes;
    std::vector<int64_t> v(lanes(n.a), lanes(n.a) + count);
    for (int half = count / 2; half > 0; half /= 2)
      for (int l = 0; l < half; ++l)
        v[l] = combine(static_cast<Binary>(n.sub), n.type.elem, v[l], v[l + half]);
    *lanes(i) = v[0];
  }

  int active(int32_t count, int most) {
    return count < 0 ? most : static_cast<int>(std::clamp<int64_t>(*lanes(count), 0, most));
  }

  char* address(const Node& n, int l) {
    return static_cast<char*>(args_[n.imm].data) + (*lanes(n.a) + l) * elem_size(f_.args[n.imm]);
  }

  void load(int32_t i, const Node& n) {
    const int k = active(n.b, n.type.lanes);
    std::fill_n(lanes(i), n.type.lanes, 0);
    for (int l = 0; l < k; ++l) lanes(i)[l] = read(f_.args[n.imm], address(n, l));
  }

  static int64_t read(Elem e, const char* from) {
    uint16_t half;
    std::memcpy(&half, from, e == Elem::f16 || e == Elem::bf16 ? 2 : 1);
    if (e == Elem::f16) return to_bits(f16_to_float(half));
    if (e == Elem::bf16) return to_bits(bf16_to_float(half));
    if (e == Elem::bool_) return *from != 0;
    return with_type(e, [&]<class T>(T v) {
      std::memcpy(&v, from, sizeof v);
      return to_bits(v);
    });
  }

  void store(const Node& n) {
    const int k = active(n.c, node(n.b).type.lanes);
    for (int l = 0; l < k; ++l) write(f_.args[n.imm], lanes(n.b)[l], address(n, l));
  }

  static void write(Elem e, int64_t bits, char* to) {
    if (e == Elem::f16) bits = float_to_f16(from_bits<float>(bits));
    if (e == Elem::bf16) bits = float_to_bf16(from_bits<float>(bits));
    std::memcpy(to, &bits, elem_size(e));
  }

  const Function& f_;
  const kernels::Buf* args_;
  const int64_t* sizes_;
  const double* params_;
  std::vector<size_t> first_;  // where each node's lanes stand
  std::vector<int32_t> end_;   // of each loop
  std::vector<int64_t> lanes_;
};

}  // namespace

int interpret(const Function& f, const kernels::Buf* args, const int64_t* sizes,
              const void* params) {
  Interpreter(f, args, sizes, static_cast<const double*>(params)).run();
  return kernels::kOk;
}

}  // namespace fluxion::loops
