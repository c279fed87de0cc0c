// One rank of a job that drives the shim through its C symbols, as the host does; `mpirun -n 3 mpi_shim_test multiple`.
// It exists for the sanitizers: the results of ops are tested from TypeScript, far more thoroughly.
#include <dlfcn.h>
#include <mpi.h>
#include <poll.h>
#include <unistd.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "c10d.h"
#include "process/mpi_host.h"
#include "tests/failure_view.h"

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Nothing takes this long, even with a sanitizer on a loaded machine.
constexpr double kLimitMs = 60'000;

int rank = 0;
int size = 1;
std::string folder;
std::atomic<int> group_names{0};

/// While set, MPI_Test does not return.
std::atomic<bool> tests_block{false};
std::atomic<int> tests_blocked{0};

void require(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "rank %d of %d: %s\n", rank, size, what.c_str());
  std::fflush(stderr);
  c10d_mpi_end(1);
  std::_Exit(1);
}

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

template <class Condition>
void until(const std::string& what, Condition condition) {
  const auto start = Clock::now();
  while (!condition()) {
    require(ms_since(start) < kLimitMs, "timed out waiting for " + what);
    std::this_thread::sleep_for(milliseconds(1));
  }
}

/// The store: one file per key, in a folder that all ranks can access.
void store_set(const std::string& key, const std::vector<char>& value) {
  const std::string path = folder + "/" + key;
  const std::string draft = path + "." + std::to_string(rank);
  std::ofstream(draft, std::ios::binary).write(value.data(), static_cast<std::streamsize>(value.size()));
  require(std::rename(draft.c_str(), path.c_str()) == 0, "cannot write " + path);
}

bool store_get(const std::string& key, std::vector<char>& value) {
  std::ifstream file(folder + "/" + key, std::ios::binary);
  if (!file) return false;
  value.assign(std::istreambuf_iterator<char>(file), {});
  return true;
}

/// Waits until all ranks have called it, without MPI.
void meet(const std::string& name) {
  store_set("meet." + name + "." + std::to_string(rank), {});
  std::vector<char> ignored;
  for (int other = 0; other < size; other++) {
    until("rank " + std::to_string(other) + " at " + name,
          [&] { return store_get("meet." + name + "." + std::to_string(other), ignored); });
  }
}

struct Result {
  int32_t status = 0;
  int32_t peer = -1;
  uint32_t flags = 0;
  std::string text;
};

/// How a rank fails to make a group.
struct LateRank {
  /// Of c10d_mpi_take_turn().
  uint32_t turn;
  /// Limit of connecting.
  double limit_ms;
  /// The key of the store whose request is never answered.
  std::string unanswered;
};

class Group {
 public:
  /// `most_direct`: up to how many ranks each sends to all others at once.
  explicit Group(std::string name, int most_direct = 16, const LateRank* late = nullptr)
      : name_(std::move(name)), late_(late) {
    std::string ranks;
    for (int i = 0; i < size; i++) ranks += (i == 0 ? "" : ",") + std::to_string(i);
    options_ = "ranks=" + ranks + '\0' + "name=" + name_ + '\0' + "most_direct=" + std::to_string(most_direct) + '\0';
    if (late_ != nullptr) options_ += "turn=" + std::to_string(late_->turn) + '\0';
    c10d_config config{};
    config.size = sizeof config;
    config.rank = rank;
    config.world_size = size;
    config.timeout_ms = late_ == nullptr ? kLimitMs : late_->limit_ms;
    config.options = reinterpret_cast<uint64_t>(options_.data());
    config.options_bytes = options_.size();
    group_ = c10d_create(&config);
    require(group_ != nullptr, std::string("c10d_create: ") + c10d::test::last_error());
    fd_ = c10d_wake_fd(group_);
    until("group " + name_, [this] {
      drain(0);
      return ready_;
    });
  }
  ~Group() {
    if (group_ != nullptr) close();
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  void close() {
    const int32_t left = c10d_close(group_, failed_ ? 50 : 10'000);
    // A group with ops that MPI cannot cancel stays.
    require(left == 0 || failed_, "group " + name_ + " could not be closed");
    ::close(fd_);
    group_ = nullptr;
  }

  int64_t submit(const c10d_op& op) {
    const int64_t id = c10d_submit(group_, &op, 1);
    require(id > 0, "group " + name_ + " refuses: " + c10d::test::last_error());
    return id;
  }
  void kick() { c10d_kick(group_); }
  c10d_group* handle() { return group_; }

  /// Waits as `wait()` does.
  Result wait(int64_t id) {
    c10d_event event{};
    const int32_t status = c10d_wait(group_, static_cast<uint64_t>(id), kLimitMs, &event, sizeof event);
    require(status != C10D_ERR_WAIT_TIMEOUT, "an op did not end");
    return take(event, status);
  }
  /// Waits as `await` does.
  Result await(int64_t id) {
    until("op " + std::to_string(id) + " of group " + name_, [&] {
      drain(5);
      return results_.count(id) > 0;
    });
    return results_[id];
  }
  void run(const c10d_op& op, bool waits) {
    const int64_t id = submit(op);
    if (!waits) kick();
    const Result result = waits ? wait(id) : await(id);
    require(result.status == C10D_OK, "op " + std::to_string(op.opcode) + " failed: " + result.text);
  }

 private:
  Result take(const c10d_event& event, int32_t status) {
    Result result{status, event.peer, event.flags, ""};
    if (status != C10D_OK) {
      failed_ = true;
      result.text = c10d::test::take_failure(group_, event.id).text;
    }
    return result;
  }

  void drain(int poll_ms) {
    pollfd source{fd_, POLLIN, 0};
    ::poll(&source, 1, poll_ms);
    char bytes[64];
    if (source.revents != 0) {
      [[maybe_unused]] const auto got = ::read(fd_, bytes, sizeof bytes);
    }
    c10d_event events[16];
    for (int32_t count = 16; count == 16;) {
      count = c10d_drain(group_, events, sizeof events[0], 16);
      for (int32_t i = 0; i < count; i++) handle(events[i]);
    }
    for (auto it = asked_.begin(); it != asked_.end();) {
      std::vector<char> value;
      if (!store_get(it->second, value)) {
        ++it;
        continue;
      }
      c10d_exchange_reply(group_, it->first, C10D_OK, value.data(), static_cast<uint32_t>(value.size()));
      it = asked_.erase(it);
    }
  }

  void handle(const c10d_event& event) {
    if (event.kind == C10D_EVENT_READY) {
      failed_ = event.status != C10D_OK;
      require(failed_ == (late_ != nullptr), "group " + name_ + (failed_ ? " could not be made" : " was made"));
      ready_ = true;
    } else if (event.kind == C10D_EVENT_COMPLETE) {
      results_[static_cast<int64_t>(event.id)] = take(event, event.status);
    } else if (event.kind == C10D_EVENT_STORE_SET || event.kind == C10D_EVENT_STORE_GET) {
      std::string key(event.key_bytes, '\0');
      std::vector<char> value(event.value_bytes);
      c10d_exchange_read(group_, event.id, key.data(), event.key_bytes, value.data(), event.value_bytes);
      for (char& c : key) c = c == '/' ? '.' : c;
      if (late_ != nullptr && key == late_->unanswered) return;
      key = name_ + "." + key;
      if (event.kind == C10D_EVENT_STORE_GET) {
        asked_[event.id] = key;
      } else {
        store_set(key, value);
        c10d_exchange_reply(group_, event.id, C10D_OK, nullptr, 0);
      }
    }
  }

  const std::string name_;
  const LateRank* const late_;
  std::string options_;
  c10d_group* group_ = nullptr;
  int fd_ = -1;
  bool ready_ = false;
  bool failed_ = false;
  std::map<uint64_t, std::string> asked_;
  std::map<int64_t, Result> results_;
};

using Floats = std::vector<float>;

/// An op with its tables.
struct Request {
  explicit Request(uint32_t opcode) {
    op.size = sizeof op;
    op.opcode = opcode;
    op.dtype = C10D_FLOAT32;
    op.peer = -1;
    op.timeout_ms = kLimitMs;
    op.premul_factor = 1;
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  template <class Element>
  Request& in(const std::vector<Element>& data) {
    return in(data.data(), data.size());
  }
  template <class Element>
  Request& in(const Element* data, size_t count) {
    inputs.push_back({reinterpret_cast<uint64_t>(data), count * sizeof(Element)});
    return set();
  }
  template <class Element>
  Request& out(std::vector<Element>& data) {
    outputs.push_back({reinterpret_cast<uint64_t>(data.data()), data.size() * sizeof(Element)});
    return set();
  }
  Request& peer(int to) {
    op.peer = to;
    return *this;
  }
  Request& limit(double ms) {
    op.timeout_ms = ms;
    return *this;
  }
  Request& set() {
    op.inputs = reinterpret_cast<uint64_t>(inputs.data());
    op.input_count = static_cast<uint32_t>(inputs.size());
    op.outputs = reinterpret_cast<uint64_t>(outputs.data());
    op.output_count = static_cast<uint32_t>(outputs.size());
    return *this;
  }

  c10d_op op{};
  std::vector<c10d_buffer> inputs;
  std::vector<c10d_buffer> outputs;
};

void check(const Floats& data, const std::function<double(size_t)>& expected, const char* what) {
  for (size_t i = 0; i < data.size(); i++) {
    require(data[i] == static_cast<float>(expected(i)), std::string(what) + ": element " + std::to_string(i) + " is " +
                                                            std::to_string(data[i]) + ", not " +
                                                            std::to_string(expected(i)));
  }
}

/// Each kind of op once, ended by c10d_wait() or by its event.
void all_ops(Group& group, bool waits) {
  const auto n = static_cast<size_t>(size);
  const auto me = static_cast<size_t>(rank);
  const double total = size * (size + 1) / 2.0;
  const int root = size - 1;
  for (const size_t length : {size_t{1}, size_t{1000}, size_t{100'003}}) {
    Floats data(length, static_cast<float>(rank + 1));
    group.run(Request(C10D_OP_ALLREDUCE).out(data).op, waits);
    check(
        data, [&](size_t) { return total; }, "all-reduce");
    data.assign(length, static_cast<float>(rank));
    group.run(Request(C10D_OP_BROADCAST).out(data).peer(root).op, waits);
    check(
        data, [&](size_t) { return root; }, "broadcast");
    data.assign(length, static_cast<float>(rank + 1));
    group.run(Request(C10D_OP_REDUCE).out(data).peer(root).op, waits);
    if (rank == root)
      check(
          data, [&](size_t) { return total; }, "reduce");
  }
  // By an operation of our own, and divided afterwards.
  std::vector<uint16_t> halves(300, 0x3f80);  // 1 in bfloat16
  Request average(C10D_OP_ALLREDUCE);
  average.out(halves).op.dtype = C10D_BFLOAT16;
  average.op.reduce_op = C10D_AVG;
  group.run(average.op, waits);
  require(halves[299] == 0x3f80, "average of bfloat16");

  Floats first(10, 1), second(7, 2);
  group.run(Request(C10D_OP_ALLREDUCE_COALESCED).out(first).out(second).op, waits);
  check(
      first, [&](size_t) { return size; }, "all-reduce of a list");
  check(
      second, [&](size_t) { return 2 * size; }, "all-reduce of a list");

  const Floats own(5, static_cast<float>(rank));
  std::vector<Floats> parts(n, Floats(5, -1));
  Request gathering(C10D_OP_ALLGATHER);
  gathering.in(own);
  for (auto& part : parts) gathering.out(part);
  group.run(gathering.op, waits);
  for (size_t i = 0; i < n; i++)
    check(
        parts[i], [&](size_t) { return static_cast<double>(i); }, "all-gather");
  Floats whole(5 * n), again(5 * n);
  group.run(Request(C10D_OP_ALLGATHER_BASE).in(own).out(whole).op, waits);
  check(
      whole, [](size_t i) { return static_cast<double>(i / 5); }, "all-gather into a tensor");
  group.run(Request(C10D_OP_ALLGATHER_COALESCED).in(own).in(own).out(whole).out(again).op, waits);
  check(
      again, [](size_t i) { return static_cast<double>(i / 5); }, "all-gather of a list");

  for (auto& part : parts) part.assign(5, -1);
  Request collecting(C10D_OP_GATHER);
  collecting.in(own).peer(root);
  if (rank == root) {
    for (auto& part : parts) collecting.out(part);
  }
  group.run(collecting.op, waits);
  if (rank == root)
    check(
        parts[0], [](size_t) { return 0; }, "gather");

  std::vector<Floats> slices;
  for (size_t i = 0; i < n; i++) slices.emplace_back(5, static_cast<float>(10 * i));
  Floats slice(5);
  Request scattering(C10D_OP_SCATTER);
  scattering.out(slice).peer(root);
  if (rank == root) {
    for (const auto& each : slices) scattering.in(each);
  }
  group.run(scattering.op, waits);
  check(
      slice, [&](size_t) { return 10.0 * rank; }, "scatter");

  Request reducing(C10D_OP_REDUCE_SCATTER);
  reducing.out(slice);
  for (const auto& each : slices) reducing.in(each);
  group.run(reducing.op, waits);
  check(
      slice, [&](size_t) { return 10.0 * rank * size; }, "reduce-scatter");
  Floats input(5 * n);
  for (size_t i = 0; i < input.size(); i++) input[i] = static_cast<float>(i);
  Request halving(C10D_OP_REDUCE_SCATTER_BASE);
  halving.in(input).out(slice).op.reduce_op = C10D_PREMUL_SUM;
  halving.op.premul_factor = 2;
  group.run(halving.op, waits);
  check(
      slice, [&](size_t i) { return 2.0 * size * static_cast<double>(5 * me + i); }, "reduce-scatter of a tensor");
  Floats other(5);
  group.run(Request(C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED).in(input).in(input).out(slice).out(other).op, waits);
  check(
      other, [&](size_t i) { return static_cast<double>(size) * static_cast<double>(5 * me + i); },
      "reduce-scatter of a list");

  Request swapping(C10D_OP_ALLTOALL);
  for (const auto& each : slices) swapping.in(each);
  for (auto& part : parts) swapping.out(part);
  group.run(swapping.op, waits);
  for (const auto& part : parts)
    check(
        part, [&](size_t) { return 10.0 * rank; }, "all-to-all");
  group.run(Request(C10D_OP_ALLTOALL_BASE).in(input).out(whole).op, waits);
  check(
      whole, [&](size_t i) { return static_cast<double>(5 * me + i % 5); }, "all-to-all of a tensor");
  std::vector<uint64_t> splits(n, 5);
  Request uneven(C10D_OP_ALLTOALL_BASE);
  uneven.in(input).out(again);
  uneven.op.input_splits = uneven.op.output_splits = reinterpret_cast<uint64_t>(splits.data());
  uneven.op.input_split_count = uneven.op.output_split_count = static_cast<uint32_t>(n);
  group.run(uneven.op, waits);
  require(again == whole, "all-to-all by splits");

  group.run(Request(C10D_OP_BARRIER).op, waits);
  Request monitored(C10D_OP_BARRIER);
  monitored.op.flags = C10D_FLAG_MONITORED | C10D_FLAG_WAIT_ALL_RANKS;
  group.run(monitored.op, waits);

  for (const size_t length : {size_t{3}, size_t{300'000}}) {
    const Floats message(length, static_cast<float>(rank));
    Floats received(length);
    const int from = (rank + size - 1) % size;
    const int64_t sent = group.submit(Request(C10D_OP_SEND).in(message).peer((rank + 1) % size).op);
    group.kick();
    const bool any = length == 3;
    Request receiving(any ? C10D_OP_RECV_ANY_SOURCE : C10D_OP_RECV);
    group.run(receiving.out(received).peer(any ? -1 : from).op, waits);
    check(
        received, [&](size_t) { return from; }, "a message");
    require((waits ? group.wait(sent) : group.await(sent)).status == C10D_OK, "send");
  }
}

/// Several ops at once, in two groups that are driven by one host thread each.
void side_by_side(Group& a, Group& b) {
  const auto work = [](Group& group, bool waits) {
    for (int round = 0; round < 15; round++) {
      std::vector<Floats> data(12, Floats(100, 1));
      std::vector<int64_t> ids;
      for (auto& each : data) ids.push_back(group.submit(Request(C10D_OP_ALLREDUCE).out(each).op));
      group.kick();
      for (const int64_t id : ids) {
        require((waits ? group.wait(id) : group.await(id)).status == C10D_OK, "one of several all-reduces");
      }
      for (const auto& each : data)
        check(
            each, [](size_t) { return size; }, "one of several all-reduces");
    }
  };
  std::thread thread(work, std::ref(a), true);
  work(b, false);
  thread.join();
}

void expect_failure(const Result& result, int32_t status, const std::string& text) {
  require(result.status == status && result.text.find(text) != std::string::npos,
          "an op ended with status " + std::to_string(result.status) + ", \"" + result.text + "\", not with " +
              std::to_string(status) + ", \"" + text + "\"");
}

/// Rank 0 times out, aborts, or leaves; the others have an op that would take much longer.
void failures() {
  const int last = size - 1;
  {
    Group group("timeout");
    Floats data(4);
    if (rank == 0) {
      const int64_t id = group.submit(Request(C10D_OP_RECV).out(data).peer(last).limit(150).op);
      group.kick();
      expect_failure(group.await(id), C10D_ERR_OP_TIMEOUT, "timed out after 150 ms");
    } else {
      const c10d_status status = rank == last ? C10D_ERR_NETWORK : C10D_ERR_OP_TIMEOUT;
      expect_failure(
          group.wait(group.submit(Request(C10D_OP_ALLREDUCE).out(data).op)), status,
          rank == last ? "rank 0 has given up the group: timed out after 150 ms" : "rank 0: timed out after 150 ms");
    }
    meet("timeout");
  }
  {
    Group group("abort");
    Floats data(4);
    if (rank == 0) {
      const int64_t id = group.submit(Request(C10D_OP_ALLREDUCE).out(data).op);
      std::thread aborting([&group] {
        std::this_thread::sleep_for(milliseconds(50));
        c10d_abort(group.handle(), C10D_ERR_ABORTED, "the test aborts");
      });
      // Without the others, which begin only when it has ended.
      expect_failure(group.wait(id), C10D_ERR_ABORTED, "the test aborts");
      aborting.join();
      meet("aborted");
    } else {
      meet("aborted");
      const int64_t id = group.submit(Request(C10D_OP_RECV).out(data).peer(0).op);
      group.kick();
      expect_failure(group.await(id), C10D_ERR_NETWORK, "rank 0 has given up the group: the test aborts");
    }
    meet("abort");
    group.close();
  }
  {
    Group group("leave");
    Floats data(4), message(3);
    group.run(Request(C10D_OP_ALLREDUCE).out(data).op, true);
    if (rank == last) {
      // It waits for no other rank.
      group.close();
    } else {
      expect_failure(group.wait(group.submit(Request(C10D_OP_ALLREDUCE).out(data).op)), C10D_ERR_NETWORK,
                     "rank " + std::to_string(last) + " has closed the group");
    }
    meet("leave");
  }
  {
    Group group("leave a recv");
    Floats message(3);
    if (rank == last) {
      group.close();
    } else {
      const int64_t id = group.submit(Request(C10D_OP_RECV).out(message).peer(last).op);
      group.kick();
      expect_failure(group.await(id), C10D_ERR_NETWORK, "rank " + std::to_string(last) + " has closed the group");
    }
    meet("leave a recv");
  }
}

/// After an op was refused: for a late rank the group has already failed because of two others.
void expect_failed_by(const std::string& text) {
  const std::string error = c10d::test::last_error();
  require(error.find(text) != std::string::npos, "the group has failed with \"" + error + "\", not with " + text);
}

/// The last rank makes another call than the others; all get an error with both calls.
void out_of_step(int most_direct) {
  const std::string suffix = " " + std::to_string(most_direct);
  const auto differ = [&](const std::string& name, size_t usual, size_t other, const std::string& text) {
    Group group(name + suffix, most_direct);
    Floats data(rank == size - 1 ? other : usual, 1);
    group.run(Request(C10D_OP_BARRIER).op, true);
    const int64_t id = c10d_submit(group.handle(), &Request(C10D_OP_ALLREDUCE).out(data).set().op, 1);
    if (id < 0) {
      expect_failed_by(text);
    } else {
      if (most_direct == 1) group.kick();
      expect_failure(most_direct == 1 ? group.await(id) : group.wait(id), C10D_ERR_DESYNC, text);
    }
    meet(name + suffix);
  };
  differ("small sizes", 4, 5, "called allReduce(float32[5], SUM)");
  differ("a large size and a small one", 300'000, 5, "called allReduce(float32[300000], SUM)");
  differ("large sizes", 300'000, 300'100, "called allReduce(float32[300100], SUM)");
  {
    // The ops before the call that differs succeed, in whatever order they are waited for.
    Group group("one of many" + suffix, most_direct);
    constexpr size_t kOps = 50;
    constexpr size_t kOdd = 30;
    std::vector<Floats> data;
    std::vector<int64_t> ids;
    for (size_t i = 0; i < kOps; i++) {
      data.emplace_back(i == kOdd ? 7 : i % 3 == 0 ? 50'000 : i + 1, static_cast<float>(i));
      Request request(C10D_OP_ALLREDUCE);
      if (rank == size - 1 && i == kOdd) request.op.reduce_op = C10D_MAX;
      const int64_t id = c10d_submit(group.handle(), &request.out(data.back()).set().op, 1);
      if (id < 0) {
        expect_failed_by("called allReduce(float32[7], MAX)");
        break;
      }
      ids.push_back(id);
      if (i % 7 == static_cast<size_t>(rank)) group.kick();
    }
    group.kick();
    for (size_t i = 0; i < ids.size(); i++) {
      const size_t at = rank % 2 == 0 ? i : ids.size() - 1 - i;
      const Result result = rank == 0 ? group.wait(ids[at]) : group.await(ids[at]);
      if (at >= kOdd) {
        expect_failure(result, C10D_ERR_DESYNC, "called allReduce(float32[7], MAX)");
        continue;
      }
      require(result.status == C10D_OK, "op " + std::to_string(at) + " succeeds: " + result.text);
      check(
          data[at], [&](size_t) { return static_cast<double>(at) * size; }, "an op before the one that differs");
    }
    meet("one of many" + suffix);
  }
  {
    Group group("another op" + suffix, most_direct);
    Floats data(4, 1);
    Request request(rank == size - 1 ? C10D_OP_BROADCAST : C10D_OP_ALLREDUCE);
    const Result result = group.wait(group.submit(request.out(data).peer(0).op));
    expect_failure(result, C10D_ERR_DESYNC, "called broadcast(float32[4], root 0)");
    expect_failure(result, C10D_ERR_DESYNC, "called allReduce(float32[4], SUM)");
    meet("another op" + suffix);
  }
  {
    // The last rank sends 5 to each and expects 5 from each, the others 4; what it sends to itself matches.
    Group group("parts" + suffix, most_direct);
    Floats data(rank == size - 1 ? 5 : 4, 1);
    std::vector<Floats> results(static_cast<size_t>(size), data);
    Request request(C10D_OP_ALLTOALL);
    for (auto& result : results) request.in(data).out(result);
    const Result result = group.wait(group.submit(request.set().op));
    const std::string last = std::to_string(size - 1);
    expect_failure(result, C10D_ERR_DESYNC, "rank " + last + " called allToAll(float32), but rank ");
    expect_failure(result, C10D_ERR_DESYNC, "float32[5]");
    meet("parts" + suffix);
  }
  {
    // Only what the last rank sends to rank 0 does not match, but all fail.
    Group group("one part" + suffix, most_direct);
    Floats data(4, 1), more(5, 1);
    std::vector<Floats> results(static_cast<size_t>(size), data);
    Request request(C10D_OP_ALLTOALL);
    for (int i = 0; i < size; i++) {
      request.in(rank == size - 1 && i == 0 ? more : data).out(results[static_cast<size_t>(i)]);
    }
    const Result result = group.wait(group.submit(request.set().op));
    expect_failure(result, C10D_ERR_DESYNC,
                   "rank " + std::to_string(size - 1) + " sends float32[5] to rank 0, which expects float32[4]");
    meet("one part" + suffix);
  }
  {
    // All ranks know that MPI could not count the elements at the root, which alone has so many buffers. None of them
    // is accessed.
    Group group("too many" + suffix, most_direct);
    std::vector<uint8_t> byte(1);
    const uint64_t each = (uint64_t{1} << 31) / static_cast<uint64_t>(size) + 1;
    Request request(C10D_OP_GATHER);
    request.peer(0).op.dtype = C10D_UINT8;
    request.in(byte.data(), each);
    for (int i = 0; i < size && rank == 0; i++) request.out(byte).outputs.back().bytes = each;
    require(c10d_submit(group.handle(), &request.set().op, 1) == C10D_ERR_INVALID, "a gather of too much is begun");
    // Only the rank itself can compare what it sends to itself.
    Floats data(4, 1), smaller(3);
    Request to_itself(C10D_OP_ALLTOALL);
    for (int i = 0; i < size; i++) to_itself.in(data).out(i == rank ? smaller : data);
    require(c10d_submit(group.handle(), &to_itself.set().op, 1) == C10D_ERR_INVALID, "a rank sends itself too much");
    group.run(Request(C10D_OP_ALLREDUCE).out(data).op, true);
    check(
        data, [](size_t) { return size; }, "all-reduce after refusals on all ranks");
    meet("refused" + suffix);
    // An op is refused on rank 0 alone. Then it is out of step, although the next calls are the same.
    Request nothing(C10D_OP_ALLREDUCE);
    if (rank == 0) require(c10d_submit(group.handle(), &nothing.op, 1) == C10D_ERR_INVALID, "an op without a buffer");
    const Result result = group.wait(group.submit(Request(C10D_OP_ALLREDUCE).out(data).op));
    expect_failure(result, C10D_ERR_DESYNC, "as collective #4");
    expect_failure(result, C10D_ERR_DESYNC, "as collective #5");
    meet("too many" + suffix);
  }
}

/// Open MPI yields in every call if there are more ranks than cores, unless that is turned off.
void polls_do_not_yield() {
#if defined(OPEN_MPI)
  const auto set_yield = reinterpret_cast<bool (*)(bool)>(::dlsym(RTLD_DEFAULT, "opal_progress_set_yield_when_idle"));
  require(set_yield == nullptr || !set_yield(false), "MPI yields to other threads in every call");
#endif
}

/// The last rank times out before it knows that the others are in MPI to make a group. When its host has learnt that,
/// it joins them there and leaves the group; they go on.
void late_for_a_group() {
  const std::string name = "late";
  if (rank == size - 1) {
    const LateRank late{c10d_mpi_take_turn(), 500, "mpi.decision"};
    std::vector<char> decision;
    { Group group(name, 16, &late); }
    until("the decision", [&] { return store_get(name + ".mpi.decision", decision); });
    const int32_t missing = 0;
    c10d_mpi_settle(late.turn, decision.data(), static_cast<uint32_t>(decision.size()), &missing, 1);
  } else {
    Group group(name);
    Floats data(4);
    expect_failure(group.wait(group.submit(Request(C10D_OP_ALLREDUCE).out(data).op)), C10D_ERR_NETWORK,
                   "rank " + std::to_string(size - 1) + " has closed the group");
  }
  Group after("after late");
  Floats data(4, 1);
  after.run(Request(C10D_OP_ALLREDUCE).out(data).op, true);
  check(
      data, [](size_t) { return size; }, "all-reduce after a rank was late");
  meet(name);
}

/// An op times out, and the host is notified although a thread is stuck in MPI.
void stuck_in_mpi() {
  Group group("stuck");
  Floats message(3);
  if (rank == 0) {
    const int64_t id = group.submit(Request(C10D_OP_RECV).out(message).peer(size - 1).limit(200).op);
    tests_block = true;
    group.kick();
    until("a thread to be stuck", [] { return tests_blocked > 0; });
    const Result result = group.await(id);
    require(tests_blocked > 0, "MPI_Test has returned");
    expect_failure(result, C10D_ERR_OP_TIMEOUT, "timed out after 200 ms");
    require(result.flags == C10D_EVENT_PINNED, "MPI still uses the buffer, but the event does not say so");
    tests_block = false;
  }
  meet("stuck");
}

}  // namespace

// Replacements for functions of the library, which they call.

#if defined(__SANITIZE_ADDRESS__)
/// No suppression can name leaks of parts of the library that were unloaded.
extern "C" __attribute__((visibility("default"))) int MPI_Init_thread(int* count, char*** arguments, int required,
                                                                      int* provided) {
  __lsan_disable();
  const int code = PMPI_Init_thread(count, arguments, required, provided);
  __lsan_enable();
  return code;
}
#endif

extern "C" __attribute__((visibility("default"))) int MPI_Test(MPI_Request* request, int* flag, MPI_Status* status) {
  if (tests_block) {
    tests_blocked++;
    const auto start = Clock::now();
    while (tests_block && ms_since(start) < kLimitMs) std::this_thread::sleep_for(milliseconds(1));
    tests_blocked--;
  }
  return PMPI_Test(request, flag, status);
}

int main(int count, char** arguments) {
  const bool multiple = count < 2 || std::strcmp(arguments[1], "single") != 0;
  c10d_mpi_start(multiple ? 1 : 0, 0);
  until("MPI", [] { return c10d_mpi_state() >= 2; });
  require(c10d_mpi_state() == 2, "MPI could not be started");
  rank = c10d_mpi_rank();
  size = c10d_mpi_size();
  require(multiple == (c10d_mpi_any_thread() == 1), "another thread level than was asked for");

  char shared[C10D_MPI_SHARED] = "/tmp/c10d-mpi-test-XXXXXX";
  if (rank == 0) require(::mkdtemp(shared) != nullptr, "cannot make a folder");
  require(c10d_mpi_share(shared) == C10D_OK, "c10d_mpi_share");
  until("the folder", [&] { return c10d_mpi_shared(shared) == 1; });
  folder = shared;

  {
    Group first("first");
    Group second("second");
    all_ops(first, true);
    all_ops(second, false);
    side_by_side(first, second);
    polls_do_not_yield();
  }
  {
    Group in_rounds("in rounds", 1);
    all_ops(in_rounds, true);
  }
  out_of_step(16);
  out_of_step(1);
  failures();
  late_for_a_group();
  stuck_in_mpi();
  {
    Group after("after failures");
    all_ops(after, true);
  }
  meet("end");
  // Rank 0 exits last and removes the folder.
  if (rank == 0) {
    meet("exited");
    const std::string command = "rm -r '" + folder + "'";
    require(std::system(command.c_str()) == 0, "cannot remove " + folder);
  } else {
    store_set("meet.exited." + std::to_string(rank), {});
  }
#if defined(__SANITIZE_ADDRESS__)
  // Not after the end of MPI, when parts of the libraries were unloaded, which no suppression can name then.
  __lsan_do_leak_check();
#endif
  c10d_mpi_end(0);
  require(c10d_mpi_state() == 4 || size > 1, "MPI has not ended");
  std::printf("rank %d of %d: well\n", rank, size);
  return 0;
}
