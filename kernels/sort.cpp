#include "kernels/sort.h"

#include <algorithm>
#include <cstring>

#include "kernels/combine.h"
#include "kernels/sort_key.h"
#include "kernels/workspace.h"

namespace fluxion::kernels {

namespace {

/// A key and its position; positions make all items different, so every algorithm is stable.
struct Packed {  // keys of up to 32 bits, lines of up to 2^32 elements
  uint64_t bits;
  static Packed of(uint64_t key, int64_t position) {
    return {key << 32 | static_cast<uint64_t>(position)};
  }
  uint64_t key() const { return bits >> 32; }
  int64_t position() const { return static_cast<int64_t>(bits & 0xffffffffu); }
  bool operator<(const Packed& o) const { return bits < o.bits; }
};
struct Wide {
  uint64_t bits;
  int64_t place;
  static Wide of(uint64_t key, int64_t position) { return {key, position}; }
  uint64_t key() const { return bits; }
  int64_t position() const { return place; }
  bool operator<(const Wide& o) const { return bits != o.bits ? bits < o.bits : place < o.place; }
};

bool packs(Elem e, int64_t length) { return elem_size(e) <= 4 && length <= (int64_t{1} << 32); }

/// fn(T(), Item()).
template <class Fn>
void with_item(Elem e, int64_t length, Fn fn) {
  with_element(e, [&](auto t) { packs(e, length) ? fn(t, Packed()) : fn(t, Wide()); });
}

template <class T, class Item>
void load_items(const T* line, int64_t n, bool descending, Item* items) {
  using Key = SortKey<T>;
  const Key flip = descending ? static_cast<Key>(~Key(0)) : Key(0);
  for (int64_t i = 0; i < n; ++i)
    items[i] = Item::of(static_cast<Key>(sort_key(line[i]) ^ flip), i);
}

constexpr int kDigits = 256;

/// Least significant byte first; `spare` is as large as `items`. Returns where the sorted items are.
template <int key_bytes, class Item>
Item* radix_sort(Item* items, Item* spare, int64_t n) {
  int64_t count[key_bytes][kDigits] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int byte = 0; byte < key_bytes; ++byte) ++count[byte][items[i].key() >> (8 * byte) & 255];
  for (int byte = 0; byte < key_bytes; ++byte) {
    auto digit = [byte](const Item& x) { return x.key() >> (8 * byte) & 255; };
    int64_t (&place)[kDigits] = count[byte];
    if (place[digit(items[0])] == n) continue;  // this byte says nothing
    int64_t at = 0;
    for (int64_t& p : place) {
      const int64_t here = p;
      p = at;
      at += here;
    }
    for (int64_t i = 0; i < n; ++i) spare[place[digit(items[i])]++] = items[i];
    std::swap(items, spare);
  }
  return items;
}

constexpr int64_t kShortLine = 256;  // comparison sort is faster up to here

template <int key_bytes, class Item>
Item* sorted(Item* items, Item* spare, int64_t n) {
  if (n > kShortLine) return radix_sort<key_bytes>(items, spare, n);
  std::sort(items, items + n);
  return items;
}

template <class T, class Item>
void store_items(const T* line, const Item* items, int64_t n, T* values, int64_t* indices) {
  for (int64_t i = 0; i < n; ++i) {
    indices[i] = items[i].position();
    values[i] = line[indices[i]];
  }
}

size_t item_bytes(Elem e, int64_t length) {
  return packs(e, length) ? sizeof(Packed) : sizeof(Wide);
}

/// rank(line, items, spare, values, indices) for every line; `per_line` results each.
template <class T, class Item, class Rank>
int for_lines(const Ctx& ctx, const LineOrder& o, int64_t per_line, Rank rank) {
  const size_t part = order_workspace(o.elem, o.length);
  const int parts = static_cast<int>(std::min<size_t>(ctx.workspace_bytes / part, kMaxSlots));
  if (parts == 0) return kWorkspaceTooSmall;
  Slots slots(ctx.workspace, part, parts);
  const int64_t each = std::max<int64_t>(1, kEnoughWork / (8 * (o.length + 1)));
  const int64_t tasks = (o.lines + each - 1) / each;
  run_tasks(ctx, tasks, parts == 1 || tasks == 1, slots, [&](int64_t t, char* memory) {
    Item* items = reinterpret_cast<Item*>(memory);
    for (int64_t l = t * each; l < std::min(o.lines, (t + 1) * each); ++l)
      rank(reinterpret_cast<const T*>(o.in) + l * o.length, items, items + o.length,
           reinterpret_cast<T*>(o.values) + l * per_line, o.indices + l * per_line);
  });
  return kOk;
}

/// Long lines of 64-bit keys within 2^32 of each other, such as ids and counts, sort as 32-bit keys.
template <class T>
bool sort_narrow(const T* line, int64_t n, bool descending, void* memory, T* values,
                 int64_t* indices) {
  if constexpr (sizeof(T) == 8) {
    if (n <= kShortLine || n > (int64_t{1} << 32)) return false;
    uint64_t least = ~uint64_t{0}, most = 0;
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t key = sort_key(line[i]);
      least = key < least ? key : least;
      most = key > most ? key : most;
    }
    if (most - least > 0xffffffffu) return false;
    Packed *items = static_cast<Packed*>(memory), *spare = items + n;
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t key = sort_key(line[i]);
      items[i] = Packed::of(descending ? most - key : key - least, i);
    }
    store_items(line, sorted<4>(items, spare, n), n, values, indices);
    return true;
  }
  return false;
}

constexpr int64_t kFew = 32;  // ranks that are found by insertion

/// The first `count` ranks, by comparing blocks of keys with the last rank so far. Equal keys keep their order.
template <class T, class Item>
void select_few(const T* line, int64_t n, bool largest, int64_t count, Item* best) {
  using Key = SortKey<T>;
  const Key flip = largest ? static_cast<Key>(~Key(0)) : Key(0);
  constexpr int64_t kBlock = 64;
  int64_t have = 0;
  auto insert = [&](Key key, int64_t position) {
    const Item item = Item::of(key, position);
    int64_t at = have < count ? have++ : count - 1;
    for (; at > 0 && item < best[at - 1]; --at) best[at] = best[at - 1];
    best[at] = item;
  };
  Key keys[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t m = n - begin < kBlock ? n - begin : kBlock;
    for (int64_t i = 0; i < m; ++i) keys[i] = static_cast<Key>(sort_key(line[begin + i]) ^ flip);
    if (have == count) {
      const Key worst = static_cast<Key>(best[count - 1].key());
      bool any = false;
      for (int64_t i = 0; i < m; ++i) any |= keys[i] < worst;
      if (!any) continue;
    }
    for (int64_t i = 0; i < m; ++i)
      if (have < count || keys[i] < static_cast<Key>(best[count - 1].key()))
        insert(keys[i], begin + i);
  }
}

/// The items of ranks [skip, skip + count) stand in order at items + skip.
template <class Item>
void select_ranks(Item* items, int64_t n, int64_t skip, int64_t count) {
  if (skip > 0) std::nth_element(items, items + skip, items + n);
  if (skip + count < n) std::nth_element(items + skip, items + skip + count, items + n);
  std::sort(items + skip, items + skip + count);
}

template <class T, class Item>
int64_t median_rank(const Item* items, int64_t n, bool ignore_nan, int64_t* first_nan) {
  *first_nan = -1;
  if constexpr (has_nan<T>) {
    constexpr uint64_t nan = static_cast<SortKey<T>>(~SortKey<T>(0));
    int64_t nans = 0;
    for (int64_t i = n; i-- > 0;)
      if (items[i].key() == nan) {
        ++nans;
        *first_nan = i;
      }
    if (ignore_nan && nans < n) {
      *first_nan = -1;
      return (n - nans - 1) / 2;
    }
  }
  return (n - 1) / 2;
}

}  // namespace

size_t order_workspace(Elem elem, int64_t length) {
  return align_up(2 * item_bytes(elem, length) * static_cast<size_t>(std::max<int64_t>(length, 1)));
}

int sort_lines(const Ctx& ctx, const LineOrder& o, bool descending) {
  int status = kOk;
  with_item(o.elem, o.length, [&](auto t, auto item) {
    using T = decltype(t);
    using Item = decltype(item);
    status = for_lines<T, Item>(
        ctx, o, o.length, [&](const T* line, Item* items, Item* spare, T* values, int64_t* at) {
          if (sort_narrow(line, o.length, descending, items, values, at)) return;
          load_items(line, o.length, descending, items);
          store_items(line, sorted<sizeof(T)>(items, spare, o.length), o.length, values, at);
        });
  });
  return status;
}

int select_lines(const Ctx& ctx, const LineOrder& o, bool largest, int64_t skip, int64_t count) {
  int status = kOk;
  with_item(o.elem, o.length, [&](auto t, auto item) {
    using T = decltype(t);
    using Item = decltype(item);
    status = for_lines<T, Item>(
        ctx, o, count, [&](const T* line, Item* items, Item* spare, T* values, int64_t* at) {
          const Item* order = items;
          if (skip == 0 && count > 0 && count <= kFew) {
            select_few(line, o.length, largest, count, items);
          } else {
            load_items(line, o.length, largest, items);
            if (count > o.length / 8) order = sorted<sizeof(T)>(items, spare, o.length);
            else select_ranks(items, o.length, skip, count);
          }
          store_items(line, order + skip, count, values, at);
        });
  });
  return status;
}

int median_lines(const Ctx& ctx, const LineOrder& o, bool ignore_nan) {
  int status = kOk;
  with_item(o.elem, o.length, [&](auto t, auto item) {
    using T = decltype(t);
    using Item = decltype(item);
    status = for_lines<T, Item>(
        ctx, o, 1, [&](const T* line, Item* items, Item*, T* values, int64_t* at) {
          load_items(line, o.length, false, items);
          int64_t first_nan, rank = median_rank<T>(items, o.length, ignore_nan, &first_nan);
          if (first_nan < 0) {
            select_ranks(items, o.length, rank, 1);
            first_nan = items[rank].position();
          }
          *at = first_nan;
          *values = line[first_nan];
        });
  });
  return status;
}

namespace {

/// The first position whose element does not come before the key; `before` is monotone along the sequence.
template <class T, class Before>
int64_t first_not(const T* sequence, int64_t n, Before before) {
  int64_t low = 0;
  while (n > 0) {
    const int64_t half = n / 2;
    if (before(sequence[low + half])) {
      low += half + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return low;
}

template <class T>
int64_t place_of(const T* sequence, int64_t n, T value, bool right) {
  if constexpr (std::is_arithmetic_v<T>) {
    if (value == value)
      return right ? first_not(sequence, n, [=](T x) { return x <= value; })
                   : first_not(sequence, n, [=](T x) { return x < value; });
  }
  const auto key = sort_key(value);
  return right ? first_not(sequence, n, [=](T x) { return sort_key(x) <= key; })
               : first_not(sequence, n, [=](T x) { return sort_key(x) < key; });
}

}  // namespace

void search_lines(const Ctx& ctx, const Search& s) {
  with_element(s.elem, [&](auto t) {
    using T = decltype(t);
    spread(ctx, s.lines * s.per_line, 1024, true, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* sequence = reinterpret_cast<const T*>(s.sequence) + i / s.per_line * s.line_step;
        s.out[i] = place_of(sequence, s.length, reinterpret_cast<const T*>(s.values)[i], s.right);
      }
    });
  });
}

}  // namespace fluxion::kernels
