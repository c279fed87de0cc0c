#include "late_peers.h"

#include <algorithm>
#include <utility>

#include "engine/thread.h"

namespace c10d::gloo_shim {

LatePeers::LatePeers(std::unique_ptr<Listener> listener, std::vector<LatePeer> awaited,
                     std::shared_ptr<GlooContext> context, Exchange& log)
    : listener_(std::move(listener)), awaited_(std::move(awaited)), context_(std::move(context)) {
  thread_ = spawn_thread("c10d-late", [this, &log] { run(log); });
}

LatePeers::~LatePeers() {
  cancellation_.cancel();
  thread_.join();
}

void LatePeers::run(Exchange& log) {
  try {
    while (!awaited_.empty()) {
      std::vector<int64_t> numbers;
      for (const auto& peer : awaited_) numbers.push_back(peer.number);
      auto [number, connection] = listener_->accept_any(numbers, Clock::time_point::max(), cancellation_, log);
      const int64_t arrived = number;
      const auto peer =
          std::find_if(awaited_.begin(), awaited_.end(), [&](const LatePeer& each) { return each.number == arrived; });
      const int rank = peer->rank;
      context_->adopt(rank, std::move(connection));
      const auto same = [rank](const LatePeer& each) { return each.rank == rank; };
      awaited_.erase(std::remove_if(awaited_.begin(), awaited_.end(), same), awaited_.end());
    }
  } catch (const Failure& failure) {
    if (!cancellation_.cancelled()) log.log("no longer waiting for ranks that connect late: " + failure.text());
  } catch (const std::exception& error) {
    log.log(std::string("no longer waiting for ranks that connect late: ") + error.what());
  }
}

}  // namespace c10d::gloo_shim
