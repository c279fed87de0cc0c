#include "process/runtime.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <limits>
#include <system_error>
#include <thread>

#include "creation/pending_communicator.h"
#include "engine/thread.h"
#include "ops/failure.h"

namespace c10d::mpi_shim {

namespace {

using std::chrono::milliseconds;

/// How long MPI waits for threads that are in a call before it ends all the same.
constexpr milliseconds kLeaveLimit{1'000};
/// The limit of MPI_Abort.
constexpr milliseconds kAbortLimit{3'000};
/// How long the exit of a process with failed ops in flight waits for MPI and the other ranks.
constexpr milliseconds kFailedEndLimit{3'000};
/// How long a launcher has to forward the last output of a rank before all ranks are ended.
constexpr milliseconds kLastOutput{200};

/// Bun ends processes by quick_exit(), which runs no other exit handlers than these, and a Worker is notified only of
/// its own end. glibc passes the exit code to them, as to all its exit handlers.
void end_at_exit(void*, int code) {
#if defined(__GLIBC__)
  Runtime::get().end_process(code);
#else
  (void)code;
  Runtime::get().end_process(0);
#endif
}

/// Open MPI loads components that expect its symbols to be global, but the host loads it with local ones.
void publish_library() {
#if defined(OPEN_MPI)
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&MPI_Init_thread), &info) == 0 || info.dli_fname == nullptr) return;
  // Never closed: MPI can be started only once in a process.
  dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
#endif
}

/// The thread of MPI goes on even if the shim is unloaded.
void keep_loaded() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&end_at_exit), &info) == 0 || info.dli_fname == nullptr) return;
  dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
}

}  // namespace

std::string error_text(int code) {
  char text[MPI_MAX_ERROR_STRING + 1] = {};
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return "MPI error " + std::to_string(code);
  return std::string(text, static_cast<size_t>(length));
}

void require_success(int code, const char* call) {
  if (code != MPI_SUCCESS) throw Failure(C10D_ERR_BACKEND, std::string(call) + ": " + error_text(code));
}

Runtime& Runtime::get() {
  static auto* runtime = new Runtime;
  return *runtime;
}

void Runtime::start(bool multiple, bool mixed) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (state_ != State::idle) return;
  state_ = State::starting;
  mixed_ = mixed;
  try {
    spawn_thread("c10d-mpi", [this, multiple] { serve(multiple); }).detach();
  } catch (const std::system_error& error) {
    error_ = std::string("cannot start a thread: ") + error.what();
    state_ = State::failed;
  }
}

std::string Runtime::error() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return error_;
}

void Runtime::serve(bool multiple) {
  const auto failure = attempt([&] { begin(multiple); });
  std::unique_lock<std::mutex> lock(mutex_);
  if (failure) error_ = failure->text();
  state_ = failure ? State::failed : State::up;
  while (!failure) {
    wake_.wait(lock, [this] { return ending_ || !requests_.empty() || !posted_.empty(); });
    if (!posted_.empty()) {
      const auto body = std::move(posted_.front());
      posted_.pop_front();
      lock.unlock();
      attempt(body);
      lock.lock();
      continue;
    }
    if (!requests_.empty()) {
      Request& request = *requests_.front();
      requests_.pop_front();
      lock.unlock();
      try {
        (*request.body)();
      } catch (...) {
        request.thrown = std::current_exception();
      }
      lock.lock();
      request.done = true;
      done_.notify_all();
      continue;
    }
    lock.unlock();
    end();
    lock.lock();
    state_ = State::ended;
    done_.notify_all();
    return;
  }
}

void Runtime::end() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized != 0) return;
  messenger_.end(size_ > 1 && !mixed_);
  if (!ours_) return;
  // MPI may not be ended while another thread is in it.
  const auto making_until = Clock::now() + kFailedEndLimit;
  while (making > 0 && Clock::now() < making_until) std::this_thread::sleep_for(milliseconds(1));
  if (making > 0) return;
  const IdleYield::Wait wait(idle_yield_);
  MPI_Finalize();
  pmi_socket_.finalize();
}

void Runtime::begin(bool multiple) {
  publish_library();
  keep_loaded();
  int initialized = 0;
  require_success(MPI_Initialized(&initialized), "MPI_Initialized");
  if (initialized == 0) {
    const int wanted = multiple ? MPI_THREAD_MULTIPLE : MPI_THREAD_FUNNELED;
    require_success(MPI_Init_thread(nullptr, nullptr, wanted, &thread_level_), "MPI_Init_thread");
    // A library may provide more than was requested, which then need not be tested.
    thread_level_ = std::min(thread_level_, wanted);
    idle_yield_.turn_off();
  } else {
    ours_ = false;
    require_success(MPI_Query_thread(&thread_level_), "MPI_Query_thread");
    int is_main = 0;
    MPI_Is_thread_main(&is_main);
    if (thread_level_ < MPI_THREAD_SERIALIZED && is_main == 0) {
      throw Failure(C10D_ERR_BACKEND,
                    "another thread has started MPI with a thread level that does not let this thread call it");
    }
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  require_success(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  require_success(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  int* tag_bound = nullptr;
  int found = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &tag_bound, &found);
  if (found != 0) max_tag_ = *tag_bound;
  messenger_.open(size_, max_tag_);
  std::at_quick_exit(reinterpret_cast<void (*)()>(&end_at_exit));
}

Runtime::ActiveCall::ActiveCall(Runtime& runtime) : runtime_(runtime) {
  runtime_.active_calls_++;
  if (!runtime_.closed_) return;
  runtime_.active_calls_--;
  throw Failure(C10D_ERR_CLOSED, "MPI has ended in this process");
}

void Runtime::call_on_own_thread(const std::function<void()>& body) {
  Request request{&body, nullptr};
  std::unique_lock<std::mutex> lock(mutex_);
  if (closed_ || state_ != State::up) throw Failure(C10D_ERR_CLOSED, "MPI has ended in this process");
  requests_.push_back(&request);
  wake_.notify_one();
  done_.wait(lock, [&] { return request.done; });
  if (request.thrown) std::rethrow_exception(request.thrown);
}

void Runtime::post(std::function<void()> body) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (ending_ || state_ != State::up) return;
  posted_.push_back(std::move(body));
  wake_.notify_one();
}

void Runtime::make_on_other_thread(std::function<void(bool)> body) {
  if (any_thread()) {
    try {
      {
        const std::lock_guard<std::mutex> lock(making_mutex_);
        if (!making_thread_started_) spawn_thread("c10d-mpi-make", [this] { run_makings(); }).detach();
        making_thread_started_ = true;
        makings_.push_back(std::move(body));
      }
      making_wanted_.notify_one();
      return;
    } catch (const std::system_error&) {  // No thread can be started, but the other ranks wait for this one.
    }
  }
  post([body = std::move(body)] { body(true); });
}

void Runtime::run_makings() {
  std::unique_lock<std::mutex> lock(making_mutex_);
  for (;;) {
    making_wanted_.wait(lock, [this] { return !makings_.empty(); });
    const auto body = std::move(makings_.front());
    makings_.pop_front();
    lock.unlock();
    body(false);
    lock.lock();
  }
}

void Runtime::end_process(int code) noexcept {
  if (state_ != State::up || process_ends_.exchange(true)) return;
  if (code != 0 && size_ > 1) {
    // Without MPI_Abort the others would wait for this rank until their time-outs. Its output is forwarded first:
    // launchers drop what they have not forwarded by then.
    std::this_thread::sleep_for(kLastOutput);
    return abort(code);
  }
  const auto limit = static_cast<double>(kFailedEndLimit.count());
  finalize(unfinished > 0 ? limit : std::numeric_limits<double>::infinity());
}

/// Waits for all ranks, up to the limit.
void Runtime::finalize(double limit_ms) {
  const auto deadline = deadline_after(limit_ms);
  std::unique_lock<std::mutex> lock(mutex_);
  closed_ = true;
  const auto leave_by = Clock::now() + kLeaveLimit;
  while (active_calls_ > 0 && Clock::now() < leave_by) done_.wait_for(lock, milliseconds(1));
  ending_ = true;
  wake_.notify_one();
  const auto ended = [this] { return state_ == State::ended; };
  if (deadline != Clock::time_point::max()) {
    done_.wait_until(lock, deadline, ended);
  } else {
    done_.wait(lock, ended);
  }
}

/// Returns only if MPI_Abort does.
void Runtime::abort(int code) noexcept {
  // MPI_Abort has been seen to hang while another thread is in the library. A rank that exits with an error makes the
  // launcher end the job as well.
  try {
    spawn_thread("c10d-mpi-end", [code] {
      std::this_thread::sleep_for(kAbortLimit);
      ::_exit(code);
    }).detach();
  } catch (const std::exception&) {  // No thread can be started: go on without the limit.
  }
  // Even from a thread that may not call MPI, since this is the last call.
  MPI_Abort(MPI_COMM_WORLD, code);
}

void Runtime::leave_turn_undecided(uint64_t turn, Clock::duration limit,
                                   const std::shared_ptr<const CommunicatorSpec>& spec) {
  if (const auto decision = turns_.leave_undecided(turn, limit)) follow(turn, *decision, spec);
}

void Runtime::settle_turn(uint64_t turn, Turns::Decision decision, const std::vector<int>& missing) {
  if (const auto spec = turns_.settle(turn, decision, missing)) follow(turn, decision, spec);
}

/// Ends a turn whose group is not wanted here any more, as the ranks have decided.
void Runtime::follow(uint64_t turn, Turns::Decision decision, const std::shared_ptr<const CommunicatorSpec>& spec) {
  if (decision == 0) {
    turns_.end(turn);
  } else {
    PendingCommunicator::start(turn, spec, decision, false);
  }
}

}  // namespace c10d::mpi_shim
