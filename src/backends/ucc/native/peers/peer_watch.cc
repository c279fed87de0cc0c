#include "peers/peer_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "engine/signature.h"
#include "peers/remote_sockets.h"

namespace c10d::ucc_shim {

namespace {

using std::chrono::milliseconds;

/// How long after the end of a rank's process what it had sent before may still be on its way.
constexpr milliseconds kGoneGrace{200};
/// The same for a rank of another host that has left in good order.
constexpr milliseconds kFarGrace{500};
/// How long a rank waits in a collective before it notifies other hosts, in a group of few ranks; and for each rank more.
constexpr milliseconds kAnnouncedAfter{20};
constexpr std::chrono::microseconds kAnnouncedLaterPerRank{200};
/// How long after the failure of a rank that has had the group the others may still come to have it.
constexpr milliseconds kMadeGrace{1'000};
/// How often a rank that waits for others of its host to connect looks whether they are still there.
constexpr milliseconds kListenerInterval{100};
constexpr int kPollMs = 10;
/// In place of a rank: the timer.
constexpr uint64_t kTimer = UINT64_MAX;

/// What a rank says of itself while it connects.
struct Hello {
  char host[64];
  char socket[24];
  uint64_t token;
  /// Where the token lies.
  uint64_t address;
  int32_t process;
  int32_t world_size;
};

Failure broken(const char* what) { return Failure::of_system(what, errno); }

std::string rank_text(int rank) { return "rank " + std::to_string(rank); }

Failure has_gone(int rank) {
  return Failure(C10D_ERR_NETWORK, rank_text(rank) + " has gone: its process has ended", rank);
}

Failure has_left(int rank) { return Failure(C10D_ERR_NETWORK, rank_text(rank) + " has left the group", rank); }

}  // namespace

void PeerWatch::watch(int fd, uint64_t who) const {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = who;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) throw broken("epoll_ctl");
}

void PeerWatch::connect(Rendezvous& rendezvous, Exchange& exchange, const Cancellation& cancellation,
                        const std::function<void()>& stop) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    peers_.resize(static_cast<size_t>(config_.world_size));
  }
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (epoll_.get() < 0) throw broken("epoll_create1");
  timer_ = Fd(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (timer_.get() < 0) throw broken("timerfd_create");
  watch(timer_.get(), kTimer);
  napping_ = true;
  nap(std::chrono::microseconds::zero());
  connect_here(rendezvous, stop);
  if (here_.size() < peers_.size()) {
    const auto connected = [this](int rank, Fd socket) { adopt(rank, std::move(socket)); };
    connect_hosts(config_, here_, rendezvous, exchange, cancellation, far_listener_, connected, stop);
  }
}

void PeerWatch::adopt(int rank, Fd socket) {
  watch(socket.get(), static_cast<uint64_t>(rank));
  const std::lock_guard<std::mutex> lock(mutex_);
  if (last_words_) {
    send_note(socket.get(), *last_words_);
    ::shutdown(socket.get(), SHUT_WR);
  }
  peer(rank).socket = std::move(socket);
}

void PeerWatch::set_made() {
  listener_.reset();
  far_listener_.reset();
  const std::lock_guard<std::mutex> lock(mutex_);
  passed_on_.reset();
  made_ = true;
}

void PeerWatch::connect_here(Rendezvous& rendezvous, const std::function<void()>& stop) {
  Hello own{};
  own.token = token_ = random_number();
  own.address = reinterpret_cast<uint64_t>(&token_);
  own.process = ::getpid();
  own.world_size = config_.world_size;
  std::string host = host_identity();
  // For tests, which make one machine look like several.
  if (const auto part = config_.options.get("machine"); !part.empty()) host += "/" + part;
  host.copy(own.host, sizeof own.host - 1);
  listener_ = std::make_unique<LocalListener>(config_.world_size);
  listener_->name().copy(own.socket, sizeof own.socket - 1);

  const auto hellos = rendezvous.all_gather(&own, sizeof own);
  // Those that dial this rank, and where they listen themselves.
  std::map<int, std::string> expected;
  for (int rank = 0; rank < config_.world_size; rank++) {
    const auto& value = hellos[static_cast<size_t>(rank)];
    Hello hello{};
    if (value.size() != sizeof hello) {
      throw Failure(C10D_ERR_INVALID, rank_text(rank) + " runs another version of bun-c10d", rank);
    }
    std::memcpy(&hello, value.data(), sizeof hello);
    if (hello.world_size != config_.world_size) {
      throw Failure(C10D_ERR_INVALID,
                    rank_text(rank) + " makes this group of " + std::to_string(hello.world_size) + " ranks, " +
                        rank_text(config_.rank) + " of " + std::to_string(config_.world_size) +
                        ". All ranks of the job, members or not, must make the same groups in the same order",
                    rank);
    }
    const bool here = !host.empty() && std::strncmp(hello.host, own.host, sizeof own.host) == 0;
    if (here || rank == config_.rank) here_.push_back(rank);
    if (!here || rank == config_.rank) continue;
    Peer& other = peer(rank);
    other.address = hello.address;
    other.token = hello.token;
    other.process = hello.process;
    // Of another PID namespace, or not for this one to read: then UCX does not read there either.
    if (!memory_is_there(rank)) other.process = 0;
    hello.socket[sizeof hello.socket - 1] = '\0';
    if (rank < config_.rank) {
      adopt(rank, dial_local(hello.socket, config_.rank, rank, hello.token, stop));
    } else {
      expected.emplace(rank, hello.socket);
    }
  }
  accept_here(expected, stop);
}

void PeerWatch::accept_here(std::map<int, std::string> expected, const std::function<void()>& stop) {
  std::vector<int> ranks;
  for (const auto& [rank, name] : expected) ranks.push_back(rank);
  const auto connected = [&](int rank, Fd socket) {
    expected.erase(rank);
    adopt(rank, std::move(socket));
  };
  auto next_look = Clock::now() + kListenerInterval;
  std::map<int, int> refusals;
  const auto look = [&] {
    stop();
    if (Clock::now() < next_look) return;
    next_look = Clock::now() + kListenerInterval;
    for (const auto& [rank, name] : expected) {
      // Its connection, with its last words perhaps, may have come just before.
      if (!is_listening(name) && ++refusals[rank] > 1) throw has_gone(rank);
    }
  };
  listener_->accept(std::move(ranks), token_, connected, look);
}

/// The first rank makes it and hands it to the others.
int PeerWatch::share_memory(size_t bytes, const std::function<void()>& stop) {
  const int first = here_.front();
  if (first != config_.rank) {
    for (; !memory_came_; stop(), read()) {
      pollfd source{peer(first).socket.get(), POLLIN, 0};
      ::poll(&source, 1, kPollMs);
    }
    // It has said something else, which says why.
    if (memory_.get() < 0) require_all();
    if (memory_.get() < 0) throw Failure(C10D_ERR_NETWORK, rank_text(first) + " has left the group", first);
    return memory_.release();
  }
  Fd memory(::memfd_create("c10d-ucc", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (memory.get() < 0) throw broken("memfd_create");
  // Nobody can take it away from under the others later.
  if (::ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0 ||
      ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
    throw broken("shared memory");
  }
  for (const int rank : here_) {
    if (rank != config_.rank) send_descriptor(peer(rank).socket.get(), memory.get());
  }
  return memory.release();
}

void PeerWatch::require_all() {
  read();
  const int ranks = static_cast<int>(peers_.size());
  for (int rank = 0; rank < ranks; rank++) {
    const auto& farewell = peer(rank).farewell;
    if (!farewell || farewell->kind != Note::failed) continue;
    // Where a rank has had the group before it failed, this one has all that it needs to have it too.
    if (farewell->had_group != 0 && Clock::now() - peer(rank).left_at < kMadeGrace) continue;
    const Failure failure = given_up_by(rank, *farewell);
    const std::lock_guard<std::mutex> lock(mutex_);
    passed_on_ = *farewell;
    passed_on_->cause = failure.peer();
    throw Failure(failure);
  }
  // Who has left in good order has had the group, and does not keep the others from it.
  for (int rank = 0; rank < ranks; rank++) {
    if (peer(rank).gone && !peer(rank).farewell) throw has_gone(rank);
  }
}

Failure PeerWatch::given_up_by(int rank, const Note& note) const {
  if (note.status == C10D_ERR_DESYNC) return failed_on(rank, note);
  const bool late = note.status == C10D_ERR_OP_TIMEOUT;
  // It has only waited for others, or noticed that they have gone: it is not to blame itself.
  const bool waited = late || note.status == C10D_ERR_NETWORK;
  const int culprit = note.cause == config_.rank ? -1 : note.cause < 0 && !waited ? rank : note.cause;
  return Failure(late ? C10D_ERR_OP_TIMEOUT : C10D_ERR_NETWORK,
                 rank_text(rank) + " has given up making the group: " + note.words(), culprit);
}

bool PeerWatch::is_here(int rank) const { return std::binary_search(here_.begin(), here_.end(), rank); }

bool PeerWatch::memory_is_there(int rank) const {
  const Peer& other = peer(rank);
  if (other.process == 0) return true;
  uint64_t token = 0;
  const iovec to{&token, sizeof token};
  const iovec from{reinterpret_cast<void*>(other.address), sizeof token};
  return ::process_vm_readv(other.process, &to, 1, &from, 1, 0) == sizeof token && token == other.token;
}

bool PeerWatch::has_taken_leave(int rank) {
  read();
  return peer(rank).farewell.has_value();
}

void PeerWatch::nap(std::chrono::microseconds length) {
  if (!napping_ && length.count() == 0) return;
  napping_ = length.count() > 0;
  itimerspec until{};
  until.it_value.tv_nsec = napping_ ? static_cast<long>(length.count()) * 1000 : 1;
  ::timerfd_settime(timer_.get(), 0, &until, nullptr);
}

void PeerWatch::wake(int rank) const {
  Note note;
  note.kind = Note::wake;
  send_note(peer(rank).socket.get(), note);
}

bool PeerWatch::read() {
  epoll_event events[16];
  const int count = ::epoll_wait(epoll_.get(), events, 16, 0);
  for (int i = 0; i < count; i++) {
    if (events[i].data.u64 != kTimer) read(static_cast<int>(events[i].data.u64));
  }
  return count > 0;
}

void PeerWatch::read(int rank) {
  Peer& other = peer(rank);
  if (!memory_came_ && rank == here_.front()) {
    auto memory = take_descriptor(other.socket.get());
    if (!memory) return;
    memory_came_ = true;
    memory_ = std::move(*memory);
  }
  for (;;) {
    switch (other.reader.read(other.socket.get())) {
      case NoteReader::Result::nothing_yet:
        return;
      case NoteReader::Result::ended:
        other.gone = Clock::now();
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, other.socket.get(), nullptr);
        return;
      case NoteReader::Result::note:
        break;
    }
    const Note& note = other.reader.note();
    if (note.kind == Note::arrived) {
      arrived_[static_cast<size_t>(rank)] = note.collectives;
    } else if (note.kind != Note::wake && !other.farewell) {
      other.farewell = note;
      other.left_at = Clock::now();
    }
  }
}

std::optional<Failure> PeerWatch::look(const Awaited& awaited, Clock::time_point now) {
  read();
  for (int rank = 0; rank < config_.world_size; rank++) {
    const Peer& other = peer(rank);
    const auto& farewell = other.farewell;
    if (!farewell && !other.gone) continue;
    if (farewell && farewell->kind == Note::failed) return failed_on(rank, *farewell);
    const auto gone_for = [&](milliseconds grace) { return other.gone && now - *other.gone >= grace; };
    if (!farewell) {
      if (gone_for(kGoneGrace)) return has_gone(rank);
      continue;
    }
    const bool message = std::find(awaited.peers.begin(), awaited.peers.end(), rank) != awaited.peers.end();
    const bool over = awaited.collective > farewell->collectives;
    if (over || (message && gone_for(is_here(rank) ? kGoneGrace : kFarGrace))) return has_left(rank);
  }
  announce(awaited, now);
  return std::nullopt;
}

/// Nobody passes a collective between hosts before all have come to it: so who waits there has come, and who has come waits.
void PeerWatch::announce(const Awaited& awaited, Clock::time_point now) {
  if (here_.size() == peers_.size()) return;
  if (awaited.oldest != oldest_) {
    oldest_ = awaited.oldest;
    oldest_since_ = now;
  }
  if (oldest_ == 0) return;
  const auto patience = kAnnouncedAfter + kAnnouncedLaterPerRank * config_.world_size;
  if (now - oldest_since_ < patience) return;
  // The others may have come to it as late as this one, and have let as much time pass.
  if (now - oldest_since_ >= 2 * patience) known_ = oldest_;
  if (awaited.collective <= announced_) return;
  announced_ = awaited.collective;
  Note note;
  note.kind = Note::arrived;
  note.collectives = announced_;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (last_words_) return;
  for (int rank = 0; rank < config_.world_size; rank++) {
    if (!is_here(rank)) send_note(peer(rank).socket.get(), note);
  }
}

int PeerWatch::latecomer(uint64_t collective) const {
  if (known_ < collective) return -1;
  for (int rank = 0; rank < config_.world_size; rank++) {
    if (!is_here(rank) && arrived_[static_cast<size_t>(rank)] < collective) return rank;
  }
  return -1;
}

std::optional<Failure> PeerWatch::find_lost() {
  read();
  for (int rank = 0; rank < config_.world_size; rank++) {
    const auto& farewell = peer(rank).farewell;
    if (farewell && farewell->kind == Note::failed) return failed_on(rank, *farewell);
    if (farewell) return has_left(rank);
    if (peer(rank).gone) return has_gone(rank);
  }
  return std::nullopt;
}

/// A time-out there is one here too: nobody knows better who is late.
Failure PeerWatch::failed_on(int rank, const Note& note) const {
  // What a rank has found out about the calls of two is true for both.
  if (note.status == C10D_ERR_DESYNC) {
    const bool of_this_rank = note.cause == config_.rank;
    return desync(C10D_MISMATCH_REPORTED, of_this_rank ? note.cause : rank, of_this_rank ? rank : note.cause,
                  note.words())
        .of_collective(note.collectives);
  }
  const bool late = note.status == C10D_ERR_OP_TIMEOUT;
  std::string text = late ? "an op timed out on " : "the group has failed on ";
  text += rank_text(rank);
  const bool other = note.cause >= 0 && note.cause != rank;
  if (other) text += " because of rank " + std::to_string(note.cause);
  if (note.status == C10D_ERR_BACKEND) text += ": " + note.words();
  const int culprit = note.cause == config_.rank || (note.cause < 0 && !late) ? rank : note.cause;
  return Failure(late ? C10D_ERR_OP_TIMEOUT : C10D_ERR_NETWORK, text, culprit);
}

void PeerWatch::leave(uint64_t collectives) noexcept {
  Note note;
  note.kind = Note::left;
  note.collectives = collectives;
  tell_all(note);
}

void PeerWatch::fail(const Failure& cause) noexcept {
  Note note;
  note.kind = Note::failed;
  note.cause = cause.peer();
  note.status = cause.status();
  note.collectives = cause.collective();
  note.set_words(cause.text());
  {
    // The others shall hear what the first one has said, not what somebody has said of somebody else.
    const std::lock_guard<std::mutex> lock(mutex_);
    if (passed_on_) note = *passed_on_;
    note.had_group = made_ ? 1 : 0;
  }
  tell_all(note);
}

/// The last thing that this rank says.
void PeerWatch::tell_all(const Note& note) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (last_words_) return;
  last_words_ = note;
  for (const auto& other : peers_) {
    if (other.socket.get() < 0) continue;
    send_note(other.socket.get(), note);
    ::shutdown(other.socket.get(), SHUT_WR);
  }
}

}  // namespace c10d::ucc_shim
