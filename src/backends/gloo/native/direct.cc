#include "direct.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "reduction/reduction.h"

namespace c10d::gloo_shim {

namespace {

/// Up to here every rank sends all it has to all others and folds by itself: one step, but more bytes.
constexpr size_t kMaxOneStepBytes = 32 * 1024;
/// What is reduced or passed on at once, per rank: small enough for the caches, large enough to be worth a call.
constexpr size_t kPieceBytes = 64 * 1024;
/// Pieces that are on their way while one is being folded.
constexpr size_t kDepth = 2;

uint8_t* bytes_at(const c10d_buffer& buffer) { return reinterpret_cast<uint8_t*>(buffer.address); }

void copy(uint8_t* to, const uint8_t* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
}

/// Variants of an op that differ only in how the buffers lie may meet.
uint32_t kind_of(uint32_t opcode) {
  switch (opcode) {
    case C10D_OP_ALLREDUCE_COALESCED:
      return C10D_OP_ALLREDUCE;
    case C10D_OP_ALLGATHER_BASE:
      return C10D_OP_ALLGATHER;
    case C10D_OP_REDUCE_SCATTER_BASE:
      return C10D_OP_REDUCE_SCATTER;
    case C10D_OP_ALLTOALL_BASE:
      return C10D_OP_ALLTOALL;
    default:
      return opcode;
  }
}

}  // namespace

class DirectCollective::Impl {
 public:
  Impl(const Op& op, uint32_t sequence, Lines& lines)
      : op_(op),
        rank_(lines.rank()),
        size_(lines.size()),
        ranks_(static_cast<size_t>(size_)),
        element_(std::max<size_t>(element_size(op.request.dtype), 1)),
        lines_(lines, sequence, kind_of(op.request.opcode)) {}

  /// Sends and receives what is possible without waiting. Returns whether that was all of the op.
  bool begin() {
    queue();
    lines_.start();
    if (!queued_all_ || !lines_.idle()) return false;
    rest_();
    return true;
  }

  /// Does what begin() has left.
  void finish() {
    if (queued_all_) lines_.finish();
    rest_();
  }

 private:
  void queue() {
    switch (op_.request.opcode) {
      case C10D_OP_ALLREDUCE:
        return all_reduce(op_.outputs[0]);
      case C10D_OP_ALLREDUCE_COALESCED:
        return all_reduce_list();
      case C10D_OP_REDUCE_SCATTER:
        return step_by_step([this] { reduce_scatter(op_.inputs); });
      case C10D_OP_REDUCE_SCATTER_BASE:
        return step_by_step([this] { reduce_scatter(parts(op_.inputs[0], op_.outputs[0].bytes)); });
      case C10D_OP_ALLGATHER:
        return all_gather(op_.outputs);
      case C10D_OP_ALLGATHER_BASE:
        return all_gather(parts(op_.outputs[0], op_.inputs[0].bytes));
      case C10D_OP_ALLTOALL:
        return all_to_all(op_.outputs, op_.inputs);
      case C10D_OP_ALLTOALL_BASE:
        return all_to_all(split(op_.outputs[0], op_.output_splits), split(op_.inputs[0], op_.input_splits));
      case C10D_OP_BROADCAST:
        return step_by_step([this] { broadcast(); });
      case C10D_OP_GATHER:
        return gather();
      case C10D_OP_SCATTER:
        return scatter();
      default:
        return barrier();
    }
  }

  /// Everything to send and to receive is queued; `rest` comes after that.
  template <class Rest>
  void queued_all(Rest rest) {
    queued_all_ = true;
    rest_ = rest;
  }
  /// What is sent depends on what comes.
  template <class Rest>
  void step_by_step(Rest rest) {
    rest_ = rest;
  }
  template <class Body>
  void each_peer(Body body) {
    // Not all begin with the same one.
    for (int i = 1; i < size_; i++) body((rank_ + i) % size_);
  }

  std::vector<c10d_buffer> parts(const c10d_buffer& whole, size_t bytes) const {
    std::vector<c10d_buffer> made;
    for (size_t i = 0; i < ranks_; i++) made.push_back({whole.address + i * bytes, bytes});
    return made;
  }

  std::vector<c10d_buffer> split(const c10d_buffer& whole, const std::vector<uint64_t>& splits) const {
    if (splits.empty()) return parts(whole, whole.bytes / ranks_);
    std::vector<c10d_buffer> made;
    uint64_t address = whole.address;
    for (const uint64_t elements : splits) {
      made.push_back({address, elements * element_});
      address += made.back().bytes;
    }
    return made;
  }

  const c10d_buffer& of_rank(const std::vector<c10d_buffer>& buffers, int rank) const {
    return buffers[static_cast<size_t>(rank)];
  }

  /// Memory for `bytes` of each peer, `depth` times.
  void take_scratch(size_t bytes, size_t depth) {
    stride_ = (bytes + 63) / 64 * 64;
    scratch_ = lines_.scratch(stride_ * ranks_ * depth);
  }
  uint8_t* scratch_of(int peer, size_t turn = 0) const {
    return scratch_ + (turn * ranks_ + static_cast<size_t>(peer)) * stride_;
  }

  /// Folds `own` and what has come from the peers, in the order of ranks, into `to`, which may be `own`.
  void fold(uint8_t* to, const uint8_t* own, size_t bytes, size_t turn = 0) {
    const auto reduce = find_reduction(op_.request.dtype, op_.request.reduce_op);
    const size_t count = bytes / element_;
    const auto operand = [&](int rank) { return rank == rank_ ? own : scratch_of(rank, turn); };
    // Results must not go where the own part still waits for its turn.
    uint8_t* const meanwhile = to == own && rank_ > 1 ? scratch_of(0, turn) : to;
    const uint8_t* left = operand(0);
    for (int rank = 1; rank < size_; rank++) {
      uint8_t* const into = rank < rank_ ? meanwhile : to;
      reduce(into, left, operand(rank), count);
      left = into;
    }
    if (op_.request.reduce_op == C10D_AVG) divide(to, count, op_.request.dtype, size_);
  }

  void all_reduce(const c10d_buffer& buffer) {
    each_peer([&](int peer) { lines_.greet(peer, buffer.bytes, buffer.bytes); });
    if (buffer.bytes <= kMaxOneStepBytes || (size_ == 2 && buffer.bytes <= 2 * kMaxOneStepBytes)) {
      all_reduce_at_once(bytes_at(buffer), buffer.bytes);
    } else {
      step_by_step([this, buffer] { all_reduce_by_pieces(bytes_at(buffer), buffer.bytes); });
    }
  }

  void all_reduce_at_once(uint8_t* data, size_t bytes) {
    take_scratch(bytes, 1);
    each_peer([&](int peer) {
      lines_.send(peer, data, bytes);
      lines_.receive(peer, scratch_of(peer), bytes);
    });
    queued_all([this, data, bytes] {
      if (bytes > 0) fold(data, data, bytes);
    });
  }

  /// A reduce-scatter and an all-gather of pieces, several of which are under way at the same time.
  void all_reduce_by_pieces(uint8_t* data, size_t bytes) {
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
        lines_.send(peer, bytes_at(theirs), theirs.bytes);
        lines_.receive(peer, scratch_of(peer, round % kDepth), at(round, rank_).bytes);
      });
    };
    std::vector<size_t> marks(kDepth * ranks_);
    const auto mark = [&](size_t round) {
      each_peer([&](int peer) { marks[round % kDepth * ranks_ + static_cast<size_t>(peer)] = lines_.queued(peer); });
    };
    for (size_t round = 0; round < std::min(kDepth, rounds); round++) {
      hand_out(round);
      mark(round);
    }
    for (size_t round = 0; round < rounds; round++) {
      lines_.await([&] {
        for (int peer = 0; peer < size_; peer++) {
          if (peer != rank_ && lines_.received(peer) < marks[round % kDepth * ranks_ + static_cast<size_t>(peer)]) {
            return false;
          }
        }
        return true;
      });
      const auto own = at(round, rank_);
      if (own.bytes > 0) fold(bytes_at(own), bytes_at(own), own.bytes, round % kDepth);
      each_peer([&](int peer) {
        const auto theirs = at(round, peer);
        lines_.send(peer, bytes_at(own), own.bytes);
        lines_.receive(peer, bytes_at(theirs), theirs.bytes);
      });
      if (round + kDepth < rounds) {
        hand_out(round + kDepth);
        mark(round + kDepth);
      }
    }
    lines_.finish();
  }

  /// One all-reduce of the concatenation.
  void all_reduce_list() {
    if (op_.outputs.size() == 1) return all_reduce(op_.outputs[0]);
    size_t bytes = 0;
    for (const auto& buffer : op_.outputs) bytes += buffer.bytes;
    flat_.reset(new uint8_t[std::max<size_t>(bytes, 1)]);
    uint8_t* at = flat_.get();
    for (const auto& buffer : op_.outputs) {
      copy(at, bytes_at(buffer), buffer.bytes);
      at += buffer.bytes;
    }
    all_reduce({reinterpret_cast<uint64_t>(flat_.get()), bytes});
    rest_ = [this, reduce = std::move(rest_)] {
      reduce();
      const uint8_t* from = flat_.get();
      for (const auto& buffer : op_.outputs) {
        copy(bytes_at(buffer), from, buffer.bytes);
        from += buffer.bytes;
      }
    };
  }

  void reduce_scatter(const std::vector<c10d_buffer>& inputs) {
    const c10d_buffer& output = op_.outputs[0];
    const uint8_t* const own = bytes_at(of_rank(inputs, rank_));
    const size_t piece = std::min(kPieceBytes / element_ * element_, output.bytes);
    const size_t rounds = piece == 0 ? 0 : (output.bytes + piece - 1) / piece;
    take_scratch(piece, kDepth);
    each_peer([&](int peer) {
      const auto& theirs = of_rank(inputs, peer);
      lines_.greet(peer, theirs.bytes, output.bytes);
      // They are all there from the start; only the room for what comes is limited.
      lines_.send(peer, bytes_at(theirs), theirs.bytes);
    });
    const auto length = [&](size_t round) { return std::min(piece, output.bytes - round * piece); };
    const auto expect = [&](size_t round) {
      each_peer([&](int peer) { lines_.receive(peer, scratch_of(peer, round % kDepth), length(round)); });
    };
    for (size_t round = 0; round < std::min(kDepth, rounds); round++) expect(round);
    for (size_t round = 0; round < rounds; round++) {
      // A head and one span per round.
      lines_.await([&] {
        for (int peer = 0; peer < size_; peer++) {
          if (peer != rank_ && lines_.received(peer) < round + 2) return false;
        }
        return true;
      });
      fold(bytes_at(output) + round * piece, own + round * piece, length(round), round % kDepth);
      if (round + kDepth < rounds) expect(round + kDepth);
    }
    lines_.finish();
  }

  void all_gather(const std::vector<c10d_buffer>& outputs) {
    const c10d_buffer& input = op_.inputs[0];
    each_peer([&](int peer) {
      const auto& theirs = of_rank(outputs, peer);
      lines_.greet(peer, input.bytes, theirs.bytes);
      lines_.send(peer, bytes_at(input), input.bytes);
      lines_.receive(peer, bytes_at(theirs), theirs.bytes);
    });
    const auto own = of_rank(outputs, rank_);
    queued_all([this, own] { copy(bytes_at(own), bytes_at(op_.inputs[0]), own.bytes); });
  }

  void all_to_all(const std::vector<c10d_buffer>& outputs, const std::vector<c10d_buffer>& inputs) {
    each_peer([&](int peer) {
      const auto& to = of_rank(inputs, peer);
      const auto& from = of_rank(outputs, peer);
      lines_.greet(peer, to.bytes, from.bytes);
      lines_.send(peer, bytes_at(to), to.bytes);
      lines_.receive(peer, bytes_at(from), from.bytes);
    });
    const auto from = of_rank(inputs, rank_);
    const auto to = of_rank(outputs, rank_);
    queued_all([from, to] { copy(bytes_at(to), bytes_at(from), from.bytes); });
  }

  /// A binomial tree, through which the pieces follow each other.
  void broadcast() {
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
    for (const int child : children) lines_.greet_receiver(child, buffer.bytes);
    if (place == 0) {
      for (const int child : children) lines_.send(child, bytes_at(buffer), buffer.bytes);
      return lines_.finish();
    }
    const int parent = at_place(place & (place - 1));
    lines_.greet_sender(parent, buffer.bytes);
    for (size_t begin = 0; begin < buffer.bytes; begin += kPieceBytes) {
      lines_.receive(parent, bytes_at(buffer) + begin, std::min(kPieceBytes, buffer.bytes - begin));
    }
    if (!children.empty()) {
      size_t span = 1;
      for (size_t begin = 0; begin < buffer.bytes; begin += kPieceBytes) {
        span++;
        lines_.await([&] { return lines_.received(parent) >= span; });
        const size_t length = std::min(kPieceBytes, buffer.bytes - begin);
        for (const int child : children) lines_.send(child, bytes_at(buffer) + begin, length);
      }
    }
    lines_.finish();
  }

  void gather() {
    const c10d_buffer& input = op_.inputs[0];
    const int root = op_.request.peer;
    if (rank_ != root) {
      lines_.greet_receiver(root, input.bytes);
      lines_.send(root, bytes_at(input), input.bytes);
      return queued_all([] {});
    }
    each_peer([&](int peer) {
      const auto& theirs = of_rank(op_.outputs, peer);
      lines_.greet_sender(peer, theirs.bytes);
      lines_.receive(peer, bytes_at(theirs), theirs.bytes);
    });
    queued_all([this, input] { copy(bytes_at(of_rank(op_.outputs, rank_)), bytes_at(input), input.bytes); });
  }

  void scatter() {
    const c10d_buffer& output = op_.outputs[0];
    const int root = op_.request.peer;
    if (rank_ != root) {
      lines_.greet_sender(root, output.bytes);
      lines_.receive(root, bytes_at(output), output.bytes);
      return queued_all([] {});
    }
    each_peer([&](int peer) {
      const auto& theirs = of_rank(op_.inputs, peer);
      lines_.greet_receiver(peer, theirs.bytes);
      lines_.send(peer, bytes_at(theirs), theirs.bytes);
    });
    queued_all([this, output] { copy(bytes_at(output), bytes_at(of_rank(op_.inputs, rank_)), output.bytes); });
  }

  void barrier() {
    each_peer([&](int peer) { lines_.greet(peer, 0, 0); });
    queued_all([] {});
  }

  const Op& op_;
  const int rank_;
  const int size_;
  const size_t ranks_;
  const size_t element_;
  Lines::Turn lines_;
  std::unique_ptr<uint8_t[]> flat_;
  uint8_t* scratch_ = nullptr;
  size_t stride_ = 0;
  bool queued_all_ = false;
  std::function<void()> rest_;
};

DirectCollective::DirectCollective(const Op& op, uint32_t sequence, Lines& lines)
    : impl_(std::make_unique<Impl>(op, sequence, lines)) {}
DirectCollective::~DirectCollective() = default;
bool DirectCollective::begin() { return impl_->begin(); }
void DirectCollective::finish() { impl_->finish(); }

bool is_direct(const Op& op) {
  switch (op.request.opcode) {
    case C10D_OP_BARRIER:
      return (op.request.flags & C10D_FLAG_MONITORED) == 0;
    case C10D_OP_BROADCAST:
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_ALLGATHER:
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_GATHER:
    case C10D_OP_SCATTER:
    case C10D_OP_REDUCE_SCATTER:
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_ALLTOALL:
    case C10D_OP_ALLTOALL_BASE:
      return true;
    default:
      return false;
  }
}

void run_direct(const Op& op, uint32_t sequence, Lines& lines) {
  lines.await_turn(sequence);
  DirectCollective collective(op, sequence, lines);
  if (!collective.begin()) collective.finish();
}

}  // namespace c10d::gloo_shim
