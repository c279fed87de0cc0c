#include "peers/peer_messenger.h"

#include <algorithm>
#include <thread>

#include "engine/op.h"
#include "process/runtime.h"

namespace c10d::mpi_shim {

namespace {

using std::chrono::milliseconds;

/// Notices are small enough for MPI to copy them at once. Where it is out of room, so much time is spent on making it
/// send them before the caller goes on, who may leave MPI alone then.
constexpr milliseconds kSendLimit{50};
constexpr milliseconds kShortestPause{0};
constexpr milliseconds kLongestPause{2};

}  // namespace

std::vector<Notice> Membership::news(size_t& seen) {
  if (heard_count_.load(std::memory_order_acquire) == seen) return {};
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Notice> fresh(heard_.begin() + static_cast<std::ptrdiff_t>(seen), heard_.end());
  seen = heard_.size();
  return fresh;
}

void NoticeBoard::open(int world_size, int tag) {
  sent_counts_.assign(static_cast<size_t>(world_size), 0);
  tag_ = tag;
}

void NoticeBoard::join(const std::shared_ptr<Membership>& member, uint64_t group) {
  const std::lock_guard<std::mutex> calls(calls_);
  if (receiving_ == MPI_REQUEST_NULL && !ended_) listen();
  const std::lock_guard<std::mutex> lock(mutex_);
  member->group_ = group;
  members_[group] = member;
}

void NoticeBoard::tell_failure(Membership& member, const Failure& cause) {
  const std::lock_guard<std::mutex> calls(calls_);
  send(member, Notice::failed, &cause);
}

void NoticeBoard::leave(const std::shared_ptr<Membership>& member, MPI_Comm communicator) {
  const std::lock_guard<std::mutex> calls(calls_);
  send(*member, Notice::closed);
  receive();
  const uint64_t group = member->group_;
  left_[group] = {communicator, member->collectives, member->ranks_.size() - 1};
  size_t seen = 0;
  for (const Notice& notice : member->news(seen)) free_left(group, notice);
}

void NoticeBoard::look() {
  const std::unique_lock<std::mutex> calls(calls_, std::try_to_lock);
  if (calls.owns_lock()) receive();
}

void NoticeBoard::forget(const Membership& member) {
  const std::lock_guard<std::mutex> lock(mutex_);
  members_.erase(member.group_);
}

void NoticeBoard::end(bool all_listen) {
  const std::lock_guard<std::mutex> calls(calls_);
  std::unordered_map<uint64_t, std::shared_ptr<Membership>> members;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    members.swap(members_);
  }
  for (const auto& [group, member] : members) send(*member, Notice::ended);
  ended_ = true;
  if (all_listen) receive_all();
  // What has not gone by now may still be read by MPI.
  for (auto& sent : sent_) {
    MPI_Request_free(&sent.request);
    [[maybe_unused]] const auto* kept = sent.notice.release();
  }
  sent_.clear();
  if (receiving_ == MPI_REQUEST_NULL) return;
  MPI_Cancel(&receiving_);
  MPI_Wait(&receiving_, MPI_STATUS_IGNORE);
}

/// Some libraries warn about messages that nobody has received when they end.
void NoticeBoard::receive_all() {
  int expected = 0;
  MPI_Request counting = MPI_REQUEST_NULL;
  if (MPI_Ireduce_scatter_block(sent_counts_.data(), &expected, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &counting) !=
      MPI_SUCCESS) {
    return;
  }
  if (receiving_ == MPI_REQUEST_NULL) listen();
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

void NoticeBoard::send(Membership& member, Notice::Kind kind, const Failure* cause) {
  if (ended_ || std::exchange(member.has_told_, true)) return;
  for (size_t rank = 0; rank < member.ranks_.size(); rank++) {
    if (static_cast<int>(rank) == member.rank_) continue;
    const int to = member.ranks_[rank];
    auto notice = std::make_unique<Notice>();
    notice->group = member.group_;
    notice->kind = kind;
    notice->rank = member.rank_;
    notice->collectives = cause == nullptr ? member.collectives.load() : cause->collective();
    notice->cause = cause == nullptr ? -1 : cause->peer();
    notice->status = cause == nullptr ? int32_t{C10D_OK} : cause->status();
    if (cause != nullptr) cause->text().copy(notice->text, sizeof notice->text - 1);
    MPI_Request request = MPI_REQUEST_NULL;
    const int size = static_cast<int>(sizeof(Notice));
    if (MPI_Isend(notice.get(), size, MPI_BYTE, to, tag_, MPI_COMM_WORLD, &request) != MPI_SUCCESS) continue;
    sent_counts_[static_cast<size_t>(to)]++;
    sent_.push_back({std::move(notice), request});
  }
  send_rest(kSendLimit);
}

void NoticeBoard::send_rest(milliseconds limit) {
  const auto until = Clock::now() + limit;
  while (!sent_all() && Clock::now() < until) std::this_thread::yield();
}

bool NoticeBoard::sent_all() {
  const auto over = [](Sent& sent) {
    int gone = 0;
    return MPI_Test(&sent.request, &gone, MPI_STATUS_IGNORE) != MPI_SUCCESS || gone != 0;
  };
  sent_.erase(std::remove_if(sent_.begin(), sent_.end(), over), sent_.end());
  return sent_.empty();
}

void NoticeBoard::listen() {
  MPI_Irecv(&received_, static_cast<int>(sizeof(Notice)), MPI_BYTE, MPI_ANY_SOURCE, tag_, MPI_COMM_WORLD, &receiving_);
}

void NoticeBoard::receive() {
  while (receiving_ != MPI_REQUEST_NULL) {
    int over = 0;
    if (MPI_Test(&receiving_, &over, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
    if (over == 0) break;
    const Notice notice = received_;
    received_count_++;
    listen();
    deliver(notice);
  }
  if (!sent_.empty()) sent_all();
}

void NoticeBoard::deliver(const Notice& notice) {
  free_left(notice.group, notice);
  std::shared_ptr<Membership> member;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = members_.find(notice.group);
    // Closed here before: nobody wants to know.
    if (found == members_.end()) return;
    member = found->second;
  }
  const std::lock_guard<std::mutex> lock(member->mutex_);
  member->heard_.push_back(notice);
  member->heard_count_.store(member->heard_.size(), std::memory_order_release);
}

void NoticeBoard::free_left(uint64_t group, const Notice& notice) {
  const auto found = left_.find(group);
  if (found == left_.end()) return;
  Left& left = found->second;
  // Of a rank that has failed, or gone further, something may be left in the communicator: then it stays.
  if (notice.kind == Notice::closed && notice.collectives == left.collectives) {
    if (--left.awaited > 0) return;
    MPI_Comm_free(&left.communicator);
  }
  left_.erase(found);
}

}  // namespace c10d::mpi_shim
