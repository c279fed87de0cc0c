#include "context/gloo_context.h"

#include <chrono>
#include <exception>
#include <string>
#include <utility>

#include "ops/failure.h"

namespace c10d::gloo_shim {

namespace {

/// The engine watches the time-outs of ops, so Gloo's own must never expire.
constexpr std::chrono::hours kNever{24 * 365};

}  // namespace

std::unique_ptr<gloo::transport::Pair>& TransportContext::createPair(int rank) {
  pairs_[rank] = std::make_unique<Pair>(this, device_.get(), rank, kNever, take_mismatches_[static_cast<size_t>(rank)],
                                        losses_, doorbell_);
  return pairs_[rank];
}

GlooContext::GlooContext(int rank, int size, std::shared_ptr<tcp::Device> device, std::vector<Fd> peers,
                         std::vector<bool> take_mismatches, LossRecord& losses, Doorbell& doorbell)
    : gloo::Context(rank, size) {
  setTimeout(kNever);
  auto transport = std::make_shared<TransportContext>(device, rank, size, std::move(take_mismatches), losses, doorbell);
  transport->setTimeout(kNever);
  for (int peer = 0; peer < size; peer++) {
    if (peer != rank) transport->createPair(peer);
  }
  device_ = std::move(device);
  transportContext_ = std::move(transport);
  for (int peer = 0; peer < size; peer++) {
    if (peer == rank) continue;
    if (peers[peer].get() >= 0) {
      adopt(peer, std::move(peers[peer]));
    } else {
      pair(peer).expect_later();
    }
  }
}

Pair& GlooContext::pair(int peer) { return static_cast<Pair&>(*transportContext_->getPair(peer)); }

void GlooContext::adopt(int peer, Fd connection) {
  try {
    pair(peer).adopt(std::move(connection));
  } catch (const std::exception&) {  // Gloo asks the socket for the peer's address, which a closed one does not have.
    throw Failure(C10D_ERR_NETWORK, "rank " + std::to_string(peer) + " left while the group was being made", peer);
  }
}

void GlooContext::settle() {
  for (int peer = 0; peer < size; peer++) {
    if (peer != rank) pair(peer).settle();
  }
}

int GlooContext::awaited_rank() {
  for (const auto wanted : {Pair::Awaited::data, Pair::Awaited::room}) {
    for (int peer = 0; peer < size; peer++) {
      if (peer != rank && pair(peer).awaited() == wanted) return peer;
    }
  }
  return -1;
}

void GlooContext::send_mismatch(const std::vector<char>& message) {
  for (int peer = 0; peer < size; peer++) {
    if (peer != rank) pair(peer).send_mismatch(message);
  }
}

void GlooContext::abort(const std::string& reason) { static_cast<TransportContext&>(*transportContext_).abort(reason); }

}  // namespace c10d::gloo_shim
