// Which op starts when.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "host.h"

using namespace c10d::test;

namespace {

std::vector<uint64_t> ids(uint64_t first, uint64_t last) {
  std::vector<uint64_t> all(last - first + 1);
  std::iota(all.begin(), all.end(), first);
  return all;
}

Request barrier(uint32_t tag = 0) { return {tag, kForever, C10D_OP_BARRIER}; }
Request send(uint32_t tag = 0) { return {tag, kForever, C10D_OP_SEND}; }
Request recv(uint32_t tag = 0) { return {tag, kForever, C10D_OP_RECV}; }

}  // namespace

TEST_CASE("ids are consecutive from 1, and the order is fixed at submit") {
  Host host({"model=blocking"});
  for (int64_t id = 1; id <= 5; id++) CHECK(host.submit(script(Outcome::success, 100)) == id);
  host.kick();
  // Waiting in the opposite order changes nothing.
  for (int64_t id = 5; id >= 1; id--) {
    CHECK(host.wait(id) == C10D_OK);
    CHECK(host.result(id) == result_of(static_cast<uint64_t>(id - 1)));
  }
  CHECK(host.journal().read().started == ids(1, 5));
  CHECK(host.journal().read().ended == ids(1, 5));
}

TEST_CASE("a collective that is refused, here or by the host, takes a number; a message has none") {
  Host host({"model=instant"});
  CHECK(host.submit(script(Outcome::success)) == 1);
  CHECK(host.submit(script(Outcome::unsupported, 0, At::check)) == C10D_ERR_UNSUPPORTED);
  CHECK(host.submit(script(Outcome::success)) == 2);
  c10d_skip_turn(host.group());
  CHECK(host.submit(send()) == 3);
  CHECK(host.submit({script(Outcome::unsupported, 0, At::check), kForever, C10D_OP_SEND}) == C10D_ERR_UNSUPPORTED);
  CHECK(host.submit(script(Outcome::success)) == 4);
  // A batch is accepted or refused as a whole; each of its collectives counts.
  const Request refused{script(Outcome::unsupported, 0, At::check)};
  CHECK(host.submit_batch({{}, send(), refused}) == C10D_ERR_UNSUPPORTED);
  CHECK(host.submit_batch({{}, send(), barrier()}) == 5);
  for (int64_t id = 1; id <= 7; id++) CHECK(host.wait(id) == C10D_OK);
  auto numbers = host.journal().read().numbers;
  // Messages start first.
  std::sort(numbers.begin(), numbers.end());
  CHECK(numbers == std::vector<uint64_t>{0, 0, 1, 3, 5, 8, 9});
}

TEST_CASE("nothing starts before kick or wait; wait starts nothing that was submitted later") {
  for (const char* model : {"model=blocking", "model=polling", "model=instant"}) {
    CAPTURE(std::string(model));
    Host host({model, "concurrency=4"});
    for (int i = 0; i < 4; i++) host.submit(script(Outcome::success));
    CHECK(host.quiet(20));
    CHECK(host.journal().read().started.empty());
    CHECK(host.wait(2) == C10D_OK);
    CHECK(host.wait(1) == C10D_OK);
    CHECK(host.quiet(20));
    CHECK(host.journal().read().started == ids(1, 2));
    host.kick();
    CHECK(host.completion(4).status == C10D_OK);
    CHECK(host.journal().read().started == ids(1, 4));
  }
}

TEST_CASE("kick starts what was submitted before it, nothing later") {
  Host host({"model=blocking", "concurrency=4"});
  host.submit(script(Outcome::success));
  host.kick();
  host.submit(script(Outcome::success));
  CHECK(host.completion(1).status == C10D_OK);
  CHECK(host.quiet(20));
  CHECK(host.journal().read().started == ids(1, 1));
  host.kick();
  CHECK(host.completion(2).status == C10D_OK);
}

TEST_CASE("as many ops run at once as the transport allows, and no more") {
  for (const unsigned limit : {1U, 2U, 5U}) {
    CAPTURE(limit);
    Host host({"model=blocking", "concurrency=" + std::to_string(limit)});
    for (int i = 0; i < 8; i++) host.submit(script(Outcome::gated));
    host.kick();
    CHECK(host.journal().await_started(limit));
    CHECK(host.quiet(20));
    CHECK(host.journal().read().started == ids(1, limit));
    host.journal().open_all();
    for (int64_t id = 1; id <= 8; id++) CHECK(host.completion(id).status == C10D_OK);
    CHECK(host.journal().read().started == ids(1, 8));
    CHECK(host.journal().read().most_in_flight == limit);
    CHECK(host.journal().read().most_starts == 1);
  }
}

TEST_CASE("the limit holds for ops that are polled, and one thread drives them all") {
  Host host({"model=polling", "concurrency=3"});
  for (int i = 0; i < 6; i++) host.submit(script(Outcome::gated));
  host.kick();
  CHECK(host.journal().await_started(3));
  CHECK(host.quiet(20));
  CHECK(host.journal().read().started == ids(1, 3));
  host.journal().open_gate(2);
  CHECK(host.completion(2).status == C10D_OK);
  CHECK(host.journal().await_started(4));
  host.journal().open_all();
  CHECK(host.completion(6).status == C10D_OK);
  CHECK(host.journal().read().most_in_flight == 3);
  CHECK(host.journal().read().call_threads.size() == 1);
}

TEST_CASE("a later op starts as soon as it is kicked, although the first one was running alone") {
  Host host({"model=blocking", "concurrency=2"});
  host.submit(script(Outcome::gated));
  host.kick();
  CHECK(host.journal().await_started(1));
  host.submit(script(Outcome::success));
  host.kick();
  CHECK(host.completion(2).status == C10D_OK);
  host.journal().open_all();
  CHECK(host.completion(1).status == C10D_OK);
}

TEST_CASE("a fence waits for all collectives before it") {
  for (const char* model : {"model=blocking", "model=polling"}) {
    CAPTURE(std::string(model));
    Host host({model, "concurrency=4"});
    host.submit(script(Outcome::gated));
    host.submit(script(Outcome::gated));
    host.submit(barrier(script(Outcome::success)));
    host.submit(script(Outcome::success));
    host.kick();
    CHECK(host.journal().await_started(2));
    host.journal().open_gate(2);
    CHECK(host.completion(2).status == C10D_OK);
    CHECK(host.quiet(20));
    CHECK(host.journal().read().started == ids(1, 2));
    host.journal().open_gate(1);
    CHECK(host.completion(3).status == C10D_OK);
    CHECK(host.completion(4).status == C10D_OK);
    CHECK(host.journal().read().started == ids(1, 4));
  }
}

TEST_CASE("wait on a fence runs the ops before it to their end") {
  Host host({"model=blocking", "concurrency=4"});
  for (int i = 0; i < 3; i++) host.submit(script(Outcome::success, 500));
  host.submit(barrier());
  CHECK(host.wait(4) == C10D_OK);
  CHECK(host.journal().read().ended.size() == 4);
  CHECK(host.journal().read().ended.back() == 4);
}

TEST_CASE("a batch is taken as a whole, in its order") {
  Host host({"model=blocking"});
  CHECK(host.submit_batch({{}, {}, {}}) == 1);
  CHECK(host.submit_batch({{}, {}}) == 4);
  CHECK(host.wait(5) == C10D_OK);
  CHECK(host.journal().read().started == ids(1, 5));
  for (int64_t id = 1; id <= 5; id++) CHECK(host.result(id) == result_of(static_cast<uint64_t>(id - 1)));
}

TEST_CASE("a batch with a bad op is refused as a whole and takes no ids") {
  Host host({"model=blocking"});
  CHECK(host.submit_batch({{}, {script(Outcome::unsupported, 0, At::check)}, {}}) == C10D_ERR_UNSUPPORTED);
  CHECK(last_error() == "no such reduction");
  CHECK(host.submit_batch({{}, {0, -1}}) == C10D_ERR_INVALID);
  CHECK(host.stats().submitted == 0);
  CHECK(host.submit_batch({{}, {}}) == 1);
  CHECK(host.wait(2) == C10D_OK);
  CHECK(host.result(1) == result_of(0));
  CHECK(host.journal().read().started == ids(1, 2));
}

TEST_CASE("point-to-point ops start at submit, never behind collectives") {
  for (const char* model : {"model=blocking", "model=polling", "model=eventfd", "model=mixed"}) {
    for (const char* level : {"level=multiple", "level=serialized", "level=funneled"}) {
      // A blocking library with one thread at a time cannot do that.
      if (model == std::string("model=blocking") && level != std::string("level=multiple")) continue;
      if (model == std::string("model=mixed") && level != std::string("level=multiple")) continue;
      CAPTURE(std::string(model));
      CAPTURE(std::string(level));
      Host host({model, level});
      host.submit(script(Outcome::gated));  // fills the concurrency limit
      host.kick();
      CHECK(host.journal().await_started(1));
      host.submit(script(Outcome::success));
      host.submit(recv(script(Outcome::gated)));
      host.submit(send(script(Outcome::gated)));
      CHECK(host.journal().await_started(4));
      CHECK(host.journal().read().started == std::vector<uint64_t>{1, 3, 4});
      host.journal().open_gate(4);
      CHECK(host.wait(4) == C10D_OK);
      host.journal().open_gate(3);
      const auto received = host.completion(3);
      CHECK(received.status == C10D_OK);
      CHECK(received.peer == 5);
      host.journal().open_gate(1);
      CHECK(host.wait(2) == C10D_OK);
    }
  }
}

TEST_CASE("a point-to-point op in flight does not delay a collective, not even a fence") {
  for (const char* model : {"model=blocking", "model=polling", "model=mixed"}) {
    CAPTURE(std::string(model));
    Host host({model});
    host.submit(recv(script(Outcome::gated)));
    host.submit({});
    host.submit(barrier());
    CHECK(host.wait(3) == C10D_OK);
    CHECK(host.wait(1, 5) == C10D_ERR_WAIT_TIMEOUT);
    host.journal().open_all();
    CHECK(host.completion(1).status == C10D_OK);
  }
}
