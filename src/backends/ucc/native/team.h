// A team of UCC with its library handle and context.
#pragma once

#include <ucc/api/ucc.h>

#include <functional>
#include <mutex>

#include "library.h"
#include "rendezvous.h"

namespace c10d::ucc_shim {

class Team {
 public:
  /// Makes the library handle and the context, which waits for the other ranks. Throws Failure.
  explicit Team(Rendezvous& rendezvous);
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  /// Makes the team, polling until it is done or `stop()` throws. Throws Failure.
  void create(const Config& config, const std::function<void()>& stop);
  /// Makes another team of the same ranks, with an order of its own.
  void create_second(const Config& config, const std::function<void()>& stop);

  ucc_team_h get() const { return teams_[0]; }
  ucc_team_h second() const { return teams_[1]; }

  /// Drives what is in flight. An error may be that of a collective, which reports it too.
  ucc_status_t progress() { return ucc_.context_progress(context_); }

  /// Ends the team cleanly, within a limit: nothing may be in flight. A team that is only deleted stays in
  /// memory, since UCC cannot end a team while something is in flight.
  void destroy() noexcept;

 private:
  void make_context(std::unique_lock<std::mutex>& lock);
  ucc_team_h make(const Config& config, uint64_t id, const std::function<void()>& stop);

  const Library& ucc_ = library();
  Rendezvous& rendezvous_;
  ucc_lib_h lib_ = nullptr;
  ucc_context_h context_ = nullptr;
  ucc_team_h teams_[2] = {nullptr, nullptr};
};

}  // namespace c10d::ucc_shim
