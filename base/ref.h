// Intrusive reference: the count lives in the object, `retain` and `release` are found by argument
// type.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace fluxion {

using RefCount = std::atomic<uint32_t>;

/// Drops one count; true for the last holder. A sole holder needs no read-modify-write.
inline bool drop_count(RefCount& count) {
  return count.load(std::memory_order_acquire) == 1 ||
         count.fetch_sub(1, std::memory_order_acq_rel) == 1;
}

template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(decltype(nullptr)) {}
  /// Takes over one count.
  static Ref adopt(T* p) {
    Ref r;
    r.p_ = p;
    return r;
  }
  /// Adds one count.
  static Ref share(T* p) {
    if (p) retain(p);
    return adopt(p);
  }
  Ref(const Ref& o) : p_(o.p_) {
    if (p_) retain(p_);
  }
  Ref(Ref&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  Ref& operator=(Ref o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~Ref() {
    if (p_) release(p_);
  }
  T* get() const { return p_; }
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }
  explicit operator bool() const { return p_ != nullptr; }
  friend bool operator==(const Ref& a, const Ref& b) { return a.p_ == b.p_; }
  /// Gives up the count without releasing it.
  T* detach() { return std::exchange(p_, nullptr); }

 private:
  T* p_ = nullptr;
};

}  // namespace fluxion
