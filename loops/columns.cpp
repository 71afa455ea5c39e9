#include "loops/columns.h"

namespace fluxion::loops {
namespace {

constexpr int kChunk = 128;  // rows
constexpr int kBlock = 8;    // native vectors of columns at a time

}  // namespace

Function columns(std::string name, Elem compute, std::vector<Operand> operands,
                 const std::function<void(Column&)>& body) {
  std::vector<Elem> elems;
  for (const Operand& o : operands) elems.push_back(o.elem);
  Builder b(std::move(name), std::move(elems));
  Column c(b, compute, std::move(operands));
  c.rows_ = b.size(1);
  auto run = [&](Value start, int lanes, Value active) {
    c.start_ = start, c.lanes_ = lanes, c.active_ = active;
    body(c);
  };
  const int width = native_lanes(compute), block = kBlock * width;
  const Value inner = b.size(2), whole = inner & -block;
  b.loop(0, b.size(0), 1, [&](Value outer) {
    c.outer_ = outer;
    b.loop(0, whole, block, [&](Value start) { run(start, block, {}); });
    b.loop(whole, inner, width, [&](Value start) { run(start, width, inner - start); });
  });
  Function f = b.finish();
  f.wide = WideVectors::on();
  return f;
}

bool Column::along_columns(int arg) const { return operands_.at(arg).extent < Extent::row; }

Value Column::address(int arg, Value row) const {
  const Extent extent = operands_.at(arg).extent;
  if (extent == Extent::scalar) return builder_.integer(0);
  Value at = outer_ * builder_.stride(arg, 0);
  if (extent != Extent::column) at = at + row * builder_.stride(arg, 1);
  return along_columns(arg) ? at + start_ : at;
}

Value Column::count() const { return cast(rows_, compute_); }
Value Column::param(int k) const { return cast(builder_.param(k), compute_); }
Value Column::constant(Value literal) const { return builder_.constant({compute_, 1}, literal); }

Value Column::load_as_stored(int arg, Value row) const {
  if (along_columns(arg)) return builder_.load(arg, address(arg, row), lanes_, active_);
  return builder_.load(arg, address(arg, row));
}

Value Column::load_as_stored(int arg) const { return load_as_stored(arg, 0); }
Value Column::load(int arg, Value row) const { return cast(load_as_stored(arg, row), compute_); }
Value Column::load(int arg) const { return cast(load_as_stored(arg), compute_); }
Mask Column::load_mask(int arg, Value row) const { return nonzero(load_as_stored(arg, row)); }

Value Column::fit(int arg, Value v) const {
  v = builder_.resolve(v, {v.is_literal() ? compute_ : v.elem(), static_cast<uint8_t>(lanes_)});
  return to_stored(v, operands_.at(arg).elem);
}

void Column::store(int arg, Value row, Value v) const {
  builder_.store(arg, address(arg, row), fit(arg, v), active_);
}
void Column::store(int arg, Value row, Mask m) const { store(arg, row, m.value); }
void Column::store(int arg, Value v) const { store(arg, builder_.integer(0), v); }
void Column::store(int arg, Mask m) const { store(arg, m.value); }

Value Column::reduce(Binary op, const Pass& pass) const {
  return reduce(std::vector{op}, [&](Value row) { return std::vector{pass(row)}; })[0];
}

std::vector<Value> Column::reduce(std::vector<Binary> ops, const Passes& pass) const {
  std::vector<Value> start;
  for (Binary op : ops) start.push_back(identity(op, splat(constant(0), lanes_)));
  return builder_.loop(0, rows_, kChunk, start, [&](Value begin, std::span<const Value> totals) {
    std::vector<Value> chunk =
        builder_.loop(begin, minimum(begin + kChunk, rows_), 1, start,
                      [&](Value row, std::span<const Value> before) {
                        const std::vector<Term> terms = pass(row);
                        std::vector<Value> next;
                        for (size_t k = 0; k < ops.size(); ++k)
                          next.push_back(accumulate(ops[k], before[k], terms[k]));
                        return next;
                      });
    for (size_t k = 0; k < ops.size(); ++k) chunk[k] = accumulate(ops[k], totals[k], chunk[k]);
    return chunk;
  });
}

Column::Place Column::reduce_argmax(const std::function<Value(Value)>& f) const {
  return extremum(Binary::max, f);
}
Column::Place Column::reduce_argmin(const std::function<Value(Value)>& f) const {
  return extremum(Binary::min, f);
}

Column::Place Column::extremum(Binary op, const std::function<Value(Value)>& f) const {
  const Value value = identity(op, splat(constant(0), lanes_));
  const Value place = builder_.constant({int_elem(compute_), static_cast<uint8_t>(lanes_)}, 0);
  auto last = scan({value, place}, [&](Value row, std::span<const Value> best) {
    const Value v = f(row);
    const Mask better =
        (op == Binary::max ? v > best[0] : v < best[0]) | (isnan(v) & ~isnan(best[0]));
    return std::vector{select(better, v, best[0]),
                       select(better, cast(row, place.elem()), best[1])};
  });
  return {last[0], cast(last[1], Elem::i64)};
}

void Column::each(const std::function<void(Value)>& f) const { builder_.loop(0, rows_, 1, f); }

std::vector<Value> Column::scan(
    std::vector<Value> initial,
    const std::function<std::vector<Value>(Value, std::span<const Value>)>& f) const {
  return builder_.loop(0, rows_, 1, std::move(initial), f);
}

}  // namespace fluxion::loops
