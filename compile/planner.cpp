#include "compile/planner.h"

#include <sys/mman.h>

#include <algorithm>
#include <unordered_map>

#include "ops/copy.h"
#include "ops/views.h"
#include "tensor/thread_state.h"

namespace fluxion {
extern OpDef kRowMajor;  // ops/copy.cpp
}

namespace fluxion::compile {

namespace {

constexpr size_t padded(int64_t bytes) {
  return (static_cast<size_t>(std::max<int64_t>(bytes, 1)) + 63) / 64 * 64;
}

Type concrete(const graph::ValueType& v) {
  Type t{v.dtype, v.weak, {}};
  for (const graph::Dim& d : v.shape) {
    if (!d.is_constant())
      fail(ErrorKind::value, "program: the graph has symbolic dims; specialize() it first");
    t.shape.push_back(d.constant());
  }
  return t;
}

size_t bytes_of(const graph::ValueType& v) {
  Type t = concrete(v);
  return padded(element_count(t.shape) * size_of(t.dtype));
}

/// Inputs, every value, and a copy for each result.
size_t address_space(const graph::Graph& g) {
  size_t total = 64;
  for (const graph::ValueType& v : g.values) total += bytes_of(v);
  for (const graph::Result& r : g.results) total += bytes_of(g.values[r.value]);
  return total;
}

/// An op that may write over an operand of its result's geometry and cannot fail on values.
bool steps_in_place(const OpDef& op, const Type& result) {
  if (!op.in_place) return false;
  return is_floating(result.dtype) || &op == find_op("add") || &op == find_op("mul");
}

}  // namespace

AddressSpace::AddressSpace(size_t bytes) {
  struct Reserved {
    void* at;
    size_t bytes;
  };
  void* at = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED)
    fail(ErrorKind::memory, "program: no address space for values of {} bytes", bytes);
  auto* held = new Reserved{at, bytes};
  storage_ = wrap_foreign(
      at, bytes,
      [](void* context) {
        auto* r = static_cast<Reserved*>(context);
        munmap(r->at, r->bytes);
        delete r;
      },
      held);
}

Tensor AddressSpace::place(const Type& type, Ints strides) {
  const int64_t bytes = element_count(type.shape) * size_of(type.dtype);
  Tensor t = from_storage(storage_, type.dtype, type.shape, strides,
                          static_cast<int64_t>(used_) / size_of(type.dtype));
  if (type.weak) t.impl()->flags |= kWeak;
  used_ += padded(bytes);
  return t;
}

Planner::Planner(Program& program, std::span<const Layout> inputs, std::span<const Layout> results)
    : p_(program),
      g_(program.graph_),
      space_(address_space(program.graph_)),
      handles_(g_.values.size()),
      wishes_(g_.values.size()) {
  place_inputs(inputs);
  wish_layouts(results);
}

Tensor Planner::new_range(const Type& type, Ints strides, Place::Kind kind, uint32_t index) {
  const auto start = static_cast<int64_t>(space_.used());
  Tensor t = space_.place(type, strides);
  auto self = static_cast<uint32_t>(ranges_.size());
  ranges_.push_back({start, t.nbytes(), kind, index, self});
  return t;
}

uint32_t Planner::range_of(const Tensor& t) const {
  const int64_t at = t.impl()->data - space_.storage()->data;
  auto after = std::ranges::upper_bound(ranges_, at, {}, &Range::start);
  return static_cast<uint32_t>(after - ranges_.begin()) - 1;
}

uint32_t Planner::leader(uint32_t r) const {
  while (ranges_[r].joined != r) r = ranges_[r].joined;
  return r;
}

bool Planner::covers_range(const Tensor& t) const {
  const Range& r = ranges_[range_of(t)];
  return t.impl()->data - space_.storage()->data == r.start && t.nbytes() == r.bytes &&
         std::ranges::equal(t.strides(), dense_strides_like(t.sizes(), t.strides()));
}

void Planner::place_inputs(std::span<const Layout> layouts) {
  for (size_t k = 0; k < g_.inputs.size(); ++k) {
    const graph::Input& in = g_.inputs[k];
    Type type = concrete(g_.values[in.value]);
    bool plain = k >= layouts.size() || layouts[k].strides.size() != type.shape.size();
    Shape strides = plain ? row_major_strides(type.shape) : layouts[k].strides;
    handles_[in.value] = new_range(type, strides, Place::Kind::input, static_cast<uint32_t>(k));
  }
}

void Planner::wish_layouts(std::span<const Layout> results) {
  for (size_t k = 0; k < results.size(); ++k)
    if (!results[k].strides.empty()) wishes_[g_.results[k].value] = &results[k];
}

bool Planner::is_free_view(const OpDef& op, const std::vector<std::byte>& attrs,
                           const Tensor& x) const {
  if (!op.view) return false;
  if (&op != &kReshape) return true;
  int64_t strides[kMaxRank];
  const auto& shape = *reinterpret_cast<const Dims*>(attrs.data());
  return view_strides(x.sizes(), x.strides(), shape, strides);
}

/// A reshape of memory that no view can do: a row-major copy in the old shape, read in the new one.
void Planner::copy_instead(Draft& d) {
  const Tensor &x = d.in[0], &whole = d.out[0];
  Tensor out = whole;
  if (!whole.is_contiguous()) {  // a result in another layout: copy, then rearrange
    Tensor plain = new_range(type_of(x), row_major_strides(x.sizes()), Place::Kind::arena, 0);
    drafts_.push_back({&kRowMajor, nullptr, {x}, {plain}, {d.values[0]}, d.location});
    d.in[0] = alias(plain, whole.sizes(), row_major_strides(whole.sizes()), plain.storage_offset());
  } else {
    d.out[0] = alias(whole, x.sizes(), row_major_strides(x.sizes()), whole.storage_offset());
  }
  d.op = &kRowMajor;
  d.attrs = nullptr;
}

void Planner::draft(const graph::Node& n) {
  if (!n.regions.empty())
    fail(ErrorKind::not_implemented, "program: control flow ({}) is not planned yet", n.op->name);
  Draft d{n.op, &n.attrs, {}, {}, n.out, n.location};
  for (graph::ValueId id : n.in) d.in.push_back(id == graph::kNoValue ? Tensor{} : handles_[id]);
  if (is_free_view(*n.op, n.attrs, d.in[0])) {
    Tensor out;
    n.op->eval({*n.op, n.attrs.data(), d.in, {&out, 1}});
    handles_[n.out[0]] = out.detach();
    if (d.in[0].has(kWeak)) handles_[n.out[0]].impl()->flags |= kWeak;
    return;
  }
  for (graph::ValueId id : n.out) {
    if (id == graph::kNoValue) {
      d.out.emplace_back();
      continue;
    }
    Type type = concrete(g_.values[id]);
    Shape strides = wishes_[id] ? wishes_[id]->strides : row_major_strides(type.shape);
    d.out.push_back(handles_[id] = new_range(type, strides, Place::Kind::arena, 0));
  }
  if (d.op == &kReshape) copy_instead(d);
  drafts_.push_back(std::move(d));
}

/// Every result has memory of its own: that of its value, or a copy.
void Planner::draft_results() {
  for (size_t k = 0; k < g_.results.size(); ++k) {
    const Tensor& value = handles_[g_.results[k].value];
    Range& range = ranges_[range_of(value)];
    const Layout* wish = wishes_[g_.results[k].value];
    Shape strides = wish ? wish->strides : row_major_strides(value.sizes());
    if (range.kind == Place::Kind::arena && covers_range(value) &&
        std::ranges::equal(value.strides(), strides)) {
      range.kind = Place::Kind::result;
      range.index = static_cast<uint32_t>(k);
      results_.push_back(value);
      continue;
    }
    Tensor copy = new_range(type_of(value), strides, Place::Kind::result, static_cast<uint32_t>(k));
    drafts_.push_back({&kClone, nullptr, {value}, {copy}, {g_.results[k].value}, 0});
    results_.push_back(copy);
  }
}

/// Steps that only serve writes go last: what is before them may be discarded.
void Planner::order_commits() {
  std::vector<uint8_t> is_write(ranges_.size());
  for (const graph::Write& w : g_.writes) is_write[range_of(handles_[w.value])] = 1;
  std::vector<uint8_t> used_early(ranges_.size());
  for (size_t i = drafts_.size(); i-- > 0;) {
    Draft& d = drafts_[i];
    bool writes = false, early = false;
    for (const Tensor& t : d.out) {
      if (!t.defined()) continue;
      uint32_t r = range_of(t);
      writes |= is_write[r];
      early |= used_early[r] || ranges_[r].kind != Place::Kind::arena ||
               !steps_in_place(*d.op, type_of(t));
    }
    d.commits = writes && !early;
    if (d.commits) continue;
    for (const Tensor& t : d.in)
      if (t.defined()) used_early[range_of(t)] = 1;
  }
  auto early = std::ranges::stable_partition(drafts_, [](const Draft& d) { return !d.commits; });
  p_.commit_begin_ = drafts_.size() - early.size();
}

void Planner::find_lifetimes() {
  for (size_t i = 0; i < drafts_.size(); ++i) {
    auto touch = [&](const Tensor& t) {
      if (!t.defined()) return;
      Range& r = ranges_[range_of(t)];
      if (r.first < 0) r.first = static_cast<int32_t>(i);
      r.last = static_cast<int32_t>(i);
    };
    for (const Tensor& t : drafts_[i].in) touch(t);
    for (const Tensor& t : drafts_[i].out) touch(t);
  }
  for (const graph::Write& w : g_.writes)  // copied at the end, unless made in place
    ranges_[range_of(handles_[w.value])].last = static_cast<int32_t>(drafts_.size());
}

bool Planner::reads_range_otherwise(const Draft& d, uint32_t range, const Tensor& as) const {
  return std::ranges::any_of(d.in, [&](const Tensor& t) {
    return t.defined() && leader(range_of(t)) == range &&
           !(t.impl()->data == as.impl()->data && t.dtype() == as.dtype() &&
             std::ranges::equal(t.sizes(), as.sizes()) &&
             std::ranges::equal(t.strides(), as.strides()));
  });
}

/// A step among the commits writes a slot's memory itself, if nobody reads the old bytes later.
void Planner::donate() {
  donated_.assign(g_.writes.size(), 0);
  std::unordered_map<uint32_t, size_t> producer;
  for (size_t i = p_.commit_begin_; i < drafts_.size(); ++i)
    for (const Tensor& t : drafts_[i].out)
      if (t.defined()) producer[range_of(t)] = i;
  for (size_t k = 0; k < g_.writes.size(); ++k) {
    const graph::Write& w = g_.writes[k];
    const Tensor &slot = handles_[g_.inputs[w.input].value], &value = handles_[w.value];
    uint32_t from = range_of(value), to = range_of(slot);
    auto made = producer.find(from);
    if (made == producer.end() || ranges_[from].kind != Place::Kind::arena) continue;
    if (!covers_range(value) || !std::ranges::equal(value.strides(), slot.strides())) continue;
    size_t i = made->second;
    if (ranges_[to].last > static_cast<int32_t>(i)) continue;
    bool first_read = ranges_[to].last == static_cast<int32_t>(i);
    if (first_read && reads_range_otherwise(drafts_[i], to, slot)) continue;
    ranges_[from].kind = Place::Kind::input;
    ranges_[from].index = w.input;
    ranges_[to].last = static_cast<int32_t>(drafts_.size());
    donated_[k] = 1;
  }
}

/// An elementwise step takes over the memory of an operand that nobody reads later.
void Planner::reuse() {
  for (size_t i = 0; i < drafts_.size(); ++i) {
    Draft& d = drafts_[i];
    if (!d.op->in_place) continue;
    for (const Tensor& out : d.out) {
      if (!out.defined()) continue;
      uint32_t o = range_of(out);
      if (ranges_[o].kind != Place::Kind::arena || ranges_[o].joined != o) continue;
      for (const Tensor& in : d.in) {
        if (!in.defined() || in.dtype() != out.dtype() || !covers_range(in)) continue;
        uint32_t r = leader(range_of(in));
        if (ranges_[r].kind != Place::Kind::arena || ranges_[r].last != static_cast<int32_t>(i) ||
            r == o)
          continue;
        if (!std::ranges::equal(in.sizes(), out.sizes()) ||
            !std::ranges::equal(in.strides(), out.strides()) || reads_range_otherwise(d, r, in))
          continue;
        ranges_[o].joined = r;
        ranges_[r].last = ranges_[o].last;
        break;
      }
    }
  }
}

Place Planner::place_of(const Tensor& t) const {
  const uint32_t own = range_of(t);
  const Range& r = ranges_[own];
  const int64_t within = t.impl()->data - space_.storage()->data - r.start;
  if (r.kind != Place::Kind::arena) return {r.kind, r.index, within};
  return {Place::Kind::arena, 0, ranges_[leader(own)].start + within};
}

Operand Planner::operand(const Tensor& t) const {
  if (!t.defined()) return {};
  return {t, place_of(t)};
}

void Planner::assign() {
  std::vector<Lifetime> lives;
  std::vector<uint32_t> which;
  for (uint32_t r = 0; r < ranges_.size(); ++r) {
    const Range& range = ranges_[r];
    if (range.kind != Place::Kind::arena || range.joined != r || range.first < 0) continue;
    lives.push_back(
        {range.bytes, static_cast<uint32_t>(range.first), static_cast<uint32_t>(range.last)});
    which.push_back(r);
  }
  p_.arena_bytes_ = plan_arena(lives);
  p_.live_bytes_ = most_live_bytes(lives);
  // A range that views are looked up in keeps its place in the address space; only its arena offset is new.
  std::vector<int64_t> offset(ranges_.size());
  for (size_t i = 0; i < which.size(); ++i) offset[which[i]] = lives[i].offset;
  auto placed = [&](const Tensor& t) {
    Operand o = operand(t);
    if (o.shape.defined() && o.place.kind == Place::Kind::arena) {
      uint32_t r = leader(range_of(t));
      o.place.offset += offset[r] - ranges_[r].start;
    }
    return o;
  };
  for (const Draft& d : drafts_) {
    Step s{d.op, d.attrs ? *d.attrs : std::vector<std::byte>{}, {}, {}, d.location};
    for (const Tensor& t : d.in) s.in.push_back(placed(t));
    for (const Tensor& t : d.out) s.out.push_back(placed(t));
    p_.steps_.push_back(std::move(s));
  }
  for (size_t k = 0; k < g_.writes.size(); ++k) {
    p_.written_.push_back(g_.writes[k].input);
    if (donated_[k]) continue;
    const Tensor &slot = handles_[g_.inputs[g_.writes[k].input].value],
                 &value = handles_[g_.writes[k].value];
    p_.copies_.push_back({placed(value), placed(slot)});
  }
  for (const Tensor& t : results_) p_.results_.push_back(placed(t));
}

void Planner::run() {
  for (const graph::Node& n : g_.nodes) draft(n);
  draft_results();
  order_commits();
  find_lifetimes();
  donate();
  reuse();
  assign();
}

}  // namespace fluxion::compile
