#include "exchange.h"

#include <algorithm>
#include <cstring>

namespace nccl_emulator {

const Outgoing& Exchange::send(int peer, Channel channel, const MessageHead& head, const char* data) {
  outgoing_.push_back({head, data});
  to_send_[{peer, channel}].push_back(&outgoing_.back());
  return outgoing_.back();
}

const Incoming& Exchange::receive(int peer, Channel channel, const MessageHead& expected) {
  incoming_.emplace_back();
  incoming_.back().expected = expected;
  to_receive_[{peer, channel}].push_back(&incoming_.back());
  return incoming_.back();
}

bool Exchange::progress() {
  bool any = false;
  for (auto& [line, messages] : to_send_) {
    auto& ring = segment_.ring(rank_, line.first, line.second);
    while (!messages.empty()) {
      any |= push(line.first, ring, *messages.front());
      if (!messages.front()->complete()) break;
      sent_[line].push_back(messages.front());
      messages.pop_front();
    }
  }
  for (auto& [line, messages] : sent_) {
    auto read = segment_.ring(rank_, line.first, line.second).read.load();
    while (!messages.empty() && read >= messages.front()->end) {
      messages.front()->taken = true;
      messages.pop_front();
      any = true;
    }
  }
  for (auto& [line, messages] : to_receive_) {
    auto& ring = segment_.ring(line.first, rank_, line.second);
    while (!messages.empty()) {
      any |= pull(line.first, ring, *messages.front());
      if (!messages.front()->complete()) break;
      messages.pop_front();
    }
  }
  return any;
}

bool Exchange::push(int peer, Ring& ring, Outgoing& message) {
  auto written = ring.written.load();
  auto room = segment_.ring_bytes() - static_cast<size_t>(written - ring.read.load());
  auto start = written;
  // The head goes in one piece, so that the receiver sees all of it or nothing.
  if (message.sent == 0) {
    if (room < sizeof message.head) return false;
    copy_in(ring, written, reinterpret_cast<const char*>(&message.head), sizeof message.head);
    written += sizeof message.head;
    room -= sizeof message.head;
    message.sent = sizeof message.head;
  }
  auto part = std::min(room, message.size() - message.sent);
  copy_in(ring, written, message.data + (message.sent - sizeof message.head), part);
  written += part;
  message.sent += part;
  if (message.complete()) message.end = written;
  if (written == start) return false;
  ring.written.store(written);
  segment_.wake(peer);
  return true;
}

bool Exchange::pull(int peer, Ring& ring, Incoming& message) {
  auto read = ring.read.load();
  auto there = static_cast<size_t>(ring.written.load() - read);
  auto start = read;
  if (!message.started) {
    MessageHead head;
    if (there < sizeof head) return false;
    copy_out(ring, read, reinterpret_cast<char*>(&head), sizeof head);
    if (!head.agrees(message.expected)) {
      if (mismatch_.empty())
        mismatch_ = "rank " + std::to_string(rank_) + " waits for " + message.expected.text() + ", rank " +
                    std::to_string(peer) + " sends " + head.text();
      return false;
    }
    message.started = true;
    message.factor = head.factor;
    message.data.resize(head.bytes);
    read += sizeof head;
    there -= sizeof head;
  }
  auto part = std::min(there, message.data.size() - message.received);
  copy_out(ring, read, message.data.data() + message.received, part);
  read += part;
  message.received += part;
  if (read == start) return false;
  ring.read.store(read);
  segment_.wake(peer);
  return true;
}

void Exchange::copy_in(Ring& ring, uint64_t position, const char* from, size_t bytes) {
  auto offset = static_cast<size_t>(position % segment_.ring_bytes());
  auto first = std::min(bytes, segment_.ring_bytes() - offset);
  auto* data = segment_.ring_data(ring);
  if (first > 0) memcpy(data + offset, from, first);
  if (bytes > first) memcpy(data, from + first, bytes - first);
}

void Exchange::copy_out(Ring& ring, uint64_t position, char* to, size_t bytes) {
  auto offset = static_cast<size_t>(position % segment_.ring_bytes());
  auto first = std::min(bytes, segment_.ring_bytes() - offset);
  auto* data = segment_.ring_data(ring);
  if (first > 0) memcpy(to, data + offset, first);
  if (bytes > first) memcpy(to + first, data, bytes - first);
}

}  // namespace nccl_emulator
