// The messages of one launch between the ranks, all of which progress together.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "op.h"
#include "segment.h"

namespace nccl_emulator {

struct Outgoing {
  MessageHead head;
  const char* data;
  size_t sent = 0;     ///< Of head and data.
  uint64_t end = 0;    ///< Where it ends in the ring, once all is sent.
  bool taken = false;  ///< The receiver has read all of it.

  size_t size() const { return sizeof head + head.bytes; }
  bool complete() const { return sent == size(); }
};

struct Incoming {
  MessageHead expected;
  Element factor{};
  bool started = false;
  std::vector<char> data;
  size_t received = 0;

  bool complete() const { return started && received == data.size(); }
};

class Exchange {
 public:
  Exchange(Segment& segment, int rank) : segment_(segment), rank_(rank) {}

  const Outgoing& send(int peer, Channel channel, const MessageHead& head, const char* data);
  const Incoming& receive(int peer, Channel channel, const MessageHead& expected);
  /// Moves what can be moved without waiting. Returns whether there was anything.
  bool progress();
  /// What two ranks called differently, if that was seen. Such a receive never completes.
  const std::string& mismatch() const { return mismatch_; }

 private:
  using Line = std::pair<int, Channel>;
  bool push(int peer, Ring& ring, Outgoing& message);
  bool pull(int peer, Ring& ring, Incoming& message);
  void copy_in(Ring& ring, uint64_t position, const char* from, size_t bytes);
  void copy_out(Ring& ring, uint64_t position, char* to, size_t bytes);

  Segment& segment_;
  int rank_;
  std::deque<Outgoing> outgoing_;
  std::deque<Incoming> incoming_;
  std::map<Line, std::deque<Outgoing*>> to_send_, sent_;
  std::map<Line, std::deque<Incoming*>> to_receive_;
  std::string mismatch_;
};

}  // namespace nccl_emulator
