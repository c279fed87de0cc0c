// A group of MPI processes as a transport of the engine: non-blocking ops only, polled.
#include <mpi.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "call.h"
#include "collectives.h"
#include "engine/transport.h"
#include "messages.h"
#include "runtime.h"

namespace c10d {

namespace mpi_shim {
namespace {

/// Collectives under way at the same time.
constexpr unsigned kMaxConcurrency = 64;
/// Looks at every op before another thread of this core gets its turn.
constexpr int kRoundsPerProgress = 8;
/// What MPI cannot cancel does not end; waiting for it helps nobody.
constexpr std::chrono::milliseconds kAbortGrace{30};
/// Tags at the upper end that are the group's own: two of the monitored barrier, then that of notices.
constexpr int kOwnTags = 3;
constexpr int kNoticeTag = 2;
/// How many looks at the ops there are between two for a notice.
constexpr unsigned kLooksPerNotice = 16;

std::vector<int> parse_ranks(const std::string& text) {
  std::vector<int> ranks;
  size_t begin = 0;
  while (begin < text.size()) {
    const auto end = std::min(text.find(',', begin), text.size());
    ranks.push_back(std::atoi(text.substr(begin, end - begin).c_str()));
    begin = end + 1;
  }
  return ranks;
}

/// Tells the other ranks that one has given up the group.
struct Notice {
  int32_t rank;
  char text[252];
};

class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(const Config& config)
      : config_(config),
        runtime_(Runtime::get()),
        ranks_(parse_ranks(config.options.get("ranks"))),
        mixed_(config.options.get("mixed") == "1") {
    if (runtime_.state() != Runtime::State::up) throw Failure(C10D_ERR_INVALID, "MPI is not up in this process");
    if (ranks_.size() != static_cast<size_t>(config.world_size)) {
      throw Failure(C10D_ERR_INVALID, "option ranks must name every rank of the group");
    }
    comm_.rank = config.rank;
    comm_.size = config.world_size;
    comm_.first_own_tag = runtime_.max_tag() - kOwnTags + 1;
    const auto max_count = std::strtoull(config.options.get("max_count", "0").c_str(), nullptr, 10);
    if (max_count > 0) comm_.max_count = max_count;
    turn_ = runtime_.take_turn();
  }

  ~MpiTransport() override {
    runtime_.remove_idle(&hearing_);
    // It was given up before it came to connecting.
    if (!turn_over_) runtime_.end_turn(turn_);
  }

  void connect(Exchange& exchange) override {
    // This thread will sleep for microseconds between two looks; the kernel's default slack is fifty of them.
    ::prctl(PR_SET_TIMERSLACK, 1'000UL);
    const auto failure = attempt([&] {
      runtime_.await_turn(turn_, [this] { check_in_time(); });
      make_communicator(exchange);
    });
    turn_over_ = true;
    runtime_.end_turn(turn_);
    if (failure) throw Failure(*failure);
    if (!mixed_ && comm_.size > 1) runtime_.call([this] { listen_for_notices(); });
    const std::lock_guard<std::mutex> lock(mutex_);
    connected_ = true;
  }

  void check(const Op& op) const override {
    if (op.point_to_point()) {
      check_message(op, comm_.rank, comm_.size, comm_.first_own_tag);
    } else {
      check_collective(op, comm_.rank, comm_.size);
    }
  }

  void number(Op& op) noexcept override {
    if (monitored(op) && comm_.rank == 0) give_grace(op);
  }

  Start start(Op& op) override {
    auto call = fresh_call();
    call->op = &op;
    bool over = false;
    runtime_.call([&] {
      begin(*call);
      over = has_ended(*call);
    });
    const std::lock_guard<std::mutex> lock(mutex_);
    if (over) {
      recycle(std::move(call));
      return Start::done;
    }
    runtime_.unfinished++;
    calls_.push_back(std::move(call));
    return Start::pending;
  }

  void progress(std::vector<Op*>& ended) override {
    runtime_.call([&] { look(ended); });
  }

  unsigned max_concurrency() const override { return kMaxConcurrency; }

  std::chrono::milliseconds abort_grace() const override { return kAbortGrace; }

  void abort(const Failure& cause) noexcept override {
    bool tells = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (aborted_) return;
      aborted_ = std::make_unique<Failure>(cause);
      tells = connected_ && !mixed_ && !heard_;
    }
    if (tells) attempt([&] { runtime_.call([&] { send_notices(cause); }); });
  }

  void close() noexcept override {
    if (comm_.handle == MPI_COMM_NULL || comm_.handle == MPI_COMM_WORLD) return;
    attempt([&] {
      runtime_.call([&] {
        if (hearing_ != MPI_REQUEST_NULL) {
          MPI_Cancel(&hearing_);
          MPI_Wait(&hearing_, MPI_STATUS_IGNORE);
        }
        MPI_Comm_free(&comm_.handle);
      });
    });
  }

 private:
  static bool monitored(const Op& op) { return (op.request.flags & C10D_FLAG_MONITORED) != 0; }

  void check_in_time() {
    if (Clock::now() >= config_.connect_deadline) {
      throw Failure(C10D_ERR_OP_TIMEOUT, "timed out waiting for groups that are made before this one");
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_) throw *aborted_;
  }

  /// The members first tell each other, over the store, that they have come: MPI itself would wait without end.
  void make_communicator(Exchange& exchange) {
    if (mixed_ && comm_.size == runtime_.size()) {
      comm_.handle = MPI_COMM_WORLD;
      return;
    }
    if (!mixed_ && comm_.size > 1) meet(exchange);
    runtime_.call([&] {
      MPI_Group world = MPI_GROUP_NULL;
      MPI_Group members = MPI_GROUP_NULL;
      require_success(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
      const int included = MPI_Group_incl(world, comm_.size, ranks_.data(), &members);
      MPI_Group_free(&world);
      require_success(included, "MPI_Group_incl");
      const auto tag = std::hash<std::string>{}(config_.options.get("name")) % static_cast<size_t>(runtime_.max_tag());
      const int made = MPI_Comm_create_group(MPI_COMM_WORLD, members, static_cast<int>(tag), &comm_.handle);
      MPI_Group_free(&members);
      require_success(made, "MPI_Comm_create_group");
      MPI_Comm_set_errhandler(comm_.handle, MPI_ERRORS_RETURN);
    });
  }

  void meet(Exchange& exchange) {
    const std::string ready = "mpi/ready/";
    if (comm_.rank != 0) {
      exchange.set(ready + std::to_string(comm_.rank), "1", 1);
      await_key(exchange, exchange.request("mpi/go"), 0);
      return;
    }
    std::vector<uint64_t> requests;
    for (int rank = 1; rank < comm_.size; rank++) requests.push_back(exchange.request(ready + std::to_string(rank)));
    for (int rank = 1; rank < comm_.size; rank++) await_key(exchange, requests[static_cast<size_t>(rank) - 1], rank);
    exchange.set("mpi/go", "1", 1);
  }

  void await_key(Exchange& exchange, uint64_t request, int from) {
    try {
      exchange.await(request, config_.connect_deadline);
    } catch (const Failure& failure) {
      if (failure.status() != C10D_ERR_OP_TIMEOUT) throw;
      throw Failure(C10D_ERR_OP_TIMEOUT, "rank " + std::to_string(from) + " has not come to make the group", from);
    }
  }

  int notice_tag() const { return comm_.first_own_tag + kNoticeTag; }

  void listen_for_notices() {
    require_success(MPI_Irecv(&heard_notice_, static_cast<int>(sizeof(Notice)), MPI_BYTE, MPI_ANY_SOURCE, notice_tag(),
                              comm_.handle, &hearing_),
                    "MPI_Irecv");
    runtime_.add_idle(&hearing_);
  }

  void send_notices(const Failure& cause) {
    // Nobody waits for these to be sent, so their memory stays.
    auto* notice = new Notice{};
    notice->rank = comm_.rank;
    cause.text().copy(notice->text, sizeof notice->text - 1);
    for (int rank = 0; rank < comm_.size; rank++) {
      if (rank == comm_.rank) continue;
      MPI_Request request = MPI_REQUEST_NULL;
      MPI_Isend(notice, static_cast<int>(sizeof(Notice)), MPI_BYTE, rank, notice_tag(), comm_.handle, &request);
      if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
    }
  }

  /// Throws the failure of another rank, if one has told of it.
  void hear() {
    if (hearing_ == MPI_REQUEST_NULL || looks_++ % kLooksPerNotice != 0) return;
    int over = 0;
    if (MPI_Test(&hearing_, &over, MPI_STATUS_IGNORE) != MPI_SUCCESS || over == 0) return;
    heard_ = true;
    const auto rank = std::to_string(heard_notice_.rank);
    throw Failure(C10D_ERR_NETWORK, "rank " + rank + " has given up the group: " + heard_notice_.text,
                  heard_notice_.rank);
  }

  std::unique_ptr<Call> fresh_call() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_) throw *aborted_;
    if (spare_.empty()) return std::make_unique<Call>();
    auto call = std::move(spare_.back());
    spare_.pop_back();
    return call;
  }

  void recycle(std::unique_ptr<Call> call) {
    call->clear();
    spare_.push_back(std::move(call));
  }

  void begin(Call& call) {
    if (call.op->point_to_point()) {
      begin_message(call, comm_);
    } else if (monitored(*call.op)) {
      begin_monitored_barrier(call, comm_);
    } else {
      begin_collective(call, comm_);
    }
  }

  /// Whether the op is through. Throws Failure.
  bool has_ended(Call& call) {
    for (;;) {
      for (auto& request : call.requests) {
        if (request != MPI_REQUEST_NULL && !request_ended(*call.op, request)) return false;
      }
      if (!call.next_step || call.next_step()) break;
    }
    if (call.finish) call.finish();
    return true;
  }

  bool request_ended(Op& op, MPI_Request& request) {
    int over = 0;
    if (!op.point_to_point()) {
      require_success(MPI_Test(&request, &over, MPI_STATUS_IGNORE), "MPI_Test");
      return over != 0;
    }
    MPI_Status status;
    const int code = MPI_Test(&request, &over, &status);
    if (code != MPI_SUCCESS) {
      int kind = MPI_SUCCESS;
      MPI_Error_class(code, &kind);
      if (kind == MPI_ERR_TRUNCATE) throw too_long(op, status.MPI_SOURCE);
      require_success(code, op.request.opcode == C10D_OP_SEND ? "MPI_Isend" : "MPI_Irecv");
    }
    if (over == 0) return false;
    int cancelled = 0;
    MPI_Test_cancelled(&status, &cancelled);
    if (cancelled != 0) throw Failure(C10D_ERR_ABORTED, "the message was cancelled");
    end_message(op, status);
    return true;
  }

  void look(std::vector<Op*>& ended) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_) {
      cancel_messages();
    } else {
      hear();
    }
    const int rounds = aborted_ ? 1 : kRoundsPerProgress;
    for (int round = 0; round < rounds && ended.empty() && !calls_.empty(); round++) {
      for (size_t i = 0; i < calls_.size();) {
        Op& op = *calls_[i]->op;
        bool over = true;
        const auto failure = attempt([&] {
          over = has_ended(*calls_[i]);
          if (!over && monitored(op) && !aborted_) watch_monitored_barrier(*calls_[i], comm_);
        });
        if (failure) {
          op.status = failure->status();
          op.peer = failure->peer();
          op.error = failure->text();
          abandon(std::move(calls_[i]));
        } else if (over) {
          recycle(std::move(calls_[i]));
        } else {
          i++;
          continue;
        }
        runtime_.unfinished--;
        ended.push_back(&op);
        calls_.erase(calls_.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
  }

  /// Receives can be called back; they then end as cancelled.
  void cancel_messages() {
    if (std::exchange(cancelled_, true)) return;
    for (auto& call : calls_) {
      const uint32_t opcode = call->op->request.opcode;
      if (opcode != C10D_OP_RECV && opcode != C10D_OP_RECV_ANY_SOURCE) continue;
      for (auto& request : call->requests) {
        if (request != MPI_REQUEST_NULL) MPI_Cancel(&request);
      }
    }
  }

  /// A failed op's own notes may still be written to.
  void abandon(std::unique_ptr<Call> call) {
    for (auto& request : call->requests) {
      if (request != MPI_REQUEST_NULL && monitored(*call->op)) MPI_Cancel(&request);
    }
    static auto* kept = new std::vector<std::unique_ptr<Call>>;
    static std::mutex kept_mutex;
    const std::lock_guard<std::mutex> lock(kept_mutex);
    kept->push_back(std::move(call));
  }

  const Config config_;
  Runtime& runtime_;
  const std::vector<int> ranks_;
  const bool mixed_;
  Communicator comm_;
  uint64_t turn_ = 0;
  bool turn_over_ = false;

  std::mutex mutex_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<std::unique_ptr<Call>> spare_;
  std::unique_ptr<Failure> aborted_;
  bool cancelled_ = false;
  bool connected_ = false;
  MPI_Request hearing_ = MPI_REQUEST_NULL;
  Notice heard_notice_{};
  bool heard_ = false;
  unsigned looks_ = 0;
};

}  // namespace
}  // namespace mpi_shim

std::unique_ptr<Transport> make_transport(const Config& config) {
  return std::make_unique<mpi_shim::MpiTransport>(config);
}

const char* library_version() {
  static const std::string* version = [] {
    char text[MPI_MAX_LIBRARY_VERSION_STRING + 1] = {};
    int length = 0;
    MPI_Get_library_version(text, &length);
    std::string all(text, static_cast<size_t>(length));
    // "Open MPI v4.1.4, package: …", "MPICH Version:<tab>4.0.2<newline>…"
    all.resize(std::min(all.find_first_of(",\n"), all.size()));
    if (const auto at = all.find(" Version:"); at != std::string::npos) {
      all = all.substr(0, at) + " " + all.substr(all.find_first_not_of(" \t", at + 9));
    }
    return new std::string(all);
  }();
  return version->c_str();
}

}  // namespace c10d
