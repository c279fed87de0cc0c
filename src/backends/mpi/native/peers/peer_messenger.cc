#include "peers/peer_messenger.h"

#include <algorithm>
#include <thread>

#include "ops/op.h"
#include "process/runtime.h"

namespace c10d::mpi_shim {

namespace {

using std::chrono::milliseconds;

/// The messages are small enough for MPI to copy them at once. If it is out of buffers, this much time is spent on
/// driving it until they are sent, since the caller may not call MPI again for a while.
constexpr milliseconds kSendLimit{50};
constexpr milliseconds kShortestPause{0};
constexpr milliseconds kLongestPause{2};

}  // namespace

void PeerMessenger::open(int world_size, int tag) {
  sent_counts_.assign(static_cast<size_t>(world_size), 0);
  tag_ = tag;
}

void PeerMessenger::join(const std::shared_ptr<Membership>& member, uint64_t group) {
  const std::lock_guard<std::mutex> calls(calls_);
  if (receive_request_ == MPI_REQUEST_NULL && !ended_) post_receive();
  const std::lock_guard<std::mutex> lock(mutex_);
  member->group_ = group;
  members_[group] = member;
}

void PeerMessenger::notify_failure(Membership& member, const Failure& cause) {
  const std::lock_guard<std::mutex> calls(calls_);
  send(member, PeerMessage::failed, &cause);
}

void PeerMessenger::leave(const std::shared_ptr<Membership>& member, MPI_Comm communicator) {
  const std::lock_guard<std::mutex> calls(calls_);
  send(*member, PeerMessage::closed);
  receive();
  const uint64_t group = member->group_;
  left_[group] = {communicator, member, member->ranks_.size() - 1};
  size_t seen = 0;
  for (const PeerMessage& message : member->received_since(seen)) free_left(group, message);
}

void PeerMessenger::poll() {
  const std::unique_lock<std::mutex> calls(calls_, std::try_to_lock);
  if (calls.owns_lock()) receive();
}

void PeerMessenger::forget(const Membership& member) {
  const std::lock_guard<std::mutex> lock(mutex_);
  members_.erase(member.group_);
}

void PeerMessenger::end(bool all_receive) {
  const std::lock_guard<std::mutex> calls(calls_);
  std::unordered_map<uint64_t, std::shared_ptr<Membership>> members;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    members.swap(members_);
  }
  for (const auto& [group, member] : members) send(*member, PeerMessage::ended);
  ended_ = true;
  if (all_receive) receive_all();
  // MPI may still read what has not been sent by now.
  for (auto& sent : sent_) {
    MPI_Request_free(&sent.request);
    [[maybe_unused]] const auto* kept = sent.message.release();
  }
  sent_.clear();
  if (receive_request_ == MPI_REQUEST_NULL) return;
  MPI_Cancel(&receive_request_);
  MPI_Wait(&receive_request_, MPI_STATUS_IGNORE);
}

/// Some libraries warn at their end about messages that were never received.
void PeerMessenger::receive_all() {
  int expected = 0;
  MPI_Request counting = MPI_REQUEST_NULL;
  if (MPI_Ireduce_scatter_block(sent_counts_.data(), &expected, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &counting) !=
      MPI_SUCCESS) {
    return;
  }
  if (receive_request_ == MPI_REQUEST_NULL) post_receive();
  auto pause = kShortestPause;
  for (;;) {
    int over = 0;
    if (MPI_Test(&counting, &over, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
    receive();
    if (over != 0 && received_count_ >= expected && sent_.empty()) return;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause + milliseconds(1), kLongestPause);
  }
}

void PeerMessenger::send(Membership& member, PeerMessage::Kind kind, const Failure* cause) {
  if (ended_ || std::exchange(member.notified_, true)) return;
  for (size_t rank = 0; rank < member.ranks_.size(); rank++) {
    if (static_cast<int>(rank) == member.rank_) continue;
    const int to = member.ranks_[rank];
    auto message = std::make_unique<PeerMessage>();
    message->group = member.group_;
    message->kind = kind;
    message->rank = member.rank_;
    message->collectives = cause == nullptr ? member.collectives.load() : cause->collective();
    message->messages = member.sent_to_[rank];
    message->cause = cause == nullptr ? -1 : cause->peer();
    message->status = cause == nullptr ? int32_t{C10D_OK} : cause->status();
    if (cause != nullptr) cause->text().copy(message->text, sizeof message->text - 1);
    MPI_Request request = MPI_REQUEST_NULL;
    const int size = static_cast<int>(sizeof(PeerMessage));
    if (MPI_Isend(message.get(), size, MPI_BYTE, to, tag_, MPI_COMM_WORLD, &request) != MPI_SUCCESS) continue;
    sent_counts_[static_cast<size_t>(to)]++;
    sent_.push_back({std::move(message), request});
  }
  send_rest(kSendLimit);
}

void PeerMessenger::send_rest(milliseconds limit) {
  const auto until = Clock::now() + limit;
  while (!sent_all() && Clock::now() < until) std::this_thread::yield();
}

bool PeerMessenger::sent_all() {
  const auto has_ended = [](Sent& sent) {
    int done = 0;
    return MPI_Test(&sent.request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done != 0;
  };
  sent_.erase(std::remove_if(sent_.begin(), sent_.end(), has_ended), sent_.end());
  return sent_.empty();
}

void PeerMessenger::post_receive() {
  MPI_Irecv(&received_, static_cast<int>(sizeof(PeerMessage)), MPI_BYTE, MPI_ANY_SOURCE, tag_, MPI_COMM_WORLD,
            &receive_request_);
}

void PeerMessenger::receive() {
  while (receive_request_ != MPI_REQUEST_NULL) {
    int over = 0;
    if (MPI_Test(&receive_request_, &over, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
    if (over == 0) break;
    const PeerMessage message = received_;
    received_count_++;
    post_receive();
    deliver(message);
  }
  if (!sent_.empty()) sent_all();
}

void PeerMessenger::deliver(const PeerMessage& message) {
  free_left(message.group, message);
  std::shared_ptr<Membership> member;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = members_.find(message.group);
    // The group was closed here before.
    if (found == members_.end()) return;
    member = found->second;
  }
  const std::lock_guard<std::mutex> lock(member->mutex_);
  member->received_.push_back(message);
  member->received_count_.store(member->received_.size(), std::memory_order_release);
}

void PeerMessenger::free_left(uint64_t group, const PeerMessage& message) {
  const auto found = left_.find(group);
  if (found == left_.end()) return;
  Left& left = found->second;
  const Membership& member = *left.member;
  // If that rank failed, called more collectives, or sent a message that was not received, something is left in the
  // communicator: then it is not freed, or MPI might deliver that to a later one.
  const bool is_empty = message.kind == PeerMessage::closed && message.collectives == member.collectives &&
                        message.messages == member.received_from_[static_cast<size_t>(message.rank)];
  if (is_empty) {
    if (--left.awaited > 0) return;
    MPI_Comm_free(&left.communicator);
  }
  left_.erase(found);
}

}  // namespace c10d::mpi_shim
