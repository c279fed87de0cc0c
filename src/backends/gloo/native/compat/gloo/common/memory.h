// Debian's libgloo-dev leaves this header out, though tcp/context.h, tcp/pair.h and tcp/unbound_buffer.h include it.
// The three templates below have the library's memory layout: each holds exactly one shared or weak pointer.
#pragma once

#include <memory>
#include <thread>

namespace gloo {

template <typename T>
class ShareableNonOwningPtr;

/// Does not keep its target alive. lock() returns the target while it exists.
template <typename T>
class WeakNonOwningPtr final {
 public:
  WeakNonOwningPtr() = default;
  explicit WeakNonOwningPtr(const ShareableNonOwningPtr<T>& source) : target_(source.target_) {}

  /// Whether it was ever given a target, alive or not.
  explicit operator bool() const noexcept {
    const std::weak_ptr<T> none;
    return none.owner_before(target_) || target_.owner_before(none);
  }
  std::shared_ptr<T> lock() const { return target_.lock(); }

 private:
  std::weak_ptr<T> target_;
};

/// The destructor of its target waits until this is destroyed.
template <typename T>
class NonOwningPtr final {
 public:
  NonOwningPtr() = default;
  explicit NonOwningPtr(const WeakNonOwningPtr<T>& source) : target_(source.lock()) {}

  explicit operator bool() const noexcept { return target_ != nullptr; }
  T* operator->() const noexcept { return target_.get(); }

 private:
  std::shared_ptr<T> target_;
};

/// Member of the target itself. Its destructor waits until no NonOwningPtr is left.
template <typename T>
class ShareableNonOwningPtr final {
 public:
  explicit ShareableNonOwningPtr(T* target) : target_(target, [](T*) {}) {}
  ~ShareableNonOwningPtr() {
    const std::weak_ptr<T> others = target_;
    target_.reset();
    while (!others.expired()) std::this_thread::yield();
  }
  ShareableNonOwningPtr(const ShareableNonOwningPtr&) = delete;
  ShareableNonOwningPtr& operator=(const ShareableNonOwningPtr&) = delete;

 private:
  friend class WeakNonOwningPtr<T>;
  std::shared_ptr<T> target_;
};

}  // namespace gloo
