// Creation and its cancellation.
#include <doctest/doctest.h>

#include <thread>

#include "host.h"

using namespace c10d::test;

TEST_CASE("creation ends with an event, and no op is accepted before") {
  Host host({"connect=stubborn"}, kForever, false);
  CHECK(c10d_group_state(host.group()) == C10D_CONNECTING);
  CHECK(host.submit({}) == C10D_ERR_CLOSED);
  CHECK(last_error() == "the group is not open");
  CHECK(host.quiet(10));
  host.journal().open_gate(0);
  const auto ready = host.await(C10D_EVENT_READY);
  REQUIRE(ready);
  CHECK(ready->status == C10D_OK);
  CHECK(c10d_group_state(host.group()) == C10D_OPEN);
  CHECK(host.submit({}) == 1);
}

TEST_CASE("creation that fails reports why") {
  struct Case {
    const char* connect;
    int32_t status;
    int32_t peer;
    const char* text;
  };
  const Case cases[] = {
      {"connect=failure", C10D_ERR_NETWORK, 1, "rank 1 does not answer"},
      {"connect=exception", C10D_ERR_BACKEND, -1, "no device"},
      {"connect=number", C10D_ERR_BACKEND, -1, "unknown native exception"},
  };
  for (const auto& expected : cases) {
    CAPTURE(std::string(expected.connect));
    Host host({expected.connect}, kForever, false);
    const auto ready = host.await(C10D_EVENT_READY);
    REQUIRE(ready);
    CHECK(ready->status == expected.status);
    CHECK(ready->peer == expected.peer);
    CHECK(host.group_error() == expected.text);
    CHECK(c10d_group_state(host.group()) == C10D_FAILED);
    CHECK(host.submit({}) == C10D_ERR_GROUP_FAILED);
    CHECK(host.close(5'000) == 0);
    CHECK(host.journal().read().closes == 0);
    CHECK(host.journal().await_aborts());
  }
}

TEST_CASE("creation has a time limit, even if the transport ignores it") {
  Host host({"connect=hang"}, 30, false);
  const Stopwatch watch;
  const auto ready = host.await(C10D_EVENT_READY);
  REQUIRE(ready);
  CHECK(ready->status == C10D_ERR_OP_TIMEOUT);
  CHECK(host.group_error() == "connecting timed out");
  CHECK(watch.ms() >= 28);
  CHECK(watch.ms() < 280 + 100 * kSlack);
}

TEST_CASE("creation that does not return at all is reported after the grace period") {
  Host host({"connect=stubborn"}, 30, false);
  const auto ready = host.await(C10D_EVENT_READY);
  REQUIRE(ready);
  CHECK(ready->status == C10D_ERR_OP_TIMEOUT);
  CHECK(host.close(0) == 1);
  host.journal().open_all();
  CHECK(host.close(5'000) == 0);
}

TEST_CASE("creation can be cancelled from any thread") {
  Host host({"connect=hang"}, kForever, false);
  std::thread([&] { c10d_abort(host.group(), C10D_ERR_ABORTED, "changed my mind"); }).join();
  const auto ready = host.await(C10D_EVENT_READY);
  REQUIRE(ready);
  CHECK(ready->status == C10D_ERR_ABORTED);
  CHECK(host.group_error() == "changed my mind");
  CHECK_FALSE(host.await(C10D_EVENT_READY, 0, 20));
}

TEST_CASE("a group can be closed while it connects") {
  for (const char* connect : {"connect=hang", "connect=at-once", "connect=exchange"}) {
    CAPTURE(std::string(connect));
    Host host({connect}, kForever, false, 2);
    const Stopwatch watch;
    CHECK(host.close(5'000) == 0);
    CHECK(watch.ms() < 100 * kSlack);
  }
}

TEST_CASE("a transport that cannot be created gives the reason") {
  CHECK(create_group({"make=failure"}) == nullptr);
  CHECK(last_error() == "no such transport");
}
