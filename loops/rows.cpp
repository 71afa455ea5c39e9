#include "loops/rows.h"

#include <stdexcept>

namespace fluxion::loops {
namespace {

constexpr int kLanes = 32;
constexpr int kChunk = 4096;

}  // namespace

Function rows(std::string name, Elem compute, std::vector<Operand> operands,
              const std::function<void(Row&)>& body) {
  std::vector<Elem> elems;
  for (const Operand& o : operands) elems.push_back(o.elem);
  Builder b(std::move(name), std::move(elems));
  Row r(b, compute, std::move(operands));
  r.columns_ = b.size(1);
  b.loop(0, b.size(0), 1, [&](Value row) {
    r.enter(row);
    body(r);
  });
  Function f = b.finish();
  f.wide = WideVectors::on();
  return f;
}

void Row::enter(Value row) {
  row_ = row;
  offsets_.assign(operands_.size(), Value());
  for (size_t k = 0; k < operands_.size(); ++k)
    if (operands_[k].extent == Extent::element)
      offsets_[k] = row * builder_.stride(static_cast<int>(k), 0);
}

Value Row::address(int arg, Value column) const {
  switch (operands_.at(arg).extent) {
    case Extent::element: return offsets_[arg] + column;
    case Extent::column: return column;
    case Extent::row: return row_;
    default: return builder_.integer(0);
  }
}

Value Row::count() const { return cast(columns_, compute_); }
Value Row::param(int k) const { return cast(builder_.param(k), compute_); }
Value Row::constant(Value literal) const { return builder_.constant({compute_, 1}, literal); }

Value Row::column(const Index& i) const {
  const Type type{int_elem(compute_), static_cast<uint8_t>(i.lanes)};
  return builder_.iota(type) + cast(i.start, type.elem);
}

Value Row::load_as_stored(int arg, const Index& i) const {
  if (operands_.at(arg).extent > Extent::column) return load_as_stored(arg);
  return builder_.load(arg, address(arg, i.start), i.lanes, i.active);
}

Value Row::load_as_stored(int arg) const {
  if (operands_.at(arg).extent < Extent::row)
    throw std::logic_error("loops: this operand has no scalar per row");
  return builder_.load(arg, address(arg, row_));
}

Value Row::load(int arg, const Index& i) const { return cast(load_as_stored(arg, i), compute_); }
Value Row::load(int arg) const { return cast(load_as_stored(arg), compute_); }
Value Row::load_at(int arg, Value column) const {
  return cast(builder_.load(arg, address(arg, column)), compute_);
}
Mask Row::load_mask(int arg, const Index& i) const { return nonzero(load_as_stored(arg, i)); }

void Row::store(int arg, const Index& i, Value v) const {
  v = builder_.resolve(v, {v.is_literal() ? compute_ : v.elem(), static_cast<uint8_t>(i.lanes)});
  builder_.store(arg, address(arg, i.start), to_stored(v, operands_.at(arg).elem), i.active);
}

void Row::store(int arg, const Index& i, Mask m) const { store(arg, i, m.value); }
void Row::store_row(int arg, Value scalar) const { store_at(arg, row_, scalar); }
void Row::store_row(int arg, Mask scalar) const { store_row(arg, scalar.value); }
void Row::store_at(int arg, Value column, Value scalar) const {
  store(arg, Index{column, 1, {}}, scalar);
}

Value Row::reduce(Binary op, const Pass& pass) const {
  return reduce(std::vector{op}, [&](const Index& i) { return std::vector{pass(i)}; })[0];
}

std::vector<Value> Row::reduce(std::vector<Binary> ops, const Passes& pass) const {
  std::vector<Value> totals;
  for (Binary op : ops) totals.push_back(identity(op, constant(0)));
  return builder_.loop(0, columns_, kChunk, totals,
                       [&](Value begin, std::span<const Value> before) {
                         std::vector<Value> chunk =
                             reduce_chunk(ops, pass, begin, minimum(begin + kChunk, columns_));
                         for (size_t k = 0; k < ops.size(); ++k)
                           chunk[k] = accumulate(ops[k], before[k], chunk[k]);
                         return chunk;
                       });
}

/// Lane l of accumulator p is lane p * width + l of the 32; `lanes` holds one reduction after
/// another.
std::vector<Value> Row::reduce_chunk(const std::vector<Binary>& ops, const Passes& pass,
                                     Value begin, Value end) const {
  const int width = native_lanes(compute_), parts = kLanes / width;
  std::vector<Value> lanes;
  for (Binary op : ops)
    for (int p = 0; p < parts; ++p) lanes.push_back(identity(op, splat(constant(0), width)));

  const Value whole = begin + ((end - begin) & -kLanes);
  lanes =
      builder_.loop(begin, whole, kLanes, lanes, [&](Value start, std::span<const Value> before) {
        std::vector<Value> next(before.begin(), before.end());
        for (int p = 0; p < parts; ++p) {
          const std::vector<Term> terms = pass({start + p * width, width, {}});
          for (size_t k = 0; k < ops.size(); ++k)
            next[k * parts + p] = accumulate(ops[k], next[k * parts + p], terms[k]);
        }
        return next;
      });
  // Fewer than 32 columns are left: one vector a turn, active in the accumulator it belongs to.
  lanes = builder_.loop(whole, end, width, lanes, [&](Value start, std::span<const Value> before) {
    const Index i{start, width, end - start};
    const std::vector<Term> terms = pass(i);
    std::vector<Value> next;
    for (size_t k = 0; k < ops.size(); ++k)
      for (int p = 0; p < parts; ++p) {
        const Value active = select(start == whole + p * width, i.active, 0),
                    acc = before[k * parts + p];
        next.push_back(
            select(is_active({start, width, active}), accumulate(ops[k], acc, terms[k]), acc));
      }
    return next;
  });

  std::vector<Value> results;
  for (size_t k = 0; k < ops.size(); ++k) {
    Value* accs = &lanes[k * parts];
    for (int half = parts / 2; half > 0; half /= 2)
      for (int p = 0; p < half; ++p) accs[p] = accumulate(ops[k], accs[p], accs[p + half]);
    results.push_back(loops::reduce(ops[k], accs[0]));
  }
  return results;
}

Mask Row::is_active(const Index& i) const {
  const Type type{int_elem(compute_), static_cast<uint8_t>(i.lanes)};
  return builder_.iota(type) < cast(i.active, type.elem);
}

Row::Place Row::reduce_argmax(const std::function<Value(const Index&)>& f) const {
  return extremum(Binary::max, f);
}
Row::Place Row::reduce_argmin(const std::function<Value(const Index&)>& f) const {
  return extremum(Binary::min, f);
}

/// Each lane keeps its first extremum; ties between lanes go to the smaller column. Columns count
/// from the start of a span that fits an i32.
Row::Place Row::extremum(Binary op, const std::function<Value(const Index&)>& f) const {
  constexpr int64_t span = int64_t{1} << 30;
  const int width = native_lanes(compute_);
  const Elem whole_number = int_elem(compute_);
  auto wins = [&](Value v, Value best) {
    return (op == Binary::max ? v > best : v < best) | (isnan(v) & ~isnan(best));
  };
  const std::vector<Value> start{identity(op, constant(0)), builder_.integer(0)};
  auto last =
      builder_.loop(0, columns_, span, start, [&](Value begin, std::span<const Value> total) {
        const Value end = minimum(begin + span, columns_), whole = begin + ((end - begin) & -width);
        auto step = [&](const Index& i, std::span<const Value> best) {
          const Value v = f(i);
          const Value column = builder_.iota(best[1].type()) + cast(i.start - begin, whole_number);
          Mask better = wins(v, best[0]);
          if (i.active.exists()) better = better & is_active(i);
          return std::vector{select(better, v, best[0]), select(better, column, best[1])};
        };
        std::vector<Value> lanes{splat(start[0], width),
                                 builder_.iota({whole_number, static_cast<uint8_t>(width)})};
        lanes = builder_.loop(begin, whole, width, lanes,
                              [&](Value i, auto best) { return step({i, width, {}}, best); });
        lanes = builder_.loop(whole, end, width, lanes,
                              [&](Value i, auto best) { return step({i, width, end - i}, best); });
        const Value value = loops::reduce(op, lanes[0]);
        const Mask candidate = (lanes[0] == value) | (isnan(lanes[0]) & isnan(value));
        const Value column = loops::reduce(
            Binary::min, select(candidate, lanes[1], identity(Binary::min, lanes[1])));
        const Mask better = wins(value, total[0]);
        return std::vector{select(better, value, total[0]),
                           select(better, cast(column, Elem::i64) + begin, total[1])};
      });
  return {last[0], last[1]};
}

void Row::each(const std::function<void(const Index&)>& f) const {
  const int width = native_lanes(compute_);
  const Value whole = columns_ & -width;
  builder_.loop(0, whole, width, [&](Value i) { f({i, width, {}}); });
  builder_.loop(whole, columns_, width, [&](Value i) { f({i, width, columns_ - i}); });
}

std::vector<Value> Row::scan(
    std::vector<Value> initial,
    const std::function<std::vector<Value>(const Index&, std::span<const Value>)>& f) const {
  return builder_.loop(
      0, columns_, 1, std::move(initial),
      [&](Value i, std::span<const Value> carried) { return f({i, 1, {}}, carried); });
}

}  // namespace fluxion::loops
