// How communicators are made, and what they say of themselves.
#include <algorithm>
#include <system_error>

#include "cuda_emulator.h"
#include "group.h"
#include "handle.h"
#include "rendezvous.h"
#include "report.h"
#include "segment.h"
#include "version.h"

using namespace nccl_emulator;

namespace {

// A thread that aborts what another one waits for reads the handle meanwhile.
void publish(ncclComm_t* comm, ncclComm_t handle) { __atomic_store_n(comm, handle, __ATOMIC_RELEASE); }

// A job ends early when the communicator is aborted after the job began.
Stop until_aborted(const std::shared_ptr<Communicator>& communicator) {
  return [communicator, before = communicator->aborts.load()] { return communicator->aborts != before; };
}

ncclResult_t safely(const std::function<ncclResult_t()>& work) {
  try {
    return work();
  } catch (const std::system_error& error) {
    return refuse(ncclSystemError, "%s", error.what());
  }
}

ncclResult_t current_device(const char* name, int* device) {
  *device = cuemu_current_device();
  if (*device >= 0) return ncclSuccess;
  return misuse(ncclInvalidUsage, "%s : this thread has no current context", name);
}

// The end of the job that makes a communicator.
ncclResult_t made_by_job(Communicator& communicator, ncclResult_t result) {
  if (result != ncclSuccess) communicator.fail(result);
  if (result != ncclSuccess || communicator.destroyed) communicator.release();
  return result;
}

ncclResult_t init(ncclComm_t* comm, int ranks, const ncclUniqueId& id, int rank, const ncclConfig_t* given,
                  const char* name) {
  if (auto result = check_pointer(comm, "CommInitRank", "newcomm"); result != ncclSuccess) return result;
  publish(comm, nullptr);
  if (ranks < 1 || rank < 0 || rank >= ranks)
    return refuse(ncclInvalidArgument, "Invalid rank requested : %d/%d", rank, ranks);
  if (ranks > max_ranks) return refuse(ncclInvalidArgument, "the emulator has no more than %d ranks", max_ranks);
  int device;
  if (auto result = current_device(name, &device); result != ncclSuccess) return result;
  ncclConfig_t config;
  if (auto result = read_config(given, &config); result != ncclSuccess) return result;
  auto communicator = std::make_shared<Communicator>(device, config);
  publish(comm, ncclComm::make(communicator));
  Group::of_thread().add(communicator, [communicator, ranks, id, rank, stop = until_aborted(communicator)] {
    auto result = safely([&] { return join_ranks(*communicator, id, ranks, rank, stop); });
    return made_by_job(*communicator, result);
  });
  return ncclSuccess;
}

// A communicator that blocks and could not be made is none.
ncclResult_t made(ncclComm_t* comm, ncclResult_t result) {
  if (result == ncclSuccess || result == ncclInProgress || !comm || !*comm) return result;
  if (!(*comm)->body->blocking()) return result;
  (*comm)->ended = true;
  publish(comm, nullptr);
  return result;
}

}  // namespace

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int nranks, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(comm, nranks, id, rank, nullptr);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  auto result = Group::of_thread().call([&] { return init(comm, nranks, id, rank, config, "ncclCommInitRankConfig"); });
  return made(comm, result);
}

ncclResult_t ncclCommInitRankScalable(ncclComm_t* comm, int nranks, int rank, int ids, ncclUniqueId* id,
                                      ncclConfig_t* config) {
  auto result = Group::of_thread().call([&]() -> ncclResult_t {
    if (ids <= 0 || ids > nranks)
      return refuse(ncclInvalidArgument, "improper usage of ncclCommInitRank: nId = %d, nranks=%d", ids, nranks);
    if (auto checked = check_pointer(id, "CommInitRank", "commId"); checked != ncclSuccess) return checked;
    return init(comm, nranks, *id, rank, config, "ncclCommInitRankScalable");
  });
  return made(comm, result);
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* newcomm, ncclConfig_t* config) {
  Call call(comm, "ncclCommSplit");
  return Group::of_thread().call([&]() -> ncclResult_t {
    if (auto result = call.ready(); result != ncclSuccess) return result;
    if (auto result = check_pointer(newcomm, "ncclCommSplit", "newcomm"); result != ncclSuccess) return result;
    *newcomm = nullptr;
    if (color < 0 && color != NCCL_SPLIT_NOCOLOR)
      return refuse(ncclInvalidArgument, "ncclCommSplit : color %d is not a color", color);
    auto parent = call.body();
    ncclConfig_t child_config = parent->config;
    if (config)
      if (auto result = read_config(config, &child_config); result != ncclSuccess) return result;
    Division division{&Slot::split, ++parent->splits, color, key, {}};
    for (int rank = 0; rank < parent->ranks; rank++) division.members.push_back(rank);
    Group::of_thread().add(parent, [parent, division, child_config, newcomm, stop = until_aborted(parent)] {
      std::shared_ptr<Communicator> child;
      if (division.color != NCCL_SPLIT_NOCOLOR) child = std::make_shared<Communicator>(parent->device, child_config);
      auto result = safely([&] { return divide(*parent, division, child.get(), stop); });
      if (result == ncclSuccess && child) publish(newcomm, ncclComm::make(child));
      return result;
    });
    return ncclSuccess;
  });
}

ncclResult_t ncclCommShrink(ncclComm_t comm, int* excluded, int count, ncclComm_t* newcomm, ncclConfig_t* config,
                            int flags) {
  Call call(comm, "ncclCommShrink");
  return Group::of_thread().call([&]() -> ncclResult_t {
    if (call.result() != ncclSuccess) return call.result();
    if (auto result = check_pointer(newcomm, "ncclCommShrink", "newcomm"); result != ncclSuccess) return result;
    if (auto result = check_pointer(excluded, "ncclCommShrink", "excludeRanksList"); result != ncclSuccess)
      return result;
    auto parent = call.body();
    auto* end = excluded + std::max(count, 0);
    if (count <= 0 || std::find(excluded, end, parent->rank) != end)
      return refuse(ncclInvalidArgument, "ncclCommShrink : an excluded rank calls it, or none is excluded");
    if (flags & NCCL_SHRINK_ABORT) {
      parent->aborts++;
      parent->jobs.wait_idle([] { return false; });
      // What a job has launched since.
      parent->aborts++;
      parent->turns.wait_idle([] { return false; });
    }
    if (auto result = call.ready(); result != ncclSuccess && !(flags & NCCL_SHRINK_ABORT)) return result;
    *newcomm = nullptr;
    ncclConfig_t child_config = parent->config;
    if (config)
      if (auto result = read_config(config, &child_config); result != ncclSuccess) return result;
    Division division{&Slot::shrink, ++parent->shrinks, 0, parent->rank, {}};
    for (int rank = 0; rank < parent->ranks; rank++)
      if (std::find(excluded, end, rank) == end) division.members.push_back(rank);
    Group::of_thread().add(parent, [parent, division, child_config, newcomm, stop = until_aborted(parent)] {
      auto child = std::make_shared<Communicator>(parent->device, child_config);
      auto result = safely([&] { return divide(*parent, division, child.get(), stop); });
      if (result == ncclSuccess) publish(newcomm, ncclComm::make(child));
      return result;
    });
    return ncclSuccess;
  });
}

ncclResult_t ncclCommGetUniqueId(ncclComm_t comm, ncclUniqueId* id) {
  Call call(comm, "ncclCommGetUniqueId");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (auto result = check_pointer(id, "CommGetUniqueId", "uniqueId"); result != ncclSuccess) return result;
  auto& communicator = call.communicator();
  if (communicator.id_for_growing)
    return misuse(ncclInvalidUsage, "ncclCommGetUniqueId : the id before is not yet used");
  if (auto result = ncclGetUniqueId(id); result != ncclSuccess) return result;
  communicator.id_for_growing = true;
  offer_growth(communicator, communicator.grows + 1, *id);
  return ncclSuccess;
}

namespace {

// The end of the parent waits for this.
ncclResult_t await_growth_of(Communicator& parent, uint32_t round, const Stop& stop, ncclUniqueId* id) {
  auto turn = parent.jobs.take();
  auto aborts = parent.aborts.load();
  auto result = ncclInvalidUsage;
  if (!parent.destroyed)
    result = await_growth(
        parent, round, [&] { return stop() || parent.aborts != aborts; }, id);
  parent.jobs.end(turn);
  return result;
}

ncclResult_t grow(const std::shared_ptr<Communicator>& parent, int nranks, const ncclUniqueId* id, int rank,
                  ncclComm_t* newcomm, ncclConfig_t* given) {
  if (parent && rank != -1)
    return refuse(ncclInvalidArgument, "ncclCommGrow: existing ranks must pass rank=-1, got %d", rank);
  if (!parent && rank < 0)
    return refuse(ncclInvalidArgument, "ncclCommGrow: new ranks must pass valid rank >= 0, got %d", rank);
  if (!parent && !id) return refuse(ncclInvalidArgument, "ncclCommGrow: new ranks must pass non-NULL uniqueId");
  if (rank >= nranks)
    return refuse(ncclInvalidArgument, "ncclCommGrow: new rank %d exceeds total ranks %d", rank, nranks);
  if (nranks > max_ranks) return refuse(ncclInvalidArgument, "the emulator has no more than %d ranks", max_ranks);
  int device = parent ? parent->device : -1;
  if (!parent)
    if (auto result = current_device("ncclCommGrow", &device); result != ncclSuccess) return result;
  ncclConfig_t config = parent ? parent->config : default_config();
  if (given)
    if (auto result = read_config(given, &config); result != ncclSuccess) return result;
  uint32_t round = parent ? ++parent->grows : 0;
  if (parent) parent->id_for_growing = false;
  auto child = std::make_shared<Communicator>(device, config);
  publish(newcomm, ncclComm::make(child));
  auto own_id = id ? *id : ncclUniqueId{};
  bool waits = parent && !id;
  auto own_rank = parent ? parent->rank : rank;
  Group::of_thread().add(child, [=, stop = until_aborted(child)] {
    auto result = safely([&]() -> ncclResult_t {
      auto name = own_id;
      if (waits)
        if (auto awaited = await_growth_of(*parent, round, stop, &name); awaited != ncclSuccess) return awaited;
      return join_ranks(*child, name, nranks, own_rank, stop);
    });
    return made_by_job(*child, result);
  });
  return ncclSuccess;
}

}  // namespace

ncclResult_t ncclCommGrow(ncclComm_t comm, int nranks, const ncclUniqueId* id, int rank, ncclComm_t* newcomm,
                          ncclConfig_t* config) {
  if (!newcomm) return refuse(ncclInvalidArgument, "ncclCommGrow : newcomm argument is NULL");
  *newcomm = nullptr;
  if (nranks <= 0) return refuse(ncclInvalidArgument, "ncclCommGrow: total ranks must be positive, got %d", nranks);
  if (!comm)
    return made(newcomm, Group::of_thread().call([&] { return grow(nullptr, nranks, id, rank, newcomm, config); }));
  Call call(comm, "ncclCommGrow");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (nranks <= call.communicator().ranks)
    return refuse(ncclInvalidArgument, "ncclCommGrow: total ranks %d is less than current ranks %d", nranks,
                  call.communicator().ranks);
  auto result = Group::of_thread().call([&] { return grow(call.body(), nranks, id, rank, newcomm, config); });
  return made(newcomm, result);
}

ncclResult_t ncclCommInitAll(ncclComm_t*, int, const int*) {
  return misuse(ncclInvalidUsage, "the emulator has no ncclCommInitAll: make the communicators in a group");
}

ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
  Call call(comm, "CommCount");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (auto result = check_pointer(count, "CommCount", "count"); result != ncclSuccess) return result;
  *count = call.communicator().ranks;
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(ncclComm_t comm, int* device) {
  Call call(comm, "CommCuDevice");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (auto result = check_pointer(device, "CommCuDevice", "devid"); result != ncclSuccess) return result;
  *device = call.communicator().device;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
  Call call(comm, "CommUserRank");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (auto result = check_pointer(rank, "CommUserRank", "rank"); result != ncclSuccess) return result;
  *rank = call.communicator().rank;
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  std::shared_ptr<Communicator> body;
  if (auto result = find_communicator(comm, "ncclGetAsyncError", &body); result != ncclSuccess) return result;
  if (auto result = check_pointer(error, "ncclGetAsyncError", "asyncError"); result != ncclSuccess) return result;
  *error = body->state(true);
  return ncclSuccess;
}
