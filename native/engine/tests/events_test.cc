// Completion events and the wake byte.
#include <doctest/doctest.h>
#include <unistd.h>

#include <thread>

#include "host.h"

using namespace c10d::test;

namespace {

bool all_ended(const Host& host, size_t count) {
  return host.journal().await([count](const auto& record) { return record.ended.size() == count; });
}

}  // namespace

TEST_CASE("many events send one wake byte; after the queue was seen empty, the next sends another") {
  Host host({"model=blocking"});
  const auto wakes_before = host.stats().wakes;
  for (int round = 1; round <= 3; round++) {
    for (int i = 0; i < 20; i++) host.submit({});
    host.kick();
    REQUIRE(all_ended(host, 20U * static_cast<unsigned>(round)));
    while (host.stats().completed < 20U * static_cast<unsigned>(round)) std::this_thread::yield();
    CHECK(host.awoken(1'000));
    CHECK_FALSE(host.awoken(5));
    const auto events = host.drain();
    REQUIRE(events.size() == 20);
    for (const auto& event : events) CHECK(event.kind == C10D_EVENT_COMPLETE);
    CHECK(host.stats().wakes == wakes_before + static_cast<unsigned>(round));
  }
}

TEST_CASE("events that are only partly drained need no further wake byte") {
  Host host({"model=blocking"});
  for (int i = 0; i < 5; i++) host.submit({});
  host.kick();
  REQUIRE(all_ended(host, 5));
  while (host.stats().completed < 5) std::this_thread::yield();
  CHECK(host.awoken(1'000));
  c10d_event events[4];
  CHECK(c10d_drain(host.group(), events, sizeof events[0], 2) == 2);
  CHECK(events[0].id == 1);
  CHECK(events[1].id == 2);
  host.submit({});
  host.kick();
  REQUIRE(all_ended(host, 6));
  while (host.stats().completed < 6) std::this_thread::yield();
  CHECK_FALSE(host.awoken(5));
  CHECK(c10d_drain(host.group(), events, sizeof events[0], 4) == 4);
  CHECK(c10d_drain(host.group(), events, sizeof events[0], 4) == 0);
  host.submit({});
  host.kick();
  CHECK(host.completion(7).status == C10D_OK);
}

TEST_CASE("an op taken by wait causes no event and no wake byte") {
  for (const char* model : {"model=blocking", "model=polling", "model=instant"}) {
    CAPTURE(std::string(model));
    Host host({model});
    const auto wakes = host.stats().wakes;
    for (int64_t id = 1; id <= 10; id++) {
      host.submit({});
      if (id % 2 == 0) host.kick();
      CHECK(host.wait(id) == C10D_OK);
    }
    CHECK(host.stats().wakes <= wakes + 5);  // a kicked op may have ended before the wait
    CHECK(host.drain().empty());
  }
}

TEST_CASE("wait after completion and before drain takes the result; drain skips it") {
  Host host({"model=blocking"});
  host.submit({});
  host.submit({});
  host.kick();
  while (host.stats().completed < 2) std::this_thread::yield();
  CHECK(host.wait(1) == C10D_OK);
  const auto events = host.drain();
  REQUIRE(events.size() == 1);
  CHECK(events[0].id == 2);
  CHECK(host.wait(2) == C10D_ERR_UNKNOWN_OP);
}

TEST_CASE("a failed op taken by wait causes no second result at drain") {
  Host host({"model=blocking"});
  host.submit(script(Outcome::unsupported));
  host.kick();
  while (host.stats().failed < 1) std::this_thread::yield();
  CHECK(host.wait(1) == C10D_ERR_UNSUPPORTED);
  CHECK(host.drain().empty());
  CHECK(host.error(1) == "no such reduction");
}

TEST_CASE("a host that has closed its end of the socket does no harm") {
  c10d_group* group = create_group({"model=blocking"});
  REQUIRE(group != nullptr);
  ::close(c10d_wake_fd(group));
  c10d_event event{};
  const Stopwatch watch;
  while (c10d_drain(group, &event, sizeof event, 1) == 0 && watch.ms() < 5'000) std::this_thread::yield();
  CHECK(event.kind == C10D_EVENT_READY);
  const auto op = op_record({0, kForever, C10D_OP_BARRIER});
  CHECK(c10d_submit(group, &op, 1) == 1);
  c10d_kick(group);
  while (c10d_drain(group, &event, sizeof event, 1) == 0 && watch.ms() < 5'000) std::this_thread::yield();
  CHECK(event.kind == C10D_EVENT_COMPLETE);
  CHECK(c10d_close(group, 5'000) == 0);
}
