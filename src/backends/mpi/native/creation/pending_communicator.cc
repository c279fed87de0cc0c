#include "creation/pending_communicator.h"

#include <utility>

#include "process/runtime.h"

namespace c10d::mpi_shim {

std::shared_ptr<Making> Making::start(uint64_t turn, std::shared_ptr<const Formation> formation, uint64_t number,
                                      bool wanted) {
  const std::shared_ptr<Making> making(new Making(turn, std::move(formation), number, wanted));
  Runtime::get().make_apart([making](bool on_own_thread_of_mpi) { making->make(on_own_thread_of_mpi); });
  return making;
}

bool Making::await(Clock::time_point until, const std::function<bool()>& given_up) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto over = [&] { return ended_ || given_up(); };
  if (until == Clock::time_point::max()) {
    changed_.wait(lock, over);
  } else {
    changed_.wait_until(lock, until, over);
  }
  return ended_;
}

void Making::wake() {
  const std::lock_guard<std::mutex> lock(mutex_);
  changed_.notify_all();
}

bool Making::give_up() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) return false;
  wanted_ = false;
  return true;
}

MPI_Comm Making::take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (failure_) throw Failure(*failure_);
  return communicator_;
}

void Making::make(bool on_own_thread_of_mpi) {
  auto& runtime = Runtime::get();
  const auto call = [&](const std::function<void()>& body) {
    return attempt([&] { on_own_thread_of_mpi ? body() : runtime.call(body); });
  };
  MPI_Comm communicator = MPI_COMM_NULL;
  const auto failure = call([&] { communicator = formation_->make(number_); });
  bool wanted = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    communicator_ = communicator;
    failure_ = failure;
    wanted = wanted_;
  }
  changed_.notify_all();
  if (!wanted) {
    if (!failure) call([&] { runtime.notices().leave(formation_->self, communicator); });
    runtime.notices().forget(*formation_->self);
  }
  runtime.turns().end(turn_);
}

}  // namespace c10d::mpi_shim
