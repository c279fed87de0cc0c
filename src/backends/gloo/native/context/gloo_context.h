// Gloo's contexts of a group, over sockets that we connected ourselves.
#pragma once

#include <gloo/context.h>
#include <gloo/transport/tcp/context.h>
#include <gloo/transport/tcp/device.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "context/loss_record.h"
#include "context/messages.h"
#include "context/pair.h"
#include "mesh/socket.h"

namespace c10d::gloo_shim {

class TransportContext final : public tcp::Context {
 public:
  TransportContext(std::shared_ptr<tcp::Device> device, int rank, int size, std::vector<bool> take_mismatches,
                   LossRecord& losses, Doorbell& doorbell)
      : tcp::Context(std::move(device), rank, size),
        take_mismatches_(std::move(take_mismatches)),
        losses_(losses),
        doorbell_(doorbell) {}
  std::unique_ptr<gloo::transport::Pair>& createPair(int rank) override;
  void abort(const std::string& reason) { signalException(reason); }

 private:
  const std::vector<bool> take_mismatches_;
  LossRecord& losses_;
  Doorbell& doorbell_;
};

/// A gloo::Context over one network interface.
class GlooContext final : public gloo::Context {
 public:
  /// `peers` by rank. Empty are the own entry and those of ranks that connect later: call adopt() for them.
  /// `take_mismatches`: whether each rank understands a MismatchMessage.
  GlooContext(int rank, int size, std::shared_ptr<tcp::Device> device, std::vector<Fd> peers,
              std::vector<bool> take_mismatches, LossRecord& losses, Doorbell& doorbell);
  std::shared_ptr<tcp::Context> transport() const { return std::static_pointer_cast<tcp::Context>(transportContext_); }
  /// Thread-safe. Throws Failure if the connection is closed already.
  void adopt(int peer, Fd connection);
  void abort(const std::string& reason);
  /// Sends an encoded MismatchMessage to the peers that understand it and have room for it.
  void send_mismatch(const std::vector<char>& message);
  /// Returns when every loss that an op was notified of is on record.
  void settle();
  /// A rank that ops in flight wait for, or -1.
  int awaited_rank();

 private:
  Pair& pair(int peer);
};

}  // namespace c10d::gloo_shim
