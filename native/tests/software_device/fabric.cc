#include "software_device/fabric.h"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <utility>

#include "software_device/results.h"

namespace c10d::softdev {

namespace {

std::mutex mutex;
std::condition_variable changed;
std::map<uint64_t, std::weak_ptr<Fabric>> fabrics;

/// Waits until `condition` holds; throws Failure at the deadline or when interrupted.
template <class Condition>
void wait_for(std::unique_lock<std::mutex>& lock, const Config& config, const bool& interrupted, Condition condition) {
  while (!condition()) {
    if (interrupted) throw Failure(C10D_ERR_ABORTED, "connecting was aborted");
    if (Clock::now() >= config.connect_deadline) {
      throw Failure(C10D_ERR_OP_TIMEOUT, "timed out waiting for the other ranks");
    }
    if (config.connect_deadline == Clock::time_point::max()) {
      changed.wait(lock);
    } else {
      changed.wait_until(lock, config.connect_deadline);
    }
  }
}

/// The mismatch as rank `own` reports it: itself first.
Failure mismatch_for(int32_t own, c10d_mismatch kind, const std::string& text, int32_t first, int32_t second) {
  return own == second ? Failure::of_mismatch(kind, text, second, first)
                       : Failure::of_mismatch(kind, text, first, second);
}

void match(Flight& flight, const std::optional<Failure>& failure = std::nullopt) {
  if (std::exchange(flight.is_matched, true)) return;
  flight.failure = failure;
  Machine::the().complete(*flight.matched);
}

}  // namespace

// ---- connecting ------------------------------------------------------------------------------------------------

std::shared_ptr<Fabric> Fabric::connect(Exchange& exchange, const Config& config, const bool& interrupted) {
  static uint64_t last_id = 0;
  const std::string key = "software-device";
  const std::string process = std::to_string(::getpid()) + "/";
  std::shared_ptr<Fabric> fabric;
  if (config.rank == 0) {
    fabric = std::make_shared<Fabric>(config.world_size);
    uint64_t id = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      fabrics[id = ++last_id] = fabric;
    }
    const std::string place = process + std::to_string(id);
    exchange.set(key, place.data(), place.size());
  } else {
    const auto value = exchange.await(exchange.request(key), config.connect_deadline);
    const std::string place(value.begin(), value.end());
    const std::lock_guard<std::mutex> lock(mutex);
    if (place.compare(0, process.size(), process) == 0) {
      const auto found = fabrics.find(std::strtoull(place.c_str() + process.size(), nullptr, 10));
      if (found != fabrics.end()) fabric = found->second.lock();
    } else {
      throw Failure(C10D_ERR_INVALID, "the ranks of a software device must be in one process");
    }
  }
  if (fabric == nullptr) throw Failure(C10D_ERR_NETWORK, "rank 0 is lost", 0);
  std::unique_lock<std::mutex> lock(mutex);
  fabric->joined_.insert(config.rank);
  changed.notify_all();
  fabric->join(lock, config, interrupted);
  return fabric;
}

void Fabric::join(std::unique_lock<std::mutex>& lock, const Config& config, const bool& interrupted) {
  wait_for(lock, config, interrupted, [&] {
    if (joined_.size() == static_cast<size_t>(world_size_)) return true;
    for (const auto& [rank, text] : left_) {
      if (joined_.count(rank) == 0) throw loss_of(rank);
    }
    return false;
  });
}

std::shared_ptr<Fabric> Fabric::split(uint64_t turn, int32_t rank, int32_t color, const Config& config,
                                      const bool& interrupted) {
  std::unique_lock<std::mutex> lock(mutex);
  auto& split = splits_[turn];
  split.places[rank] = {color, config.rank};
  changed.notify_all();
  wait_for(lock, config, interrupted, [&] {
    for (int32_t other = 0; other < world_size_; other++) {
      if (split.places.count(other) == 0 && has_left(other)) throw loss_of(other);
    }
    return split.places.size() == static_cast<size_t>(world_size_);
  });
  if (color < 0) return nullptr;
  std::set<int32_t> ranks;
  size_t count = 0;
  for (const auto& [parent_rank, place] : split.places) {
    if (place.first != color) continue;
    ranks.insert(place.second);
    count++;
  }
  if (count != static_cast<size_t>(config.world_size) || ranks.size() != count ||
      *ranks.rbegin() >= config.world_size) {
    throw Failure(C10D_ERR_INVALID, std::to_string(count) + " ranks with color " + std::to_string(color) +
                                        " do not make a group of " + std::to_string(config.world_size));
  }
  auto& fabric = split.made[color];
  if (fabric == nullptr) fabric = std::make_shared<Fabric>(config.world_size);
  fabric->joined_.insert(config.rank);
  changed.notify_all();
  fabric->join(lock, config, interrupted);
  return fabric;
}

void Fabric::interrupt(bool& interrupted) {
  const std::lock_guard<std::mutex> lock(mutex);
  interrupted = true;
  changed.notify_all();
}

// ---- collectives -----------------------------------------------------------------------------------------------

void Fabric::arrive(const FlightPtr& flight) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (is_local(*flight)) return match(*flight);
  if (!is_message(*flight)) return arrive_at_round(flight);
  return flight->request.opcode == C10D_OP_SEND ? post_send(flight) : post_recv(flight);
}

void Fabric::refuse(Flight& flight, const Failure& failure) {
  const std::lock_guard<std::mutex> lock(mutex);
  match(flight, failure);
}

void Fabric::arrive_at_round(const FlightPtr& flight) {
  Round& round = rounds_[flight->turn];
  round.ranks[flight->rank] = flight;
  const auto fails = [&](c10d_mismatch kind, int32_t first, int32_t second, std::string text) {
    if (round.mismatch) return;
    round.mismatch = kind;
    round.first = first;
    round.second = second;
    round.text = std::move(text);
  };
  for (const auto& [rank, other] : round.ranks) {
    if (agree(other->call, flight->call)) continue;
    fails(C10D_MISMATCH_CALL, std::min(rank, flight->rank), std::max(rank, flight->rank),
          mismatch_text(rank, other->call, flight->rank, flight->call));
  }
  const bool complete = round.ranks.size() == static_cast<size_t>(world_size_);
  std::vector<FlightPtr> all;
  for (const auto& [rank, one] : round.ranks) all.push_back(one);
  if (complete && !round.mismatch) {
    if (const auto split = split_mismatch(all)) {
      fails(C10D_MISMATCH_SPLITS, std::min(split->sender, split->receiver), std::max(split->sender, split->receiver),
            split_mismatch_text(flight->call, split->sender, split->sent, split->receiver, split->expected));
    }
  }
  if (round.mismatch) {
    for (const auto& one : all) {
      match(*one, mismatch_for(one->rank, *round.mismatch, round.text, round.first, round.second));
    }
  } else if (complete) {
    for (const auto& one : all) {
      one->results = results_of(*one, all);
      for (const auto& rank : all) {
        if (one->request.opcode == C10D_SERVICE_OPEN_WINDOW) one->addresses.push_back(rank->outputs[0].address);
      }
    }
    for (const auto& one : all) match(*one);
  } else if (const int32_t lost = lost_rank(*flight); lost >= 0) {
    match(*flight, loss_of(lost));
  }
  if (complete) rounds_.erase(flight->turn);
}

// ---- messages --------------------------------------------------------------------------------------------------

/// A send ends once its bytes were copied, whether or not the receiver has arrived.
void Fabric::post_send(const FlightPtr& flight) {
  const Lane lane{flight->rank, flight->request.peer, flight->request.tag};
  auto& wanted = posted_recvs_[lane];
  if (wanted.empty()) {
    posted_sends_[lane].push_back(flight);
  } else {
    deliver(*flight, *wanted.front());
    wanted.pop_front();
  }
  match(*flight);
}

void Fabric::post_recv(const FlightPtr& flight) {
  const Lane lane{flight->request.peer, flight->rank, flight->request.tag};
  auto& sent = posted_sends_[lane];
  if (!sent.empty()) {
    deliver(*sent.front(), *flight);
    sent.pop_front();
  } else if (const int32_t lost = lost_rank(*flight); lost >= 0) {
    match(*flight, loss_of(lost));
  } else {
    posted_recvs_[lane].push_back(flight);
  }
}

void Fabric::deliver(Flight& sender, Flight& receiver) const {
  receiver.source = sender.rank;
  const uint64_t sent = sender.inputs[0].bytes;
  const uint64_t expected = receiver.outputs[0].bytes;
  if (sent == expected && sender.request.dtype == receiver.request.dtype) {
    receiver.results = sender.contribution;
    return match(receiver);
  }
  match(receiver, Failure::of_mismatch(C10D_MISMATCH_MESSAGE,
                                       message_mismatch_text(sender.request.tag, sender.rank, sender.request.dtype,
                                                             sent, receiver.rank, receiver.request.dtype, expected),
                                       receiver.rank, sender.rank));
}

// ---- ranks that have left --------------------------------------------------------------------------------------

Failure Fabric::loss_of(int32_t rank) const {
  const auto found = std::find_if(left_.begin(), left_.end(), [&](const auto& one) { return one.first == rank; });
  return {C10D_ERR_NETWORK, "rank " + std::to_string(rank) + " " + found->second, rank};
}

bool Fabric::has_left(int32_t rank) const {
  return std::any_of(left_.begin(), left_.end(), [&](const auto& one) { return one.first == rank; });
}

/// The rank that the op waits for in vain, or -1; the first to leave if there are several.
int32_t Fabric::lost_rank(const Flight& flight) const {
  if (is_message(flight)) return has_left(flight.request.peer) ? flight.request.peer : -1;
  const auto round = rounds_.find(flight.turn);
  for (const auto& [rank, text] : left_) {
    if (round == rounds_.end() || round->second.ranks.count(rank) == 0) return rank;
  }
  return -1;
}

void Fabric::leave(int32_t rank, const std::optional<Failure>& cause) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!has_left(rank)) left_.emplace_back(rank, cause ? "has failed: " + cause->text() : "has closed its group");
    changed.notify_all();
    for (auto& [turn, round] : rounds_) {
      if (round.ranks.count(rank) > 0) continue;
      for (auto& [other, flight] : round.ranks) match(*flight, loss_of(rank));
    }
    for (auto& [lane, flights] : posted_recvs_) {
      if (std::get<0>(lane) != rank && std::get<1>(lane) != rank) continue;
      for (const auto& flight : std::exchange(flights, {})) match(*flight, loss_of(rank));
    }
  }
  if (!cause) return;
  const std::lock_guard<std::mutex> lock(exchanges_mutex_);
  exchanges_.erase(rank);
  const auto& ranks = cause->ranks();
  const bool mismatch = cause->mismatch() != C10D_MISMATCH_NONE && ranks.size() == 2;
  const Failure loss(C10D_ERR_NETWORK, "rank " + std::to_string(rank) + " has failed: " + cause->text(), rank);
  for (const auto& [other, exchange] : exchanges_) {
    exchange->lost(mismatch ? mismatch_for(other, cause->mismatch(), cause->text(), ranks[0], ranks[1]) : loss);
  }
}

void Fabric::listen(int32_t rank, Exchange* exchange) {
  const std::lock_guard<std::mutex> lock(exchanges_mutex_);
  if (exchange == nullptr) {
    exchanges_.erase(rank);
  } else {
    exchanges_[rank] = exchange;
  }
}

int32_t Fabric::awaited_by(const Flight& flight) const {
  const std::lock_guard<std::mutex> lock(mutex);
  if (flight.is_matched) return -1;
  if (is_message(flight)) return flight.request.peer;
  const auto round = rounds_.find(flight.turn);
  for (int32_t rank = 0; round != rounds_.end() && rank < world_size_; rank++) {
    if (round->second.ranks.count(rank) == 0) return rank;
  }
  return -1;
}

}  // namespace c10d::softdev
