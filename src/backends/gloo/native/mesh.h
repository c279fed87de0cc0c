// Gloo's TCP transport over connections that we made ourselves, with what the library lacks: knowing which rank was
// lost, waking everybody on abort, and surviving a peer that sends more than was posted.
#pragma once

#include <gloo/context.h>
#include <gloo/transport/tcp/context.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/tcp/pair.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/failure.h"
#include "rendezvous.h"

namespace c10d::gloo_shim {

namespace tcp = gloo::transport::tcp;

/// Peers whose connection broke, and with which exception: an op that fails with that exception failed because of them.
class LossRecord {
 public:
  void add(int rank, const std::string& what);
  /// The failure that an op's exception stands for.
  Failure explain(const std::string& what) const;

 private:
  struct Loss {
    int rank;
    std::string what;
  };
  mutable std::mutex mutex_;
  std::vector<Loss> losses_;
};

class Pair final : public tcp::Pair {
 public:
  Pair(tcp::Context* context, tcp::Device* device, int rank, std::chrono::milliseconds timeout, LossRecord& losses);

  /// Goes on with a connected socket.
  void adopt(Fd socket);
  void handleEvents(int events) override;

 protected:
  bool read() override;
  void changeState(state next) noexcept override;

 private:
  LossRecord& losses_;
};

class TransportContext final : public tcp::Context {
 public:
  TransportContext(std::shared_ptr<tcp::Device> device, int rank, int size, LossRecord& losses)
      : tcp::Context(std::move(device), rank, size), losses_(losses) {}
  std::unique_ptr<gloo::transport::Pair>& createPair(int rank) override;
  void abort(const std::string& reason) { signalException(reason); }

 private:
  LossRecord& losses_;
};

/// gloo::Context of a group, made from connected sockets.
class Mesh final : public gloo::Context {
 public:
  /// `peers` by rank; the own entry is empty.
  Mesh(int rank, int size, std::shared_ptr<tcp::Device> device, std::vector<Fd> peers, LossRecord& losses);
  void abort(const std::string& reason);
};

}  // namespace c10d::gloo_shim
