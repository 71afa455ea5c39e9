#include "compile/arena.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

namespace fluxion::compile {

namespace {

constexpr int64_t padded(int64_t bytes) {
  return std::max<int64_t>(1, (bytes + kArenaAlignment - 1) / kArenaAlignment) * kArenaAlignment;
}

/// Free gaps of an arena that grows at its end.
class Gaps {
 public:
  int64_t take(int64_t bytes) {
    auto fit = by_size_.lower_bound({bytes, 0});
    if (fit == by_size_.end()) return grow(bytes);
    auto [size, at] = *fit;
    remove(at, size);
    if (size > bytes) insert(at + bytes, size - bytes);
    return at;
  }

  void give_back(int64_t at, int64_t bytes) {
    auto next = by_place_.lower_bound(at);
    if (next != by_place_.end() && next->first == at + bytes) {
      bytes += next->second;
      remove(next->first, next->second);
    }
    next = by_place_.lower_bound(at);
    if (next != by_place_.begin()) {
      auto before = std::prev(next);
      if (before->first + before->second == at) {
        at = before->first;
        bytes += before->second;
        remove(before->first, before->second);
      }
    }
    insert(at, bytes);
  }

  int64_t end() const { return end_; }

 private:
  /// A gap at the end need not be large enough: the arena grows by what is missing.
  int64_t grow(int64_t bytes) {
    int64_t at = end_;
    if (!by_place_.empty()) {
      auto last = std::prev(by_place_.end());
      if (last->first + last->second == end_) {
        at = last->first;
        remove(last->first, last->second);
      }
    }
    end_ = at + bytes;
    return at;
  }
  void insert(int64_t at, int64_t bytes) {
    by_place_[at] = bytes;
    by_size_.insert({bytes, at});
  }
  void remove(int64_t at, int64_t bytes) {
    by_place_.erase(at);
    by_size_.erase({bytes, at});
  }

  std::map<int64_t, int64_t> by_place_;
  std::set<std::pair<int64_t, int64_t>> by_size_;
  int64_t end_ = 0;
};

}  // namespace

size_t plan_arena(std::span<Lifetime> buffers) {
  std::vector<size_t> births(buffers.size()), deaths(buffers.size());
  for (size_t i = 0; i < buffers.size(); ++i) births[i] = deaths[i] = i;
  // Large ones first among those born together.
  std::ranges::sort(births, [&](size_t a, size_t b) {
    return std::tuple(buffers[a].first, -buffers[a].bytes, a) <
           std::tuple(buffers[b].first, -buffers[b].bytes, b);
  });
  std::ranges::sort(deaths, [&](size_t a, size_t b) {
    return std::tuple(buffers[a].last, a) < std::tuple(buffers[b].last, b);
  });
  Gaps gaps;
  size_t dead = 0;
  for (size_t i : births) {
    while (dead < deaths.size() && buffers[deaths[dead]].last < buffers[i].first) {
      const Lifetime& b = buffers[deaths[dead++]];
      gaps.give_back(b.offset, padded(b.bytes));
    }
    buffers[i].offset = gaps.take(padded(buffers[i].bytes));
  }
  return static_cast<size_t>(gaps.end());
}

size_t most_live_bytes(std::span<const Lifetime> buffers) {
  std::map<int64_t, int64_t> change;
  for (const Lifetime& b : buffers) {
    change[b.first] += padded(b.bytes);
    change[int64_t{b.last} + 1] -= padded(b.bytes);
  }
  int64_t now = 0, most = 0;
  for (auto [time, delta] : change) most = std::max(most, now += delta);
  return static_cast<size_t>(most);
}

}  // namespace fluxion::compile
