#include "mesh/direct_impl.h"

namespace c10d {

void DirectCollective::Impl::all_gather(const std::vector<c10d_buffer>& outputs) {
  const c10d_buffer& input = op_.inputs[0];
  each_peer([&](int peer) {
    const auto& theirs = of_rank(outputs, peer);
    turn_.exchange_headers(peer, input.bytes, theirs.bytes);
    turn_.send(peer, bytes_at(input), input.bytes);
    turn_.receive(peer, bytes_at(theirs), theirs.bytes);
  });
  const auto own = of_rank(outputs, rank_);
  queued_all([this, own] { copy(bytes_at(own), bytes_at(op_.inputs[0]), own.bytes); });
}

void DirectCollective::Impl::all_to_all(const std::vector<c10d_buffer>& outputs,
                                        const std::vector<c10d_buffer>& inputs) {
  for (int rank = 0; rank < size_; rank++)
    turn_.set_part(rank, of_rank(inputs, rank).bytes, of_rank(outputs, rank).bytes);
  each_peer([&](int peer) {
    const auto& to = of_rank(inputs, peer);
    const auto& from = of_rank(outputs, peer);
    turn_.exchange_headers(peer, to.bytes, from.bytes);
    turn_.send(peer, bytes_at(to), to.bytes);
    turn_.receive(peer, bytes_at(from), from.bytes);
  });
  const auto from = of_rank(inputs, rank_);
  const auto to = of_rank(outputs, rank_);
  queued_all([from, to] { copy(bytes_at(to), bytes_at(from), from.bytes); });
}

void DirectCollective::Impl::broadcast() {
  const c10d_buffer& buffer = op_.outputs[0];
  const int root = op_.request.peer;
  const int place = (rank_ - root + size_) % size_;
  const auto at_place = [&](int other) { return (other + root) % size_; };
  const int lowest = place == 0 ? size_ : place & -place;
  std::vector<int> children;
  int bit = 1;
  while (bit < lowest && place + bit < size_) bit <<= 1;
  // The largest subtree first.
  for (bit >>= 1; bit > 0; bit >>= 1) children.push_back(at_place(place + bit));
  const int parent = place == 0 ? -1 : at_place(place & (place - 1));
  each_peer([&](int peer) {
    const bool is_child = std::find(children.begin(), children.end(), peer) != children.end();
    if (!is_child && peer != parent && !is_compared(peer)) return;
    turn_.exchange_headers(peer, is_child ? buffer.bytes : 0, peer == parent ? buffer.bytes : 0);
  });
  if (parent < 0) {
    for (const int child : children) turn_.send(child, bytes_at(buffer), buffer.bytes);
    return queued_all([] {});
  }
  for (size_t begin = 0; begin < buffer.bytes; begin += kPieceBytes) {
    turn_.receive(parent, bytes_at(buffer) + begin, std::min(kPieceBytes, buffer.bytes - begin));
  }
  if (children.empty()) return queued_all([] {});
  step_by_step([this, buffer, parent, children = std::move(children)] { pass_on(buffer, parent, children); });
}

void DirectCollective::Impl::pass_on(const c10d_buffer& buffer, int parent, const std::vector<int>& children) {
  size_t span = 1;
  for (size_t begin = 0; begin < buffer.bytes; begin += kPieceBytes) {
    span++;
    turn_.await([&] { return turn_.received(parent) >= span; });
    const size_t length = std::min(kPieceBytes, buffer.bytes - begin);
    for (const int child : children) turn_.send(child, bytes_at(buffer) + begin, length);
  }
  turn_.finish();
}

void DirectCollective::Impl::gather() {
  const c10d_buffer& input = op_.inputs[0];
  const int root = op_.request.peer;
  if (rank_ != root) {
    each_peer([&](int peer) {
      if (peer == root || is_compared(peer)) turn_.exchange_headers(peer, peer == root ? input.bytes : 0, 0);
    });
    turn_.send(root, bytes_at(input), input.bytes);
    return queued_all([] {});
  }
  each_peer([&](int peer) {
    const auto& theirs = of_rank(op_.outputs, peer);
    turn_.exchange_headers(peer, 0, theirs.bytes);
    turn_.receive(peer, bytes_at(theirs), theirs.bytes);
  });
  queued_all([this, input] { copy(bytes_at(of_rank(op_.outputs, rank_)), bytes_at(input), input.bytes); });
}

void DirectCollective::Impl::scatter() {
  const c10d_buffer& output = op_.outputs[0];
  const int root = op_.request.peer;
  if (rank_ != root) {
    each_peer([&](int peer) {
      if (peer == root || is_compared(peer)) turn_.exchange_headers(peer, 0, peer == root ? output.bytes : 0);
    });
    turn_.receive(root, bytes_at(output), output.bytes);
    return queued_all([] {});
  }
  each_peer([&](int peer) {
    const auto& theirs = of_rank(op_.inputs, peer);
    turn_.exchange_headers(peer, theirs.bytes, 0);
    turn_.send(peer, bytes_at(theirs), theirs.bytes);
  });
  queued_all([this, output] { copy(bytes_at(output), bytes_at(of_rank(op_.inputs, rank_)), output.bytes); });
}

void DirectCollective::Impl::barrier() {
  each_peer([&](int peer) { turn_.exchange_headers(peer, 0, 0); });
  queued_all([] {});
}

void DirectCollective::Impl::compare() {
  each_peer([&](int peer) {
    if (is_compared(peer)) turn_.exchange_headers(peer, 0, 0);
  });
  queued_all([] {});
}

}  // namespace c10d
