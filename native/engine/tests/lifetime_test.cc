// Abort and close.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "host.h"

using namespace c10d::test;

TEST_CASE("abort from another thread wakes a wait, whichever thread drives") {
  for (const char* model : kModels) {
    for (const char* level : kLevels) {
      for (const bool kicked : {false, true}) {
        CAPTURE(std::string(model));
        CAPTURE(std::string(level));
        CAPTURE(kicked);
        Host host({model, level});
        host.submit(script(Outcome::hang));
        host.submit({});
        if (kicked) host.kick();
        std::thread other([&] {
          host.journal().await_started(1);
          c10d_abort(host.group(), C10D_ERR_ABORTED, "stopped by the user");
        });
        c10d_event event{};
        CHECK(host.wait(1, kForever, &event) == C10D_ERR_ABORTED);
        other.join();
        CHECK(event.flags == 0);
        CHECK(host.error(1) == "stopped by the user");
        CHECK(host.wait(2) == C10D_ERR_ABORTED);
        CHECK(host.journal().await_aborts());
      }
    }
  }
}

TEST_CASE("abort of an idle group") {
  Host host({"model=blocking"});
  std::thread([&] { c10d_abort(host.group(), C10D_OK, "no longer wanted"); }).join();
  CHECK(c10d_group_state(host.group()) == C10D_FAILED);
  CHECK(host.group_error() == "no longer wanted");
  CHECK(host.submit({}) == C10D_ERR_GROUP_FAILED);
  CHECK(host.close(5'000) == 0);
  CHECK(host.journal().read().closes == 0);
}

TEST_CASE("only the first of many aborts counts") {
  Host host({"model=blocking"});
  host.submit(script(Outcome::hang));
  host.kick();
  std::vector<std::thread> others;
  for (int i = 0; i < 4; i++) others.emplace_back([&] { c10d_abort(host.group(), C10D_ERR_NETWORK, "one of four"); });
  for (auto& other : others) other.join();
  c10d_abort(host.group(), C10D_ERR_ABORTED, "too late");
  CHECK(host.completion(1).status == C10D_ERR_NETWORK);
  CHECK(host.group_error() == "one of four");
  CHECK(host.journal().await_aborts());
}

TEST_CASE("an idle group closes in order and quickly") {
  for (const char* model : kModels) {
    for (const char* level : kLevels) {
      CAPTURE(std::string(model));
      CAPTURE(std::string(level));
      Host host({model, level});
      CHECK(host.wait(host.submit({})) == C10D_OK);
      const Stopwatch watch;
      CHECK(host.close(5'000) == 0);
      CHECK(watch.ms() < 60 * kSlack);
      CHECK(host.journal().read().closes == 1);
      CHECK(host.journal().read().aborts == 0);
    }
  }
}

TEST_CASE("close with ops in flight aborts them instead of closing in order") {
  for (const char* model : kModels) {
    for (const char* level : kLevels) {
      for (const bool kicked : {false, true}) {
        CAPTURE(std::string(model));
        CAPTURE(std::string(level));
        CAPTURE(kicked);
        Host host({model, level, "concurrency=2"});
        for (int i = 0; i < 4; i++) host.submit(script(Outcome::hang));
        if (kicked) host.kick();
        if (kicked) CHECK(host.journal().await_started(1));
        const Stopwatch watch;
        CHECK(host.close(5'000) == 0);
        CHECK(watch.ms() < 60 * kSlack);
        CHECK(host.journal().read().closes == 0);
        CHECK(host.journal().await_aborts());
        CHECK(host.journal().read().abort_text == "the group was closed");
      }
    }
  }
}

TEST_CASE("close drives what only a wait had started") {
  Host host({"model=polling", "level=serialized"});
  host.submit(script(Outcome::hang));
  CHECK(host.wait(1, 1) == C10D_ERR_WAIT_TIMEOUT);
  CHECK(host.close(5'000) == 0);
}

TEST_CASE("close of a failed group") {
  Host host({"model=blocking"});
  CHECK(host.wait(host.submit(script(Outcome::network))) == C10D_ERR_NETWORK);
  CHECK(host.close(5'000) == 0);
  CHECK(host.journal().read().closes == 0);
  CHECK(host.journal().await_aborts());
}

TEST_CASE("close while another thread aborts") {
  for (int i = 0; i < 50; i++) {
    Host host({"model=blocking"});
    host.submit(script(Outcome::hang));
    host.kick();
    std::atomic<bool> started{false};
    std::thread other([&, group = host.group()] {
      started = true;
      c10d_abort(group, C10D_ERR_ABORTED, "at the same time");
    });
    while (!started) std::this_thread::yield();
    // An abort may come before, within or (as here) not after the close.
    host.journal().await([](const auto& record) { return record.aborts == 1; });
    CHECK(host.close(5'000) == 0);
    other.join();
    CHECK(host.journal().await_aborts());
  }
}
