#include "rendezvous.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <system_error>
#include <thread>

#include "cuda_emulator.h"
#include "injected_faults.h"
#include "report.h"
#include "version.h"

namespace nccl_emulator {
namespace {

// Ranks of different hosts may have the same device. As for NCCL, NCCL_HOSTID makes hosts of one.
uint64_t host_hash() {
  std::string name;
  if (const char* given = getenv("NCCL_HOSTID")) {
    name = given;
  } else {
    char buffer[256] = {};
    gethostname(buffer, sizeof buffer - 1);
    name = buffer;
  }
  return std::hash<std::string>{}(name);
}

bool several_ranks_per_device() {
  const char* enabled = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  return release >= code(30, 3) && enabled && std::string(enabled) == "1";
}

// Waits until `ready`, unless told to stop or one of these ranks ends without that.
ncclResult_t await(Communicator& communicator, const std::vector<int>& ranks, const Stop& stop,
                   const std::function<bool()>& ready) {
  while (!ready()) {
    if (stop()) return refuse(ncclInternalError, "communicator was aborted");
    for (int rank : ranks)
      if (communicator.peers->dead(rank) && !ready()) return refuse(ncclRemoteError, "process of rank %d exited", rank);
    communicator.segment->sleep(communicator.rank, ready);
  }
  return ncclSuccess;
}

ncclResult_t open_segment(Communicator& communicator, const ncclUniqueId& id, int ranks) {
  SegmentName name;
  if (!SegmentName::read(id, &name)) return misuse(ncclInvalidArgument, "unique id is not of ncclGetUniqueId");
  Segment::Failure failure;
  communicator.segment = Segment::open(name, ranks, &failure);
  switch (failure) {
    case Segment::Failure::none:
      return ncclSuccess;
    case Segment::Failure::spent:
      return misuse(ncclInvalidUsage, "a unique id was used for a second communicator");
    case Segment::Failure::maker_gone:
      return refuse(ncclRemoteError, "the process that made the unique id has exited");
    case Segment::Failure::system:
      break;
  }
  return refuse(ncclSystemError, "shared memory of the communicator cannot be mapped");
}

ncclResult_t check_peers(Communicator& communicator) {
  auto& segment = *communicator.segment;
  auto& own = segment.slot(communicator.rank);
  for (int i = 0; i < communicator.ranks; i++) {
    auto& one = segment.slot(i);
    if (one.release != own.release)
      return refuse(ncclInvalidUsage, "Mismatched NCCL version detected : rank %d version %d rank %d version %d", i,
                    one.release, communicator.rank, own.release);
    for (int j = 0; j < i; j++) {
      auto& other = segment.slot(j);
      if (one.host != other.host || one.device != other.device || several_ranks_per_device()) continue;
      if (release >= code(30, 3))
        return refuse(ncclInvalidUsage,
                      "Multiple Ranks are using the same GPU/Partition. Set NCCL_MULTI_RANK_GPU_ENABLE=1 to enable "
                      "this configuration.");
      return refuse(ncclInvalidUsage, "Duplicate GPU detected : rank %d and rank %d both on CUDA device %d", j, i,
                    one.device);
    }
  }
  return ncclSuccess;
}

ncclResult_t injected(Communicator& communicator, const Stop& stop) {
  auto& faults = InjectedFaults::of_process();
  if (!faults.concern(communicator.rank)) return ncclSuccess;
  auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(faults.slow_init_ms);
  while (std::chrono::steady_clock::now() < end && !stop()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  if (faults.init_error) return refuse(ncclSystemError, "NCCL emulator: injected error of the initialization");
  return ncclSuccess;
}

}  // namespace

ncclResult_t join_ranks(Communicator& communicator, const ncclUniqueId& id, int ranks, int rank, const Stop& stop) {
  communicator.rank = rank;
  communicator.ranks = ranks;
  if (auto result = injected(communicator, stop); result != ncclSuccess) return result;
  if (auto result = open_segment(communicator, id, ranks); result != ncclSuccess) return result;
  auto& segment = *communicator.segment;
  int32_t told = 0;
  if (!segment.header().ranks.compare_exchange_strong(told, ranks) && told != ranks)
    return misuse(ncclInvalidArgument, "mismatch in rank count from procs %d : %d", told, ranks);
  auto& own = segment.slot(rank);
  auto free = SlotState::free;
  if (!own.state.compare_exchange_strong(free, SlotState::claimed))
    return misuse(ncclInvalidUsage, "a unique id was used twice by rank %d", rank);
  own.pid = getpid();
  own.device = communicator.device;
  own.release = release;
  own.host = host_hash();
  own.state = SlotState::joined;
  segment.wake_all();
  communicator.peers = std::make_unique<Peers>(static_cast<size_t>(ranks));
  std::vector<int> known;
  auto all_joined = [&] {
    bool all = true;
    for (int peer = 0; peer < ranks; peer++) {
      auto state = segment.slot(peer).state.load();
      if (state == SlotState::free || state == SlotState::claimed) {
        all = false;
      } else if (std::find(known.begin(), known.end(), peer) == known.end()) {
        known.push_back(peer);
        communicator.peers->watch(peer, segment.slot(peer).pid);
      }
    }
    return all;
  };
  // `known` grows meanwhile, so this cannot be given to await().
  while (!all_joined()) {
    if (stop()) return refuse(ncclInternalError, "communicator was aborted");
    for (int peer : known)
      if (communicator.peers->dead(peer) && !all_joined())
        return refuse(ncclRemoteError, "process of rank %d exited", peer);
    segment.sleep(rank, all_joined);
  }
  segment.header().arrived++;
  auto result = check_peers(communicator);
  communicator.connected = result == ncclSuccess;
  return result;
}

ncclResult_t divide(Communicator& parent, const Division& division, Communicator* child, const Stop& stop) {
  auto& segment = *parent.segment;
  auto offer_of = [&](int rank) -> Offer& { return (segment.slot(rank).*division.offers)[division.round % 2]; };
  auto& own = offer_of(parent.rank);
  own.color = division.color;
  own.key = division.key;
  own.round = division.round;
  segment.wake_all();
  auto offered = [&] {
    return std::all_of(division.members.begin(), division.members.end(),
                       [&](int rank) { return offer_of(rank).round == division.round; });
  };
  if (auto result = await(parent, division.members, stop, offered); result != ncclSuccess) return result;
  if (!child) return ncclSuccess;
  std::vector<int> group;
  for (int rank : division.members)
    if (offer_of(rank).color == division.color) group.push_back(rank);
  std::stable_sort(group.begin(), group.end(), [&](int a, int b) { return offer_of(a).key < offer_of(b).key; });
  auto& leader = offer_of(group.front());
  if (group.front() == parent.rank) {
    leader.id = SegmentName::make();
    leader.leader_round = division.round;
    segment.wake_all();
  }
  auto led = [&] { return leader.leader_round == division.round; };
  if (auto result = await(parent, {group.front()}, stop, led); result != ncclSuccess) return result;
  auto place = std::find(group.begin(), group.end(), parent.rank) - group.begin();
  return join_ranks(*child, leader.id, static_cast<int>(group.size()), static_cast<int>(place), stop);
}

void offer_growth(Communicator& communicator, uint32_t round, const ncclUniqueId& id) {
  auto& offer = communicator.segment->slot(communicator.rank).grow[round % 2];
  offer.id = id;
  offer.leader_round = round;
  communicator.segment->wake_all();
}

ncclResult_t await_growth(Communicator& communicator, uint32_t round, const Stop& stop, ncclUniqueId* id) {
  int from = -1;
  std::vector<int> all;
  for (int rank = 0; rank < communicator.ranks; rank++) all.push_back(rank);
  auto offered = [&] {
    for (int rank : all)
      if (communicator.segment->slot(rank).grow[round % 2].leader_round == round) from = rank;
    return from >= 0;
  };
  if (auto result = await(communicator, all, stop, offered); result != ncclSuccess) return result;
  *id = communicator.segment->slot(from).grow[round % 2].id;
  return ncclSuccess;
}

}  // namespace nccl_emulator
