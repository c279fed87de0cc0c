// Ranks that called different collectives: what happens to the collectives before that one.
#include <doctest/doctest.h>

#include <string>

#include "host.h"
#include "ops/signature.h"

using namespace c10d::test;

namespace {

c10d::Failure mismatch_at(uint64_t number) {
  return c10d::desync(C10D_MISMATCH_CALL, 0, 2, "collective #" + std::to_string(number)).of_collective(number);
}

}  // namespace

TEST_CASE("a mismatch waits for the collectives before it, and what follows fails with it") {
  for (const char* model : kModels) {
    for (const char* level : kLevels) {
      for (const At at : {At::start, At::end}) {
        for (const bool by_wait : {true, false}) {
          CAPTURE(std::string(model));
          CAPTURE(std::string(level));
          CAPTURE(static_cast<int>(at));
          CAPTURE(by_wait);
          Host host({model, level, "concurrency=3"});
          host.submit(script(Outcome::gated));
          host.submit(script(Outcome::mismatch, 0, at));
          host.submit(script(Outcome::hang));
          host.submit({});
          host.submit({});
          host.kick();
          CHECK(host.quiet(20));
          CHECK(c10d_group_state(host.group()) == C10D_OPEN);
          CHECK(host.submit({}) == 6);
          if (by_wait) {
            c10d_event event{};
            CHECK(host.wait(2, 1, &event) == C10D_ERR_WAIT_TIMEOUT);
            host.journal().open_gate(1);
            CHECK(host.wait(2, kForever, &event) == C10D_ERR_DESYNC);
            CHECK(event.peer == 2);
          } else {
            host.journal().open_gate(1);
            CHECK(host.completion(2).status == C10D_ERR_DESYNC);
          }
          CHECK(host.completion(1).status == C10D_OK);
          CHECK(host.result(1) == result_of(0));
          for (const int64_t id : {3, 4, 5, 6}) CHECK(host.completion(id).status == C10D_ERR_DESYNC);
          for (const int64_t id : {2, 3, 4, 5, 6}) CHECK(host.error(id) == "collective #2");
          CHECK(c10d_group_state(host.group()) == C10D_FAILED);
          CHECK(host.journal().await_aborts());
          CHECK(host.stats().failed == 5);
          if (at == At::start) CHECK(host.journal().read().started == std::vector<uint64_t>{1, 2});
        }
      }
    }
  }
}

TEST_CASE("messages continue while a mismatch waits") {
  Host host({"model=polling", "concurrency=4"});
  host.submit(script(Outcome::gated));
  host.submit(script(Outcome::mismatch));
  host.kick();
  CHECK(host.quiet(20));
  CHECK(host.submit({0, kForever, C10D_OP_SEND}) == 3);
  CHECK(host.completion(3).status == C10D_OK);
  host.journal().open_gate(1);
  CHECK(host.completion(1).status == C10D_OK);
  CHECK(host.completion(2).status == C10D_ERR_DESYNC);
}

TEST_CASE("of several mismatches the first in the order of the calls is the cause") {
  Host host({"model=polling", "concurrency=4"});
  host.submit(script(Outcome::gated));
  host.submit(script(Outcome::mismatch, 30'000));
  host.submit(script(Outcome::mismatch, 1'000));
  host.kick();
  CHECK(host.quiet(100));
  host.journal().open_gate(1);
  CHECK(host.completion(1).status == C10D_OK);
  for (const int64_t id : {2, 3}) {
    CHECK(host.completion(id).status == C10D_ERR_DESYNC);
    CHECK(host.error(id) == "collective #2");
  }
}

TEST_CASE("after a mismatch that only a thread of the library knows of, earlier collectives still start") {
  Host host({"model=polling", "concurrency=1"});
  host.submit(script(Outcome::gated));
  host.submit(script(Outcome::gated));
  host.submit({});
  host.kick();
  CHECK(host.journal().await_started(1));
  host.journal().lose(mismatch_at(3));
  CHECK(host.quiet(20));
  host.journal().open_gate(1);
  CHECK(host.completion(1).status == C10D_OK);
  CHECK(host.journal().await_started(2));
  host.journal().open_gate(2);
  CHECK(host.completion(2).status == C10D_OK);
  CHECK(host.completion(3).status == C10D_ERR_DESYNC);
  CHECK(host.journal().read().started == std::vector<uint64_t>{1, 2});
}

TEST_CASE("a mismatch that is not known to be of a collective has nothing before it") {
  Host host({"model=polling"});
  host.submit(script(Outcome::hang));
  host.kick();
  CHECK(host.journal().await_started(1));
  host.journal().lose(mismatch_at(0));
  CHECK(host.completion(1).status == C10D_ERR_DESYNC);
}

TEST_CASE("what fails before a mismatch fails because of it") {
  for (const char* model : kModels) {
    CAPTURE(std::string(model));
    const auto fails = [&](uint32_t first, double limit_ms) {
      Host host({model, "concurrency=4"});
      host.submit(first, limit_ms);
      host.submit(script(Outcome::mismatch));
      host.kick();
      for (const int64_t id : {1, 2}) {
        CHECK(host.completion(id).status == C10D_ERR_DESYNC);
        CHECK(host.error(id) == "collective #2");
      }
      CHECK(host.journal().await_aborts());
    };
    // A rank that fails breaks its connections.
    fails(script(Outcome::network, 30'000), kForever);
    // No rank is late.
    fails(script(Outcome::hang), 30);
  }
}

TEST_CASE("after a lost connection, ops in flight may find the mismatch behind it, for all ops") {
  for (const char* model : kModels) {
    for (const char* level : kLevels) {
      for (const bool by_wait : {true, false}) {
        CAPTURE(std::string(model));
        CAPTURE(std::string(level));
        CAPTURE(by_wait);
        // With one op at a time, none is in flight when the next one fails.
        if (std::string(model) == kModels[0] && std::string(level) != kLevels[0]) continue;
        Host host({model, level, "concurrency=2"});
        host.submit(script(Outcome::late_mismatch));
        host.submit(script(Outcome::network, 1'000));
        for (int i = 0; i < 2; i++) host.submit({});
        host.kick();
        if (by_wait) {
          c10d_event event{};
          CHECK(host.wait(3, kForever, &event) == C10D_ERR_DESYNC);
          CHECK(event.peer == 2);
        } else {
          CHECK(host.completion(3).status == C10D_ERR_DESYNC);
        }
        for (const int64_t id : {1, 2, 4}) CHECK(host.completion(id).status == C10D_ERR_DESYNC);
        for (const int64_t id : {1, 2, 3, 4}) CHECK(host.error(id) == "collective #1");
        CHECK(host.group_error() == "collective #1");
        CHECK(host.stats().failed == 4);
        CHECK(host.journal().await_aborts());
      }
    }
  }
}

TEST_CASE("so they may after a loss that no op reports") {
  Host host({"model=polling"});
  host.submit(script(Outcome::late_mismatch));
  host.submit({});
  host.kick();
  CHECK(host.journal().await_started(1));
  host.journal().lose(c10d::Failure(C10D_ERR_NETWORK, "connection to rank 3 was lost", 3));
  for (const int64_t id : {1, 2}) {
    CHECK(host.completion(id).status == C10D_ERR_DESYNC);
    CHECK(host.error(id) == "collective #1");
  }
  const auto lost = host.await(C10D_EVENT_LOST, 0);
  REQUIRE(lost);
  CHECK(lost->status == C10D_ERR_DESYNC);
}

TEST_CASE("a lost connection without a mismatch behind it is the cause, also where something is stuck") {
  for (const Outcome outcome : {Outcome::hang, Outcome::stubborn, Outcome::gated}) {
    CAPTURE(static_cast<int>(outcome));
    Host host({"model=polling", "concurrency=2"});
    host.submit(script(outcome));
    host.submit(script(Outcome::network, 1'000));
    host.submit({});
    host.kick();
    for (const int64_t id : {1, 2, 3}) {
      const auto event = host.completion(id);
      CHECK(event.status == C10D_ERR_NETWORK);
      CHECK(event.peer == 3);
      const bool stuck = id == 1 && outcome == Outcome::stubborn;
      CHECK((event.flags == C10D_EVENT_PINNED) == stuck);
    }
  }
}

TEST_CASE("a mismatch does not wait forever") {
  Host host({"model=polling", "concurrency=4"});
  host.submit(script(Outcome::hang));
  host.submit(script(Outcome::mismatch));
  host.kick();
  for (const int64_t id : {1, 2}) CHECK(host.completion(id).status == C10D_ERR_DESYNC);
}

TEST_CASE("an abort ends a mismatch that waits") {
  Host host({"model=polling", "concurrency=4"});
  host.submit(script(Outcome::hang));
  host.submit(script(Outcome::mismatch));
  host.kick();
  CHECK(host.quiet(20));
  c10d_abort(host.group(), C10D_ERR_ABORTED, "enough");
  for (const int64_t id : {1, 2}) CHECK(host.completion(id).status == C10D_ERR_ABORTED);
}
