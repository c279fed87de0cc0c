// Ops of one submission that the transport takes as one, and messages that keep their order among collectives.
#include <doctest/doctest.h>

#include "host.h"

using namespace c10d::test;

namespace {

using Batches = std::vector<std::vector<uint64_t>>;
using Ids = std::vector<uint64_t>;

constexpr const char* kBatchModels[] = {"model=polling", "model=eventfd", "model=instant", "model=mixed"};

Request collective(uint32_t tag = 0) { return {tag}; }
Request barrier(uint32_t tag = 0) { return {tag, kForever, C10D_OP_BARRIER}; }
Request send(uint32_t tag = 0) { return {tag, kForever, C10D_OP_SEND}; }
Request recv(uint32_t tag = 0) { return {tag, kForever, C10D_OP_RECV}; }

uint32_t flags_of(const Host& host) {
  c10d_capabilities all{};
  c10d_group_capabilities(host.group(), &all, sizeof all);
  return all.flags;
}

}  // namespace

TEST_CASE("what a group announces about batches and messages is what its transport does") {
  CHECK(flags_of(Host({"model=polling"})) == C10D_CAN_OVERTAKE_COLLECTIVES);
  CHECK(flags_of(Host({"model=polling", "batches=1", "messages=in-order"})) == C10D_CAN_TAKE_BATCHES);
}

TEST_CASE("the ops of a submission start as one, collectives and messages alike") {
  for (const char* model : kBatchModels) {
    for (const char* level : kLevels) {
      for (const bool by_wait : {false, true}) {
        CAPTURE(std::string(model));
        CAPTURE(std::string(level));
        CAPTURE(by_wait);
        Host host({model, level, "batches=1"});
        CHECK(host.submit_batch({collective(), send(), barrier(), recv(script(Outcome::success, 200))}) == 1);
        CHECK(host.submit_batch({collective(), collective()}) == 5);
        CHECK(host.submit(collective()) == 7);
        if (!by_wait) host.kick();
        for (int64_t id = 7; id >= 1; id--) {
          CHECK((by_wait ? host.wait(id) : host.completion(id).status) == C10D_OK);
          CHECK(host.result(id) == result_of(static_cast<uint64_t>(id - 1)));
        }
        // One op is not a batch.
        CHECK(host.journal().read().batches == Batches{{1, 2, 3, 4}, {5, 6}});
        CHECK(host.journal().read().started == Ids{1, 2, 3, 4, 5, 6, 7});
        CHECK(host.journal().read().most_starts == 1);
        if (level != std::string("level=multiple")) CHECK(host.journal().read().most_calls == 1);
      }
    }
  }
}

TEST_CASE("waiting for any op of a batch starts all of it, and nothing behind it") {
  for (const int64_t awaited : {1, 2, 3}) {
    CAPTURE(awaited);
    Host host({"model=polling", "batches=1", "concurrency=8"});
    host.submit_batch({collective(), recv(), collective()});
    host.submit_batch({collective(), collective()});
    CHECK(host.quiet(10));
    CHECK(host.journal().read().batches.empty());
    CHECK(host.wait(awaited) == C10D_OK);
    CHECK(host.quiet(10) == false);
    CHECK(host.journal().read().batches == Batches{{1, 2, 3}});
    host.kick();
    CHECK(host.completion(5).status == C10D_OK);
    CHECK(host.journal().read().batches == Batches{{1, 2, 3}, {4, 5}});
  }
}

TEST_CASE("a batch with an op that is refused is refused as a whole") {
  Host host({"model=polling", "batches=1"});
  for (const size_t place : {0U, 1U, 2U}) {
    std::vector<Request> requests{collective(), send(), collective()};
    requests[place].tag = script(Outcome::unsupported, 0, At::check);
    CHECK(host.submit_batch(requests) == C10D_ERR_UNSUPPORTED);
    CHECK(last_error() == "no such reduction");
  }
  host.kick();
  CHECK(host.quiet(10));
  CHECK(host.stats().submitted == 0);
  CHECK(host.journal().read().batches.empty());
  CHECK(host.submit_batch({collective(), send()}) == 1);
  CHECK(host.wait(2) == C10D_OK);
  CHECK(host.journal().read().batches == Batches{{1, 2}});
  // Each refused collective has taken a turn.
  CHECK(host.journal().read().numbers == Ids{2 + 2 + 2 + 1, 0});
}

TEST_CASE("a batch counts as many collectives as it has, but starts as one") {
  Host host({"model=polling", "batches=1", "concurrency=2"});
  host.submit(collective(script(Outcome::gated)));
  const uint32_t gated = script(Outcome::gated);
  host.submit_batch({collective(gated), collective(gated), collective(gated)});
  host.submit(collective());
  host.kick();
  // The limit leaves room for one, which is enough.
  CHECK(host.journal().await_started(4));
  CHECK(host.quiet(20));
  CHECK(host.journal().read().started == Ids{1, 2, 3, 4});
  for (const uint64_t id : {1, 2}) {
    host.journal().open_gate(id);
    CHECK(host.completion(static_cast<int64_t>(id)).status == C10D_OK);
  }
  CHECK(host.quiet(20));
  CHECK(host.journal().read().started == Ids{1, 2, 3, 4});
  host.journal().open_gate(3);
  CHECK(host.completion(5).status == C10D_OK);
  host.journal().open_all();
  CHECK(host.completion(4).status == C10D_OK);
}

TEST_CASE("a batch with a fence waits for all collectives before it, wherever the fence is in it") {
  for (const size_t place : {0U, 1U, 2U}) {
    CAPTURE(place);
    Host host({"model=polling", "batches=1", "concurrency=8"});
    host.submit(collective(script(Outcome::gated)));
    host.submit(collective(script(Outcome::gated)));
    std::vector<Request> requests{collective(), send(), collective()};
    requests[place] = barrier();
    host.submit_batch(requests);
    host.kick();
    CHECK(host.journal().await_started(2));
    host.journal().open_gate(2);
    CHECK(host.completion(2).status == C10D_OK);
    CHECK(host.quiet(20));
    CHECK(host.journal().read().batches.empty());
    host.journal().open_gate(1);
    CHECK(host.completion(5).status == C10D_OK);
    CHECK(host.journal().read().batches == Batches{{3, 4, 5}});
  }
}

TEST_CASE("a failure at the start fails all ops of the batch") {
  for (const Outcome outcome : {Outcome::network, Outcome::unsupported, Outcome::exception, Outcome::number}) {
    for (const char* level : kLevels) {
      for (const bool by_wait : {false, true}) {
        CAPTURE(static_cast<int>(outcome));
        CAPTURE(std::string(level));
        CAPTURE(by_wait);
        Host host({"model=polling", level, "batches=1", "concurrency=8"});
        host.submit_batch({collective(), recv(script(outcome, 0, At::start)), collective()});
        host.submit(collective());
        if (!by_wait) host.kick();
        const bool harmless = outcome == Outcome::unsupported;
        const int32_t status = harmless                      ? C10D_ERR_UNSUPPORTED
                               : outcome == Outcome::network ? C10D_ERR_NETWORK
                                                             : C10D_ERR_BACKEND;
        for (int64_t id = 1; id <= 3; id++) {
          CHECK((by_wait ? host.wait(id) : host.completion(id).status) == status);
          CHECK(!host.error(id).empty());
        }
        CHECK((by_wait ? host.wait(4) : host.completion(4).status) == (harmless ? C10D_OK : status));
        CHECK(c10d_group_state(host.group()) == (harmless ? C10D_OPEN : C10D_FAILED));
        if (!harmless) CHECK(host.journal().await_aborts());
        CHECK(host.journal().read().most_in_flight == (harmless ? 1 : 0));
      }
    }
  }
}

TEST_CASE("an op of a batch that fails later fails the group, and with it the other ops") {
  Host host({"model=polling", "batches=1"});
  host.submit_batch({collective(script(Outcome::hang)), recv(script(Outcome::network, 500)), send()});
  host.kick();
  CHECK(host.completion(3).status == C10D_OK);
  CHECK(host.completion(2).status == C10D_ERR_NETWORK);
  CHECK(host.completion(1).status == C10D_ERR_NETWORK);
  CHECK(host.error(1) == "connection to rank 3 was lost");
}

TEST_CASE("an abort ends a batch that is queued, and one that is in flight") {
  Host host({"model=polling", "batches=1"});
  const auto timed = [](Request request) {
    request.flags = C10D_FLAG_TIMES;
    return request;
  };
  const uint32_t hang = script(Outcome::hang);
  host.submit_batch({timed(collective(hang)), timed(recv(hang))});
  host.submit_batch({timed(collective()), timed(send()), timed(collective())});
  host.kick();
  CHECK(host.journal().await_started(2));
  c10d_abort(host.group(), C10D_ERR_ABORTED, "enough");
  for (int64_t id = 1; id <= 5; id++) {
    const auto event = host.completion(id);
    CHECK(event.status == C10D_ERR_ABORTED);
    CHECK((event.started_ns > 0) == (id <= 2));
  }
  CHECK(host.journal().read().batches == Batches{{1, 2}});
}

TEST_CASE("the time limit of an op of a batch is its own") {
  Host host({"model=polling", "batches=1"});
  host.submit_batch({collective(script(Outcome::hang)), {script(Outcome::hang), 30, C10D_OP_RECV}});
  host.kick();
  CHECK(host.completion(2).status == C10D_ERR_OP_TIMEOUT);
  CHECK(host.error(2).find("timed out after 30 ms") == 0);
  CHECK(host.completion(1).status == C10D_ERR_OP_TIMEOUT);
}

TEST_CASE("a batch of messages overtakes collectives; one with a collective in it keeps its place") {
  Host host({"model=polling", "batches=1"});
  host.submit(collective(script(Outcome::gated)));
  host.kick();
  CHECK(host.journal().await_started(1));
  CHECK(host.submit_batch({send(), recv()}) == 2);
  CHECK(host.submit_batch({send(), collective()}) == 4);
  CHECK(host.completion(3).status == C10D_OK);
  host.kick();
  CHECK(host.quiet(20));
  CHECK(host.journal().read().batches == Batches{{2, 3}});
  host.journal().open_all();
  CHECK(host.completion(5).status == C10D_OK);
  CHECK(host.journal().read().batches == Batches{{2, 3}, {4, 5}});
}

TEST_CASE("messages that do not overtake are started in their order, and count towards the limit") {
  for (const char* batches : {"batches=0", "batches=1"}) {
    for (const char* level : kLevels) {
      CAPTURE(std::string(batches));
      CAPTURE(std::string(level));
      Host host({"model=polling", level, batches, "messages=in-order"});
      host.submit(collective(script(Outcome::gated)));
      host.submit(send());
      host.submit_batch({recv(), send()});
      host.submit(collective());
      host.kick();
      CHECK(host.journal().await_started(1));
      CHECK(host.quiet(20));
      CHECK(host.journal().read().started == Ids{1});
      host.journal().open_all();
      CHECK(host.completion(5).status == C10D_OK);
      CHECK(host.journal().read().started == Ids{1, 2, 3, 4, 5});
      if (batches == std::string("batches=1")) CHECK(host.journal().read().batches == Batches{{3, 4}});
    }
  }
}

TEST_CASE("a message that is in order starts only with a kick or a wait") {
  Host host({"model=polling", "messages=in-order"});
  host.submit(send());
  CHECK(host.quiet(20));
  CHECK(host.journal().read().started.empty());
  CHECK(host.wait(1) == C10D_OK);
  CHECK(host.journal().read().started == Ids{1});
}

TEST_CASE("there are no streams to synchronize where the transport has none") {
  Host host({"model=polling"});
  host.submit(collective());
  CHECK(c10d_synchronize(host.group(), 1, 0, 100) == C10D_ERR_UNSUPPORTED);
  CHECK(last_error() == "the backend has no streams");
  CHECK(c10d_synchronize(host.group(), 2, 0, 100) == C10D_ERR_UNKNOWN_OP);
  CHECK(host.wait(1) == C10D_OK);
}
