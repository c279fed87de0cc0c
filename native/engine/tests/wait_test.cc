// c10d_wait: which thread drives, and when it returns.
#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "host.h"

using namespace c10d::test;

namespace {

bool ran_here(const Host& host) { return host.journal().read().run_threads == std::set<pthread_t>{pthread_self()}; }

bool ran_elsewhere(const Host& host) {
  const auto threads = host.journal().read().run_threads;
  return !threads.empty() && threads.count(pthread_self()) == 0;
}

}  // namespace

TEST_CASE("wait runs the op on its own thread") {
  for (const char* model : {"model=blocking", "model=polling", "model=eventfd"}) {
    for (const char* level : {"level=multiple", "level=serialized"}) {
      CAPTURE(std::string(model));
      CAPTURE(std::string(level));
      Host host({model, level});
      for (int i = 0; i < 3; i++) host.submit(script(Outcome::success, 200));
      CHECK(host.wait(3) == C10D_OK);
      CHECK(ran_here(host));
      CHECK(host.stats().driven_by_wait == 3);
      CHECK(host.wait(1) == C10D_OK);
      CHECK(host.wait(2) == C10D_OK);
    }
  }
}

TEST_CASE("an op has started once the library has got it") {
  for (const char* model : {"model=blocking", "model=polling", "model=eventfd"}) {
    CAPTURE(std::string(model));
    Host host({model});
    for (int i = 0; i < 2; i++) host.submit(script(Outcome::success, 20'000));
    CHECK(c10d_op_started(host.group(), 1) == 0);
    host.kick();
    while (c10d_op_started(host.group(), 1) == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    if (model == std::string("model=blocking")) CHECK(c10d_op_started(host.group(), 2) == 0);
    CHECK(host.wait(2) == C10D_OK);
    CHECK(c10d_op_started(host.group(), 1) == 1);
    CHECK(c10d_op_started(host.group(), 2) == 1);
    CHECK(c10d_op_started(host.group(), 3) == C10D_ERR_UNKNOWN_OP);
  }
}

TEST_CASE("wait drives an op that is sure to end by the deadline") {
  Host host({"model=blocking"});
  host.submit(script(Outcome::success, 200), 10'000);
  CHECK(host.wait(1, 30'000) == C10D_OK);
  CHECK(ran_here(host));
}

TEST_CASE("wait leaves a blocking op to a worker if the op might run past the deadline") {
  Host host({"model=blocking"});
  host.submit(script(Outcome::success, 200), 60'000);
  CHECK(host.wait(1, 30'000) == C10D_OK);
  CHECK(ran_elsewhere(host));
  CHECK(host.stats().driven_by_wait == 0);
}

TEST_CASE("wait sleeps until a worker has run the op that is left to it") {
  constexpr unsigned kOps = 200;
  Host host({"model=blocking"});
  for (unsigned i = 0; i < kOps; i++) {
    const auto id = host.submit(script(Outcome::success, 200), 60'000);
    CHECK(host.wait(id, 30'000) == C10D_OK);
  }
  // Twice per op: before it wakes the worker, and before it sleeps. A spinning thread asks hundreds of times.
  CHECK(host.journal().read().left_to_workers <= 3 * kOps);
}

TEST_CASE("wait runs a blocking op that can be interrupted, and passes it on at the deadline") {
  for (const char* level : {"level=multiple", "level=serialized"}) {
    CAPTURE(std::string(level));
    Host host({"model=blocking", "interruptible=1", level});
    host.submit(script(Outcome::success, 200), 60'000);
    CHECK(host.wait(1, 30'000) == C10D_OK);
    CHECK(ran_here(host));
    for (const bool by_event : {true, false}) {
      const auto id = host.submit(script(Outcome::gated), 60'000);
      const Stopwatch watch;
      for (int slice = 0; slice < 3; slice++) CHECK(host.wait(id, 10) == C10D_ERR_WAIT_TIMEOUT);
      CHECK(watch.ms() >= 29);
      CHECK(watch.ms() < 30 + 100 * kSlack);
      host.journal().open_gate(static_cast<uint64_t>(id));
      CHECK((by_event ? host.completion(id).status : host.wait(id, 30'000)) == C10D_OK);
      CHECK(host.result(id) == result_of(static_cast<uint64_t>(id) - 1));
    }
    const auto failing = host.submit(script(Outcome::network, 200), 60'000);
    CHECK(host.wait(failing, 30'000) == C10D_ERR_NETWORK);
  }
}

TEST_CASE("wait also leaves it to a worker when only an earlier op might run past the deadline") {
  Host host({"model=blocking"});
  host.submit(script(Outcome::success, 200), 60'000);
  host.submit(script(Outcome::success, 200), 10'000);
  CHECK(host.wait(2, 30'000) == C10D_OK);
  CHECK(host.journal().read().run_threads.size() >= 1);
  CHECK(host.result(2) == result_of(1));
}

TEST_CASE("a wait time-out is on time; the op continues and its late result is right") {
  for (const char* model : {"model=blocking", "model=polling", "model=eventfd"}) {
    for (const char* level : {"level=multiple", "level=serialized", "level=funneled"}) {
      for (const bool by_event : {true, false}) {
        CAPTURE(std::string(model));
        CAPTURE(std::string(level));
        CAPTURE(by_event);
        Host host({model, level});
        const auto id = host.submit(script(Outcome::gated));
        const Stopwatch watch;
        CHECK(host.wait(id, 30) == C10D_ERR_WAIT_TIMEOUT);
        CHECK(watch.ms() >= 29);
        CHECK(watch.ms() < 30 + 100 * kSlack);
        CHECK(c10d_group_state(host.group()) == C10D_OPEN);
        CHECK(host.result(id) == 0);
        host.journal().open_all();
        if (by_event) {
          CHECK(host.completion(id).status == C10D_OK);
        } else {
          CHECK(host.wait(id) == C10D_OK);
        }
        CHECK(host.result(id) == result_of(0));
      }
    }
  }
}

TEST_CASE("wait with a time-out of 0 only polls") {
  Host host({"model=blocking"});
  const auto id = host.submit(script(Outcome::gated));
  CHECK(host.wait(id, 0) == C10D_ERR_WAIT_TIMEOUT);
  CHECK(host.wait(id, -5) == C10D_ERR_WAIT_TIMEOUT);
  CHECK(host.wait(id, -1e300) == C10D_ERR_WAIT_TIMEOUT);
  CHECK(host.journal().await_started(1));
  host.journal().open_all();
  CHECK(host.journal().await([](const auto& record) { return !record.ended.empty(); }));
  CHECK(host.completion(id).status == C10D_OK);
}

TEST_CASE("a wait time-out is on time even if earlier ops are what it waits for") {
  Host host({"model=blocking", "concurrency=2"});
  for (int i = 0; i < 5; i++) host.submit(script(Outcome::gated));
  CHECK(host.wait(5, 20) == C10D_ERR_WAIT_TIMEOUT);
  host.journal().open_all();
  for (int64_t id = 5; id >= 1; id--) CHECK(host.wait(id) == C10D_OK);
}

TEST_CASE("wait does not get caught in later ops") {
  Host host({"model=blocking", "concurrency=2"});
  host.submit(script(Outcome::gated));
  host.kick();
  CHECK(host.journal().await_started(1));
  host.submit(script(Outcome::gated));
  host.kick();
  // Op 2 ends only after this thread has returned from the wait for op 1.
  CHECK(host.journal().await_started(2));
  host.journal().open_gate(1);
  CHECK(host.wait(1) == C10D_OK);
  host.journal().open_gate(2);
  CHECK(host.wait(2) == C10D_OK);
}

TEST_CASE("wait does not get caught in an earlier op that may run beside its own") {
  Host host({"model=blocking", "concurrency=2"});
  host.submit(script(Outcome::gated));
  host.submit(script(Outcome::success));
  CHECK(host.wait(2) == C10D_OK);
  host.journal().open_gate(1);
  CHECK(host.wait(1) == C10D_OK);
}

TEST_CASE("a result can be taken once") {
  Host host({"model=blocking"});
  c10d_event result{};
  const auto id = host.submit({});
  CHECK(host.wait(id, kForever, &result) == C10D_OK);
  CHECK(result.kind == C10D_EVENT_COMPLETE);
  CHECK(result.id == static_cast<uint64_t>(id));
  CHECK(host.wait(id) == C10D_ERR_UNKNOWN_OP);
  CHECK(host.wait(99) == C10D_ERR_UNKNOWN_OP);
  CHECK(host.wait(0) == C10D_ERR_UNKNOWN_OP);
}

TEST_CASE("a failed result can be taken once, and its text once") {
  for (const bool by_wait : {true, false}) {
    CAPTURE(by_wait);
    Host host({"model=blocking"});
    const auto id = host.submit(script(Outcome::network));
    if (by_wait) {
      CHECK(host.wait(id) == C10D_ERR_NETWORK);
    } else {
      host.kick();
      CHECK(host.completion(id).status == C10D_ERR_NETWORK);
    }
    CHECK(host.wait(id) == C10D_ERR_UNKNOWN_OP);
    CHECK(host.drain().empty());
    CHECK(host.error(id) == "connection to rank 3 was lost");
    CHECK(host.error(id).empty());
    CHECK(host.wait(id) == C10D_ERR_UNKNOWN_OP);
  }
}
