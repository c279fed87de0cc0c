// UCC's out-of-band all-gather, served from the group's store.
#pragma once

#include <ucc/api/ucc.h>

#include <functional>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "engine/transport.h"
#include "peers/store_gather.h"

namespace c10d::ucc_shim {

/// All ranks call the same all-gathers in the same order while they connect.
class Rendezvous {
 public:
  /// `look` is called now and then while it waits for values, and throws to end that.
  Rendezvous(const Config& config, Exchange& exchange, std::function<void()> look)
      : config_(config), store_(config, exchange, "ucc", std::move(look)) {}
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  StoreGather& store() { return store_; }

  /// Its all-gathers, for UCC to call. A failure is kept for rethrow(), since nothing may be thrown through UCC.
  ucc_oob_coll_t callbacks();
  /// Throws the Failure that an all-gather of UCC's ended with, if there is one.
  void rethrow() const;

  /// A lock to be released whenever UCC waits for other ranks; nullptr for none.
  void unlock_while_waiting(std::unique_lock<std::mutex>* lock) { lock_ = lock; }

  /// From now on no values are exchanged: UCC, which calls one more all-gather when it ends, goes on without the other
  /// ranks.
  void close() { closed_ = true; }
  /// A lock to be taken at that last all-gather, when everything has been sent; nullptr for none.
  void lock_at_last_gather(std::unique_lock<std::mutex>* lock) { last_lock_ = lock; }

 private:
  static ucc_status_t gather(void* source, void* target, size_t bytes, void* self, void** request) noexcept;

  const Config& config_;
  StoreGather store_;
  std::unique_lock<std::mutex>* lock_ = nullptr;
  std::unique_lock<std::mutex>* last_lock_ = nullptr;
  bool closed_ = false;
  std::optional<Failure> failure_;
};

}  // namespace c10d::ucc_shim
