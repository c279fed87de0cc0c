// What ranks wait for in the store while a group is created.
#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>

#include "engine/rank_values.h"

using namespace c10d;

namespace {

using std::chrono::milliseconds;

constexpr int kSize = 4;

/// A store that has a value or an error for some requests, which are the numbers of the ranks.
class FakeExchange final : public Exchange {
 public:
  void set(const std::string&, const void*, size_t) override {}
  uint64_t request(const std::string&) override { return 0; }
  void log(const std::string&) override {}
  std::vector<char> await(uint64_t request, Clock::time_point deadline) override {
    const auto found = answers.find(request);
    if (found == answers.end()) {
      std::this_thread::sleep_until(deadline);
      throw Failure(C10D_ERR_OP_TIMEOUT, "timed out");
    }
    // Each is answered once.
    if (!found->second) throw std::out_of_range("answered");
    const auto answer = std::exchange(found->second, std::nullopt);
    if (answer->status() != C10D_ERR_INVALID) throw Failure(*answer);
    return {'v', static_cast<char>('0' + request)};
  }
  void give(int rank) { fail(rank, C10D_ERR_INVALID); }
  void fail(int rank, int32_t status) { answers[static_cast<uint64_t>(rank)] = Failure(status, "no answer"); }

  std::map<uint64_t, std::optional<Failure>> answers;
};

Config config_of(int rank, milliseconds limit) { return {rank, kSize, Device{}, Clock::now() + limit, Options("", 0)}; }

const std::vector<uint64_t> kAll{0, 1, 2, 3};

Failure failure_of(FakeExchange& exchange, milliseconds limit, const std::function<void()>& look = nullptr) {
  const auto ignore = [](int, const std::vector<char>&) {};
  const auto failure = attempt([&] { await_ranks(config_of(0, limit), exchange, kAll, ignore, look); });
  REQUIRE(failure);
  return *failure;
}

}  // namespace

TEST_CASE("the values of all other ranks arrive in the order of the ranks") {
  FakeExchange exchange;
  for (const int rank : {1, 2, 3}) exchange.give(rank);
  std::map<int, std::vector<char>> values;
  await_ranks(config_of(0, milliseconds(10'000)), exchange, kAll,
              [&](int rank, std::vector<char> value) { values[rank] = std::move(value); });
  CHECK(values == std::map<int, std::vector<char>>{{1, {'v', '1'}}, {2, {'v', '2'}}, {3, {'v', '3'}}});
}

TEST_CASE("an error about a value ends the wait for the next one") {
  FakeExchange exchange;
  exchange.give(1);
  const auto take = [](int rank, const std::vector<char>&) {
    throw Failure(C10D_ERR_INVALID, "of another kind", rank);
  };
  const auto failure = attempt([&] { await_ranks(config_of(0, milliseconds(60'000)), exchange, kAll, take); });
  REQUIRE(failure);
  CHECK(failure->peer() == 1);
}

TEST_CASE("all ranks that did not join are named, and no other") {
  for (const bool looks : {false, true}) {
    FakeExchange exchange;
    exchange.give(2);
    int count = 0;
    const auto look = looks ? std::function<void()>([&] { count++; }) : nullptr;
    const auto failure = failure_of(exchange, milliseconds(200), look);
    CHECK(failure.status() == C10D_ERR_OP_TIMEOUT);
    CHECK(failure.ranks() == std::vector<int32_t>{1, 3});
    CHECK(failure.text() == "ranks 1 and 3 did not join the group");
    CHECK((count > 0) == looks);
  }
}

TEST_CASE("a store that times out itself does not have the value of a rank") {
  FakeExchange exchange;
  exchange.give(1);
  exchange.fail(2, C10D_ERR_OP_TIMEOUT);
  exchange.give(3);
  const auto failure = failure_of(exchange, milliseconds(60'000), [] {});
  CHECK(failure.ranks() == std::vector<int32_t>{2});
  CHECK(failure.text() == "rank 2 did not join the group");
}

TEST_CASE("another error of the store says which rank was waited for, and blames none") {
  FakeExchange exchange;
  exchange.fail(1, C10D_ERR_NETWORK);
  const auto failure = failure_of(exchange, milliseconds(60'000));
  CHECK(failure.status() == C10D_ERR_NETWORK);
  CHECK(failure.peer() == -1);
  CHECK(failure.text() == "waiting for rank 1: no answer");
}

TEST_CASE("the poll function can end the wait") {
  FakeExchange exchange;
  const auto failure =
      failure_of(exchange, milliseconds(60'000), [] { throw Failure(C10D_ERR_NETWORK, "rank 3 is lost", 3); });
  CHECK(failure.peer() == 3);
  CHECK(failure.text() == "rank 3 is lost");
}
