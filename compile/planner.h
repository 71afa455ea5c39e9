// From graph to program: decides where every value lies. Private to compile/.
#pragma once

#include "compile/arena.h"
#include "compile/program.h"

namespace fluxion::compile {

/// A range of addresses that nobody can touch: handles are made in it before memory is assigned.
class AddressSpace {
 public:
  explicit AddressSpace(size_t bytes);
  /// A handle at a fresh range, one range per value.
  Tensor place(const Type& type, Ints strides);
  /// Another handle at the range that starts at `start`.
  size_t used() const { return used_; }
  const Ref<Storage>& storage() const { return storage_; }

 private:
  Ref<Storage> storage_;
  size_t used_ = 0;
};

class Planner {
 public:
  Planner(Program& program, std::span<const Layout> inputs, std::span<const Layout> results);
  void run();

 private:
  /// Bytes of one value; views of it lie in the same range.
  struct Range {
    int64_t start, bytes;  // in the address space
    Place::Kind kind = Place::Kind::arena;
    uint32_t index = 0;             // of the input or result
    uint32_t joined;                // the range whose bytes this one takes over; itself if none
    int32_t first = -1, last = -1;  // steps
  };
  struct Draft {
    const OpDef* op;
    const std::vector<std::byte>* attrs;
    std::vector<Tensor> in, out;
    std::vector<graph::ValueId> values;  // of out
    uint32_t location;
    bool commits = false;
  };

  void draft(const graph::Node& n);
  void copy_instead(Draft& d);
  void place_inputs(std::span<const Layout> layouts);
  void wish_layouts(std::span<const Layout> results);
  bool is_free_view(const OpDef& op, const std::vector<std::byte>& attrs, const Tensor& x) const;
  void draft_results();
  void order_commits();
  void find_lifetimes();
  void donate();
  void reuse();
  void assign();

  Tensor new_range(const Type& type, Ints strides, Place::Kind kind, uint32_t index);
  uint32_t range_of(const Tensor& t) const;
  uint32_t leader(uint32_t range) const;
  bool covers_range(const Tensor& t) const;
  Place place_of(const Tensor& t) const;
  Operand operand(const Tensor& t) const;
  bool reads_range_otherwise(const Draft& d, uint32_t range, const Tensor& as) const;

  Program& p_;
  const graph::Graph& g_;
  AddressSpace space_;
  std::vector<Tensor> handles_;  // by value
  std::vector<Range> ranges_;
  std::vector<Draft> drafts_;
  std::vector<const Layout*> wishes_;  // by value: the layout a result wants
  std::vector<Tensor> results_;
  std::vector<uint8_t> donated_;  // by write
};

}  // namespace fluxion::compile
