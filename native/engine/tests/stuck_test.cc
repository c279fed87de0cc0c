// Ops that do not return although they were aborted.
#include <doctest/doctest.h>

#include <thread>

#include "host.h"

using namespace c10d::test;

TEST_CASE("a stuck op completes as pinned after the grace period, and is released when it returns") {
  // All at once, since each takes a second.
  std::vector<std::unique_ptr<Host>> hosts;
  const Stopwatch watch;
  for (const char* model : kModels) hosts.push_back(std::make_unique<Host>(Settings{model}));
  for (const auto& host : hosts) {
    CHECK(host->submit({script(Outcome::stubborn), 200, C10D_OP_ALLREDUCE, C10D_FLAG_TIMES}) == 1);
    host->kick();
  }
  for (size_t i = 0; i < hosts.size(); i++) {
    CAPTURE(std::string(kModels[i]));
    Host& host = *hosts[i];
    const int64_t id = 1;
    const auto event = host.completion(id);
    CHECK(event.status == C10D_ERR_OP_TIMEOUT);
    CHECK(event.flags == C10D_EVENT_PINNED);
    CHECK(event.started_ns > 0);
    CHECK(event.finished_ns == 0);
    CHECK(watch.ms() > 900);
    CHECK(watch.ms() < 1'200 + 200 * kSlack);
    CHECK(host.stats().pinned == 1);
    CHECK(host.stats().failed == 1);
    CHECK(host.result(id) == 0);
    CHECK(host.error(id) == "timed out after 200 ms");
    CHECK(host.quiet(5));
    host.journal().open_all();
    const auto released = host.await(C10D_EVENT_RELEASED, id);
    REQUIRE(released);
    CHECK(released->flags == 0);
    CHECK(released->finished_ns > released->started_ns);
    CHECK(host.result(id) != 0);
    CHECK(host.stats().pinned == 0);
    CHECK(host.stats().completed == 0);
    CHECK(host.wait(id) == C10D_ERR_UNKNOWN_OP);
  }
}

TEST_CASE("wait on a stuck op returns after the grace period, and the op is pinned") {
  const Settings cases[] = {{"model=blocking", "level=multiple"},
                            {"model=polling", "level=serialized"},
                            {"model=eventfd", "level=multiple"},
                            {"model=polling", "level=funneled"}};
  struct Waiting {
    std::unique_ptr<Host> host;
    int32_t status = 0;
    c10d_event event{};
    double ms = 0;
    std::thread thread;
  };
  // All at once, since each takes a second.
  std::vector<std::unique_ptr<Waiting>> all;
  for (const auto& settings : cases) {
    all.push_back(std::make_unique<Waiting>());
    auto& waiting = *all.back();
    waiting.host = std::make_unique<Host>(settings);
    REQUIRE(waiting.host->submit(script(Outcome::stubborn), 200) == 1);
    // Else the waiting thread might run it, and could return only when the library does.
    waiting.host->kick();
    REQUIRE(waiting.host->journal().await_started(1));
    waiting.thread = std::thread([&waiting] {
      const Stopwatch watch;
      waiting.status = waiting.host->wait(1, kForever, &waiting.event);
      waiting.ms = watch.ms();
    });
  }
  for (size_t i = 0; i < all.size(); i++) {
    CAPTURE(cases[i][0] + " " + cases[i][1]);
    auto& waiting = *all[i];
    Host& host = *waiting.host;
    waiting.thread.join();
    CHECK(waiting.status == C10D_ERR_OP_TIMEOUT);
    CHECK(waiting.ms < 1'200 + 200 * kSlack);
    CHECK(waiting.event.status == C10D_ERR_OP_TIMEOUT);
    CHECK(waiting.event.flags == C10D_EVENT_PINNED);
    CHECK(host.wait(1) == C10D_ERR_UNKNOWN_OP);
    CHECK(host.drain().empty());
    host.journal().open_all();
    CHECK(host.await(C10D_EVENT_RELEASED, 1));
    CHECK(host.error(1) == "timed out after 200 ms");
  }
}

TEST_CASE("only what is stuck is pinned") {
  Host host({"model=blocking", "concurrency=3"});
  host.submit(script(Outcome::stubborn));
  host.submit(script(Outcome::hang));
  host.submit(script(Outcome::network, 1'000));
  host.submit({});
  host.kick();
  for (const int64_t id : {2, 3, 4}) CHECK(host.completion(id).flags == 0);
  CHECK(host.completion(1).flags == C10D_EVENT_PINNED);
  CHECK(host.stats().pinned == 1);
}

TEST_CASE("close does not hang on a stuck op and returns how many there are; their memory stays") {
  for (const char* model : kModels) {
    CAPTURE(std::string(model));
    Host host({model, "concurrency=3"});
    for (int i = 0; i < 2; i++) host.submit(script(Outcome::stubborn));
    host.submit(script(Outcome::hang));
    host.kick();
    REQUIRE(host.journal().await_started(3));
    const Stopwatch watch;
    CHECK(host.close(500) == 2);
    CHECK(watch.ms() < 500 + 100 * kSlack);
    CHECK(c10d_group_state(host.group()) == C10D_CLOSED);
    CHECK(host.stats().pinned == 2);
    // Again, with the shortest time-out.
    CHECK(host.close(0) == 2);
    CHECK(host.completion(1).flags == C10D_EVENT_PINNED);
    CHECK(host.completion(3).status == C10D_ERR_CLOSED);
    host.journal().open_all();
    CHECK(host.await(C10D_EVENT_RELEASED, 1));
    CHECK(host.await(C10D_EVENT_RELEASED, 2));
    CHECK(host.result(1) != 0);
    CHECK(host.close(5'000) == 0);
  }
}

TEST_CASE("several groups are kept at once and go in any order") {
  Host first({"model=blocking"});
  Host second({"model=blocking"});
  Host third({"model=blocking"});
  for (Host* host : {&first, &second, &third}) {
    host->submit(script(Outcome::stubborn));
    host->kick();
    REQUIRE(host->journal().await_started(1));
    CHECK(host->close(0) == 1);
  }
  for (Host* host : {&second, &third, &first}) {
    host->journal().open_all();
    CHECK(host->close(5'000) == 0);
  }
}
