#include "mesh/barrier_limits.h"
#include "mesh/direct_impl.h"

namespace c10d {

/// Rank 0 releases the others when all have arrived. The others exchange only headers with each other.
void DirectCollective::Impl::monitored_barrier() {
  if (rank_ != 0) {
    each_peer([&](int peer) {
      const size_t bytes = peer == 0 ? sizeof word_ : 0;
      if (peer == 0 || is_compared(peer)) turn_.exchange_headers(peer, 0, bytes);
    });
    turn_.receive(0, reinterpret_cast<uint8_t*>(&word_), sizeof word_);
    return step_by_step([this] {
      if (!turn_.await_until([this] { return turn_.idle(); }, own_deadline_of_others(op_))) throw no_answer();
    });
  }
  each_peer([&](int peer) { turn_.exchange_headers(peer, sizeof word_, 0); });
  step_by_step([this] { release_others(); });
}

void DirectCollective::Impl::release_others() {
  std::vector<int> missing;
  const auto find_missing = [&] {
    missing.clear();
    for (int peer = 1; peer < size_; peer++) {
      if (turn_.received(peer) == 0) missing.push_back(peer);
    }
    return missing.empty();
  };
  if (!turn_.await_until(find_missing, own_deadline_of_first(op_))) {
    if ((op_.request.flags & C10D_FLAG_WAIT_ALL_RANKS) == 0) missing.resize(1);
    throw not_passed(op_, missing);
  }
  each_peer([&](int peer) { turn_.send(peer, &word_, sizeof word_); });
  turn_.finish();
}

}  // namespace c10d
