// A vector of trivially copyable values with N of them inline.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <type_traits>

namespace fluxion {

template <class T, int N>
class Small {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Small() = default;
  explicit Small(size_t n, T value = T{}) {
    reserve(n);
    for (size_t i = 0; i < n; ++i) data()[i] = value;
    size_ = n;
  }
  Small(std::initializer_list<T> v) : Small(std::span<const T>(v.begin(), v.size())) {}
  Small(std::span<const T> v) {
    reserve(v.size());
    if (!v.empty()) std::memcpy(data(), v.data(), v.size() * sizeof(T));
    size_ = v.size();
  }
  Small(const Small& o) : Small(std::span<const T>(o)) {}
  Small(Small&& o) noexcept : heap_(std::move(o.heap_)), size_(o.size_), capacity_(o.capacity_) {
    std::memcpy(inline_, o.inline_, sizeof inline_);
    o.size_ = 0;
    o.capacity_ = N;
  }
  Small& operator=(const Small& o) {
    if (this != &o) assign(o);
    return *this;
  }
  Small& operator=(Small&& o) noexcept {
    heap_ = std::move(o.heap_);
    size_ = o.size_;
    capacity_ = o.capacity_;
    std::memcpy(inline_, o.inline_, sizeof inline_);
    o.size_ = 0;
    o.capacity_ = N;
    return *this;
  }

  T* data() { return heap_ ? heap_.get() : inline_; }
  const T* data() const { return heap_ ? heap_.get() : inline_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  T& back() { return data()[size_ - 1]; }
  const T& back() const { return data()[size_ - 1]; }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  operator std::span<const T>() const { return {data(), size_}; }

  void assign(std::span<const T> v) {
    reserve(v.size());
    if (!v.empty()) std::memmove(data(), v.data(), v.size() * sizeof(T));
    size_ = v.size();
  }
  void push_back(T v) {
    reserve(size_ + 1);
    data()[size_++] = v;
  }
  void pop_back() { --size_; }
  void resize(size_t n, T value = T{}) {
    reserve(n);
    for (size_t i = size_; i < n; ++i) data()[i] = value;
    size_ = n;
  }
  void insert(size_t at, T v) {
    push_back(v);
    for (size_t i = size_ - 1; i > at; --i) data()[i] = data()[i - 1];
    data()[at] = v;
  }
  void erase(size_t at) {
    for (size_t i = at; i + 1 < size_; ++i) data()[i] = data()[i + 1];
    --size_;
  }
  friend bool operator==(const Small& a, const Small& b) {
    return a.size_ == b.size_ && std::equal(a.begin(), a.end(), b.begin());
  }

 private:
  void reserve(size_t n) {
    if (n <= capacity_) return;
    size_t c = std::max<size_t>(n, 2 * capacity_);
    std::unique_ptr<T[]> bigger(new T[c]);
    std::memcpy(bigger.get(), data(), size_ * sizeof(T));
    heap_ = std::move(bigger);
    capacity_ = c;
  }

  std::unique_ptr<T[]> heap_;
  size_t size_ = 0, capacity_ = N;
  T inline_[N];
};

}  // namespace fluxion
