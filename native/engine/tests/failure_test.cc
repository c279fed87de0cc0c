// Errors of ops, time-outs, and what happens to the group.
#include <doctest/doctest.h>

#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "host.h"

using namespace c10d::test;

TEST_CASE("a failure with a longer text keeps the fields that the host decides by") {
  const auto lack = c10d::Failure::of_system("accept", EMFILE, C10D_ERR_NETWORK).about(2, "connecting to rank 2: ");
  CHECK(lack.text() == "connecting to rank 2: accept: Too many open files");
  CHECK(lack.status() == C10D_ERR_NETWORK);
  CHECK(lack.system_error() == EMFILE);
  CHECK(lack.peer() == 2);
  const auto late = c10d::Failure::of_ranks(C10D_ERR_OP_TIMEOUT, "late", {1, 3}).about(3, "again: ");
  CHECK(late.ranks() == std::vector<int32_t>{1, 3});
  const auto differ = c10d::Failure::of_mismatch(C10D_MISMATCH_SPLITS, "differ", 0, 1).about(1, "again: ");
  CHECK(differ.mismatch() == C10D_MISMATCH_SPLITS);
}

TEST_CASE("an errno is found in the message of a library, and in the code of an exception") {
  const auto thrown = [](const auto& error) { return c10d::attempt([&] { throw error; })->system_error(); };
  CHECK(thrown(std::runtime_error("socket: Too many open files")) == EMFILE);
  CHECK(thrown(std::runtime_error("socket: Too many open files in system")) == ENFILE);
  CHECK(thrown(std::runtime_error("mmap: Cannot allocate memory (UCX)")) == ENOMEM);
  CHECK(thrown(std::runtime_error("Connection refused")) == 0);
  CHECK(thrown(std::system_error(EAGAIN, std::generic_category(), "thread")) == EAGAIN);
}

TEST_CASE("each failure has its own status, text and rank") {
  struct Case {
    Outcome outcome;
    int32_t status;
    const char* text;
    int32_t peer;
  };
  const Case cases[] = {
      {Outcome::network, C10D_ERR_NETWORK, "connection to rank 3 was lost", 3},
      {Outcome::unsupported, C10D_ERR_UNSUPPORTED, "no such reduction", -1},
      {Outcome::exception, C10D_ERR_BACKEND, "library error 42", -1},
      {Outcome::number, C10D_ERR_BACKEND, "unknown native exception", -1},
  };
  for (const auto& expected : cases) {
    for (const char* model : kModels) {
      for (const At at : {At::start, At::end}) {
        for (const bool by_wait : {true, false}) {
          CAPTURE(std::string(expected.text));
          CAPTURE(std::string(model));
          CAPTURE(static_cast<int>(at));
          CAPTURE(by_wait);
          Host host({model});
          const auto id = host.submit(script(expected.outcome, 50, at));
          c10d_event event{};
          if (by_wait) {
            CHECK(host.wait(id, kForever, &event) == expected.status);
          } else {
            host.kick();
            event = host.completion(id);
          }
          CHECK(event.status == expected.status);
          CHECK(event.peer == expected.peer);
          CHECK(host.error(id) == expected.text);
          const bool harmless = expected.status == C10D_ERR_UNSUPPORTED;
          CHECK(c10d_group_state(host.group()) == (harmless ? C10D_OPEN : C10D_FAILED));
          CHECK(host.group_error() == (harmless ? "" : expected.text));
          if (!harmless) CHECK(host.journal().await_aborts());
          CHECK(host.journal().read().aborts == (harmless ? 0 : 1));
        }
      }
    }
  }
}

TEST_CASE("a point-to-point op that fails at its start fails like any other") {
  Host host({"model=polling"});
  host.submit({});
  const auto batch = host.submit_batch({{script(Outcome::network, 0, At::start), kForever, C10D_OP_SEND},
                                        {script(Outcome::gated), kForever, C10D_OP_RECV}});
  CHECK(batch == 2);
  CHECK(host.completion(2).status == C10D_ERR_NETWORK);
  CHECK(host.completion(1).status == C10D_ERR_NETWORK);
  CHECK(host.completion(3).status == C10D_ERR_NETWORK);
  CHECK(host.journal().read().started == std::vector<uint64_t>{2});
}

TEST_CASE("an op refused at submit takes no id and does no harm") {
  Host host({"model=blocking"});
  CHECK(host.submit(script(Outcome::unsupported, 0, At::check)) == C10D_ERR_UNSUPPORTED);
  CHECK(host.submit(script(Outcome::exception, 0, At::check)) == C10D_ERR_BACKEND);
  CHECK(host.submit(script(Outcome::number, 0, At::check)) == C10D_ERR_BACKEND);
  CHECK(host.submit({}) == 1);
  CHECK(host.wait(1) == C10D_OK);
  CHECK(host.result(1) == result_of(0));
}

TEST_CASE("a harmless failure does not affect other ops") {
  Host host({"model=blocking"});
  host.submit({});
  host.submit(script(Outcome::unsupported));
  host.submit({});
  host.kick();
  CHECK(host.completion(1).status == C10D_OK);
  CHECK(host.completion(2).status == C10D_ERR_UNSUPPORTED);
  CHECK(host.completion(3).status == C10D_OK);
  CHECK(c10d_group_state(host.group()) == C10D_OPEN);
  CHECK(host.submit({}) == 4);
  CHECK(host.wait(4) == C10D_OK);
  CHECK(host.error(2) == "no such reduction");
}

TEST_CASE("the first failure fails the group: running and queued ops get its cause, new ones are refused") {
  for (const char* model : kModels) {
    for (const char* level : kLevels) {
      CAPTURE(std::string(model));
      CAPTURE(std::string(level));
      // A blocking library with one thread at a time runs one op at a time.
      const bool two_at_once = model != kModels[0] || level == kLevels[0];
      Host host({model, level, "concurrency=2"});
      host.submit(script(two_at_once ? Outcome::hang : Outcome::success));
      host.submit(script(Outcome::network, 2'000));
      host.submit({});
      host.submit({});
      host.kick();
      for (int64_t id = two_at_once ? 1 : 2; id <= 4; id++) {
        CAPTURE(id);
        const auto event = host.completion(id);
        CHECK(event.status == C10D_ERR_NETWORK);
        CHECK(event.peer == 3);
        CHECK(event.flags == 0);
        CHECK(host.error(id) == "connection to rank 3 was lost");
      }
      CHECK(c10d_group_state(host.group()) == C10D_FAILED);
      CHECK(host.submit({}) == C10D_ERR_GROUP_FAILED);
      CHECK(last_error() == "connection to rank 3 was lost");
      CHECK(host.submit_batch({{}, {}}) == C10D_ERR_GROUP_FAILED);
      CHECK(host.journal().read().started == std::vector<uint64_t>{1, 2});
      CHECK(host.journal().await_aborts());
      CHECK(host.journal().read().abort_text == "connection to rank 3 was lost");
      CHECK(host.stats().failed == (two_at_once ? 4 : 3));
    }
  }
}

TEST_CASE("wait gets the cause too, whichever thread drives") {
  for (const char* model : kModels) {
    for (const char* level : kLevels) {
      CAPTURE(std::string(model));
      CAPTURE(std::string(level));
      Host host({model, level});
      host.submit(script(Outcome::network, 500));
      host.submit({});
      CHECK(host.wait(2) == C10D_ERR_NETWORK);
      CHECK(host.wait(1) == C10D_ERR_NETWORK);
    }
  }
}

TEST_CASE("the op time-out is on time, for an op that runs, is pending, is queued or was never kicked") {
  for (const char* model : kModels) {
    for (const char* level : kLevels) {
      for (const int waits : {0, 1, 2}) {
        CAPTURE(std::string(model));
        CAPTURE(std::string(level));
        CAPTURE(waits);
        Host host({model, level});
        const Stopwatch watch;
        const auto id = host.submit(script(Outcome::hang), 40);
        const auto behind = host.submit({});
        c10d_event event{};
        if (waits == 2) {
          CHECK(host.wait(id, kForever, &event) == C10D_ERR_OP_TIMEOUT);
        } else {
          if (waits == 1) host.kick();
          event = host.completion(id);
        }
        CHECK(event.status == C10D_ERR_OP_TIMEOUT);
        CHECK(watch.ms() >= 38);
        CHECK(watch.ms() < 40 + 100 * kSlack);
        CHECK(host.error(id) == "timed out after 40 ms");
        CHECK(host.completion(behind).status == C10D_ERR_OP_TIMEOUT);
        CHECK(c10d_group_state(host.group()) == C10D_FAILED);
        CHECK(host.journal().await_aborts());
      }
    }
  }
}

TEST_CASE("the op time-out of a queued op counts from its submit") {
  Host host({"model=blocking"});
  host.submit(script(Outcome::hang));
  const auto id = host.submit({0, 40});
  host.kick();
  const Stopwatch watch;
  CHECK(host.completion(id).status == C10D_ERR_OP_TIMEOUT);
  CHECK(watch.ms() < 40 + 100 * kSlack);
  CHECK(host.completion(1).status == C10D_ERR_OP_TIMEOUT);
}

TEST_CASE("a shorter time-out after longer ones is noticed, and those of ops that have ended are not") {
  Host host({"model=blocking", "concurrency=4"});
  host.submit({script(Outcome::hang), 60'000});
  host.submit({script(Outcome::success), 150});
  host.kick();
  CHECK(host.completion(2).status == C10D_OK);
  host.submit({script(Outcome::gated), 30'000});
  host.kick();
  CHECK(host.quiet(200));
  CHECK(c10d_group_state(host.group()) == C10D_OPEN);
  host.submit({script(Outcome::hang), 30});
  host.kick();
  const Stopwatch watch;
  CHECK(host.completion(4).status == C10D_ERR_OP_TIMEOUT);
  CHECK(watch.ms() < 30 + 100 * kSlack);
}

TEST_CASE("a time-out names the rank that was awaited, if the library knows") {
  Host host({"model=blocking", "awaited=2"});
  const auto id = host.submit(script(Outcome::hang), 20);
  host.kick();
  const auto event = host.completion(id);
  CHECK(event.status == C10D_ERR_OP_TIMEOUT);
  CHECK(event.peer == 2);
  CHECK(host.error(id) == "timed out after 20 ms of waiting for rank 2");
}

TEST_CASE("the time-out of a message names its own peer, whatever else is awaited") {
  Host host({"model=mixed", "awaited=2"});
  host.submit(script(Outcome::hang));
  host.kick();
  const auto id = host.submit({script(Outcome::hang), 20, C10D_OP_RECV});
  const auto event = host.completion(id);
  CHECK(event.status == C10D_ERR_OP_TIMEOUT);
  CHECK(event.peer == 5);
  CHECK(host.error(id) == "timed out after 20 ms of waiting for rank 5");
}

TEST_CASE("a loss that no op reports fails the group, with an event") {
  Host host({"model=blocking"});
  std::thread([&] { host.journal().lose({C10D_ERR_NETWORK, "rank 2 is lost", 2}); }).join();
  const auto event = host.await(C10D_EVENT_LOST);
  REQUIRE(event);
  CHECK(event->status == C10D_ERR_NETWORK);
  CHECK(event->peer == 2);
  CHECK(host.journal().await_aborts());
  CHECK(c10d_group_state(host.group()) == C10D_FAILED);
  CHECK(host.group_error() == "rank 2 is lost");
  host.journal().lose({C10D_ERR_NETWORK, "rank 1 is lost", 1});
  CHECK(host.quiet(10));
  CHECK(host.group_error() == "rank 2 is lost");
}

TEST_CASE("a loss while connecting is reported once that has ended") {
  Host host({"connect=stubborn"}, kForever, false);
  CHECK(host.journal().await([](const auto& record) { return !record.connect_threads.empty(); }));
  host.journal().lose({C10D_ERR_NETWORK, "rank 2 is lost", 2});
  CHECK(host.quiet(10));
  CHECK(c10d_group_state(host.group()) == C10D_CONNECTING);
  host.journal().open_gate(0);
  REQUIRE(host.await(C10D_EVENT_READY).has_value());
  const auto event = host.await(C10D_EVENT_LOST);
  REQUIRE(event);
  CHECK(event->peer == 2);
}

TEST_CASE("losses reported while the group is closed do no harm") {
  for (int i = 0; i < 50; i++) {
    Host host({"model=blocking"});
    std::thread other([&, journal = Journal::latest()] {
      for (int k = 0; k < 20; k++) journal->lose({C10D_ERR_NETWORK, "rank 2 is lost", 2});
    });
    CHECK(host.close(5'000) == 0);
    other.join();
  }
}

TEST_CASE("an infinite time-out is no limit") {
  Host host({"model=polling"});
  const auto id = host.submit(script(Outcome::gated), kForever);
  CHECK(host.wait(id, 50) == C10D_ERR_WAIT_TIMEOUT);
  const auto far = host.submit(script(Outcome::gated), 1e300);
  CHECK(host.wait(far, 10) == C10D_ERR_WAIT_TIMEOUT);
  CHECK(c10d_group_state(host.group()) == C10D_OPEN);
  host.journal().open_all();
  CHECK(host.wait(far) == C10D_OK);
}

TEST_CASE("an exception from progress() fails the group once; its ops end by the abort, or stay pinned") {
  // All at once, since each takes a second.
  std::vector<std::unique_ptr<Host>> hosts;
  for (const char* level : kLevels) {
    hosts.push_back(std::make_unique<Host>(Settings{"model=polling", level, "concurrency=2"}));
    hosts.back()->submit(script(Outcome::broken_progress, 1'000));
    hosts.back()->submit(script(Outcome::hang));
    hosts.back()->kick();
  }
  for (size_t i = 0; i < hosts.size(); i++) {
    CAPTURE(std::string(kLevels[i]));
    Host& host = *hosts[i];
    const auto broken = host.completion(1);
    CHECK(broken.status == C10D_ERR_BACKEND);
    CHECK(broken.flags == C10D_EVENT_PINNED);
    CHECK(host.error(1) == "unknown native exception");
    CHECK(host.completion(2).status == C10D_ERR_BACKEND);
    CHECK(host.journal().await_aborts());
    host.journal().open_all();
    CHECK(host.await(C10D_EVENT_RELEASED, 1));
    CHECK(host.stats().pinned == 0);
  }
}

TEST_CASE("what progress() throws is announced, since the ops in flight may still succeed") {
  Host host({"model=polling"});
  const auto id = host.submit(script(Outcome::broken_progress));
  host.kick();
  const auto event = host.await(C10D_EVENT_LOST);
  REQUIRE(event);
  CHECK(event->status == C10D_ERR_BACKEND);
  CHECK(event->peer == -1);
  CHECK(host.completion(id).status == C10D_ERR_BACKEND);
}

TEST_CASE("a Failure that is thrown is a failure, whatever its status") {
  const auto caught = c10d::attempt([] { throw c10d::Failure(C10D_OK, "all is well"); });
  REQUIRE(caught);
  CHECK(caught->status() == C10D_ERR_BACKEND);
  const auto memory = c10d::attempt([] { throw std::bad_alloc(); });
  REQUIRE(memory);
  CHECK(memory->system_error() == ENOMEM);
}
