#include "creation/pending_communicator.h"

#include <utility>

#include "process/runtime.h"

namespace c10d::mpi_shim {

std::shared_ptr<PendingCommunicator> PendingCommunicator::start(uint64_t turn,
                                                                std::shared_ptr<const CommunicatorSpec> spec,
                                                                uint64_t number, bool wanted) {
  const std::shared_ptr<PendingCommunicator> pending(new PendingCommunicator(turn, std::move(spec), number, wanted));
  Runtime::get().make_on_other_thread([pending](bool on_mpi_thread) { pending->make(on_mpi_thread); });
  return pending;
}

bool PendingCommunicator::await(Clock::time_point until, const std::function<bool()>& given_up) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto over = [&] { return ended_ || given_up(); };
  if (until == Clock::time_point::max()) {
    changed_.wait(lock, over);
  } else {
    changed_.wait_until(lock, until, over);
  }
  return ended_;
}

void PendingCommunicator::wake() {
  const std::lock_guard<std::mutex> lock(mutex_);
  changed_.notify_all();
}

bool PendingCommunicator::give_up() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) return false;
  wanted_ = false;
  return true;
}

MPI_Comm PendingCommunicator::take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (failure_) throw Failure(*failure_);
  return communicator_;
}

void PendingCommunicator::make(bool on_mpi_thread) {
  auto& runtime = Runtime::get();
  const auto call = [&](const std::function<void()>& body) {
    return attempt([&] { on_mpi_thread ? body() : runtime.call(body); });
  };
  MPI_Comm communicator = MPI_COMM_NULL;
  const auto failure = call([&] { communicator = spec_->make(number_); });
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
    if (!failure) call([&] { runtime.messenger().leave(spec_->self, communicator); });
    runtime.messenger().forget(*spec_->self);
  }
  runtime.turns().end(turn_);
}

}  // namespace c10d::mpi_shim
