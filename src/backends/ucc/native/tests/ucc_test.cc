// The UCC shim through its C ABI, without Bun: ranks are processes, so that one can be killed or stopped. Each scenario
// runs on its own; the program exits with 1 if one of them failed, and with 77 if there is no libucc.
#include <dlfcn.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>
#include <thread>

#include "log.h"
#include "rank.h"
#include "tests/failure_view.h"

#if defined(__SANITIZE_ADDRESS__)
// What libucc keeps for the life of the process. A team that failed is never ended, since that would wait for the
// others.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libucc.so\nleak:libucc_\nleak:libucp.so\nleak:libuct.so\nleak:libucs.so\nleak:libucm.so\nleak:ld-linux-"
         "\n";
}
// LeakSanitizer does not know how a newer C library lays out thread-local storage, and would now and then crash there.
extern "C" const char* __lsan_default_options() { return "print_suppressions=0:use_tls=0"; }
#elif defined(__SANITIZE_THREAD__)
// These are not instrumented, so ThreadSanitizer does not see their locks. To it, the loader releases a lock that
// libucp takes while it is loaded.
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libucc.so\ncalled_from_lib:libucc_tl_ucp.so\ncalled_from_lib:libucc_cl_basic.so\n"
         "called_from_lib:libucp.so\ncalled_from_lib:libuct.so\ncalled_from_lib:libucs.so\nmutex:ld-linux-\n";
}
#endif

namespace c10d::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr int kSkipped = 77;
/// The limit of a scenario, after which its processes are killed.
constexpr seconds kLimit{60};

int failures = 0;

bool check(bool holds, const std::string& what) {
  if (!holds) {
    failures++;
    std::fprintf(stderr, "  does not hold: %s\n", what.c_str());
  }
  return holds;
}

void check_outcome(const Outcome& outcome, int32_t status, int32_t peer, const std::string& part) {
  check(outcome.status == status,
        "the status is " + std::to_string(status) + ", it is " + std::to_string(outcome.status) + ": " + outcome.text);
  if (peer >= 0) check(outcome.peer == peer, "the peer is " + std::to_string(peer) + ": " + outcome.text);
  check(outcome.text.find(part) != std::string::npos, "\"" + part + "\" is part of: " + outcome.text);
}

std::vector<float> filled(size_t n, double value) { return std::vector<float>(n, static_cast<float>(value)); }

/// The value that rank `from` sends to rank `to`.
double number(int from, int to) { return 1 + from * 10 + to; }

std::vector<std::vector<float>> lists(size_t n, int count, const std::function<double(int)>& value) {
  std::vector<std::vector<float>> all;
  for (int i = 0; i < count; i++) all.push_back(filled(n, value(i)));
  return all;
}

/// The same as one buffer.
std::vector<float> joined(size_t n, int count, const std::function<double(int)>& value) {
  std::vector<float> all;
  for (const auto& part : lists(n, count, value)) all.insert(all.end(), part.begin(), part.end());
  return all;
}

void expect(Rank& rank, const char* name, Way way, Call call, const std::vector<std::vector<float>>& outputs) {
  const Outcome outcome = rank.run(call, way);
  check(outcome.status == C10D_OK, std::string(name) + " succeeds: " + outcome.text);
  check(call.outputs == outputs, std::string(name) + " has the right result");
}

void all_ops(Rank& rank, size_t n, Way way) {
  const int me = rank.rank();
  const int size = rank.size();
  const int root = size - 1;
  const bool at_root = me == root;
  const auto one = [](int from) { return number(from, 0); };
  const auto to = [&](int i) { return number(me, i); };
  const auto from = [&](int i) { return number(i, me); };
  const auto nothing = [](int) { return 0.0; };
  double sum = 0;
  double sum_to_me = 0;
  for (int i = 0; i < size; i++) {
    sum += one(i);
    sum_to_me += number(i, me);
  }
  const auto own = filled(n, one(me));
  const auto blank = filled(n, 0);

  expect(rank, "allReduce", way, {C10D_OP_ALLREDUCE, {}, {own}}, {filled(n, sum)});
  Call average{C10D_OP_ALLREDUCE, {}, {own}};
  average.reduce_op = C10D_AVG;
  expect(rank, "allReduce, AVG", way, average, {filled(n, sum / size)});
  Call largest{C10D_OP_ALLREDUCE, {}, {own}};
  largest.reduce_op = C10D_MAX;
  expect(rank, "allReduce, MAX", way, largest, {filled(n, one(root))});
  // Halves of a float: two zeros of float16 each, to which only zeros are added.
  Call halves{C10D_OP_ALLREDUCE, {}, {blank}};
  halves.dtype = C10D_FLOAT16;
  expect(rank, "allReduce of float16", way, halves, {blank});
  expect(rank, "allReduceCoalesced", way, {C10D_OP_ALLREDUCE_COALESCED, {}, {own, filled(2 * n, 1)}},
         {filled(n, sum), filled(2 * n, size)});
  expect(rank, "broadcast", way, {C10D_OP_BROADCAST, {}, {own}, root}, {filled(n, one(root))});
  Call reduce{C10D_OP_REDUCE, {}, {own}, root};
  const Outcome reduced = rank.run(reduce, way);
  check(reduced.status == C10D_OK, "reduce succeeds: " + reduced.text);
  if (at_root) check(reduce.outputs[0] == filled(n, sum), "reduce has the right result");
  expect(rank, "allGather", way, {C10D_OP_ALLGATHER, {own}, lists(n, size, nothing)}, lists(n, size, one));
  expect(rank, "allGatherIntoTensor", way, {C10D_OP_ALLGATHER_BASE, {own}, {joined(n, size, nothing)}},
         {joined(n, size, one)});
  expect(rank, "allGatherIntoTensorCoalesced", way,
         {C10D_OP_ALLGATHER_COALESCED, {own, own}, {joined(n, size, nothing), joined(n, size, nothing)}},
         {joined(n, size, one), joined(n, size, one)});
  expect(rank, "gather", way, {C10D_OP_GATHER, {own}, lists(n, at_root ? size : 0, nothing), root},
         lists(n, at_root ? size : 0, one));
  expect(rank, "scatter", way, {C10D_OP_SCATTER, lists(n, at_root ? size : 0, to), {blank}, root},
         {filled(n, number(root, me))});
  expect(rank, "reduceScatter", way, {C10D_OP_REDUCE_SCATTER, lists(n, size, to), {blank}}, {filled(n, sum_to_me)});
  expect(rank, "reduceScatterTensor", way, {C10D_OP_REDUCE_SCATTER_BASE, {joined(n, size, to)}, {blank}},
         {filled(n, sum_to_me)});
  expect(rank, "reduceScatterTensorCoalesced", way,
         {C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED, {joined(n, size, to), joined(n, size, to)}, {blank, blank}},
         {filled(n, sum_to_me), filled(n, sum_to_me)});
  expect(rank, "allToAll", way, {C10D_OP_ALLTOALL, lists(n, size, to), lists(n, size, nothing)}, lists(n, size, from));
  expect(rank, "allToAllSingle", way, {C10D_OP_ALLTOALL_BASE, {joined(n, size, to)}, {joined(n, size, nothing)}},
         {joined(n, size, from)});
  // Rank i gets i parts from each.
  std::vector<float> parts;
  std::vector<uint64_t> sent;
  for (int i = 0; i < size; i++) {
    const auto part = filled(n * static_cast<size_t>(i), to(i));
    parts.insert(parts.end(), part.begin(), part.end());
    sent.push_back(part.size());
  }
  const size_t mine = n * static_cast<size_t>(me);
  Call split{C10D_OP_ALLTOALL_BASE, {parts}, {joined(mine, size, nothing)}};
  split.input_splits = sent;
  split.output_splits.assign(static_cast<size_t>(size), mine);
  expect(rank, "allToAllSingle with splits", way, split, {joined(mine, size, from)});
  expect(rank, "barrier", way, {C10D_OP_BARRIER, {}, {}}, {});

  Call send{C10D_OP_SEND, {own}, {}, (me + 1) % size, 7};
  Call recv{C10D_OP_RECV, {}, {blank}, (me + size - 1) % size, 7};
  const int64_t sending = rank.submit(send);
  const Outcome received = rank.run(recv, way);
  check(received.status == C10D_OK && received.peer == recv.peer, "recv succeeds: " + received.text);
  check(recv.outputs[0] == filled(n, one(recv.peer)), "recv returns what was sent");
  check(rank.finish(sending, way).status == C10D_OK, "send succeeds");
}

void ops(Rank& rank) {
  for (const size_t n : {1, 300, 40'000}) {
    for (const Way way : {Way::wait, Way::events}) all_ops(rank, n, way);
  }
  for (const Way way : {Way::wait, Way::events}) {
    if (rank.rank() > 1) continue;
    Call empty{rank.rank() == 0 ? C10D_OP_SEND : C10D_OP_RECV, {}, {}, 1 - rank.rank()};
    (rank.rank() == 0 ? empty.inputs : empty.outputs).resize(1);
    check(rank.run(empty, way).status == C10D_OK, "a message may be empty");
  }
}

/// Messages with few tags and with sizes on both sides of every threshold, and collectives among them, waited for in
/// any order.
void many(Rank& rank) {
  constexpr int kOps = 400;
  const int other = 1 - rank.rank();
  std::mt19937 sizes(1);
  std::mt19937 order(static_cast<unsigned>(rank.rank()));
  std::vector<Call> calls;
  calls.reserve(3 * kOps);
  std::vector<std::pair<int64_t, size_t>> open;
  const auto begin = [&](Call call) {
    calls.push_back(std::move(call));
    open.emplace_back(rank.submit(calls.back()), calls.size() - 1);
  };
  const auto end = [&](size_t i) {
    const auto [id, index] = open[i];
    open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
    const Outcome outcome = rank.finish(id, order() % 2 == 0 ? Way::wait : Way::events);
    if (!check(outcome.status == C10D_OK, "op " + std::to_string(id) + " succeeds: " + outcome.text)) return;
    const Call& call = calls[index];
    // The expected data of a receive is kept as its input.
    if (!call.outputs.empty())
      check(call.outputs[0] == call.inputs[0], "op " + std::to_string(id) + " has its own result");
  };
  for (int i = 0; i < kOps; i++) {
    const size_t n = sizes() % 3 == 0 ? sizes() % 8'000 : sizes() % 40;
    const uint32_t tag = sizes() % 2;
    const bool reduces = sizes() % 4 == 0;
    begin({C10D_OP_SEND, {filled(n, i)}, {}, other, tag});
    begin({C10D_OP_RECV, {filled(n, i)}, {filled(n, -1)}, other, tag});
    if (reduces) begin({C10D_OP_ALLREDUCE, {filled(n, 2 * i)}, {filled(n, i)}});
    while (open.size() > 60) end(order() % 2 == 0 ? 0 : order() % open.size());
    if (failures > 3) return;
  }
  while (!open.empty()) end(0);
}

/// Small and large ops in turn: a small one whose data travels with the comparison ends before an earlier large one.
void overlapping(Rank& rank) {
  constexpr size_t kOps = 60;
  std::vector<Call> calls;
  calls.reserve(kOps);
  std::vector<int64_t> ids;
  for (size_t i = 0; i < kOps; i++) {
    calls.push_back({C10D_OP_ALLREDUCE, {}, {filled(i % 3 == 0 ? 50'000 : i, static_cast<double>(i))}});
    ids.push_back(rank.submit(calls.back()));
    if (i % 7 == static_cast<size_t>(rank.rank())) rank.kick();
  }
  for (size_t i = 0; i < kOps; i++) {
    const size_t at = rank.rank() % 2 == 0 ? i : kOps - 1 - i;
    const Outcome outcome = rank.finish(ids[at], rank.rank() == 0 ? Way::wait : Way::events);
    check(outcome.status == C10D_OK, "op " + std::to_string(at) + " succeeds: " + outcome.text);
    const auto expected = static_cast<double>(at * static_cast<size_t>(rank.size()));
    check(calls[at].outputs[0] == filled(calls[at].outputs[0].size(), expected), "it has its own result");
  }
}

/// All ranks name the same two, whatever else is in flight.
void odd_one(Rank& rank) {
  const bool odd = rank.rank() == rank.size() - 1;
  Call before{C10D_OP_ALLREDUCE, {}, {filled(100'000, 1)}};
  Call differs{C10D_OP_ALLREDUCE, {}, {filled(4, 1)}};
  if (odd) differs.reduce_op = C10D_MAX;
  Call after{C10D_OP_BARRIER};
  rank.submit(before);
  const int64_t id = rank.submit(differs);
  const int64_t last = rank.submit(after);
  const std::string text = "rank 0 called allReduce(float32[4], SUM) as collective #2, rank " +
                           std::to_string(rank.size() - 1) + " called allReduce(float32[4], MAX)";
  check_outcome(rank.finish(id, rank.rank() == 0 ? Way::wait : Way::events), C10D_ERR_DESYNC, -1, text);
  check_outcome(rank.finish(last, Way::events), C10D_ERR_DESYNC, -1, text);
}

/// The last rank calls one of many ops differently: the ops before it succeed on every rank, in whatever order they are
/// waited for.
void one_of_many(Rank& rank) {
  constexpr size_t kOps = 50;
  constexpr size_t kOdd = 30;
  const bool odd = rank.rank() == rank.size() - 1;
  const std::string text = "allReduce(float32[7], SUM) as collective #" + std::to_string(kOdd + 1) + ", rank ";
  std::vector<Call> calls;
  calls.reserve(kOps);
  std::vector<int64_t> ids;
  for (size_t i = 0; i < kOps; i++) {
    const size_t length = i == kOdd ? 7 : i % 3 == 0 ? 50'000 : i + 1;
    calls.push_back({C10D_OP_ALLREDUCE, {}, {filled(length, static_cast<double>(i))}});
    if (odd && i == kOdd) calls.back().reduce_op = C10D_MAX;
    // Some ranks are late.
    if (i == kOps / 2 * static_cast<size_t>(rank.rank() % 2)) std::this_thread::sleep_for(milliseconds(20));
    ids.push_back(rank.submit(calls.back()));
    if (i % 7 == static_cast<size_t>(rank.rank())) rank.kick();
    // The group may have failed by now.
    if (ids.back() < 0) break;
  }
  for (size_t i = 0; i < ids.size(); i++) {
    const size_t at = rank.rank() % 2 == 0 ? i : ids.size() - 1 - i;
    if (ids[at] < 0) continue;
    const Outcome outcome = rank.finish(ids[at], rank.rank() == 0 ? Way::wait : Way::events);
    if (at >= kOdd) {
      check_outcome(outcome, C10D_ERR_DESYNC, -1, text);
      continue;
    }
    check(outcome.status == C10D_OK, "op " + std::to_string(at) + " succeeds: " + outcome.text);
    const auto expected = static_cast<double>(at * static_cast<size_t>(rank.size()));
    check(calls[at].outputs[0] == filled(calls[at].outputs[0].size(), expected), "it has its own result");
  }
  check(ids.size() > kOdd, "the op that differs was submitted");
}

/// The root reaches a gather late, right before calls that differ. The others have not sent all of their data when UCC
/// reports the gather as done, so they have to go on driving UCC until it has arrived.
void late_root(Rank& rank) {
  // More than the buffers of UCX's sockets hold, yet sent long before a mismatch is reported all the same: each time that
  // they are full TCP waits 0.2 s.
  constexpr size_t kLength = 16384;
  const bool root = rank.rank() == 0;
  Call gather{C10D_OP_GATHER,
              {filled(kLength, rank.rank() + 1)},
              lists(kLength, root ? rank.size() : 0, [](int) { return 0; }),
              0};
  Call differs{C10D_OP_ALLREDUCE, {}, {filled(kLength, 1)}};
  if (rank.rank() == 2) differs.reduce_op = C10D_MAX;
  if (root) std::this_thread::sleep_for(milliseconds(20));
  const int64_t earlier = rank.submit(gather);
  const int64_t later = rank.submit(differs);
  const Way way = rank.rank() % 2 == 0 ? Way::wait : Way::events;
  check_outcome(rank.finish(later, way), C10D_ERR_DESYNC, -1, "as collective #2, rank ");
  const Outcome outcome = rank.finish(earlier, way);
  check(outcome.status == C10D_OK, "the gather succeeds: " + outcome.text);
  if (root) check(gather.outputs == lists(kLength, rank.size(), [](int i) { return i + 1; }), "it has all data");
}

/// No rank waits for one that died before it reached the gather.
void dead_before_mismatch(Rank& rank) {
  const int last = rank.size() - 1;
  if (rank.rank() == last) {
    Call go{C10D_OP_RECV, {}, {filled(1, 0)}, 1};
    rank.run(go, Way::wait);
    ::raise(SIGKILL);
  }
  const bool root = rank.rank() == 0;
  Call gather{C10D_OP_GATHER, {filled(1, 1)}, lists(1, root ? rank.size() : 0, [](int) { return 0; }), 0};
  Call differs{C10D_OP_ALLREDUCE, {}, {filled(1, 1)}};
  if (root) differs.reduce_op = C10D_MAX;
  const int64_t earlier = rank.submit(gather);
  const int64_t later = rank.submit(differs);
  if (root) {
    check_outcome(rank.finish(later, Way::events), C10D_ERR_DESYNC, -1, "");
    check(rank.finish(earlier, Way::events).status != C10D_OK, "the gather has no data of the dead rank");
    return;
  }
  check(rank.finish(earlier, Way::events).status == C10D_OK, "the gather succeeds on the ranks whose data was sent");
  // By then both have compared their calls, and both wait.
  std::this_thread::sleep_for(milliseconds(50));
  Call go{C10D_OP_SEND, {filled(1, 0)}, {}, last};
  check(rank.run(go, Way::events).status == C10D_OK, "the last rank receives the message to die");
  const auto died = Clock::now();
  check_outcome(rank.finish(later, Way::events), C10D_ERR_DESYNC, -1, "");
  check(Clock::now() - died < milliseconds(700), "the death ends the wait");
}

void wrong_size(Rank& rank) {
  Call call{C10D_OP_ALLREDUCE, {}, {filled(rank.rank() == 0 ? 4 : 6, 1)}};
  const Outcome outcome = rank.run(call, rank.rank() == 0 ? Way::wait : Way::events);
  check_outcome(outcome, C10D_ERR_DESYNC, 1 - rank.rank(), "allReduce(float32[4], SUM)");
  check_outcome(outcome, C10D_ERR_DESYNC, 1 - rank.rank(), "allReduce(float32[6], SUM)");
  check(rank.state() == C10D_FAILED, "the group has failed");
}

void refused(Rank& rank) {
  const auto add = [&](const char* part) {
    Call call{C10D_OP_ALLREDUCE, {}, {filled(4, 1)}};
    const Outcome outcome = rank.run(call, Way::wait);
    if (part == nullptr)
      return check(outcome.status == C10D_OK, "ranks that all refused an op stay in step: " + outcome.text);
    check_outcome(outcome, C10D_ERR_DESYNC, 1 - rank.rank(), part);
    return true;
  };
  Call nothing{C10D_OP_ALLREDUCE};
  check(rank.submit(nothing) == C10D_ERR_INVALID, "an op without a tensor is refused");
  // Only the rank itself can compare what it sends to itself.
  Call to_itself{C10D_OP_ALLTOALL_BASE, {filled(4, 1)}, {filled(4, 0)}};
  to_itself.input_splits = to_itself.output_splits = {1, 3};
  std::swap(to_itself.output_splits[0], to_itself.output_splits[1]);
  check(rank.submit(to_itself) == C10D_ERR_INVALID, "an all-to-all whose own part does not match is refused");
  add(nullptr);
  if (rank.rank() == 0) check(rank.submit(nothing) == C10D_ERR_INVALID, "an op without a tensor is refused");
  add("as collective #5, rank 1 called allReduce(float32[4], SUM) as collective #4");
}

void wrong_splits(Rank& rank) {
  // Rank 0 sends 3 and expects 3, rank 1 expects 2.
  const uint64_t n = rank.rank() == 0 ? 3 : 2;
  Call call{C10D_OP_ALLTOALL_BASE, {filled(2 * n, 1)}, {filled(2 * n, 0)}};
  call.input_splits = call.output_splits = {n, n};
  check_outcome(rank.run(call, Way::wait), C10D_ERR_DESYNC, 1 - rank.rank(), "expects");
}

void wrong_message(Rank& rank) {
  const size_t large = 100'000;
  Call call{rank.rank() == 0 ? C10D_OP_SEND : C10D_OP_RECV, {}, {}, 1 - rank.rank(), 3};
  (rank.rank() == 0 ? call.inputs : call.outputs).push_back(filled(rank.rank() == 0 ? large : large - 1, 1));
  check_outcome(rank.run(call, Way::wait), C10D_ERR_DESYNC, 1 - rank.rank(),
                "rank 0 sent float32[100000] with tag 3, rank 1 was to receive float32[99999]");
}

/// The sender has left when the receiver finds the mismatch.
void wrong_small_message(Rank& rank) {
  const bool sends = rank.rank() == 0;
  Call call{sends ? C10D_OP_SEND : C10D_OP_RECV, {}, {}, 1 - rank.rank(), 3};
  (sends ? call.inputs : call.outputs).push_back(filled(sends ? 9 : 7, 1));
  const Outcome outcome = rank.run(call, Way::wait);
  if (sends) return void(check(outcome.status == C10D_OK, "a small message is sent: " + outcome.text));
  check_outcome(outcome, C10D_ERR_DESYNC, 0, "rank 0 sent float32[9] with tag 3, rank 1 was to receive float32[7]");
}

void aborted(Rank& rank) {
  Call recv{C10D_OP_RECV, {}, {filled(4, 0)}, 1 - rank.rank()};
  Call reduce{C10D_OP_ALLREDUCE, {}, {filled(4, 0)}};
  const int64_t receiving = rank.submit(recv);
  if (rank.rank() == 0) {
    const int64_t reducing = rank.submit(reduce);
    std::thread aborts([&] {
      std::this_thread::sleep_for(milliseconds(30));
      c10d_abort(rank.group(), C10D_ERR_ABORTED, "enough");
    });
    const Outcome received = rank.finish(receiving, Way::wait);
    const Outcome reduced = rank.finish(reducing, Way::events);
    for (const auto& outcome : {received, reduced}) {
      check_outcome(outcome, C10D_ERR_ABORTED, -1, "enough");
      check(outcome.peer == -1, "a rank that aborts names no peer");
    }
    aborts.join();
  } else {
    check_outcome(rank.finish(receiving, Way::events), C10D_ERR_NETWORK, 0, "the group has failed on rank 0");
  }
  check(rank.submit(reduce) == C10D_ERR_GROUP_FAILED, "a failed group accepts no more ops");
}

void left(Rank& rank) {
  if (rank.rank() == 1) {
    check(rank.close() == 0, "it closes");
    return;
  }
  Call call{C10D_OP_ALLREDUCE, {}, {filled(200'000, 0)}};
  check_outcome(rank.run(call, Way::wait), C10D_ERR_NETWORK, 1, "rank 1 has left the group");
}

void killed(Rank& rank) {
  Call first{C10D_OP_ALLREDUCE, {}, {filled(1, 0)}};
  check(rank.run(first, Way::wait).status == C10D_OK, "the first op succeeds");
  // It dies when the others have completed that op.
  const int last = rank.size() - 1;
  if (rank.rank() == last) {
    for (int other = 0; other < last; other++) {
      Call recv{C10D_OP_RECV, {}, {filled(1, 0)}, other};
      rank.run(recv, Way::wait);
    }
    ::raise(SIGKILL);
  }
  Call send{C10D_OP_SEND, {filled(1, 0)}, {}, last};
  check(rank.run(send, Way::wait).status == C10D_OK, "send succeeds");
  Call call{C10D_OP_ALLREDUCE, {}, {filled(1, 0)}};
  check_outcome(rank.run(call, rank.rank() == 0 ? Way::wait : Way::events), C10D_ERR_NETWORK, last, "");
}

/// The last rank dies when it requests the value of the others with this number.
template <int kDiesAt>
void killed_while_connecting(Rank& rank) {
  const int last = rank.size() - 1;
  const auto began = Clock::now();
  const auto outcome = rank.try_connect(rank.rank() == last ? kDiesAt : -1);
  check_outcome(outcome, C10D_ERR_NETWORK, last, "rank " + std::to_string(last));
  // Long before the time-out.
  check(Clock::now() - began < seconds(30), "the death is noticed");
}

void stopped(Rank& rank) {
  if (rank.rank() == rank.size() - 1) ::raise(SIGSTOP);
  Call call{C10D_OP_ALLREDUCE, {}, {filled(1, 0)}};
  call.timeout_ms = 500;
  check_outcome(rank.run(call, Way::wait), C10D_ERR_OP_TIMEOUT, rank.size() - 1,
                "rank " + std::to_string(rank.size() - 1));
}

/// A collective that the last rank never reaches.
void missing(Rank& rank) {
  const int last = rank.size() - 1;
  Call call{C10D_OP_ALLREDUCE, {}, {filled(2, 0)}};
  check(rank.run(call, Way::wait).status == C10D_OK, "the first op succeeds");
  if (rank.rank() == last) {
    std::this_thread::sleep_for(milliseconds(700));
    return;
  }
  call.timeout_ms = 300;
  const Outcome outcome = rank.run(call, rank.rank() == 0 ? Way::wait : Way::events);
  check_outcome(outcome, C10D_ERR_OP_TIMEOUT, last, "");
}

/// The third rank, which took no part in the message, gets the same failure.
void others_mismatch(Rank& rank) {
  const std::string text = "rank 0 sent float32[9] with tag 3, rank 1 was to receive float32[7]";
  if (rank.rank() == 2) {
    Call call{C10D_OP_ALLREDUCE, {}, {filled(1, 0)}};
    const Outcome outcome = rank.run(call, Way::wait);
    check(outcome.status == C10D_ERR_DESYNC && outcome.text.find(text) != std::string::npos, outcome.text);
    return;
  }
  wrong_small_message(rank);
  if (rank.rank() == 1) return;
  Call call{C10D_OP_ALLREDUCE, {}, {filled(1, 0)}};
  check_outcome(rank.run(call, Way::events), C10D_ERR_DESYNC, 1, text);
}

void alone(Rank& rank) {
  std::this_thread::sleep_for(milliseconds(20));
  check(rank.close() == 0, "it closes while it connects");
}

/// Makes UCX log an error.
void log_error(const char* text) {
  struct {
    int level;
    char name[16];
    const char* files;
  } const component{1, "TEST", "*"};
  void* const library = ::dlopen("libucs.so.0", RTLD_NOW | RTLD_NOLOAD);
  const auto dispatch =
      reinterpret_cast<void (*)(const char*, unsigned, const char*, int, const void*, const char*, ...)>(
          library == nullptr ? nullptr : ::dlsym(library, "ucs_log_dispatch"));
  if (check(dispatch != nullptr, "UCX can be made to log")) dispatch("test.c", 1, "test", 1, &component, "%s", text);
}

/// One thread serves two groups.
void logs(Rank&) {
  using namespace ucc_shim;
  log_error("of no group");
  check(!logged_error() && take_logged_error().empty(), "an error outside of calls belongs to no group");
  Log first;
  Log second;
  {
    const Log::Call call(first);
    check(!logged_error(), "an error outside of calls does not belong to the next group");
    log_error("of the first");
    log_error("a consequence");
  }
  {
    const Log::Call call(second);
    check(!logged_error(), "an error of another group does not belong to this one");
    log_error("of the second");
    check(take_logged_error() == "of the second", "a group has its own error");
  }
  const Log::Call call(first);
  check(logged_error() && take_logged_error() == "of the first", "the first error is kept");
  check(!logged_error(), "it is returned once");
}

void besieged(Rank& rank) {
  Call call{C10D_OP_ALLREDUCE, {}, {filled(3, 1)}};
  check(rank.run(call, Way::wait).status == C10D_OK && call.outputs[0] == filled(3, 2),
        "the ranks have found each other");
}

constexpr int kOtherUser = 65534;
constexpr int kHeld = 64;
/// It would take longer if the strangers were given the time limit of a handshake one after the other.
constexpr seconds kSiegeLimit{8};

/// Connects to every local socket that the ranks listen on and sends nothing; as another user, if it may change its
/// user.
[[noreturn]] void besiege() {
  if (::geteuid() == 0 && (::setgid(kOtherUser) != 0 || ::setuid(kOtherUser) != 0)) ::_exit(1);
  std::map<std::string, int> held;
  for (;;) {
    std::ifstream table("/proc/net/unix");
    std::string line;
    while (std::getline(table, line)) {
      const auto at = line.rfind('@');
      // Of type SOCK_STREAM, and listening.
      if (at == std::string::npos || line.find(" 00010000 0001 01 ") == std::string::npos) continue;
      const std::string name = line.substr(at + 1);
      while (held[name] < kHeld) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        name.copy(address.sun_path + 1, sizeof address.sun_path - 1);
        const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
        const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (::connect(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) {
          ::close(fd);
          break;
        }
        ucred owner{};
        socklen_t owner_size = sizeof owner;
        ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &owner_size);
        // Leave sockets of other programs alone.
        const bool ours = ::getpgid(owner.pid) == ::getpgid(0);
        if (!ours) ::close(fd);
        held[name] += ours ? 1 : kHeld;
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

enum class Last { ends_well, is_killed, stops };

struct Scenario {
  const char* name;
  int ranks;
  void (*body)(Rank&);
  Last last = Last::ends_well;
  bool connects = true;
  bool besieged = false;
  /// Ranks per host, as the shim sees it; 0 for all on one host.
  int per_host = 0;
  bool hashes = false;
  /// UCX sends over TCP, little at a time.
  bool slow = false;
};

constexpr Scenario kScenarios[] = {
    {"all ops, 1 rank", 1,
     [](Rank& rank) {
       Call call{C10D_OP_ALLREDUCE, {}, {filled(3, 2)}};
       check(rank.run(call, Way::wait).status == C10D_OK && call.outputs[0] == filled(3, 2), "one rank reduces");
     }},
    {"all ops, 2 ranks", 2, ops},
    {"all ops, 3 ranks", 3, ops},
    {"many at the same time", 2, many},
    {"one of many differs, 2 ranks", 2, one_of_many},
    {"one of many differs, 3 ranks", 3, one_of_many},
    {"the root of a gather is late, and the next calls differ", 4, late_root, Last::ends_well, true, false, 0, false,
     true},
    {"a rank is killed before a gather, and the next calls differ", 3, dead_before_mismatch, Last::is_killed},
    {"all-reduces of different sizes", 2, wrong_size},
    {"an op refused by one rank", 2, refused},
    {"splits that do not match", 2, wrong_splits},
    {"a message of another size", 2, wrong_message},
    {"abort", 2, aborted},
    {"a rank leaves", 2, left},
    {"a rank is killed", 3, killed, Last::is_killed},
    {"a rank is killed before it connects", 3, killed_while_connecting<0>, Last::is_killed, false},
    {"a rank is killed while a context is made", 3, killed_while_connecting<2>, Last::is_killed, false},
    {"a rank is killed while a team is made", 3, killed_while_connecting<5>, Last::is_killed, false},
    {"a rank stops", 2, stopped, Last::stops},
    {"closed while connecting", 1, alone, Last::ends_well, false},
    {"errors in the log", 1, logs},
    {"silent strangers", 2, besieged, Last::ends_well, true, true},
    {"2 hosts, all ops, 2 ranks", 2, ops, Last::ends_well, true, false, 1},
    {"2 hosts, all ops, 3 ranks, one of them alone", 3, ops, Last::ends_well, true, false, 2},
    {"2 hosts, all ops, 3 ranks, by hashes", 3, ops, Last::ends_well, true, false, 2, true},
    {"2 hosts, many at the same time", 2, many, Last::ends_well, true, false, 1},
    {"2 hosts, many at the same time, by hashes", 2, many, Last::ends_well, true, false, 1, true},
    {"2 hosts, collectives in flight together", 3, overlapping, Last::ends_well, true, false, 2},
    {"2 hosts, collectives in flight together, by hashes", 3, overlapping, Last::ends_well, true, false, 2, true},
    {"2 hosts, an op refused by one rank", 2, refused, Last::ends_well, true, false, 1},
    {"2 hosts, an op refused by one rank, by hashes", 2, refused, Last::ends_well, true, false, 1, true},
    {"2 hosts, splits that do not match", 2, wrong_splits, Last::ends_well, true, false, 1},
    {"2 hosts, splits that do not match, by hashes", 2, wrong_splits, Last::ends_well, true, false, 1, true},
    {"2 hosts, one of many differs", 3, one_of_many, Last::ends_well, true, false, 2},
    {"2 hosts, one of many differs, by hashes", 3, one_of_many, Last::ends_well, true, false, 2, true},
    {"2 hosts, the last of 3 ranks calls something else", 3, odd_one, Last::ends_well, true, false, 2},
    {"2 hosts, the last of 3 ranks calls something else, by hashes", 3, odd_one, Last::ends_well, true, false, 2, true},
    {"2 hosts, the last of 14 ranks, which compare hashes, calls something else", 14, odd_one, Last::ends_well, true,
     false, 7},
    {"2 hosts, a message of another size", 2, wrong_small_message, Last::ends_well, true, false, 1},
    {"a message of another size, and a third rank", 3, others_mismatch},
    {"2 hosts, a message of another size, and a third rank", 3, others_mismatch, Last::ends_well, true, false, 2},
    {"a rank does not join", 3, missing},
    {"2 hosts, a rank does not join", 3, missing, Last::ends_well, true, false, 2},
    {"3 hosts, a rank does not join", 3, missing, Last::ends_well, true, false, 1},
    {"2 hosts, abort", 2, aborted, Last::ends_well, true, false, 1},
    {"2 hosts, a rank leaves", 2, left, Last::ends_well, true, false, 1},
    {"2 hosts, a rank is killed", 3, killed, Last::is_killed, true, false, 2},
    {"2 hosts, a rank is killed before it connects", 3, killed_while_connecting<2>, Last::is_killed, false, false, 2},
    {"3 hosts, a rank is killed before it connects", 3, killed_while_connecting<2>, Last::is_killed, false, false, 1},
    {"2 hosts, a rank is killed while a context is made", 3, killed_while_connecting<4>, Last::is_killed, false, false,
     2},
    {"2 hosts, a rank stops", 2, stopped, Last::stops, true, false, 1},
};

void send_slowly() {
  for (const auto& [name, value] : std::map<const char*, const char*>{
           {"UCX_TLS", "tcp,self"}, {"UCX_RNDV_THRESH", "inf"}, {"UCX_TCP_SNDBUF", "8k"}, {"UCX_TCP_RCVBUF", "8k"}}) {
    ::setenv(name, value, 1);
  }
}

[[noreturn]] void run_rank(const Scenario& scenario, int rank, const std::filesystem::path& folder) {
  try {
    if (scenario.slow) send_slowly();
    // If it does not connect, the group has one more rank, which never joins, unless one dies.
    std::vector<std::string> options;
    if (scenario.per_host > 0) options.push_back("machine=" + std::to_string(rank / scenario.per_host));
    if (scenario.hashes) options.push_back("hashes=1");
    const int more = scenario.connects || scenario.last == Last::is_killed ? 0 : 1;
    Rank self(rank, scenario.ranks + more, folder, options, scenario.connects);
    scenario.body(self);
  } catch (const std::exception& error) {
    check(false, std::string("no exception: ") + error.what());
  }
  std::exit(failures == 0 ? 0 : 1);
}

bool as_expected(const Scenario& scenario, size_t rank, int status) {
  const bool last = static_cast<int>(rank) == scenario.ranks - 1;
  if (last && scenario.last != Last::ends_well) return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// Waits for the ranks. Kills a stopped one when the others have ended, and all that run too long.
bool watch(const Scenario& scenario, const std::vector<pid_t>& ranks) {
  const auto deadline = Clock::now() + kLimit;
  std::vector<bool> ended(ranks.size());
  size_t left = ranks.size();
  bool well = true;
  while (left > 0) {
    const bool late = Clock::now() > deadline;
    for (size_t rank = 0; rank < ranks.size(); rank++) {
      if (ended[rank]) continue;
      if (late || (left == 1 && scenario.last == Last::stops && rank + 1 == ranks.size())) ::kill(ranks[rank], SIGKILL);
      int status = 0;
      if (::waitpid(ranks[rank], &status, late ? 0 : WNOHANG) != ranks[rank]) continue;
      ended[rank] = true;
      left--;
      if (as_expected(scenario, rank, status) && !late) continue;
      well = false;
      std::fprintf(stderr, "  rank %zu: status %d%s\n", rank, status, late ? ", too late" : "");
    }
    std::this_thread::sleep_for(milliseconds(2));
  }
  return well;
}

bool run(const Scenario& scenario) {
  const auto began = Clock::now();
  auto name = (std::filesystem::temp_directory_path() / "c10d-ucc-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  const pid_t stranger = scenario.besieged ? ::fork() : -1;
  if (stranger == 0) besiege();
  std::vector<pid_t> ranks;
  for (int rank = 0; rank < scenario.ranks; rank++) {
    const pid_t child = ::fork();
    if (child == 0) run_rank(scenario, rank, name);
    if (child > 0) ranks.push_back(child);
  }
  const bool well = watch(scenario, ranks) && ranks.size() == static_cast<size_t>(scenario.ranks);
  if (stranger > 0) {
    ::kill(stranger, SIGKILL);
    int status = 0;
    ::waitpid(stranger, &status, 0);
    check(WIFSIGNALED(status), "the stranger ran until the end");
  }
  std::filesystem::remove_all(name);
  const std::chrono::duration<double> took = Clock::now() - began;
  if (scenario.besieged) check(took < kSiegeLimit, "strangers delay no rank");
  std::printf("%s %s (%.2f s)\n", well && failures == 0 ? "ok" : "FAILED", scenario.name, took.count());
  std::fflush(stdout);
  return well && failures == 0;
}

/// In a process of its own, since child processes must not share what UCX creates when it is loaded.
bool available() {
  const pid_t child = ::fork();
  if (child == 0) {
    char version[64];
    const int32_t length = c10d_probe(version, sizeof version);
    std::printf("UCC %s\n",
                length < 0 ? last_error().c_str() : std::string(version, static_cast<size_t>(length)).c_str());
    std::fflush(stdout);
    ::_exit(length < 0 ? 1 : 0);
  }
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace
}  // namespace c10d::test

/// `ucc_test [part of a scenario's name]`
int main(int count, char** arguments) {
  using namespace c10d::test;
  if (!available()) {
    const char* const required = std::getenv("C10D_REQUIRE_BACKENDS");
    return required != nullptr && std::strstr(required, "ucc") != nullptr ? 1 : kSkipped;
  }
  bool well = true;
  for (const auto& scenario : kScenarios) {
    if (count < 2 || std::strstr(scenario.name, arguments[1]) != nullptr) well = run(scenario) && well;
  }
  return well ? 0 : 1;
}
