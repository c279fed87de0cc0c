// The store as the transport uses it, served by the host.
#include <doctest/doctest.h>

#include "host.h"

using namespace c10d::test;

namespace {

struct Asked {
  uint64_t id;
  std::string key;
  std::string value;
};

Asked read(const Host& host, const c10d_event& event) {
  std::string key(event.key_bytes, '\0');
  std::string value(event.value_bytes, '\0');
  CHECK(c10d_exchange_read(host.group(), event.id, key.data(), event.key_bytes, value.data(), event.value_bytes) ==
        C10D_OK);
  return {event.id, key, value};
}

Asked next(Host& host, c10d_event_kind kind) {
  const auto event = host.await(kind);
  REQUIRE(event);
  return read(host, *event);
}

int32_t reply(const Host& host, uint64_t id, const std::string& value, int32_t status = C10D_OK) {
  return c10d_exchange_reply(host.group(), id, status, value.data(), static_cast<uint32_t>(value.size()));
}

}  // namespace

TEST_CASE("connect sets and gets, with several gets in flight, answered in any order") {
  Host host({"connect=exchange"}, kForever, false, 4);
  const auto logged = next(host, C10D_EVENT_LOG);
  CHECK(logged.key == "rank 0 connects");
  CHECK(reply(host, logged.id, "") == C10D_ERR_INVALID);

  const auto own = next(host, C10D_EVENT_STORE_SET);
  CHECK(own.key == "rank/0");
  CHECK(own.value == "value of rank 0");
  CHECK_FALSE(host.await(C10D_EVENT_STORE_GET, 0, 10));
  CHECK(reply(host, own.id, "") == C10D_OK);

  std::vector<Asked> asked;
  for (int rank = 1; rank < 4; rank++) asked.push_back(next(host, C10D_EVENT_STORE_GET));
  CHECK(asked[0].key == "rank/1");
  CHECK(asked[2].key == "rank/3");
  for (const int i : {2, 0, 1}) {
    const auto& question = asked[static_cast<size_t>(i)];
    CHECK(reply(host, question.id, "<" + question.key + ">") == C10D_OK);
  }
  const auto got = next(host, C10D_EVENT_STORE_SET);
  CHECK(got.value == "<rank/1>;<rank/2>;<rank/3>;");
  CHECK(reply(host, got.id, "") == C10D_OK);
  const auto ready = host.await(C10D_EVENT_READY);
  REQUIRE(ready);
  CHECK(ready->status == C10D_OK);
}

TEST_CASE("values are bytes, of any length") {
  Host host({"connect=exchange"}, kForever, false, 2);
  CHECK(reply(host, next(host, C10D_EVENT_STORE_SET).id, "") == C10D_OK);
  std::string value(100'000, '\0');
  value[500] = '\xff';
  CHECK(reply(host, next(host, C10D_EVENT_STORE_GET).id, value) == C10D_OK);
  CHECK(next(host, C10D_EVENT_STORE_SET).value == value + ";");
}

TEST_CASE("an error of the store fails creation, with its text and key") {
  for (const auto kind : {C10D_EVENT_STORE_SET, C10D_EVENT_STORE_GET}) {
    Host host({"connect=exchange"}, kForever, false, 2);
    auto asked = next(host, C10D_EVENT_STORE_SET);
    if (kind == C10D_EVENT_STORE_GET) {
      CHECK(reply(host, asked.id, "") == C10D_OK);
      asked = next(host, kind);
    }
    CHECK(reply(host, asked.id, "store is down", C10D_ERR_NETWORK) == C10D_OK);
    const auto ready = host.await(C10D_EVENT_READY);
    REQUIRE(ready);
    CHECK(ready->status == C10D_ERR_NETWORK);
    CHECK(host.group_error() == "store key " + asked.key + ": store is down");
  }
}

TEST_CASE("a store that does not answer fails creation at its deadline, naming the key") {
  Host host({"connect=exchange"}, 60, false, 2);
  const Stopwatch watch;
  CHECK(reply(host, next(host, C10D_EVENT_STORE_SET).id, "") == C10D_OK);
  const auto asked = next(host, C10D_EVENT_STORE_GET);
  const auto ready = host.await(C10D_EVENT_READY);
  REQUIRE(ready);
  CHECK(ready->status == C10D_ERR_OP_TIMEOUT);
  CHECK(watch.ms() < 60 + 80 * kSlack);
  CHECK(host.group_error() == "timed out waiting for store key rank/1");
  // A late answer does no harm.
  reply(host, asked.id, "late");
  CHECK(c10d_group_state(host.group()) == C10D_FAILED);
}

TEST_CASE("an abort ends the wait for the store") {
  Host host({"connect=exchange"}, kForever, false, 2);
  next(host, C10D_EVENT_STORE_SET);
  c10d_abort(host.group(), C10D_ERR_ABORTED, nullptr);
  const auto ready = host.await(C10D_EVENT_READY);
  REQUIRE(ready);
  CHECK(ready->status == C10D_ERR_ABORTED);
  CHECK(host.group_error() == "aborted");
}

TEST_CASE("wrong ids, small buffers and bad answers are refused") {
  Host host({"connect=exchange"}, kForever, false, 2);
  const auto set = host.await(C10D_EVENT_STORE_SET);
  REQUIRE(set);
  char key[64];
  char value[64];
  CHECK(c10d_exchange_read(host.group(), 999, key, 64, value, 64) == C10D_ERR_INVALID);
  CHECK(c10d_exchange_read(host.group(), set->id, key, set->key_bytes - 1, value, 64) == C10D_ERR_INVALID);
  CHECK(c10d_exchange_read(host.group(), set->id, key, 64, value, set->value_bytes - 1) == C10D_ERR_INVALID);
  CHECK(c10d_exchange_read(host.group(), set->id, key, set->key_bytes, value, set->value_bytes) == C10D_OK);
  CHECK(reply(host, 999, "") == C10D_ERR_INVALID);
  CHECK(reply(host, set->id, "", 7) == C10D_ERR_INVALID);
  CHECK(c10d_exchange_reply(host.group(), set->id, C10D_OK, nullptr, 4) == C10D_ERR_INVALID);
  CHECK(c10d_exchange_reply(host.group(), set->id, C10D_OK, nullptr, 0) == C10D_OK);
  CHECK(reply(host, set->id, "") == C10D_ERR_INVALID);
  const auto get = host.await(C10D_EVENT_STORE_GET);
  REQUIRE(get);
  CHECK(get->value_bytes == 0);
  CHECK(c10d_exchange_read(host.group(), get->id, key, 64, nullptr, 0) == C10D_OK);
  CHECK(std::string(key, get->key_bytes) == "rank/1");
}
