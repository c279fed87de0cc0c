// Ranks that connect when they have something to say: PyTorch's in lazy-init mode dial a rank at the first op between the
// two, or never. Nobody waits for them; what is sent to them meanwhile waits in their place in the context.
#pragma once

#include <memory>
#include <thread>

#include "gloo_context.h"
#include "rendezvous.h"

namespace c10d::gloo_shim {

class LatePeers {
 public:
  /// `log` outlives it.
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
