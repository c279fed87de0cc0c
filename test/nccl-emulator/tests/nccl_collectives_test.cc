// Every collective, dtype and reduction, in place and not, against what it is defined to give.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "nccl_ranks.h"
#include "nccl_values.h"

using namespace nccl_test;

namespace {

using Values = std::vector<double>;

constexpr char guard = 0x5a;
constexpr size_t guard_bytes = 64;

double input_value(int rank, size_t index) { return (static_cast<size_t>(rank) * 7 + index) % 3 == 0 ? 2 : 1; }

Values input(int rank, size_t count) {
  Values values;
  for (size_t i = 0; i < count; i++) values.push_back(input_value(rank, i));
  return values;
}

Values reduced(int ranks, size_t count, ncclRedOp_t op, bool integers) {
  Values values;
  for (size_t i = 0; i < count; i++) {
    double value = input_value(0, i);
    for (int rank = 1; rank < ranks; rank++) {
      double other = input_value(rank, i);
      if (op == ncclProd)
        value *= other;
      else if (op == ncclMax)
        value = std::max(value, other);
      else if (op == ncclMin)
        value = std::min(value, other);
      else
        value += other;
    }
    if (op == ncclAvg) value = integers ? std::floor(value / ranks) : value / ranks;
    values.push_back(value);
  }
  return values;
}

// What one rank gives to a call, where in its output the call finds that if in place, and what it gets. No output: the
// call must not touch it.
struct Plan {
  Values in;
  size_t place;
  size_t out_count;
  Values out;
};

using Caller = std::function<ncclResult_t(const void*, void*)>;

void run_plan(Rank& rank, const Format& format, const Plan& plan, bool in_place, const std::string& what,
              const Caller& call) {
  auto out_bytes = plan.out_count * format.size;
  std::vector<char> before(out_bytes + guard_bytes, guard);
  auto in = format.encode(plan.in);
  if (in_place) std::copy(in.begin(), in.end(), before.begin() + static_cast<long>(plan.place * format.size));
  auto out_address = rank.upload(before);
  auto in_address = in_place ? out_address + plan.place * format.size : rank.upload(in);
  auto result = call(pointer(in_address), pointer(out_address));
  if (result == ncclInProgress) result = Rank::settle(rank.comm);
  ok(result, what);
  auto after = rank.download(out_address, out_bytes + guard_bytes);
  auto expected = before;
  auto out = format.encode(plan.out);
  std::copy(out.begin(), out.end(), expected.begin());
  auto got = std::vector<char>(after.begin(), after.begin() + static_cast<long>(out.size()));
  if (format.decode(got) != plan.out) {
    auto values = format.decode(got);
    size_t at = 0;
    while (at < plan.out.size() && values[at] == plan.out[at]) at++;
    require(false, what + ": element " + std::to_string(at) + " is " + std::to_string(values[at]) + " instead of " +
                       std::to_string(plan.out[at]));
  }
  require(after == expected, what + ": memory outside of the result was changed");
  if (!in_place) {
    require(rank.download(in_address, in.size()) == in, what + ": the input was changed");
    cuda_ok(cuMemFree_v2(in_address), "free");
  }
  cuda_ok(cuMemFree_v2(out_address), "free");
}

class Sweep {
 public:
  Sweep(Rank& rank, int own, int ranks, const Format& format, size_t count, bool in_place)
      : rank_(rank), own_(own), ranks_(ranks), format_(format), count_(count), in_place_(in_place) {}

  void run() {
    for (auto op : {ncclSum, ncclProd, ncclMax, ncclMin, ncclAvg}) reductions(op);
    for (int root = 0; root < ranks_; root++) rooted(root);
    copies();
  }

 private:
  void check(const std::string& name, const Plan& plan, const Caller& call) {
    run_plan(rank_, format_, plan, in_place_,
             name + " of " + format_.name + " × " + std::to_string(count_) + (in_place_ ? " in place" : ""), call);
  }

  void reductions(ncclRedOp_t op) {
    auto n = static_cast<size_t>(ranks_), own = static_cast<size_t>(own_);
    auto suffix = " operation " + std::to_string(op);
    auto result = reduced(ranks_, count_, op, format_.is_integer);
    check("AllReduce" + suffix, {input(own_, count_), 0, count_, result}, [&](const void* in, void* out) {
      return ncclAllReduce(in, out, count_, format_.dtype, op, rank_.comm, rank_.stream);
    });
    for (int root = 0; root < ranks_; root++)
      check("Reduce" + suffix, {input(own_, count_), 0, count_, own_ == root ? result : Values{}},
            [&](const void* in, void* out) {
              return ncclReduce(in, out, count_, format_.dtype, op, root, rank_.comm, rank_.stream);
            });
    auto all = reduced(ranks_, count_ * n, op, format_.is_integer);
    Values part(all.begin() + static_cast<long>(own * count_), all.begin() + static_cast<long>((own + 1) * count_));
    // In place: the result is a part of the input, which is a plan the other way round.
    if (!in_place_)
      check("ReduceScatter" + suffix, {input(own_, count_ * n), 0, count_, part}, [&](const void* in, void* out) {
        return ncclReduceScatter(in, out, count_, format_.dtype, op, rank_.comm, rank_.stream);
      });
  }

  void rooted(int root) {
    auto n = static_cast<size_t>(ranks_);
    bool is_root = own_ == root;
    check("Broadcast", {input(own_, count_), 0, count_, input(root, count_)}, [&](const void* in, void* out) {
      return ncclBroadcast(in, out, count_, format_.dtype, root, rank_.comm, rank_.stream);
    });
    check("Gather",
          {input(own_, count_), static_cast<size_t>(root) * count_, n * count_, is_root ? gathered() : Values{}},
          [&](const void* in, void* out) {
            return ncclGather(in, out, count_, format_.dtype, root, rank_.comm, rank_.stream);
          });
    if (in_place_) return;
    auto given = input(root, count_ * n);
    auto start = given.begin() + static_cast<long>(static_cast<size_t>(own_) * count_);
    check("Scatter", {input(own_, count_ * n), 0, count_, Values(start, start + static_cast<long>(count_))},
          [&](const void* in, void* out) {
            return ncclScatter(in, out, count_, format_.dtype, root, rank_.comm, rank_.stream);
          });
  }

  void copies() {
    auto n = static_cast<size_t>(ranks_), own = static_cast<size_t>(own_);
    check("AllGather", {input(own_, count_), own * count_, n * count_, gathered()}, [&](const void* in, void* out) {
      return ncclAllGather(in, out, count_, format_.dtype, rank_.comm, rank_.stream);
    });
    if (in_place_) return;
    Values exchanged;
    for (int peer = 0; peer < ranks_; peer++)
      for (size_t i = 0; i < count_; i++) exchanged.push_back(input_value(peer, own * count_ + i));
    check("AlltoAll", {input(own_, count_ * n), 0, n * count_, exchanged}, [&](const void* in, void* out) {
      return ncclAlltoAll(in, out, count_, format_.dtype, rank_.comm, rank_.stream);
    });
  }

  Values gathered() const {
    Values all;
    for (int peer = 0; peer < ranks_; peer++) {
      auto part = input(peer, count_);
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

  Rank& rank_;
  int own_, ranks_;
  const Format& format_;
  size_t count_;
  bool in_place_;
};

}  // namespace

TEST_CASE("collectives of all dtypes and reductions") {
  for (int ranks : {1, 2, 4}) {
    CAPTURE(ranks);
    ncclUniqueId id;
    REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
    auto failures = run_ranks(ranks, [&](int r) {
      setenv("NCCL_EMULATOR_DELAY_US", "5", 1);
      Rank rank(r, ranks, id, r);
      for (auto& format : formats())
        for (bool in_place : {false, true}) Sweep(rank, r, ranks, format, 13, in_place).run();
      Sweep(rank, r, ranks, formats()[2], 1, false).run();
      // More than fits into the memory between two ranks at a time.
      Sweep(rank, r, ranks, formats()[7], 70'001, false).run();
      ok(ncclCommDestroy(rank.comm), "destroy");
      Rank::require_no_fault();
    });
    CHECK(failures == "");
  }
}

TEST_CASE("in place reduce-scatter and scatter, and Bcast") {
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    auto buffer = rank.upload(bytes_of(std::vector<int>{1 + r, 2 + r, 3 + r, 4 + r}));
    auto own = buffer + static_cast<uint64_t>(r) * 8;
    ok(ncclReduceScatter(pointer(buffer), pointer(own), 2, ncclInt32, ncclSum, rank.comm, rank.stream), "call");
    auto expected = r == 0 ? std::vector<int>{3, 5} : std::vector<int>{7, 9};
    require(values_of<int>(rank.download(own, 8)) == expected, "reduce-scatter in place");

    rank.write(buffer, bytes_of(std::vector<int>{10 + r, 20 + r, 30 + r, 40 + r}));
    auto to = r == 1 ? own : buffer;
    ok(ncclScatter(pointer(buffer), pointer(to), 2, ncclInt32, 1, rank.comm, rank.stream), "call");
    expected = r == 0 ? std::vector<int>{11, 21} : std::vector<int>{31, 41};
    require(values_of<int>(rank.download(to, 8)) == expected, "scatter in place");

    rank.write(buffer, bytes_of(std::vector<int>{r, r}));
    ok(ncclBcast(pointer(buffer), 2, ncclInt32, 1, rank.comm, rank.stream), "call");
    require(values_of<int>(rank.download(buffer, 8)) == std::vector<int>{1, 1}, "broadcast in place");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("premultiplied sums, with factors of the host and of the device, one per rank") {
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    for (auto& format : formats()) {
      if (format.size == 1 && !format.is_integer) continue;
      auto factor = format.encode({r == 0 ? 2.0 : 3.0});
      auto buffer = rank.upload(format.encode({1, 2, 3}));
      ncclRedOp_t op;
      for (bool on_device : {false, true}) {
        rank.write(buffer, format.encode({1, 2, 3}));
        auto address = rank.upload(factor);
        void* scalar = on_device ? pointer(address) : factor.data();
        auto residence = on_device ? ncclScalarDevice : ncclScalarHostImmediate;
        ok(ncclRedOpCreatePreMulSum(&op, scalar, format.dtype, residence, rank.comm), "create");
        ok(ncclAllReduce(pointer(buffer), pointer(buffer), 3, format.dtype, op, rank.comm, rank.stream), "call");
        // What was enqueued keeps it.
        ok(ncclRedOpDestroy(op, rank.comm), "destroy");
        auto got = format.decode(rank.download(buffer, 3 * format.size));
        require(got == Values{5, 10, 15}, std::string("premultiplied sum of ") + format.name);
      }
    }
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("integers wrap around, and their average is cut towards zero") {
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    auto buffer = rank.upload(bytes_of(std::vector<int8_t>{100, -100, -3, 3}));
    auto result = rank.allocate(4);
    ok(ncclAllReduce(pointer(buffer), pointer(result), 3, ncclInt8, ncclSum, rank.comm, rank.stream), "call");
    require(values_of<int8_t>(rank.download(result, 3)) == std::vector<int8_t>{-56, 56, -6}, "sum");
    rank.write(buffer, bytes_of(std::vector<int8_t>{static_cast<int8_t>(r == 0 ? -3 : 0), 7, 0}));
    ok(ncclAllReduce(pointer(buffer), pointer(result), 2, ncclInt8, ncclAvg, rank.comm, rank.stream), "call");
    require(values_of<int8_t>(rank.download(result, 2)) == std::vector<int8_t>{-1, 7}, "average");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}
