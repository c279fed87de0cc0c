// Ranks that connect later: PyTorch ranks in lazy-init mode dial a rank at the first op between the two, or never. No
// rank waits for them. What is sent to them meanwhile is queued in their Pair.
#pragma once

#include <memory>
#include <thread>

#include "context/gloo_context.h"
#include "rendezvous.h"

namespace c10d::gloo_shim {

class LatePeers {
 public:
  /// `log` must outlive this object.
  LatePeers(std::unique_ptr<Listener> listener, std::vector<LatePeer> awaited, std::shared_ptr<GlooContext> context,
            Exchange& log);
  ~LatePeers();

 private:
  void run(Exchange& log);

  const std::unique_ptr<Listener> listener_;
  std::vector<LatePeer> awaited_;
  const std::shared_ptr<GlooContext> context_;
  Cancellation cancellation_;
  std::thread thread_;
};

}  // namespace c10d::gloo_shim
