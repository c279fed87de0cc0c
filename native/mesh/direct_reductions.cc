#include "mesh/direct_impl.h"

namespace c10d {

namespace {

/// Up to this size every rank sends its data to all others and reduces everything itself: one step, but more bytes.
constexpr size_t kMaxOneStepBytes = 32 * 1024;
/// Pieces in flight while one is being reduced.
constexpr size_t kDepth = 2;

}  // namespace

void DirectCollective::Impl::take_scratch(size_t bytes, size_t depth) {
  stride_ = (bytes + 63) / 64 * 64;
  scratch_ = turn_.scratch(stride_ * ranks_ * depth);
}
uint8_t* DirectCollective::Impl::scratch_of(int peer, size_t slot) const {
  return scratch_ + (slot * ranks_ + static_cast<size_t>(peer)) * stride_;
}

void DirectCollective::Impl::fold(uint8_t* to, const uint8_t* own, size_t bytes, size_t slot) {
  const auto reduce = find_reduction(op_.request.dtype, op_.request.reduce_op);
  const size_t count = bytes / element_;
  const auto operand = [&](int rank) { return rank == rank_ ? own : scratch_of(rank, slot); };
  // Intermediate results must not overwrite the own part before it is used.
  uint8_t* const meanwhile = to == own && rank_ > 1 ? scratch_of(0, slot) : to;
  const uint8_t* left = operand(0);
  for (int rank = 1; rank < size_; rank++) {
    uint8_t* const into = rank < rank_ ? meanwhile : to;
    reduce(into, left, operand(rank), count);
    left = into;
  }
  if (op_.request.reduce_op == C10D_AVG) divide(to, count, op_.request.dtype, size_);
}

void DirectCollective::Impl::all_reduce(const c10d_buffer& buffer) {
  each_peer([&](int peer) { turn_.exchange_headers(peer, buffer.bytes, buffer.bytes); });
  if (buffer.bytes <= kMaxOneStepBytes || (size_ == 2 && buffer.bytes <= 2 * kMaxOneStepBytes)) {
    all_reduce_at_once(bytes_at(buffer), buffer.bytes);
  } else {
    step_by_step([this, buffer] { all_reduce_by_pieces(bytes_at(buffer), buffer.bytes); });
  }
}

void DirectCollective::Impl::all_reduce_at_once(uint8_t* data, size_t bytes) {
  take_scratch(bytes, 1);
  each_peer([&](int peer) {
    turn_.send(peer, data, bytes);
    turn_.receive(peer, scratch_of(peer), bytes);
  });
  queued_all([this, data, bytes] {
    if (bytes > 0) fold(data, data, bytes);
  });
}

void DirectCollective::Impl::all_reduce_by_pieces(uint8_t* data, size_t bytes) {
  const size_t count = bytes / element_;
  const size_t most = std::max<size_t>(kPieceBytes / element_, 1);
  const size_t piece = std::min(most, (count + ranks_ - 1) / ranks_) * element_;
  const size_t rounds = (bytes + piece * ranks_ - 1) / (piece * ranks_);
  take_scratch(piece, kDepth);
  const auto at = [&](size_t round, int rank) {
    const size_t begin = std::min((round * ranks_ + static_cast<size_t>(rank)) * piece, bytes);
    return c10d_buffer{reinterpret_cast<uint64_t>(data) + begin, std::min(piece, bytes - begin)};
  };
  const auto hand_out = [&](size_t round) {
    each_peer([&](int peer) {
      const auto theirs = at(round, peer);
      turn_.send(peer, bytes_at(theirs), theirs.bytes);
      turn_.receive(peer, scratch_of(peer, round % kDepth), at(round, rank_).bytes);
    });
  };
  std::vector<size_t> marks(kDepth * ranks_);
  const auto mark = [&](size_t round) {
    each_peer([&](int peer) { marks[round % kDepth * ranks_ + static_cast<size_t>(peer)] = turn_.queued(peer); });
  };
  for (size_t round = 0; round < std::min(kDepth, rounds); round++) {
    hand_out(round);
    mark(round);
  }
  for (size_t round = 0; round < rounds; round++) {
    turn_.await([&] {
      for (int peer = 0; peer < size_; peer++) {
        if (peer != rank_ && turn_.received(peer) < marks[round % kDepth * ranks_ + static_cast<size_t>(peer)]) {
          return false;
        }
      }
      return true;
    });
    const auto own = at(round, rank_);
    if (own.bytes > 0) fold(bytes_at(own), bytes_at(own), own.bytes, round % kDepth);
    each_peer([&](int peer) {
      const auto theirs = at(round, peer);
      turn_.send(peer, bytes_at(own), own.bytes);
      turn_.receive(peer, bytes_at(theirs), theirs.bytes);
    });
    if (round + kDepth < rounds) {
      hand_out(round + kDepth);
      mark(round + kDepth);
    }
  }
  turn_.finish();
}

void DirectCollective::Impl::all_reduce_list() {
  if (op_.outputs.size() == 1) return all_reduce(op_.outputs[0]);
  const size_t bytes = total_bytes(op_.outputs);
  flat_.emplace(bytes);
  flat_->gather_from(op_.outputs);
  all_reduce({reinterpret_cast<uint64_t>(flat_->data()), bytes});
  rest_ = [this, reduce = std::move(rest_)] {
    reduce();
    flat_->scatter_to(op_.outputs);
  };
}

void DirectCollective::Impl::reduce_scatter(const std::vector<c10d_buffer>& inputs) {
  const c10d_buffer& output = op_.outputs[0];
  each_peer([&](int peer) {
    const auto& theirs = of_rank(inputs, peer);
    turn_.exchange_headers(peer, theirs.bytes, output.bytes);
    // All parts can be sent from the start. Only the memory for what arrives is limited.
    turn_.send(peer, bytes_at(theirs), theirs.bytes);
  });
  step_by_step([this, output, own = bytes_at(of_rank(inputs, rank_))] { fold_pieces(output, own); });
}

void DirectCollective::Impl::fold_pieces(const c10d_buffer& output, const uint8_t* own) {
  const size_t piece = std::min(kPieceBytes / element_ * element_, output.bytes);
  const size_t rounds = piece == 0 ? 0 : (output.bytes + piece - 1) / piece;
  take_scratch(piece, kDepth);
  const auto length = [&](size_t round) { return std::min(piece, output.bytes - round * piece); };
  const auto expect = [&](size_t round) {
    each_peer([&](int peer) { turn_.receive(peer, scratch_of(peer, round % kDepth), length(round)); });
  };
  for (size_t round = 0; round < std::min(kDepth, rounds); round++) expect(round);
  for (size_t round = 0; round < rounds; round++) {
    // One header, and one span per round.
    turn_.await([&] {
      for (int peer = 0; peer < size_; peer++) {
        if (peer != rank_ && turn_.received(peer) < round + 2) return false;
      }
      return true;
    });
    fold(bytes_at(output) + round * piece, own + round * piece, length(round), round % kDepth);
    if (round + kDepth < rounds) expect(round + kDepth);
  }
  turn_.finish();
}

}  // namespace c10d
